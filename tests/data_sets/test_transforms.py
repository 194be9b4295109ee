"""Sizes, channels and statistics of uint8 images."""

import numpy
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ld3m_plugin.data import memory
from ld3m_plugin.data.memory import InMemoryImages, ReshapedImages, by_class, reshaped
from ld3m_plugin.data.statistics import SMALLEST_STD, channel_statistics
from ld3m_plugin.data.transforms import pad_to, resize_square, to_colour, to_grayscale, with_channels
from ld3m_plugin.errors import DataError


def random_images(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def test_grayscale_equals_pillow_bit_for_bit():
    images = random_images(2, 3, 64, 64)
    expected = [numpy.array(Image.fromarray(image.permute(1, 2, 0).numpy()).convert("L")) for image in images]
    assert torch.equal(to_grayscale(images), torch.from_numpy(numpy.stack(expected)).unsqueeze(1))


def test_gray_made_colour_and_gray_again_is_unchanged():
    images = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    assert torch.equal(to_grayscale(to_colour(images)), images)
    assert with_channels(images, 1) is images


@given(side=st.integers(1, 9), extra=st.integers(0, 9))
def test_padding_puts_the_image_in_the_middle_of_black(side, extra):
    padded = pad_to(torch.full((1, 1, side, side), 7, dtype=torch.uint8), side + extra)
    before = extra // 2
    assert padded.shape == (1, 1, side + extra, side + extra)
    assert (padded[..., before : before + side, before : before + side] == 7).all()
    assert padded.sum() == 7 * side * side


@pytest.mark.parametrize(("side", "size"), [(32, 64), (32, 16), (64, 20)])
def test_resizing_equals_pillow_within_one_level(side, size):
    image = random_images(1, 3, side, side)
    expected = Image.fromarray(image[0].permute(1, 2, 0).numpy()).resize((size, size), Image.Resampling.BILINEAR)
    got = resize_square(image, size)[0].permute(1, 2, 0).numpy().astype(int)
    assert numpy.abs(got - numpy.array(expected).astype(int)).max() <= 1


def test_reshaped_copies_and_reshaping_on_use_give_the_same_images(monkeypatch):
    source = InMemoryImages([random_images(3, 1, 8, 8), random_images(2, 1, 8, 8, seed=1)], "here")
    kept = reshaped(source, 3, 20, pad=10)
    monkeypatch.setattr(memory, "KEEP_BYTES", 0)
    made = reshaped(source, 3, 20, pad=10)
    assert isinstance(kept, InMemoryImages)
    assert isinstance(made, ReshapedImages)
    assert kept.counts() == made.counts() == (3, 2)
    assert kept.origin == made.origin == "here"
    which = torch.tensor([2, 0])
    assert kept.read(0, which).shape == (2, 3, 20, 20)
    assert kept.read(0, which).dtype == torch.uint8
    assert torch.equal(kept.read(0, which), made.read(0, which))


def test_images_in_memory_have_one_shape_and_are_uint8():
    with pytest.raises(ValueError, match="shape"):
        InMemoryImages([random_images(1, 1, 4, 4), random_images(1, 1, 5, 5)], "x")
    with pytest.raises(ValueError, match="class"):
        InMemoryImages([], "x")
    with pytest.raises(ValueError, match="uint8"):
        InMemoryImages([torch.zeros(1, 1, 4, 4)], "x")


@settings(max_examples=30)
@given(labels=st.lists(st.integers(0, 2), max_size=20))
def test_sorting_by_class_keeps_every_image_and_its_order(labels):
    labels = [0, 1, 2, *labels]
    images = torch.arange(len(labels), dtype=torch.uint8).view(-1, 1, 1, 1)
    sorted_images = by_class(images, torch.tensor(labels), "abc", "x")
    for index in range(3):
        positions = [position for position, label in enumerate(labels) if label == index]
        assert sorted_images.read(index, torch.arange(len(positions))).flatten().tolist() == positions


@pytest.mark.parametrize(
    ("labels", "values"),
    [
        ([0, 1], r"\b3\b.*\b2\b"),
        ([0, 1, 5], r"\b0\b.*\b5\b.*\b2\b"),
        ([0, 0, 0], "'b'"),
    ],
)
def test_labels_that_do_not_fit_are_errors(labels, values):
    with pytest.raises(DataError, match=values) as caught:
        by_class(random_images(3, 1, 2, 2), torch.tensor(labels), "ab", "some/file")
    assert "some/file" in str(caught.value)


def test_statistics_equal_mean_and_deviation_of_the_pixels():
    classes = [random_images(5, 3, 6, 6), random_images(7, 3, 6, 6, seed=1) // 3]
    mean, std = channel_statistics(InMemoryImages(classes, "x"))
    pixels = torch.cat(classes).transpose(0, 1).flatten(1).double() / 255
    torch.testing.assert_close(torch.tensor(mean).double(), pixels.mean(1), rtol=0, atol=1e-6)
    torch.testing.assert_close(torch.tensor(std).double(), pixels.std(1, correction=0), rtol=0, atol=1e-6)


def test_statistics_of_a_sample_repeat_and_leave_the_global_stream_alone():
    images = InMemoryImages([random_images(40, 1, 4, 4), random_images(3, 1, 4, 4)], "x")
    before = torch.get_rng_state()
    first, again = (channel_statistics(images, sample=10) for _ in range(2))
    assert first == again
    assert first != channel_statistics(images)
    assert torch.equal(before, torch.get_rng_state())


def test_equal_pixels_give_a_deviation_that_can_be_divided_by():
    mean, std = channel_statistics(InMemoryImages([torch.full((2, 1, 4, 4), 255, dtype=torch.uint8)], "x"))
    assert mean == (1.0,)
    assert std == (SMALLEST_STD,)
