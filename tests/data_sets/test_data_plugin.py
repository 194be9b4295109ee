"""The data sets' plugin module, and `load_task`."""

import subprocess
import sys

import pytest
import torch

import ld3m_plugin.data
from ld3m_plugin.data.load import load_task
from ld3m_plugin.data.memory import InMemoryImages
from ld3m_plugin.errors import DataError, InvalidOptionError, UnknownOptionError
from ld3m_plugin.registry import Backend, Owner, default_registry
from ld3m_plugin.task import DataOptions, Task

NAMES = ["fashion-mnist", "emoji", "cifar10", "cifar100", "imagefolder", "imagenet"]


class Recorder:
    """A registry with one data set, which records its calls."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []
        self.got: tuple[str, DataOptions] | None = None

    def resolve(self, kind, name):
        self.asked.append((kind, name))
        return self.factory

    def find(self, kind, name):
        return Backend(kind, name, self.factory, "", Owner("recorder", "tests", "1.0"))

    def factory(self, argument, options):
        self.got = (argument, options)
        images = InMemoryImages([torch.zeros(3, 1, 4, 4, dtype=torch.uint8)], "nowhere")
        return Task("x", "nowhere", ("only",), (None,), (0.5,), (0.5,), 4, images, images)


def test_the_module_registers_every_data_set_with_a_summary():
    calls = {}
    ld3m_plugin.data.register_datasets(
        lambda name, factory, summary="", options=None: calls.update({name: (factory, summary)})
    )
    assert list(calls) == NAMES
    assert all(summary for _, summary in calls.values())


@pytest.mark.parametrize("name", NAMES)
def test_every_registered_name_resolves(name):
    assert callable(default_registry().resolve("dataset", name))


def test_listing_data_sets_imports_nothing_heavy():
    code = (
        "import sys, ld3m_plugin.data as d; d.register_datasets(lambda *a, **k: None); "
        "print([m for m in ('torch', 'numpy', 'PIL') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_name_is_split_at_the_first_colon():
    registry = Recorder()
    load_task("imagefolder:C:/pictures", registry=registry, image_size=8)
    assert registry.asked == [("dataset", "imagefolder")]
    assert registry.got == ("C:/pictures", DataOptions(image_size=8))


def test_the_task_is_on_the_wanted_device():
    assert load_task("x", registry=Recorder(), device="meta").device == torch.device("meta")


def test_mistaken_options_name_the_data_set():
    with pytest.raises(UnknownOptionError, match=r"'x'.*'image_sise'.*'image_size'"):
        load_task("x", registry=Recorder(), image_sise=8)
    with pytest.raises(InvalidOptionError, match=r"'x'.*image_size = 1"):
        load_task("x:y", registry=Recorder(), image_size=1)


def test_generators_and_objectives_cannot_reach_the_test_set():
    task = load_task("x", registry=Recorder())
    assert task.test.counts() == (3,)
    with pytest.raises(DataError, match="'x'"):
        _ = task.for_training().test
    assert task.for_training().test_images is None


def test_more_images_than_a_class_has_is_an_error_that_names_the_source():
    task = load_task("x", registry=Recorder())
    assert task.real_images(0, 3, torch.Generator()).shape == (3, 1, 4, 4)
    with pytest.raises(DataError, match=r"'only'.*\b3\b.*\b4\b.*nowhere"):
        task.real_images(0, 4, torch.Generator())
