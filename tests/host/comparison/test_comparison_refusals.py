"""What cannot be compared is refused in one line, before the first run, and nothing is overwritten."""

import json
import re
import shutil
from dataclasses import replace

import pytest

from ld3m_plugin.errors import ArtefactError, HostError, UsageError
from ld3m_plugin.evaluation import RANDOM_REAL
from ld3m_plugin.testing import RandomImages, tiny_task


@pytest.mark.parametrize(
    ("path", "value", "old"),
    [
        ("data.name", "tiny:13", "tiny"),
        ("objective.options.level", 1.0, 0.0),
        ("images_per_class", 2, 1),
        ("steps", 5, 4),
        ("seed", 1, 0),
        ("evaluation.repeats", 1, 2),
        ("evaluation.test_per_class", 3, None),
    ],
)
def test_runs_that_differ_in_more_than_the_generator_are_refused(compared, configs, tmp_path, path, value, old):
    with pytest.raises(UsageError) as raised:
        compared({**configs("scaled"), **configs("pixel", **{path: value})})
    for word in (path, repr(value), repr(old), "scaled", "pixel"):
        assert word in str(raised.value)
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("path", "value", "old"),
    [
        ("steps", 5, 4),
        ("seed", 1, 0),
        ("evaluation.repeats", 1, 2),
        ("optimizer.learning_rates.pixels", 1.0, 0.05),
    ],
)
def test_a_folder_of_other_settings_is_refused_before_any_run(compared, configs, tmp_path, path, value, old):
    compared(configs("pixel"))
    before = (tmp_path / "out" / "pixel" / "config.yaml").read_bytes()
    more = {} if path.startswith("optimizer") else {path: value}
    with pytest.raises(UsageError, match=rf"out/pixel .*{re.escape(path)} = {old}\b.* {value}"):
        compared({**configs("scaled", **more), **configs("pixel", **{path: value})})
    assert not (tmp_path / "out" / "scaled").exists()
    assert (tmp_path / "out" / "pixel" / "config.yaml").read_bytes() == before


def test_other_data_beside_a_finished_run_is_refused(compared, configs, tmp_path):
    compared(configs("pixel"))
    with pytest.raises(ArtefactError, match="out/pixel"):
        compared(configs("pixel", "scaled"), task=tiny_task(image_size=8, train=13, test=20))
    assert not (tmp_path / "out" / "scaled").exists()


def other_images(task, split):
    """The same classes and counts, and other pixels."""
    count, test = len(task.class_names), split == "test_images"
    return replace(task, **{split: RandomImages(count, 20 if test else 12, 1, 8, seed=7)})


@pytest.mark.parametrize("environment", ["kept", "lost"])
@pytest.mark.parametrize("split", ["train", "test_images"])
def test_other_images_beside_a_finished_run_are_refused(compared, configs, task, tmp_path, split, environment):
    compared(configs("pixel"))
    if environment == "lost":  # the distilled set says as well what it was made from
        (tmp_path / "out" / "pixel" / "environment.json").unlink()
    with pytest.raises(ArtefactError, match=r"out/pixel .*images"):
        compared(configs("pixel", "scaled"), task=other_images(task, split))
    assert not (tmp_path / "out" / "scaled").exists()


def test_other_images_beside_random_real_images_are_refused(compared, configs, task, tmp_path):
    compared(configs("pixel"))
    shutil.rmtree(tmp_path / "out" / "pixel")
    for name in ("comparison.json", "comparison.png"):
        (tmp_path / "out" / name).unlink()
    with pytest.raises(ArtefactError, match=r"out/random-real\.json .*training images"):
        compared(configs("pixel", "scaled"), task=other_images(task, "train"))


def test_finished_runs_of_other_images_are_not_put_into_one_table(compared, configs, task, tmp_path):
    compared(configs("pixel"))
    compared(configs("scaled"), "other", task=other_images(task, "train"))
    (tmp_path / "other" / "scaled").rename(tmp_path / "out" / "scaled")
    with pytest.raises(ArtefactError, match=r"out/pixel and .*out/scaled"):
        compared(configs("pixel", "scaled"))


