"""What a run says while it goes on: a live line on a terminal, one plain line a minute elsewhere."""

import io
import re

import pytest
from rich.console import Console

from ld3m_plugin.cli import progress
from ld3m_plugin.cli.progress import ConsoleReporter
from ld3m_plugin.cli.tables import print_accuracies, print_columns
from ld3m_plugin.config import resolve
from ld3m_plugin.evaluation import Evaluation, Row, get_protocol
from ld3m_plugin.runs import run
from ld3m_plugin.testing import tiny_task


@pytest.fixture
def told(tmp_path, two_epochs):
    """Runs four steps with an evaluation after two, and gives what was said, without colours."""

    def tell(terminal):
        console = Console(file=io.StringIO(), force_terminal=terminal, width=140)
        evaluation = {"every": 2, "repeats": 1, "networks": ["ConvNet"], "protocol": two_epochs}
        dm = {"batch_real": 6, "network_settings": {"depth": 2, "width": 8}}
        settings = [("generator.name", "pixel"), ("objective.options", dm), ("steps", 4), ("evaluation", evaluation)]
        config = resolve(settings=settings)
        with ConsoleReporter(console) as reporter:
            run.start(config, tmp_path / "run", task=tiny_task(image_size=32), reporter=reporter)
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", console.file.getvalue())

    return tell


@pytest.mark.slow
def test_terminal_shows_loss_speed_time_to_go_and_best(told):
    text = told(terminal=True)
    assert re.search(r"distil .* 4/4 .* loss [\d.]+, [\d.]+ it/s, best [\d.]+ % at [24]", text)
    assert "step 4: ConvNet on random real: " in text


@pytest.mark.slow
def test_elsewhere_the_end_is_one_line(told):
    lines = [line for line in told(terminal=False).splitlines() if line.startswith("step 4 of 4")]
    assert len(lines) == 1
    assert re.fullmatch(r"step 4 of 4: loss [\d.]+, [\d.]+ it/s, best [\d.]+ % at 2, 0:00 to go", lines[0])


@pytest.mark.slow
def test_elsewhere_a_line_is_said_when_a_minute_is_over(told, monkeypatch):
    monkeypatch.setattr(progress, "_PLAIN_INTERVAL", 0.0)
    monkeypatch.setattr(progress, "_FIRST_INTERVAL", 0.0)
    lines = [line for line in told(terminal=False).splitlines() if re.match(r"step \d of 4: loss", line)]
    assert len(lines) == 4


def test_table_has_a_row_a_network_and_a_column_a_kind(capsys):
    rows = (
        Row("distilled", "ConvNet", (70.0, 72.0)),
        Row("random real", "ConvNet", (50.0, 54.0)),
        Row("distilled", "AlexNet", (60.0, 60.0)),
    )
    print_accuracies(Evaluation(get_protocol("quick"), rows, 10000, 0, 1.0))
    text = capsys.readouterr().out
    assert re.search(r"ConvNet .* 71.0 \+- 1.4 \(n=2\) .* 52.0 \+- 2.8 \(n=2\)", text)
    assert "protocol quick" in text


def test_columns_are_plain_and_whole_where_nobody_looks(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    long = "a [bold]message[/bold] :smile: " + 100 * "word "
    print_columns([("first", "two\nlines"), ("a-very-long-name-" * 5, long)], ["name", "message"])
    title, one, more, last = capsys.readouterr().out.splitlines()
    at = title.index("message")
    assert (one[:at].strip(), one[at:], more.strip()) == ("first", "two", "lines")
    assert last == "a-very-long-name-" * 5 + "  " + long.strip()


def test_columns_are_wrapped_on_a_terminal(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("FORCE_COLOR", "1")
    print_columns([("name", 100 * "x")])
    lines = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", capsys.readouterr().out).splitlines()
    assert sum(line.count("x") for line in lines) == 100
    assert max(map(len, lines)) <= 40
