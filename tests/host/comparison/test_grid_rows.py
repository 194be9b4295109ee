"""Each row of a grid is made once, whatever stops it, and none stops another."""

import contextvars
import csv
import json
import re
import shutil
import threading
from statistics import fmean

import pytest
from PIL import Image, ImageColor
from typer.testing import CliRunner

from ld3m_plugin.cli.compare import app
from ld3m_plugin.comparison.exports import TABLES
from ld3m_plugin.comparison.grid_runner import status
from ld3m_plugin.comparison.manifest import Manifest
from ld3m_plugin.comparison.results import short_data_names
from ld3m_plugin.comparison.seed_table import SEEDS
from ld3m_plugin.errors import ArtefactError, UsageError
from ld3m_plugin.storage import locked


def starts(manifest):
    return {row.label: manifest.state(row).starts for row in manifest.rows}


def test_a_grid_has_tables_pictures_and_a_manifest_with_starts(made, grid, tmp_path):
    result, said = made(grid("scaled", "pixel", seeds=[0, 1]))
    out = tmp_path / "out"
    assert all((out / name).stat().st_size for name in (*TABLES, "comparison.png"))
    assert (result.failed, list(result.pictures)) == ({}, ["scaled+level", "pixel+level"])
    written = json.loads((out / "manifest.json").read_text())
    assert [row["starts"] for row in written["rows"]] == [1] * 6
    assert written["code"]["sources_sha256"]
    rows = json.loads((out / "table.json").read_text())["rows"]
    assert [(row["generator"], row["start"], row["seeds"]) for row in rows] == [
        ("scaled", None, [0, 1]),
        ("pixel", "real images", [0, 1]),
        ("random real", "real images", [0, 1]),
    ]
    assert rows[1]["numbers_per_class"] == 3 * 8 * 8 or rows[1]["numbers_per_class"] == 8 * 8
    assert said.counts[-1]["ended"] == 6


def test_the_numbers_of_each_seed_are_those_that_the_table_averages(made, grid, tmp_path):
    made(grid("scaled", "pixel", seeds=[0, 1]))
    with (tmp_path / "out" / SEEDS).open(encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))
    rows = json.loads((tmp_path / "out" / "table.json").read_text())["rows"]
    assert len(lines) == sum(len(row["seeds"]) for row in rows) == 6
    for row in rows:
        its = [line for line in lines if line["generator"] == row["generator"]]
        assert [int(line["seed"]) for line in its] == row["seeds"]
        for network, statistic in row["networks"].items():
            assert fmean(float(line[network]) for line in its) == pytest.approx(statistic["mean"])
            assert sum(int(line[f"{network} diverged"]) for line in its) == statistic["diverged"]


def test_the_second_time_nothing_is_made_and_the_tables_are_the_same(made, grid, tmp_path):
    first, _ = made(grid("scaled", "pixel"))
    tables = {name: (tmp_path / "out" / name).read_bytes() for name in (*TABLES, SEEDS)}
    second, said = made(grid("scaled", "pixel"))
    assert starts(second.manifest) == starts(first.manifest)
    assert said.counts == []
    assert {name: (tmp_path / "out" / name).read_bytes() for name in (*TABLES, SEEDS)} == tables


def test_rows_are_added_to_those_that_are_there(made, grid):
    made(grid("scaled", seeds=[0]))
    result, _ = made(grid("scaled", "pixel", seeds=[0, 1]))
    assert all(count == 1 for count in starts(result.manifest).values())
    assert len(result.manifest.rows) == 6


def test_a_row_that_fails_stops_no_other_and_is_tried_again(made, grid, pieces):
    pieces.Scaled.end, pieces.Scaled.end_at = "host error", 3
    result, said = made(grid("scaled", "other", "pixel"))
    ((label, line),) = result.failed.items()
    assert label.startswith("scaled-level-tiny-ipc1-seed0")
    assert line == "the disk is full: make room"
    assert any(label in told and line in told for told in said.lines)
    assert [row.generator for row in result.summary.rows] == ["other", "pixel", "random real"]
    pieces.Scaled.end_at = None
    again, _ = made(grid("scaled", "other", "pixel"))
    assert again.failed == {}
    assert {label.partition("-")[0]: n for label, n in starts(again.manifest).items()} == {
        "scaled": 2,
        "other": 1,
        "pixel": 1,
        "random": 1,
    }


def test_a_mistake_of_a_program_keeps_its_traceback_in_the_log(made, grid, pieces, monkeypatch, capsys):
    monkeypatch.setattr(pieces.Scaled, "on_step", lambda *_: 1 / 0)
    result, _ = made(grid("scaled", "pixel"))
    (line,) = result.failed.values()
    assert "ZeroDivisionError" in line
    assert "\n" not in line
    assert "Traceback" in capsys.readouterr().err


