"""Signals during a save: real ones, sent to this process."""

import signal
import threading

import pytest

from ld3m_plugin.storage import signals_held
from ld3m_plugin.storage.held_signals import ENDING


@pytest.fixture(autouse=True)
def python_handlers():
    """As on a terminal, and as `ld3m` sets them."""
    before = {number: signal.signal(number, signal.default_int_handler) for number in ENDING}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def stopped(function):
    """What a function appended to a list until Ctrl-C ended it."""
    done = []
    with pytest.raises(KeyboardInterrupt):
        function(done)
    return done


@pytest.mark.parametrize("number", ENDING)
def test_a_signal_acts_after_the_block(number):
    def save(done):
        with signals_held():
            signal.raise_signal(number)
            signal.raise_signal(number)
            done.append("saved")
        done.append("not reached")

    assert stopped(save) == ["saved"]
    assert signal.getsignal(number) is signal.default_int_handler


def test_blocks_may_be_nested():
    def save(done):
        with signals_held():
            with signals_held():
                signal.raise_signal(signal.SIGINT)
                done.append("inner")
            done.append("outer")
        done.append("not reached")

    assert stopped(save) == ["inner", "outer"]


def test_the_first_signal_ends_an_open_block_and_the_second_waits_for_the_save():
    def work(done):
        with signals_held() as signals:
            try:
                with signals.let_through():
                    signal.raise_signal(signal.SIGINT)
                    done.append("not reached")
            finally:
                signal.raise_signal(signal.SIGTERM)
                done.append("saved")

    assert stopped(work) == ["saved"]


def test_a_signal_between_two_open_blocks_ends_the_second():
    def work(done):
        with signals_held() as signals:
            with signals.let_through():
                done.append("first")
            signal.raise_signal(signal.SIGINT)
            done.append("between")
            with signals.let_through():
                done.append("not reached")

    assert stopped(work) == ["first", "between"]


def test_a_handler_that_does_not_end_the_program_is_called_once_for_each_signal():
    seen = []
    signal.signal(signal.SIGTERM, lambda number, frame: seen.append(number))
    with signals_held() as signals:
        signal.raise_signal(signal.SIGTERM)
        assert seen == []
        for _ in range(2):
            with signals.let_through():
                pass
        assert len(seen) == 1
        with signals.let_through():
            signal.raise_signal(signal.SIGTERM)
    assert len(seen) == 2


def test_an_ignored_signal_stays_ignored():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with signals_held() as signals:
        signal.raise_signal(signal.SIGTERM)
        with signals.let_through():
            signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN


def test_another_thread_is_left_alone():
    entered = []

    def work():
        with signals_held() as signals, signals.let_through():
            entered.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert entered == [True]
