"""Convolutions from fewer products, against torch's own in float64."""

import pytest
import torch
from torch.nn import functional as F

from ld3m_plugin.networks import winograd
from ld3m_plugin.networks.build import for_training, get_network
from ld3m_plugin.networks.winograd import FewerProducts, matrices, suits
from ld3m_plugin.randomness import stream


def example(count, size, channels=(64, 80), dtype=torch.float32):
    rng = stream(0, "example")
    maps = torch.randn(count, channels[0], *size, generator=rng)
    weight, bias = (
        torch.randn(channels[1], channels[0], 5, 5, generator=rng) / 40,
        torch.randn(channels[1], generator=rng),
    )
    return [tensor.to(dtype).requires_grad_() for tensor in (maps, weight, bias)]


def convolved(maps, weight, bias):
    """The result and the gradients of all three, for a fixed gradient of the result."""
    result = F.conv2d(maps, weight, bias, padding=2)
    towards = torch.randn(result.shape, generator=stream(0, "towards")).to(result.dtype)
    return [result, *torch.autograd.grad(result, (maps, weight, bias), towards)]


def distance(one, other):
    """The largest distance of two lists of tensors, relative to the second."""
    pairs = [(a.detach().double(), b.detach().double()) for a, b in zip(one, other, strict=True)]
    return max(float((a - b).norm() / b.norm()) for a, b in pairs)


def test_matrices_correlate_every_unit_tile_with_every_unit_filter():
    outputs, filters, inputs = matrices()
    for tap in range(5):
        for place in range(8):
            found = outputs @ (filters[:, tap] * inputs[:, place])
            assert found.tolist() == pytest.approx([float(place == y + tap) for y in range(4)], abs=1e-12)


@pytest.mark.parametrize("size", [(8, 8), (5, 11), (1, 2)])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_values_and_gradients_are_those_of_the_convolution(size, layout):
    maps, weight, bias = (tensor.detach() for tensor in example(3, size))
    given = [tensor.contiguous(memory_format=layout).requires_grad_() for tensor in (maps, weight)]
    with FewerProducts():
        found = convolved(*given, bias.requires_grad_())
    wanted = convolved(*example(3, size, dtype=torch.float64))
    assert type(found[0].grad_fn).__name__ == "AddBackward0"  # the bias: torch's own convolution adds it itself
    assert distance(found, wanted) < 1e-5


def test_memory_is_bounded_and_does_not_change_what_comes_out(monkeypatch):
    with FewerProducts():
        whole = convolved(*example(5, (8, 8)))
        monkeypatch.setattr(winograd, "_AT_ONCE", 2 * 64 * 4 * 64)  # two images of four tiles
        parts = convolved(*example(5, (8, 8)))
    assert distance(parts, whole) < 1e-5


def test_only_large_plain_convolutions_are_taken():
    maps, weight, bias = example(2, (8, 8))
    plain = (maps, weight, bias, (1, 1), (2, 2), (1, 1), 1)
    assert suits(*plain)
    others = [
        (maps.double(), weight.double(), bias, (1, 1), (2, 2), (1, 1), 1),
        (maps, weight[:, :, :3, :3], bias, (1, 1), (1, 1), (1, 1), 1),
        (maps[:, :32], weight[:, :32], bias, (1, 1), (2, 2), (1, 1), 1),
        *(
            (*plain[:3], stride, padding, dilation, 1)
            for stride, padding, dilation in ((2, 2, 1), (1, 1, 1), (1, 2, 2))
        ),
        (maps, weight[:, :16], bias, (1, 1), (2, 2), (1, 1), 4),
    ]
    assert not any(suits(*other) for other in others)


def test_outside_the_block_and_of_other_convolutions_bits_are_torch_own():
    maps, weight, bias = example(2, (8, 8))
    before = F.conv2d(maps, weight, bias, padding=2)
    with FewerProducts():
        strided = F.conv2d(maps, weight, bias, stride=2, padding=2)
    assert torch.equal(strided, F.conv2d(maps, weight, bias, stride=2, padding=2))
    assert torch.equal(before, F.conv2d(maps, weight, bias, padding=2))


def test_a_second_derivative_is_refused():
    maps, weight, bias = example(1, (4, 4))
    with FewerProducts():
        result = F.conv2d(maps, weight, bias, (1, 1), (2, 2), (1, 1), 1)
    (gradient,) = torch.autograd.grad(result.square().sum(), maps, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


@pytest.mark.slow
def test_alexnet_takes_it_and_gives_the_same_gradients():
    images, labels = torch.randn(2, 1, 32, 32, generator=stream(0, "images")), torch.tensor([0, 1])
    found = []
    for fewer in (False, True):
        network = get_network("AlexNet", rng=stream(0, "n"), channels=1, image_size=32, num_classes=2)
        if fewer:
            with FewerProducts():
                logits = for_training(network)(images)
        else:
            logits = network(images)
        found.append([logits, *torch.autograd.grad(F.cross_entropy(logits, labels), list(network.parameters()))])
    assert not torch.equal(found[0][0], found[1][0])
    assert distance(*found) < 1e-4
