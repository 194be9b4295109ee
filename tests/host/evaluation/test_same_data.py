"""A distilled set is evaluated on the data that it was made from, or on other data that is named and has the same labels."""

import json
from dataclasses import replace

import numpy
import pytest
import torch
from PIL import Image

from ld3m_plugin.artefact.distilled_set import DistilledSet
from ld3m_plugin.data.identity import data_facts, task_digest
from ld3m_plugin.data.memory import InMemoryImages
from ld3m_plugin.errors import ArtefactError
from ld3m_plugin.evaluation import Evaluation, evaluate
from ld3m_plugin.evaluation.same_data import check_data, check_labels
from ld3m_plugin.testing import RandomImages, tiny_task


def metadata_of(task):
    return {
        "class_names": list(task.class_names),
        "mean": list(task.mean),
        "std": list(task.std),
        "data": {"name": task.name, **data_facts(task)},
    }


def other_images(task):
    return replace(task, train=RandomImages(task.num_classes, 12, 1, 16, seed=5))


def exchanged(task):
    """The images of the first two classes under each other's names."""
    count = torch.arange(12)
    one, two, three = (task.train.read(index, count) for index in range(3))
    return replace(task, train=InMemoryImages([two, one, three], "x"))


def reordered(task):
    names = task.class_names
    return replace(task, class_names=(names[1], names[0], *names[2:]))


def test_the_same_data_elsewhere_is_the_same():
    task = tiny_task()
    moved = replace(task, source="elsewhere", class_names=tuple(name.upper() for name in task.class_names))
    assert check_data(metadata_of(task), moved, is_named=False) is None


def test_other_images_are_evaluated_on_only_where_the_data_is_named():
    task = tiny_task()
    with pytest.raises(ArtefactError, match=r"other training images.*-D root.*--data"):
        check_data(metadata_of(task), other_images(task), is_named=False)
    assert "other training images" in check_data(metadata_of(task), other_images(task), is_named=True)


@pytest.mark.parametrize(("change", "said"), [(exchanged, "exchanged"), (reordered, "order")])
def test_labels_that_mean_something_else_are_refused_even_where_the_data_is_named(change, said):
    task = tiny_task()
    for is_named in (False, True):
        with pytest.raises(ArtefactError, match=said):
            check_data(metadata_of(task), change(task), is_named)
    with pytest.raises(ArtefactError, match=said):
        evaluate(DistilledSet(torch.zeros(3, 1, 16, 16), torch.arange(3), metadata_of(task)), change(task))


@pytest.mark.parametrize("metadata", [{}, {"class_names": ["class 0", "class 1", "class 2"]}, {"data": [1]}])
def test_what_was_not_recorded_is_the_same(metadata):
    check_labels(metadata, tiny_task())
    assert check_data(metadata, tiny_task(), is_named=False) is None


def test_an_evaluation_records_what_it_was_made_with(monkeypatch):
    monkeypatch.setattr("ld3m_plugin.evaluation.evaluating.train", lambda network, *_: network)
    task = tiny_task(image_size=32)
    distilled = DistilledSet(torch.zeros(3, 1, 32, 32), torch.arange(3), metadata_of(task))
    record = evaluate(distilled, task, networks=["ConvNet"], repeats=1, random_real=False).record()
    assert record["data_digest"] == task_digest(task)
    assert Evaluation.from_record(record).data_digest == task_digest(task)
    del record["data_digest"]  # of before there was one
    assert Evaluation.from_record(record).data_digest == ""


@pytest.fixture
def made(ld3m, tmp_path):
    """A run of no step on a folder of pictures; gives that folder."""
    rng = numpy.random.default_rng(0)
    for name in (f"{split}/{kind}" for split in ("train", "test") for kind in ("cat", "dog")):
        (tmp_path / "a" / name).mkdir(parents=True)
        for number in range(2):
            Image.fromarray(rng.integers(0, 256, (8, 8), dtype=numpy.uint8)).save(
                tmp_path / "a" / name / f"{number}.png"
            )
    start = ["distill", "-g", "pixel", "-O", "batch_real=2", "-O", "network_settings={width: 8}", "--steps", "0"]
    assert ld3m(*start, "--no-evaluate", "--data", "imagefolder:a", "--out", "run").code == 0
    return tmp_path / "a"


EVALUATE = ["evaluate", "run", "--networks", "none-such"]  # refused after the data has been compared


@pytest.mark.parametrize("named", [["-D", "root=b"], ["--data", "imagefolder:b"]], ids=["-D root", "--data"])
def test_data_that_has_moved_is_named_for_an_evaluation(made, ld3m, tmp_path, named):
    assert "none-such" in ld3m(*EVALUATE).error
    made.rename(tmp_path / "b")
    missing = ld3m(*EVALUATE)
    assert (missing.code, str(made) in missing.error, "-D" in missing.error) == (1, True, True)
    outcome = ld3m(*EVALUATE, *named)
    assert ("none-such" in outcome.error, "warning" in outcome.err) == (True, False)


def test_another_picture_is_refused_unless_the_data_is_named(made, ld3m):
    for number in range(2):  # the mean and the deviation stay
        path = made / "train" / "cat" / f"{number}.png"
        Image.fromarray(numpy.asarray(Image.open(path))[::-1]).save(path)
    refused = ld3m(*EVALUATE)
    assert (refused.code, str(made) in refused.error) == (1, True)
    named = ld3m(*EVALUATE, "--data", f"imagefolder:{made}")
    assert "none-such" in named.error
    assert "warning: " in named.err


def test_other_pictures_are_told_as_such_and_naming_them_is_proposed_only_where_it_works(made, ld3m):
    Image.new("L", (8, 8), 255).save(made / "train" / "cat" / "0.png")  # the mean is another
    refused = ld3m(*EVALUATE)
    assert (refused.code, "other training images" in refused.error, "by naming" in refused.error) == (1, True, False)
    assert "mean" in ld3m(*EVALUATE, "--data", f"imagefolder:{made}").error


def test_exchanged_class_names_are_refused(made, ld3m):
    for split in ("train", "test"):
        for one, other in (("cat", "x"), ("dog", "cat"), ("x", "dog")):
            (made / split / one).rename(made / split / other)
    for named in ([], ["--data", f"imagefolder:{made}"]):
        refused = ld3m(*EVALUATE, *named)
        assert (refused.code, "exchanged" in refused.error) == (1, True)


def test_the_metadata_says_which_images_a_set_was_made_from(made, tmp_path):
    record = json.loads((tmp_path / "run" / "distilled" / "metadata.json").read_text())["data"]
    assert set(record) == {"name", "source", "train", "test", "images"}
    assert record["images"]["train"].startswith("pixels:")
    assert len(record["images"]["classes"]) == 2
    assert record == {"name": record["name"]} | {
        name: fact
        for name, fact in json.loads((tmp_path / "run" / "environment.json").read_text())["data"].items()
        if name != "classes"
    }
