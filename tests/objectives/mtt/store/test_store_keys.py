"""Keys of stores: what decides them, and that they stay as they are."""

from dataclasses import replace

import pytest

from ld3m_plugin.data.identity import data_digest
from ld3m_plugin.data.imagefolder import load as load_imagefolder
from ld3m_plugin.objectives.mtt.store import ExpertSettings
from ld3m_plugin.objectives.mtt.store.expert_settings import EXTENT
from ld3m_plugin.objectives.mtt.store.store_identity import differences, key_of
from ld3m_plugin.task import DataOptions
from ld3m_plugin.testing import RandomImages, tiny_task

OTHER = {
    "network": "VGG11",
    "network_settings": {"depth": 1, "width": 16},
    "rate": 0.02,
    "momentum": 0.5,
    "weight_decay": 0.1,
    "batch_size": 11,
    "dsa": "color",
    "seed": 1,
    "count": 3,
    "epochs": 3,
}


def test_every_setting_is_tried():
    assert set(OTHER) == set(ExpertSettings.model_fields)


@pytest.mark.parametrize("name", OTHER)
def test_a_key_changes_with_each_setting_but_the_extent(task, tiny, name):
    settings = tiny().settings()
    if name == "network":
        settings = settings.model_copy(update={"network_settings": {}})
    other = settings.model_copy(update={name: OTHER[name]})
    assert (key_of(task, other) == key_of(task, settings)) == (name in EXTENT)


DATA = {
    "count": lambda: tiny_task(train=13),
    "classes": lambda: tiny_task(class_names=("a", "b", "c")),
    "size": lambda: tiny_task(image_size=8),
    "channels": lambda: tiny_task(channels=3),
    "pixels": lambda: replace(tiny_task(), train=RandomImages(3, 12, 1, 16, seed=7)),
    "mean": lambda: replace(tiny_task(), mean=(0.4,)),
    "std": lambda: replace(tiny_task(), std=(0.2,)),
}


@pytest.mark.parametrize("what", DATA)
def test_a_key_changes_with_the_data(task, tiny, what):
    settings = tiny().settings()
    assert key_of(DATA[what](), settings) != key_of(task, settings)


def test_a_key_does_not_change_with_name_and_place(task, tiny):
    settings = tiny().settings()
    renamed = replace(task, name="imagefolder:/elsewhere", source="another copy", read_with={"root": "/elsewhere"})
    assert key_of(renamed, settings) == key_of(task, settings)


def test_a_folder_of_images_keeps_its_key_when_it_moves(tmp_path, tiny):
    from PIL import Image

    for split, more in (("train", 0), ("test", 10)):
        for name, shade in (("dark", 40 + more), ("light", 200 + more)):
            (tmp_path / "a" / split / name).mkdir(parents=True)
            for index in range(3):
                Image.new("L", (16, 16), shade + index).save(tmp_path / "a" / split / name / f"{index}.png")
    keys = []
    for place in ("a", "b"):
        task = load_imagefolder(str(tmp_path / place), DataOptions())
        keys.append((key_of(task, tiny().settings()), data_digest(task)))
        (tmp_path / place).rename(tmp_path / "b")
    assert keys[0] == keys[1]


def test_defaults_of_a_network_may_be_named_or_left_out(task, tiny):
    bare = tiny(network_settings={"width": 8}).settings()
    named = tiny(network_settings={"norm": "instancenorm", "width": 8, "pooling": "avg"}).settings()
    assert key_of(task, bare) == key_of(task, named)
    assert key_of(task, tiny(dsa="").settings()) == key_of(task, tiny(dsa="none").settings())


def test_keys_stay_as_they_are(task, tiny):
    # Stored experts are found by their key: another one here makes all of them unreachable.
    assert key_of(task, ExpertSettings()) == "ConvNet-16px-3classes-01432de2b95c"
    assert key_of(task, tiny().settings()) == "ConvNet-16px-3classes-abfe41eaf19e"
    assert key_of(task, tiny(momentum=0.5, weight_decay=0.01).settings()) == "ConvNet-16px-3classes-9dbb15b25669"


def test_differences_are_dotted_paths():
    assert differences({"a": {"b": 1}}, {"a": {"b": 1, "c": 2}}) == {"a.c": (None, 2)}
