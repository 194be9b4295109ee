"""The table of a comparison, its pictures and its records."""

import json
from dataclasses import replace

import pytest
import torch
from PIL import Image

from ld3m_plugin.artefact.distilled_set import DistilledSet
from ld3m_plugin.comparison.comparison_table import pictures
from ld3m_plugin.config import resolve
from ld3m_plugin.evaluation import RANDOM_REAL
from ld3m_plugin.runs import run


@pytest.mark.parametrize(
    "names", [("scaled", "pixel"), pytest.param(("scaled", "pixel", "other"), marks=pytest.mark.slow)]
)
def test_table_has_the_numbers_of_separate_runs_and_random_real_once(compared, configs, task, tmp_path, names):
    chosen = configs(*names)
    made = compared(chosen)
    assert made.columns == [*names, RANDOM_REAL]
    assert len(made.table.rows) == 2 * (len(names) + 1)
    for name, config in chosen.items():
        alone = run.start(config, tmp_path / "alone" / name, task=task)
        rows = {kind: [(r.network, r.accuracies) for r in alone.evaluation.rows if r.images == kind] for kind in
                ("distilled", RANDOM_REAL)}  # fmt: skip
        assert made.accuracies(name) == rows["distilled"]
        # Every run would have had the same row: the same images, weights, order and augmentation.
        assert made.accuracies(RANDOM_REAL) == rows[RANDOM_REAL]
        images = [folder / "distilled" / "images.safetensors" for folder in (alone.folder, tmp_path / "out" / name)]
        assert images[0].read_bytes() == images[1].read_bytes()
    assert len(made.trained_on(RANDOM_REAL)) == 2 * 2


def test_what_is_written(compared, configs, task, tmp_path):
    made = compared(configs("scaled", "pixel"))
    record = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert record == json.loads(json.dumps(made.comparison.record()))
    assert (record["protocol"]["name"], record["seed"], record["test_images"]) == ("two-epochs", 0, 60)
    assert record["data"] == task.source
    assert list(record["runs"]) == ["scaled", "pixel"]
    scaled = record["runs"]["scaled"]
    assert (scaled["folder"], scaled["generator"]) == ("scaled", {"name": "scaled", "options": {"factor": 2.0}})
    assert scaled["learning_rates"] == {"w": 0.1}
    steps = [json.loads(line) for line in (tmp_path / "out" / "scaled" / "metrics.jsonl").read_text().splitlines()]
    total = sum(record["seconds"] for record in steps if "loss" in record)
    assert scaled["seconds"]["distillation"] == round(total, 1)
    random_real = json.loads((tmp_path / "out" / "random-real.json").read_text())["evaluation"]
    evaluations = [run["seconds"]["evaluation"] for run in record["runs"].values()]
    assert record["seconds"] == pytest.approx(sum(evaluations) + random_real["seconds"])
    assert random_real["rows"] == [row for row in record["rows"] if row["images"] == RANDOM_REAL]
    # Pixels of 8 are enlarged 12 times; three images and two rows with gaps of 4.
    with Image.open(tmp_path / "out" / "comparison.png") as picture:
        assert picture.size == (3 * 100 + 4, 2 * 100 + 4)
    assert not list((tmp_path / "out").glob(".*"))


def test_random_real_images_can_be_left_out(compared, configs, tmp_path):
    made = compared(configs("scaled", "pixel", **{"evaluation.random_real": False}))
    assert made.columns == ["scaled", "pixel"]
    assert made.trained_on(RANDOM_REAL) == []
    assert not (tmp_path / "out" / "random-real.json").exists()


@pytest.mark.parametrize(
    ("classes", "per_class", "expected"), [(3, 1, [0, 1, 2]), (3, 5, [0, 0, 0, 1, 1, 1, 2, 2, 2]), (12, 2, range(10))]
)
def test_pictures_are_in_the_order_of_classes(classes, per_class, expected):
    labels = torch.arange(classes).repeat_interleave(per_class)
    images = (labels / 20).view(-1, 1, 1, 1).expand(-1, 1, 4, 4)
    metadata = {"class_names": ["x"] * classes, "mean": [0.0], "std": [1.0]}
    shown = pictures(DistilledSet(images, labels, metadata))[:, 0, 0, 0] * 20
    assert shown.round().int().tolist() == list(expected)


def test_optimisers_and_options_may_differ(compared, configs, plain):
    sgd = [("optimizer.name", "sgd"), ("optimizer.learning_rates.w", 1.0), ("generator.options.factor", 3.0)]
    other = resolve(settings=[*plain, ("generator.name", "scaled"), *sgd])
    assert compared({**configs("scaled"), "scaled-sgd": other}).columns == ["scaled", "scaled-sgd", RANDOM_REAL]


def test_a_moved_source_is_the_same_data(compared, configs, task):
    compared(configs("pixel"))
    again = compared(configs("pixel", "scaled"), task=replace(task, source="another folder"))
    assert {name for name, _ in again.notes.steps} == {"scaled"}
    assert again.trained_on(RANDOM_REAL) == []