def test_a_row_that_was_stopped_goes_on_to_the_same_images(made, grid, pieces, tmp_path):
    straight, _ = made(grid("scaled"), "straight")
    pieces.Scaled.end, pieces.Scaled.end_at = "ctrl-c", 3
    stopped, _ = made(grid("scaled"))
    (row,) = [row for row in stopped.manifest.rows if row.kind == "run"]
    assert stopped.manifest.progress(row) == "stopped"
    pieces.Scaled.end_at = None
    made(grid("scaled"))
    folders = [manifest.run_folder(row) for manifest in (straight.manifest, stopped.manifest)]
    images = [(folder / "distilled" / "images.safetensors").read_bytes() for folder in folders]
    assert images[0] == images[1]
    records = map(json.loads, (folders[1] / "metrics.jsonl").read_text().splitlines())
    assert [record["step"] for record in records if "loss" in record] == [1, 2, 3, 4]


def test_rows_of_another_version_are_refused_unless_reused(made, grid, tmp_path, monkeypatch):
    made(grid("scaled"))
    state = next((tmp_path / "out" / "states").glob("*.json"))
    content = json.loads(state.read_text())
    state.write_text(json.dumps({**content, "code": {**content["code"], "sources_sha256": "0" * 64}}))
    with pytest.raises(UsageError, match=r"--reuse .*out"):
        made(grid("scaled"))
    result, _ = made(grid("scaled"), reuse=[tmp_path / "out"])
    assert set(starts(result.manifest).values()) == {1}


def test_finished_rows_of_another_comparison_are_found_by_identity(made, grid, tmp_path):
    made(grid("scaled", "pixel", seeds=[0]), "first")
    result, said = made(grid("scaled", "other", seeds=[0, 1]), "second", reuse=[tmp_path / "first"])
    taken = [line for line in said.lines if "first" in line]
    assert len(taken) == 2  # `scaled` and the random real images, at seed 0
    assert len(result.summary.rows) == 3


def test_links_in_a_row_of_another_comparison_are_not_followed(made, grid, tmp_path):
    first, _ = made(grid("scaled"), "first")
    (tmp_path / "secret.txt").write_text("not of this row")
    for row in first.manifest.rows:
        (first.manifest.run_folder(row) / "notes.txt").symlink_to(tmp_path / "secret.txt")
        (first.manifest.run_folder(row) / "all").symlink_to(tmp_path)
    made(grid("scaled"), "second", reuse=[tmp_path / "first"])
    copied = {path.name for path in (tmp_path / "second").rglob("*")}
    assert "images.safetensors" in copied
    assert not copied & {"notes.txt", "all", "secret.txt"}


def test_a_table_names_the_folder_of_images_and_not_where_it_lies():
    long, other = "imagefolder:/home/me/birds", "imagefolder:/mnt/birds"
    assert short_data_names([long, "tiny:12", "fashion-mnist"])[long] == "imagefolder:birds"
    assert short_data_names([long, other, "tiny"]) == {long: long, other: other, "tiny": "tiny"}


@pytest.mark.parametrize("there", ["thesis.txt", "photos/cat.png", "table.csv"])
def test_a_folder_of_something_else_is_refused_and_kept(made, grid, tmp_path, there):
    path = tmp_path / "out" / there
    path.parent.mkdir(parents=True)
    path.write_text("years of work")
    with pytest.raises(UsageError, match=re.escape(str(tmp_path / "out"))):
        made(grid("scaled"))
    assert [entry for entry in (tmp_path / "out").rglob("*") if entry.is_file()] == [path]


def test_two_commands_do_not_share_a_folder(made, grid, tmp_path):
    made(grid("scaled"))
    lock = tmp_path / "out" / ".ld3m.lock"
    errors = []

    def other():
        try:
            made(grid("scaled"))
        except UsageError as error:
            errors.append(str(error))

    with locked(lock, lock.parent, "wait"):
        thread = threading.Thread(target=contextvars.copy_context().run, args=(other,))
        thread.start()
        thread.join()
    assert "out" in errors[0]


