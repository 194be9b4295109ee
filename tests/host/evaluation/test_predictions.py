"""What each network predicted: the accuracies it gives, groups of test images, and the file beside the results."""

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from ld3m_plugin.config import resolve
from ld3m_plugin.errors import ArtefactError, DataError
from ld3m_plugin.evaluation import RANDOM_REAL, Evaluation, Row, evaluate, get_protocol
from ld3m_plugin.evaluation.predictions import PREDICTIONS, read_predictions, save_predictions
from ld3m_plugin.evaluation.train_network import test_groups as groups_of
from ld3m_plugin.runs import run
from ld3m_plugin.storage import read_json
from ld3m_plugin.testing import tiny_task

QUICK = get_protocol("quick")
LABELS = torch.tensor([0, 0, 1, 1, 2])
PREDICTED = torch.tensor([[0, 1, 1, 1, 2], [2, 2, 2, 2, 2]])


def table(predicted=PREDICTED, labels=LABELS, groups=None):
    accuracies = tuple(100 * float(share) for share in (predicted == labels).double().mean(1))
    rows = (Row("distilled", "ConvNet", accuracies, predicted), Row(RANDOM_REAL, "ConvNet", accuracies, predicted))
    return Evaluation(QUICK, rows, len(labels), 0, 1.0, "data", test_labels=labels, test_groups=groups)


def test_a_file_reads_back(tmp_path):
    save_predictions(tmp_path / PREDICTIONS, table(groups=torch.tensor([4, 4, 7, 7, 7])))
    found = read_predictions(tmp_path / PREDICTIONS)
    assert set(found.classes) == {("distilled", "ConvNet"), (RANDOM_REAL, "ConvNet")}
    assert torch.equal(found.classes["distilled", "ConvNet"], PREDICTED)
    assert torch.equal(found.labels, LABELS)
    assert found.groups.tolist() == [4, 4, 7, 7, 7]
    assert found.correct("distilled")["ConvNet"].tolist() == [
        [True, False, True, True, True],
        [False, False, False, False, True],
    ]
    # A byte a prediction.
    assert load_file(tmp_path / PREDICTIONS)["distilled/ConvNet"].dtype == torch.uint8


def test_confusion_by_hand(tmp_path):
    save_predictions(tmp_path / PREDICTIONS, table())
    found = read_predictions(tmp_path / PREDICTIONS)
    assert found.groups is None
    assert found.confusion("distilled", "ConvNet").tolist() == [[1, 1, 2], [0, 2, 2], [0, 0, 2]]


def test_more_classes_than_a_byte_holds(tmp_path):
    save_predictions(tmp_path / PREDICTIONS, table(predicted=torch.tensor([[0, 999, 255, 256, 2]])))
    assert read_predictions(tmp_path / PREDICTIONS).classes["distilled", "ConvNet"].tolist() == [[0, 999, 255, 256, 2]]


def test_records_hold_no_predictions(tmp_path):
    evaluation = table()
    record = json.loads(json.dumps(evaluation.record()))
    assert set(record["rows"][0]) == {"images", "network", "accuracies", "mean", "std", "n", "diverged", "together"}
    assert set(record) == {
        *("protocol", "rows", "data", "data_digest", "test_images", "test_per_class", "seed", "seconds", "ran"),
    }
    again = Evaluation.from_record(record)
    assert again == evaluation
    assert again.rows[0].predicted is None
    with pytest.raises(ValueError, match="record"):
        save_predictions(tmp_path / PREDICTIONS, again)


@pytest.mark.parametrize(
    "content",
    [
        {"distilled/ConvNet": torch.zeros(1, 3, dtype=torch.uint8)},
        {"labels": torch.zeros(0, dtype=torch.uint8)},
        {"labels": torch.zeros(3)},
        {"labels": torch.zeros(3, dtype=torch.uint8), "distilled/ConvNet": torch.zeros(1, 4, dtype=torch.uint8)},
        {"labels": torch.zeros(3, dtype=torch.uint8), "ConvNet": torch.zeros(1, 3, dtype=torch.uint8)},
        {"labels": torch.zeros(3, dtype=torch.uint8), "groups": torch.zeros(2, dtype=torch.int64)},
    ],
)
def test_what_holds_no_predictions_is_refused(tmp_path, content):
    save_file(content, tmp_path / PREDICTIONS)
    with pytest.raises(ArtefactError, match=PREDICTIONS):
        read_predictions(tmp_path / PREDICTIONS)


def test_a_missing_or_cut_file_is_refused(tmp_path):
    path = tmp_path / PREDICTIONS
    with pytest.raises(ArtefactError, match=PREDICTIONS):
        read_predictions(path)
    save_predictions(path, table())
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(ArtefactError, match=PREDICTIONS):
        read_predictions(path)


def test_groups_are_those_of_the_test_images_that_are_used():
    task = replace(tiny_task(test=4), test_groups=tuple(range(12)))
    assert groups_of(task, None).tolist() == list(range(12))
    assert groups_of(task, 2).tolist() == [0, 2, 4, 6, 8, 10]
    assert groups_of(tiny_task(), 2) is None
    assert task.for_training().test_groups is None


class Real:
    def __init__(self, task):
        self.labels = torch.arange(task.num_classes)
        self.images = torch.zeros(task.num_classes, task.channels, task.image_size, task.image_size)


def test_groups_of_other_test_images_are_refused():
    task = replace(tiny_task(image_size=32, test=4), test_groups=(0, 1, 2))
    with pytest.raises(DataError, match="test_groups"):
        evaluate(Real(task), task, protocol=QUICK, networks=["ConvNet"])


def test_an_evaluation_keeps_what_its_accuracies_count():
    task = replace(tiny_task(image_size=32, test=7), test_groups=tuple(range(21)))
    short = QUICK.model_copy(update={"epochs": 2, "dsa": "none", "network_settings": {"ConvNet": {"width": 8}}})
    found = evaluate(Real(task), task, protocol=short, networks=["ConvNet"], repeats=2, test_per_class=3)
    assert found.test_labels.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert found.test_groups.tolist() == [0, 2, 4, 7, 9, 11, 14, 16, 18]
    for row in found.rows:
        assert row.predicted.shape == (2, 9)
        for accuracy, classes in zip(row.accuracies, row.predicted, strict=True):
            assert accuracy == 100 * int((classes == found.test_labels).sum()) / 9


@pytest.mark.slow
def test_a_run_leaves_them_beside_its_results(tmp_path, two_epochs):
    settings = [
        *(("data.name", "fashion-mnist:embedded"), ("generator.name", "pixel"), ("steps", 1)),
        *(("objective.name", "dm"), ("objective.options.network_settings", {"width": 8})),
        ("evaluation", {"protocol": two_epochs, "networks": ["ConvNet"], "repeats": 2, "test_per_class": 5}),
    ]
    done = run.start(resolve(settings=settings), tmp_path / "run")
    found = read_predictions(tmp_path / "run" / "distilled" / PREDICTIONS)
    assert set(found.classes) == {("distilled", "ConvNet"), (RANDOM_REAL, "ConvNet")}
    results = read_json(tmp_path / "run" / "distilled" / "metadata.json", ArtefactError)["results"]["final"]
    for row in results["rows"]:
        right = found.correct(row["images"])[row["network"]]
        assert [100 * int(one.sum()) / 50 for one in right] == row["accuracies"]
    assert done.evaluation.rows[0].accuracies == tuple(results["rows"][0]["accuracies"])
