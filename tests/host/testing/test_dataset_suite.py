"""`check_dataset`: sound data sets pass, and each clause catches a data set that breaks it."""

import pytest
import torch

from ld3m_plugin.contracts import ImageOptions, ImagesByClass, Options, Task, takes
from ld3m_plugin.data import fashion_mnist
from ld3m_plugin.errors import DataError
from ld3m_plugin.testing import check_dataset


class Noise(ImagesByClass):
    """An image depends on its class and number alone."""

    origin = "noise"

    def __init__(self, seed, channels=1, size=8, count=6, classes=2):
        self.seed, self.shape, self.count, self.classes = seed, (channels, size, size), count, classes

    def counts(self):
        return (self.count,) * self.classes

    def read(self, class_index, which):
        return torch.stack([self.one(class_index, int(number)) for number in which])

    def one(self, class_index, number):
        rng = torch.Generator().manual_seed(self.seed + 2 * number + class_index)
        return torch.randint(0, 256, self.shape, dtype=torch.uint8, generator=rng)


def task(size=8, channels=1, images=Noise, **facts):
    return Task(
        **{
            **{"name": "noise", "source": "made", "class_names": ("a", "b"), "wordnet_ids": (None, None)},
            **{"mean": (0.5,) * channels, "std": (0.5,) * channels, "image_size": size},
            **{"train": images(0, channels, size), "test_images": images(1000, channels, size)},
            **facts,
        }
    )


@takes(ImageOptions)
def sound(argument, options):
    return task(options.image_size or 8, 3 if options.grayscale is False else 1)


@takes(Options)
def without_options(argument, options):
    return task()


@takes(ImageOptions)
def refuses_sizes(argument, options):
    if options.image_size or options.grayscale is not None:
        raise DataError("8 gray pixels alone")
    return task()


@pytest.mark.parametrize("factory", [sound, without_options, refuses_sizes])
def test_sound_data_sets_pass(factory):
    check_dataset(factory)


def test_a_built_in_data_set_passes():
    check_dataset(fashion_mnist.load, "embedded")


def giving(**facts):
    return takes(Options)(lambda argument, options: task(**facts))


class ByOrder(Noise):
    def read(self, class_index, which):
        return super().read(class_index, which.sort().values)


class ByCompany(Noise):
    def read(self, class_index, which):
        return super().read(class_index, which) // len(which)


class Drawn(Noise):
    def read(self, class_index, which):
        return torch.randint(0, 256, (len(which), *self.shape), dtype=torch.uint8)


class Fresh(Noise):
    made = 0

    def __init__(self, *arguments):
        super().__init__(*arguments)
        Fresh.made += 1
        self.seed += 10_000 * Fresh.made


class Digest(Noise):
    def digest(self, class_index):
        return 7


BROKEN = {
    "one class": (
        giving(class_names=("a",), wordnet_ids=(None,), train=Noise(0, classes=1), test_images=Noise(9, classes=1)),
        "two",
    ),
    "names alike": (giving(class_names=("a", "a")), "differ"),
    "no test images": (giving(test_images=None), "test_images"),
    "an empty class": (giving(train=Noise(0, count=0)), "counts"),
    "groups": (giving(test_groups=(1, 2)), "test_groups"),
    "order": (giving(images=ByOrder), "order of reading"),
    "company": (giving(images=ByCompany), "which others"),
    "global stream": (giving(images=Drawn), "order of reading|global random stream"),
    "another time": (giving(images=Fresh), "whenever the data set is loaded"),
    "digest": (giving(images=Digest), "METHOD:SHA-256"),
    "test is training": (giving(test_images=Noise(0)), "must not be the training images"),
    "ignores the size": (takes(ImageOptions)(lambda argument, options: task()), "image_size=12"),
    "float32": (giving(images=type("F", (Noise,), {"one": lambda s, k, n: torch.rand(s.shape)})), "uint8"),
    "a dict": (takes(Options)(lambda argument, options: {}), "dict"),
}


@pytest.mark.parametrize(("factory", "clause"), BROKEN.values(), ids=BROKEN)
def test_each_clause_catches(factory, clause):
    with pytest.raises(AssertionError, match=clause):
        check_dataset(factory)
