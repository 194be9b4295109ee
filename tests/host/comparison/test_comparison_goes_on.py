"""Each row of a comparison is made once, whatever stops it."""

import json
import shutil

import numpy
import pytest
from PIL import Image

from ld3m_plugin.comparison.runner import compare
from ld3m_plugin.errors import ArtefactError, HostError
from ld3m_plugin.evaluation import RANDOM_REAL
from ld3m_plugin.runs import run
from ld3m_plugin.runs.folder import read_config
from ld3m_plugin.testing import tiny_task


def test_the_second_time_everything_is_read(compared, configs, tmp_path):
    first = compared(configs("scaled", "pixel"))
    written = (tmp_path / "out" / "comparison.json").read_bytes()
    second = compared(configs("scaled", "pixel"))
    assert (second.notes.steps, second.notes.trained) == ([], [])
    for name, said in zip(("scaled", "pixel"), second.notes.said, strict=True):
        assert str(tmp_path / "out" / name) in said
    assert (tmp_path / "out" / "comparison.json").read_bytes() == written
    assert second.table == first.table


def test_a_finished_comparison_needs_no_data(compared, configs, tmp_path, registry, monkeypatch):
    compared(configs("scaled", "pixel"))
    monkeypatch.setattr("ld3m_plugin.comparison.runner.load_task", lambda *_, **__: pytest.fail("the data was read"))
    compare(configs("scaled", "pixel"), tmp_path / "out")


@pytest.mark.slow
@pytest.mark.parametrize("end", ["ctrl-c", "host error"])
def test_a_run_that_stopped_goes_on_and_those_before_stay(compared, configs, pieces, tmp_path, end):
    straight = compared(configs("scaled", "other", "pixel"), "straight")
    pieces.Other.end, pieces.Other.end_at = end, 3
    with pytest.raises(KeyboardInterrupt if end == "ctrl-c" else HostError):
        compared(configs("scaled", "other", "pixel"))
    assert not (tmp_path / "out" / "pixel").exists()
    assert not (tmp_path / "out" / "comparison.json").exists()
    pieces.Other.end_at = None
    again = compared(configs("scaled", "other", "pixel"))
    assert again.notes.steps == [("other", 3), ("other", 4), *(("pixel", step) for step in (1, 2, 3, 4))]
    assert again.table.rows == straight.table.rows


class StopsOn(run.Reporter):
    """Ctrl-C while a network is being trained."""

    def __init__(self, what):
        self.what = what

    def evaluating(self, what):
        if what.startswith(self.what):
            raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("stop", "steps"),
    [("Deeper on distilled", [("pixel", step) for step in (1, 2, 3, 4)]), ("Deeper on random real", [])],
    ids=["of a run", "of random real images"],
)
def test_stopped_in_an_evaluation_it_repeats_only_that(compared, configs, task, tmp_path, registry, stop, steps):
    with pytest.raises(KeyboardInterrupt):
        compare(configs("scaled", "pixel"), tmp_path / "out", task=task, reporter=StopsOn(stop))
    again = compared(configs("scaled", "pixel"))
    assert again.notes.steps == steps
    assert bool(again.trained_on("distilled")) == bool(steps)
    assert again.columns == ["scaled", "pixel", RANDOM_REAL]


def test_generators_can_be_added_and_reordered(compared, configs):
    first = compared(configs("scaled", "pixel"))
    second = compared(configs("other", "pixel", "scaled"))
    assert second.columns == ["other", "pixel", "scaled", RANDOM_REAL]
    assert {name for name, _ in second.notes.steps} == {"other"}
    assert second.trained_on(RANDOM_REAL) == []
    assert second.accuracies(RANDOM_REAL) == first.accuracies(RANDOM_REAL)


def test_fewer_generators_need_nothing_new(compared, configs):
    first = compared(configs("scaled", "pixel"))
    second = compared(configs("pixel"))
    assert (second.notes.steps, second.notes.trained) == ([], [])
    for images in ("pixel", RANDOM_REAL):
        assert second.accuracies(images) == first.accuracies(images)


def test_what_decides_no_result_may_change(compared, configs, pieces):
    pieces.Scaled.end, pieces.Scaled.end_at = "ctrl-c", 2
    with pytest.raises(KeyboardInterrupt):
        compared(configs("scaled"))
    pieces.Scaled.end_at = None
    again = compared(configs("scaled", render_batch=1, checkpoint_every=1, device="cpu"))
    assert again.notes.steps == [("scaled", step) for step in (2, 3, 4)]


def test_a_killed_comparison_leaves_files_that_are_accepted(compared, configs, tmp_path):
    (tmp_path / "out" / "scaled").mkdir(parents=True)  # killed before its configuration was there
    for name in (".comparison.json.partial", ".partial.comparison.png", ".random-real.json.partial"):
        (tmp_path / "out" / name).write_text("half of")
    assert compared(configs("scaled", "pixel")).columns == ["scaled", "pixel", RANDOM_REAL]
    assert not list((tmp_path / "out").glob(".*"))


