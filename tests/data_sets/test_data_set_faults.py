"""Mistakes in the data set of a plugin: one line that names the data set, its distribution and what is wrong."""

import pytest
import torch

from ld3m_plugin.contracts import ImagesByClass, Task
from ld3m_plugin.data.load import load_task
from ld3m_plugin.errors import DataError, PluginFailedError, PluginLoadError
from ld3m_plugin.randomness import stream
from ld3m_plugin.registry import Backend, Owner, build_registry


class Gray(ImagesByClass):
    """Images of one value."""

    origin = "gray images"
    dtype, shape, missing, classes, fails = torch.uint8, (1, 8, 8), 0, 2, None

    def __init__(self, **settings):
        vars(self).update(settings)

    def counts(self):
        return (6,) * self.classes

    def read(self, class_index, which):
        if self.fails is not None:
            raise self.fails
        return torch.full((len(which) - self.missing, *self.shape), 100 * class_index, dtype=self.dtype)


def task(**facts):
    return Task(
        **{
            **{"name": "gray", "source": "made", "class_names": ("a", "b"), "wordnet_ids": (None, None)},
            **{"mean": (0.5,), "std": (0.5,), "image_size": 8, "train": Gray(), "test_images": Gray()},
            **facts,
        }
    )


def load(result):
    def factory(argument, options):
        if isinstance(result, Exception):
            raise result
        return result

    registry = build_registry(environ={"LD3M_PLUGINS": ""})
    registry.add(Backend("dataset", "gray", factory, "", Owner("wrong", "ld3m-wrong", "0.0.1")))
    return load_task("gray:x", registry=registry)


NAMED = r"dataset 'gray' of ld3m-wrong 0\.0\.1"


def test_without_a_fault_images_are_as_they_were():
    loaded, given = load(task()), task()
    which = torch.tensor([3, 1])
    assert torch.equal(loaded.train.read(1, which), given.train.read(1, which))
    assert loaded.train.counts() == (6, 6)
    assert loaded.train.digest(0) == given.train.digest(0)
    assert loaded.train.origin == "gray images"
    assert torch.equal(loaded.real_images(1, 2, stream(0)), given.real_images(1, 2, stream(0)))
    assert loaded.test.counts() == (6, 6)


@pytest.mark.parametrize("result", [{}, None, FileNotFoundError(2, "gone", "/x"), ValueError("no angle 'x'")], ids=str)
def test_something_else_than_a_task_is_one_line(result):
    with pytest.raises((PluginLoadError, PluginFailedError), match=NAMED) as caught:
        load(result)
    assert "\n" not in str(caught.value)


FACTS = {
    "names": ({"class_names": ("a", "b", "c")}, "wordnet_ids"),
    "no names": ({"class_names": "ab"}, "class_names"),
    "ids": ({"wordnet_ids": ()}, "wordnet_ids"),
    "mean": ({"mean": 0.5}, "mean"),
    "channels": ({"std": (0.5, 0.5)}, "std"),
    "no spread": ({"std": (0.0,)}, "std"),
    "NaN": ({"mean": (float("nan"),)}, "mean"),
    "size": ({"image_size": 8.0}, "image_size"),
    "images": ({"train": torch.zeros(2, 6, 1, 8, 8)}, "train"),
    "classes": ({"train": Gray(classes=3)}, "train.counts"),
    "test classes": ({"test_images": Gray(classes=1)}, "test_images.counts"),
}


@pytest.mark.parametrize(("facts", "named"), FACTS.values(), ids=FACTS)
def test_facts_that_do_not_fit_each_other_are_one_line(facts, named):
    with pytest.raises(PluginFailedError, match=f"{NAMED} gave a Task with .*{named}"):
        load(task(**facts))


IMAGES = {
    "float32": ({"dtype": torch.float32}, "float32"),
    "another size": ({"shape": (1, 4, 4)}, r"\(2, 1, 4, 4\)"),
    "another number of channels": ({"shape": (3, 8, 8)}, r"\(2, 3, 8, 8\)"),
    "too few": ({"missing": 1}, r"\(1, 1, 8, 8\)"),
    "an exception": ({"fails": ValueError("no disk")}, "failed in read of class 'b': ValueError: no disk"),
}


@pytest.mark.parametrize(("settings", "named"), IMAGES.values(), ids=IMAGES)
@pytest.mark.parametrize("part", ["train", "test_images"])
def test_images_that_cannot_be_used_name_the_data_set(settings, named, part):
    loaded = load(task(**{part: Gray(**settings)}))
    with pytest.raises(PluginFailedError, match=f"{NAMED} .*{named}"):
        getattr(loaded, part).read(1, torch.tensor([0, 2]))


@pytest.mark.parametrize(
    "error", [DataError("mine"), MemoryError(), KeyboardInterrupt(), OSError(28, "full")], ids=repr
)
def test_errors_that_are_no_mistake_stay_as_they_are(error):
    loaded = load(task(train=Gray(fails=error)))
    with pytest.raises(type(error)) as caught:
        loaded.real_images(0, 2, stream(0))
    assert caught.value is error
