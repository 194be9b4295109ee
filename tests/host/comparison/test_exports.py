"""Tables of a grid as files: what each holds, and names that CSV, Markdown or LaTeX would read as more than text."""

import csv
import json
import re
import subprocess
import sys

import numpy as np
import pytest

from ld3m_plugin.cli.tables import print_columns
from ld3m_plugin.comparison.exports import MARK, TABLES, record, shown, write_tables
from ld3m_plugin.comparison.seed_results import SeedResult
from ld3m_plugin.comparison.summary import summarise

HOSTILE = 'a_b & 5% $x$ #1 {c} ~^\\ |`*<i>[l](u)\n\nnext, "q"'


def result(generator, seed, vit, conv=70.0, **more):
    facts = {"seen": frozenset({"ConvNet"}), **more}
    return SeedResult(generator, "dm", "A", 1, seed, {"ConvNet": (conv,), "ViT": (vit,)}, **facts)


@pytest.fixture
def summary():
    """A marked difference, one that is not, one seed alone, and a row without costs."""
    known = {"numbers_per_class": 1024, "start": "real images", "seconds_per_step": 0.12345, "seconds": 12.3}
    rows = {"ld3m": (44.5, 46.0, 46.9), "pixel": (30.0, 50.0, 41.0)}
    results = [result("glad", seed, 41.0, peak_memory=512.0, **known) for seed in range(3)]
    results += [result(name, seed, value) for name, values in rows.items() for seed, value in enumerate(values)]
    return summarise([*results, result("random real", 0, 20.0, settings={"generator.options.steps": 5})], "glad")


def read_csv(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_four_files_the_same_each_time(tmp_path, summary):
    (tmp_path / "again").mkdir()
    for folder in (tmp_path, tmp_path / "again"):
        write_tables(summary, folder)
    for name in TABLES:
        assert (tmp_path / name).read_bytes() == (tmp_path / "again" / name).read_bytes()
    assert {path.name for path in (tmp_path / "again").iterdir()} == set(TABLES)


def test_csv_has_every_number_and_nothing_where_none_is_known(tmp_path, summary):
    write_tables(summary, tmp_path)
    glad, ld3m, _, real = read_csv(tmp_path / "table.csv")
    assert (glad["numbers_per_class"], glad["seconds_per_step"], glad["peak_memory"]) == ("1024", "0.12345", "512.0")
    assert (glad["is_baseline"], glad["unseen difference mean"], glad["start"]) == ("True", "", "real images")
    assert float(ld3m["ViT mean"]) == pytest.approx((44.5 + 46 + 46.9) / 3)
    assert float(ld3m["gap mean"]) == pytest.approx((44.5 + 46 + 46.9) / 3 - 70)
    assert (ld3m["ViT n"], ld3m["seeds"], ld3m["unseen difference n"]) == ("3", "0 1 2", "3")
    assert float(ld3m["unseen difference corrected_p"]) == pytest.approx(2 * float(ld3m["unseen difference p"]))
    assert (ld3m["numbers_per_class"], ld3m["seconds"], ld3m["start"], ld3m["generator.options.steps"]) == ("",) * 4
    assert (real["generator.options.steps"], real["ViT std"], real["unseen difference p"]) == ("5", "", "")
    assert real["unseen difference mean"] == "-21.0"


def test_json_holds_the_same(tmp_path, summary):
    write_tables(summary, tmp_path)
    read = json.loads((tmp_path / "table.json").read_text(encoding="utf-8"))
    assert read == json.loads(json.dumps(record(summary)))
    glad, ld3m, pixel, real = read["rows"]
    assert (read["baseline"], read["questions"], read["level"]) == ({"generator": "glad"}, 2, 0.05)
    assert (glad["differences"], glad["peak_memory"], ld3m["peak_memory"]) == ({}, 512.0, None)
    assert ld3m["differences"]["unseen"]["marked"]
    assert ld3m["differences"]["unseen"]["interval_over_test_images"] is False
    assert not pixel["differences"]["unseen"]["marked"]
    assert real["differences"]["unseen"]["p"] is None


def test_only_a_corrected_test_gets_a_star(summary):
    table = shown(summary)
    difference = table.titles.index("unseen - baseline")
    cells = [row[difference] for row in table.rows]
    assert cells[0] == "baseline"
    assert [MARK in cell for cell in cells] == [False, True, False, False]
    assert cells[1].startswith("+4.8 [+")
    assert cells[3] == "-21.0 (n=1)"


def test_a_column_that_no_row_fills_is_left_out_where_people_read(summary):
    assert "peak memory MiB" in shown(summary).titles
    plain = summarise([result("ld3m", 0, 40.0)])
    titles = shown(plain).titles
    assert titles == (
        "generator",
        "objective",
        "data",
        "images per class",
        "n",
        "ConvNet",
        "ViT",
        "seen",
        "unseen",
        "gap",
        "average",
    )
    assert shown(plain).rows == (("ld3m", "dm", "A", "1", "1", "70.0", "40.0", "70.0", "40.0", "-30.0", "55.0"),)
    assert "baseline" not in shown(plain).note


def test_a_grid_without_a_finished_row(tmp_path):
    write_tables(summarise([], "glad"), tmp_path)
    assert json.loads((tmp_path / "table.json").read_text(encoding="utf-8"))["rows"] == []
    assert r"\begin{tabular}" in (tmp_path / "table.tex").read_text(encoding="utf-8")


def test_the_note_says_what_intervals_are_over(summary):
    assert "seeds alone" in shown(summary).note
    right = np.array([[True, False, False, True]])
    kept = [
        SeedResult(name, "dm", "A", 1, seed, {"ViT": (50.0,)}, correct={"ViT": np.roll(right, seed * number, 1)})
        for number, name in enumerate(("glad", "ld3m"))
        for seed in range(3)
    ]
    assert "seeds alone" not in shown(summarise(kept, "glad")).note


def test_a_terminal_prints_it(summary, capsys):
    table = shown(summary)
    print_columns(table.rows, table.titles)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 + len(table.rows)
    assert all(title in lines[0] for title in table.titles)


def test_markdown_cells_are_text(tmp_path):
    write_tables(summarise([result(HOSTILE, 0, 40.0), result("ld3m", 0, 41.0)], HOSTILE), tmp_path)
    lines = (tmp_path / "table.md").read_text(encoding="utf-8").splitlines()
    table = [line for line in lines if line.startswith("|")]
    assert len(table) == 4
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table}) == 1
    for special in "`*<[":
        assert not re.search(rf"(?<!\\){re.escape(special)}", table[2])
    assert len(lines) == 6  # the note is one line


