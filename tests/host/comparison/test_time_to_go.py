"""The time to go, by arithmetic on a clock of our own."""

import pytest

from ld3m_plugin.comparison import time_to_go
from ld3m_plugin.comparison.time_to_go import TimeToGo


@pytest.fixture
def clock(monkeypatch):
    """A list whose only number is the time."""
    now = [100.0]
    monkeypatch.setattr(time_to_go.time, "monotonic", lambda: now[0])
    return now


def test_rows_left_take_what_those_of_their_generator_took_and_others_the_mean(made, grid, clock):
    manifest = made(grid("scaled", "other", seeds=[0, 1, 2], random_real=False))[0].manifest
    ids = {(row.generator, row.seed): row.id for row in manifest.rows}
    going = TimeToGo(manifest)
    states = dict.fromkeys(ids.values(), "waiting")

    def at(seconds, **changes):
        clock[0] = 100.0 + seconds
        states.update({ids[name.rstrip("012"), int(name[-1])]: state for name, state in changes.items()})
        going.update(states)
        return going.seconds(states)

    assert at(0, scaled0="running") is None
    # Nothing of `other` has ended: its three rows count as the one that has.
    assert at(10, scaled0="ended", other0="running") == pytest.approx(10 * 2 + 10 * 2 + 10)
    assert at(40, other0="ended", scaled1="running") == pytest.approx(10 + 10 + 30 * 2)
    # Half of scaled1 is over, and two rows run at a time.
    assert at(45, other1="running") == pytest.approx((5 + 10 + 30 + 30) / 2)
    # A row that takes longer than thought has nothing left, not less.
    assert at(60) == pytest.approx((0 + 10 + 15 + 30) / 2)
