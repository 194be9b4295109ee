"""What a comparison leaves that Ctrl-C stops; `test_row_processes.py` does it to a real one."""

import csv

from ld3m_plugin.comparison import grid_runner
from ld3m_plugin.comparison.exports import TABLES
from ld3m_plugin.comparison.seed_table import SEEDS


def test_finished_rows_have_their_tables(stopped, grid, tmp_path):
    told = stopped(grid("scaled", "pixel", random_real=False, seeds=[0, 1]))
    out = tmp_path / "out"
    assert told[-1] == f"1 of 4 rows are finished: {out / 'table.md'}"
    assert all((out / name).is_file() for name in TABLES)
    assert [row["generator"] for row in csv.DictReader((out / SEEDS).read_text().splitlines())] == ["scaled"]


def test_the_same_call_goes_on_to_whole_tables(stopped, made, grid, tmp_path):
    wanted = grid("scaled", "pixel", random_real=False, seeds=[0, 1])
    stopped(wanted)
    result, _ = made(wanted)
    assert (result.failed, len(result.summary.rows)) == ({}, 2)
    assert len(list(csv.DictReader((tmp_path / "out" / SEEDS).read_text().splitlines()))) == 4


def test_a_second_interruption_waits_for_no_table(stopped, grid, tmp_path):
    told = stopped(grid("scaled", "pixel", random_real=False), while_stopping=True)
    assert told[-1].startswith("stopping: ")
    assert not (tmp_path / "out" / SEEDS).exists()


def test_tables_that_cannot_be_written_change_no_end(stopped, grid, monkeypatch):
    monkeypatch.setattr(grid_runner, "write_tables", lambda *_: (_ for _ in ()).throw(OSError("no space left")))
    told = stopped(grid("scaled", "pixel", random_real=False))
    assert told[-1] == "no table of the finished rows: no space left"