def test_latex_is_escaped(tmp_path):
    write_tables(summarise([result(HOSTILE, seed, 40.0 - seed) for seed in range(2)]), tmp_path)
    text = (tmp_path / "table.tex").read_text(encoding="utf-8")
    (row,) = [line for line in text.splitlines() if "textasciitilde" in line]
    for escaped in (
        r"a\_b",
        r"\&",
        r"5\%",
        r"\$x\$",
        r"\#1",
        r"\{c\}",
        r"\textasciicircum",
        r"\textbackslash",
        "$<$i$>$",
    ):
        assert escaped in row
    assert r"$\pm$" in row
    assert "$-$" in row
    commands = {r"\toprule", r"\midrule", r"\bottomrule"}
    assert commands <= set(text.split())
    # As many columns everywhere as the tabular declares.
    (columns,) = re.findall(r"\\begin\{tabular\}\{([lr]+)\}", text)
    bodies = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert {len(re.findall(r"(?<!\\)&", line)) + 1 for line in bodies} == {len(columns)}
    assert text.isascii() or "±" in text.split("\\begin")[0]
    assert "±" not in text.split("\\begin")[1]


@pytest.mark.parametrize("name", ["[x]", "*x"])
def test_a_first_cell_is_no_argument_of_the_line_break(tmp_path, name):
    write_tables(summarise([result("ld3m", 0, 40.0), result(name, 0, 41.0)]), tmp_path)
    lines = (tmp_path / "table.tex").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if line.startswith(f"{{}}{name}")]


@pytest.mark.slow
@pytest.mark.parametrize("module", ["ld3m_plugin.cli", "ld3m_plugin.comparison.exports"])
def test_packages_for_statistics_are_imported_when_they_are_used(module):
    program = f"import {module}, sys; sys.exit(bool({{'pandas', 'scipy', 'jinja2'}} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