@pytest.mark.parametrize("environment", ["kept", "lost"])
def test_another_prior_beside_a_finished_run_is_refused(compared, configs, pieces, tmp_path, environment):
    first = compared(configs("scaled"))
    pieces.Scaled.prior = "second"
    if environment == "lost":  # the distilled set says as well what it was made with
        (tmp_path / "out" / "scaled" / "environment.json").unlink()
    with pytest.raises(ArtefactError, match=r"out/scaled .*prior_sha256 first .*generator.* second") as raised:
        compared(configs("other", "scaled"))
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "out" / "other").exists()
    # The table of finished runs alone is still what it was.
    assert compared(configs("scaled")).table == first.table
    pieces.Scaled.prior = "first"
    assert compared(configs("other", "scaled")).columns == ["other", "scaled", RANDOM_REAL]


def test_other_experts_beside_a_finished_run_are_refused(compared, configs, pieces, tmp_path):
    compared(configs("scaled"))
    pieces.Level.experts = "second"
    with pytest.raises(ArtefactError, match=r"out/scaled .*experts_sha256 first .*objective.* second"):
        compared(configs("other", "scaled"))
    assert not (tmp_path / "out" / "other").exists()


@pytest.mark.parametrize("there", ["thesis.txt", "photos/cat.png", "comparison.json/x", ".hidden", "pixel/thesis.txt"])
def test_a_folder_of_something_else_is_refused_and_kept(compared, configs, tmp_path, there):
    path = tmp_path / "out" / there
    path.parent.mkdir(parents=True)
    path.write_text("years of work")
    with pytest.raises(UsageError, match=rf"out/{re.escape(there.partition('/')[0])} .*--out") as raised:
        compared(configs("scaled", "pixel"))
    assert "\n" not in str(raised.value)
    assert [entry for entry in (tmp_path / "out").rglob("*") if entry.is_file()] == [path]


@pytest.mark.parametrize("there", ["comparison.json", "comparison.png"])
def test_a_table_without_its_runs_is_not_overwritten(compared, configs, tmp_path, there):
    (tmp_path / "out" / "scaled").mkdir(parents=True)
    (tmp_path / "out" / there).write_text("of something else")
    with pytest.raises(UsageError, match=rf"out/{there} .*--out"):
        compared(configs("scaled"))
    assert (tmp_path / "out" / there).read_text() == "of something else"


def test_mistakes_of_a_later_run_are_found_before_the_first(compared, configs, tmp_path):
    with pytest.raises(HostError, match="factor"):
        compared({**configs("pixel"), **configs("scaled", **{"generator.options.factor": 101.0})})
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("damage", [{}, {"final": {}}, {"final": {"step": 4, "rows": []}}, [1]])
def test_damaged_results_are_named(compared, configs, tmp_path, damage):
    compared(configs("pixel"))
    path = tmp_path / "out" / "pixel" / "distilled" / "metadata.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "results": damage}))
    with pytest.raises(ArtefactError, match=re.escape(str(path))):
        compared(configs("pixel"))


@pytest.mark.parametrize("name", ["../x", "a/b", "", ".hidden", "random real", "comparison.json", "random-real.json"])
def test_a_name_that_cannot_be_a_folder_is_refused(compared, configs, name):
    with pytest.raises(UsageError, match=re.escape(repr(name))):
        compared({name: configs("pixel")["pixel"]})


def test_nothing_to_compare_is_refused(compared, configs, tmp_path):
    with pytest.raises(UsageError, match="generator"):
        compared({})
    with pytest.raises(UsageError, match=r"evaluation\.final"):
        compared(configs("pixel", **{"evaluation.final": False}))
    (tmp_path / "out").write_text("a file")
    with pytest.raises(UsageError, match=r"out .*--out"):
        compared(configs("pixel"))


def test_a_protocol_with_a_rate_of_each_runs_own_is_refused(compared, configs):
    with pytest.raises(UsageError, match=r"'mtt'.* dsa-2021"):
        compared(configs("pixel", **{"evaluation.protocol": "mtt"}))