def write_pictures(folder):
    rng = numpy.random.default_rng(0)
    for name in (f"{split}/{kind}" for split in ("train", "test") for kind in ("cat", "dog")):
        (folder / name).mkdir(parents=True)
        for number in range(3):
            Image.fromarray(rng.integers(0, 256, (8, 8), dtype=numpy.uint8)).save(folder / name / f"{number}.png")


def test_data_that_has_moved_is_compared_and_then_known(compared, configs, tmp_path):
    write_pictures(tmp_path / "a")
    first = compared(configs("scaled", **{"data.name": f"imagefolder:{tmp_path / 'a'}"}), task=None)
    (tmp_path / "a").rename(tmp_path / "b")
    there = {"data.name": f"imagefolder:{tmp_path / 'b'}"}
    again = compared(configs("scaled", **there), task=None)
    assert (again.notes.steps, again.notes.trained) == ([], [])
    assert again.table.rows == first.table.rows
    assert read_config(tmp_path / "out" / "scaled").data.name == there["data.name"]
    shutil.copytree(tmp_path / "b", tmp_path / "c")
    Image.new("L", (8, 8), 9).save(tmp_path / "c" / "test" / "cat" / "0.png")
    with pytest.raises(ArtefactError, match=r"out/scaled .*other test images"):
        compared(configs("scaled", **{"data.name": f"imagefolder:{tmp_path / 'c'}"}), task=None)


def test_a_record_of_version_0_1_is_read(compared, configs, tmp_path):
    first = compared(configs("pixel"))
    path = tmp_path / "out" / "random-real.json"
    record = json.loads(path.read_text())
    assert record["evaluation"]["data_digest"] == first.table.data_digest != ""
    del record["data"]["images"], record["evaluation"]["data_digest"]
    record["settings"]["data"]["options"] |= {"grayscale": None}
    path.write_text(json.dumps(record))
    again = compared(configs("pixel"))
    assert (again.notes.steps, again.notes.trained) == ([], [])


# The row of random real images ----------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("stopped", [False, True])
def test_runs_that_were_not_made_by_a_comparison_are_read(compared, configs, task, registry, tmp_path, stopped):
    # Such a run evaluates random real images itself; the comparison has a record of its own.
    straight = compared(configs("scaled", "pixel"), "straight")
    config = configs("pixel")["pixel"]
    if stopped:
        with pytest.raises(KeyboardInterrupt):
            run.start(config, tmp_path / "out" / "pixel", task=task, reporter=StopsOn("Linear on distilled"))
    else:
        run.start(config, tmp_path / "out" / "pixel", task=task)
    made = compared(configs("scaled", "pixel"))
    assert {name for name, _ in made.notes.steps} == {"scaled"}
    assert len(made.trained_on(RANDOM_REAL)) == 2 * 2
    assert made.table.rows == straight.table.rows


@pytest.mark.parametrize("content", ["", "[1]", '{"settings": {}}'])
def test_a_damaged_record_is_evaluated_again(compared, configs, tmp_path, content):
    first = compared(configs("pixel"))
    (tmp_path / "out" / "random-real.json").write_text(content)
    again = compared(configs("pixel"))
    assert (again.notes.steps, len(again.trained_on(RANDOM_REAL))) == ([], 2 * 2)
    assert again.table.rows == first.table.rows


def test_a_record_of_other_settings_is_evaluated_again(compared, configs):
    compared(configs("scaled"))
    other = compared(configs("pixel", seed=1))
    assert len(other.trained_on(RANDOM_REAL)) == 2 * 2
    assert other.table.rows == compared(configs("pixel", seed=1), "straight").table.rows


def test_a_record_of_other_data_is_refused(compared, configs, tmp_path):
    compared(configs("scaled"))
    with pytest.raises(ArtefactError, match=r"out/random-real\.json"):
        compared(configs("pixel"), task=tiny_task(image_size=8, train=13, test=20))
    assert not (tmp_path / "out" / "pixel").exists()


def test_too_few_real_images_are_found_before_the_first_run(compared, configs, tmp_path):
    with pytest.raises(HostError, match="13"):
        compared(configs("scaled", "other", images_per_class=13))
    assert not (tmp_path / "out").exists()
    compared(configs("scaled", images_per_class=13, **{"evaluation.random_real": False}))


def test_the_record_says_what_decides_it(compared, configs, task, tmp_path):
    compared(configs("pixel"))
    record = json.loads((tmp_path / "out" / "random-real.json").read_text())
    assert set(record["settings"]) == {"data", "images_per_class", "seed", "evaluation"}
    assert record["data"]["train"] == [12, 12, 12]
    assert "source" not in record["data"]
