"""Distilled sets that exports are made of: eleven images and more of a class, so that order by name is put to the test."""

import pytest
import torch

from ld3m_plugin.artefact.distilled_set import DistilledSet

NAMES = ["T-shirt/top", "no", '犬: "x" #']


@pytest.fixture(params=[("gray", 1, False), ("colour", 3, False), ("soft", 3, True)], ids=lambda param: param[0])
def exported_set(request):
    """A set of 3 classes and 11, 12 and 1 images; pixels leave [0, 1] here and there."""
    _, channels, soft = request.param
    hard = torch.tensor([0] * 11 + [1] * 12 + [2])
    images = 1.5 * torch.randn(24, channels, 8, 8, generator=torch.Generator().manual_seed(0))
    labels = 0.8 * torch.nn.functional.one_hot(hard, 3) + 0.2 / 3 if soft else hard
    return DistilledSet(images, labels, {"class_names": NAMES, "mean": [0.5] * channels, "std": [0.25] * channels})


@pytest.fixture
def hard(exported_set):
    """Class indices of the set."""
    labels = exported_set.labels
    return labels if labels.ndim == 1 else labels.argmax(1)


@pytest.fixture
def pixels_of():
    """A picture of Pillow as (C, H, W) in [0, 255]."""
    import numpy

    def pixels(picture):
        array = torch.from_numpy(numpy.array(picture)).float()
        return array[None] if array.ndim == 2 else array.permute(2, 0, 1)

    return pixels


@pytest.fixture
def same_picture(exported_set, pixels_of):
    """Whether a picture of Pillow is image number i of the set, clipped and rounded to 8 bits."""
    shown = 255 * exported_set.denormalised()

    def same(picture, index):
        pixels = pixels_of(picture)
        return pixels.shape == shown[index].shape and bool((pixels - shown[index]).abs().max() <= 0.5001)

    return same