def test_status_says_how_far_each_row_is(made, grid, pieces, tmp_path):
    pieces.Scaled.end, pieces.Scaled.end_at = "host error", 3
    made(grid("scaled", "pixel", random_real=False))
    manifest, rows = status(tmp_path / "out")
    assert {name: [row.generator for row in some] for name, some in rows.items()} == {
        "failed": ["scaled"],
        "finished": ["pixel"],
    }
    with locked(manifest.lock(manifest.rows[1]), tmp_path, "wait"):
        pass
    with pytest.raises(ArtefactError, match="nowhere"):
        status(tmp_path / "nowhere")


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"format": 1}', '{"format": 9}', '{"format": 1, "grid": {}, "rows": [1]}']
)
def test_a_damaged_manifest_is_one_line(tmp_path, content):
    (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(ArtefactError, match=r"manifest\.json") as raised:
        Manifest.read(tmp_path)
    assert "\n" not in str(raised.value)


def test_a_budget_of_seconds_stops_after_the_step_that_reaches_it(made, grid):
    result, _ = made(grid("scaled", config={"seconds": 1e-6, "steps": 1000}))
    (row,) = [row for row in result.manifest.rows if row.kind == "run"]
    assert result.manifest.state(row).steps == 1
    metadata = json.loads((result.manifest.run_folder(row) / "distilled" / "metadata.json").read_text())
    assert metadata["steps"] == 1


@pytest.mark.parametrize("harm", ["gone", "cut short", "of another row", "other types", "no predictions of it"])
def test_a_finished_row_whose_result_is_lost_or_damaged_is_made_again(made, grid, harm):
    first, _ = made(grid("scaled", seeds=[0, 1], random_real=False))
    lost, whole = first.manifest.rows
    folder, other = (first.manifest.run_folder(row) for row in (lost, whole))
    images = (folder / "distilled" / "images.safetensors").read_bytes()
    metadata = folder / "distilled" / "metadata.json"
    content = json.loads(metadata.read_text())
    if harm == "gone":
        shutil.rmtree(folder)
    elif harm == "cut short":
        metadata.write_text(metadata.read_text()[:100])
    elif harm == "of another row":
        content["results"]["final"]["rows"][0]["accuracies"] = [1.0, 2.0]
        metadata.write_text(json.dumps(content))
    elif harm == "other types":
        metadata.write_text(json.dumps({**content, "storage": None}))
    else:
        shutil.copy(other / "config.yaml", folder / "distilled" / "predictions.safetensors")
    again, said = made(grid("scaled", seeds=[0, 1], random_real=False))
    assert again.failed == {}
    assert starts(again.manifest) == {lost.label: 2, whole.label: 1}
    assert any(lost.label in line for line in said.lines)
    assert (folder / "distilled" / "images.safetensors").read_bytes() == images
    assert [row.seeds for row in again.summary.rows] == [(0, 1)]


def test_random_real_images_whose_record_is_lost_are_evaluated_again(made, grid):
    first, _ = made(grid("scaled"))
    (real,) = [row for row in first.manifest.rows if row.kind == "random real"]
    (first.manifest.run_folder(real) / "evaluation.json").unlink()
    again, _ = made(grid("scaled"))
    assert starts(again.manifest)[real.label] == 2
    assert len(again.summary.rows) == 2


def test_rows_are_found_where_they_lie_when_their_data_has_moved(made, grid, tmp_path):
    for split, count in (("train", 3), ("test", 2)):
        for color in ("red", "blue"):
            folder = tmp_path / "here" / split / color
            folder.mkdir(parents=True)
            for number in range(count):
                Image.new("RGB", (8, 8), (*ImageColor.getrgb(color)[:2], 60 * number)).save(folder / f"{number}.png")
    options = {"data": {"options": {"image_size": 8}}}
    first, _ = made(grid("scaled", data=[f"imagefolder:{tmp_path / 'here'}"], config=options))
    assert first.failed == {}
    (tmp_path / "here").rename(tmp_path / "there")
    result, said = made(grid("scaled", data=[f"imagefolder:{tmp_path / 'there'}"], config=options))
    assert set(starts(result.manifest).values()) == {1}
    assert said.counts == []
    assert {row.data for row in result.summary.rows} == {"imagefolder:there"}


def test_rows_of_another_version_are_taken_from_another_comparison(made, grid, tmp_path):
    made(grid("scaled", random_real=False), "first")
    state = next((tmp_path / "first" / "states").glob("*.json"))
    content = json.loads(state.read_text())
    state.write_text(json.dumps({**content, "code": {**content["code"], "sources_sha256": "0" * 64}}))
    for _ in range(2):  # the same command goes on
        result, _ = made(grid("scaled", "pixel", random_real=False), "second", reuse=[tmp_path / "first"])
        assert set(starts(result.manifest).values()) == {1}
    with pytest.raises(UsageError, match=r"--reuse .*second"):
        made(grid("scaled", "pixel", random_real=False), "second")


def test_rows_that_are_lost_in_another_comparison_are_made(made, grid, tmp_path):
    first, _ = made(grid("scaled", random_real=False), "first")
    shutil.rmtree(first.manifest.run_folder(first.manifest.rows[0]))
    result, _ = made(grid("scaled", random_real=False), "second", reuse=[tmp_path / "first"])
    assert (result.failed, len(result.summary.rows)) == ({}, 1)


def test_a_row_that_was_stopped_is_told_as_not_finished(made, grid, pieces):
    pieces.Scaled.end, pieces.Scaled.end_at = "ctrl-c", 3
    result, _ = made(grid("scaled", "pixel"))
    ((label, line),) = result.failed.items()
    assert label.startswith("scaled")
    assert str(result.manifest.log(result.manifest.row(result.manifest.rows[0].id))) in line


def test_with_equal_storage_rows_of_other_images_per_class_are_paired(made, grid):
    fields = {"equal": "storage", "baseline": "scaled", "images_per_class": [1, 2], "seeds": [0, 1]}
    result, _ = made(grid("scaled", "half", **fields, random_real=False))
    assert [(row.generator, row.images_per_class, len(row.differences)) for row in result.summary.rows] == [
        *(("scaled", 1, 0), ("half", 2, 1)),
        *(("scaled", 2, 0), ("half", 4, 1)),
    ]


def test_a_baseline_with_several_settings_is_paired_with_rows_that_have_none_of_them(made, grid):
    factors = {"vary": {"generator.options.factor": [1.0, 3.0]}}
    result, _ = made(grid("scaled", "other", "pixel", **factors, seeds=[0, 1], baseline="scaled"))
    assert [(row.generator, row.is_baseline, len(row.differences)) for row in result.summary.rows] == [
        *(("scaled", True, 0), ("scaled", False, 1)),
        *(("other", False, 1), ("other", False, 1)),
        *(("pixel", False, 1), ("random real", False, 0)),
    ]
    alike, _ = made(grid("scaled", "other", **factors, seeds=[0, 1], baseline="scaled"))
    assert [row.is_baseline for row in alike.summary.rows] == [True, True, False, False, False]


def test_a_row_waits_for_what_holds_its_lock_for_an_instant(made, grid, tmp_path):
    first, _ = made(grid("scaled", random_real=False))
    (row,) = first.manifest.rows
    first.manifest.update(row, progress="left")
    held, release = threading.Event(), threading.Timer(0.5, lambda: done.set())
    done = threading.Event()

    def hold():  # as `ld3m compare status` does, and the process of a command that was killed
        with locked(first.manifest.lock(row), tmp_path, "wait"):
            held.set()
            done.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    release.start()
    again, _ = made(grid("scaled", random_real=False))
    thread.join()
    assert (again.failed, starts(again.manifest)) == ({}, {row.label: 2})


@pytest.mark.parametrize(
    "harm", [{"id": "../../victim"}, {"label": "../../victim"}, {"label": ".."}, {"label": "/victim"}]
)
def test_a_manifest_that_leads_elsewhere_is_refused_and_touches_nothing(made, grid, tmp_path, harm):
    made(grid("scaled", random_real=False))
    victim = tmp_path / "victim.lock"
    victim.write_text("")
    path = tmp_path / "out" / "manifest.json"
    content = json.loads(path.read_text())
    content["rows"][0] |= harm
    path.write_text(json.dumps(content))
    with pytest.raises(ArtefactError, match=r"manifest\.json"):
        status(tmp_path / "out")
    assert victim.exists()


@pytest.mark.parametrize("end", ["ctrl-c", "host error"])
def test_a_row_that_another_version_began_does_not_go_on_unless_reused(made, grid, pieces, tmp_path, end):
    pieces.Scaled.end, pieces.Scaled.end_at = end, 3
    made(grid("scaled", random_real=False))
    pieces.Scaled.end_at = None
    state = next((tmp_path / "out" / "states").glob("*.json"))
    content = json.loads(state.read_text())
    state.write_text(json.dumps({**content, "code": {**content["code"], "sources_sha256": "0" * 64}}))
    with pytest.raises(UsageError, match=r"--reuse .*out"):
        made(grid("scaled", random_real=False))
    result, _ = made(grid("scaled", random_real=False), reuse=[tmp_path / "out"])
    assert result.failed == {}
    assert set(starts(result.manifest).values()) == {2}


def test_the_status_as_json_is_json(made, grid, tmp_path):
    made(grid("scaled", random_real=False))
    done = CliRunner().invoke(app, ["status", str(tmp_path / "out"), "--json"])
    assert [row["progress"] for row in json.loads(done.stdout)] == ["finished"]


def test_what_is_known_to_stop_rows_is_said_before_the_first_is_made(made, grid):
    result, said = made(grid("scaled", "pixel", generator_options={"scaled": {"factor": 101}}))
    assert "factor" in said.lines[0]
    assert len(result.failed) == 1
