"""The reporter that shows a training on a terminal, and the one that shows nothing."""

import io
import re
from types import SimpleNamespace

from rich.console import Console

from ld3m_plugin.cli import progress
from ld3m_plugin.cli.progress import TrainingConsole
from ld3m_plugin.contracts import TrainingReporter


def told(terminal):
    console = Console(file=io.StringIO(), force_terminal=terminal, width=140)
    with TrainingConsole(console) as reporter:
        reporter.phase("autoencoder", 4)
        for done in (2, 4):
            reporter.step(done, {"loss": 1 / done, "kl": 3.0})
        reporter.phase("denoiser [small]", 10, 7)
        reporter.step(10, {})
        reporter.say("error of new images [0.5]")
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", console.file.getvalue())


def test_a_terminal_shows_a_bar_for_each_phase():
    text = told(terminal=True)
    assert re.search(r"autoencoder .* 4/4 .* loss 0.25, kl 3, [\d.]+ it/s", text)
    assert re.search(r"denoiser \[small\] .* 10/10 .* [\d.]+ it/s", text)
    assert "error of new images [0.5]" in text


def test_elsewhere_the_begin_and_the_end_of_a_phase_are_lines():
    lines = told(terminal=False).splitlines()
    assert lines[0] == "autoencoder: 4 steps"
    assert re.fullmatch(r"autoencoder, step 4 of 4: loss 0.25, kl 3, [\d.]+ it/s, 0:00 to go", lines[1])
    assert lines[2] == "denoiser [small]: 10 steps, 7 of them made before"
    assert re.fullmatch(r"denoiser \[small\], step 10 of 10: [\d.]+ it/s, 0:00 to go", lines[3])
    assert lines[4:] == ["error of new images [0.5]"]


def test_elsewhere_a_line_is_said_when_a_minute_is_over(monkeypatch):
    monkeypatch.setattr(progress, "_PLAIN_INTERVAL", 0.0)
    monkeypatch.setattr(progress, "_FIRST_INTERVAL", 0.0)
    assert [line[:21] for line in told(terminal=False).splitlines() if "step 2" in line] == ["autoencoder, step 2 o"]


def test_speed_counts_steps_and_not_reports(monkeypatch):
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: clock.now))
    console = Console(file=io.StringIO(), force_terminal=False, width=140)
    reporter = TrainingConsole(console)
    reporter.phase("means", 6)
    for clock.now, done in ((10.0, 5), (12.0, 6)):  # two seconds a step
        reporter.step(done, {})
    assert "means, step 6 of 6: 0.50 it/s" in console.file.getvalue()


def test_the_base_reporter_keeps_silent(capsys):
    reporter = TrainingReporter()
    reporter.phase("means", 3, 1)
    reporter.step(2, {"loss": 1.0})
    reporter.say("done")
    assert capsys.readouterr() == ("", "")
