"""The stand-in refuses what `FakeTensorMode` refuses, and tells of what it cannot do without numbers."""

import pytest
import torch
from torch._subclasses import FakeTensorMode
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException

from ld3m_plugin.devices.transfer import to_device

CUDA = torch.device("cuda", 0)


def there(*shape):
    return torch.ones(*shape, device=CUDA)


REFUSED = {
    "sum": lambda: there(3) + torch.ones(3),
    "product": lambda: there(2, 3) @ torch.ones(3, 2),
    "list": lambda: torch.cat([there(2), torch.ones(2)]),
    "convolution": lambda: torch.nn.functional.conv2d(there(1, 1, 4, 4), torch.ones(1, 1, 3, 3)),
    "choice": lambda: torch.where(torch.ones(3, dtype=torch.bool), there(3), there(3)),
}
WAITS = {
    "number": lambda: float(there(3).sum()),
    "truth": lambda: bool((there(3) > 0).all()),
    "list": lambda: there(3).tolist(),
    "places": lambda: there(3).nonzero(),
    "mask": lambda: there(3)[there(3) > 0],
}
FINE = {
    "scalar": lambda: there(3) * torch.tensor(2.0),
    "device alone": lambda: (there(3) + there(3)).softmax(0).sum(),
    "made there": lambda: there(3) + torch.arange(3, device=CUDA),
    "gradient's shape": lambda: torch.nn.functional.interpolate(there(1, 1, 2, 2), scale_factor=2.0),
}


@pytest.mark.parametrize("name", REFUSED)
def test_fake_tensors_refuse(name):
    with FakeTensorMode(), pytest.raises(RuntimeError, match="same device"):
        REFUSED[name]()


@pytest.mark.parametrize("name", REFUSED)
def test_the_stand_in_refuses(card, name):
    with pytest.raises(RuntimeError, match="same device"):
        REFUSED[name]()
    assert not card.waited


@pytest.mark.parametrize("name", WAITS)
def test_fake_tensors_have_no_numbers(name):
    with FakeTensorMode(), pytest.raises((DataDependentOutputException, DynamicOutputShapeException)):
        WAITS[name]()


@pytest.mark.parametrize("name", WAITS)
def test_the_stand_in_tells_of_reading(card, name):
    WAITS[name]()
    assert card.waited


@pytest.mark.parametrize("name", FINE)
def test_both_take(card, name):
    assert FINE[name]().device == CUDA
    assert not card.waited


def test_copies_wait_unless_they_are_told_not_to(card):
    numbers = torch.arange(3.0)
    for blocking in (lambda: numbers.to(CUDA), lambda: torch.tensor([1.0], device=CUDA), lambda: there(3).cpu()):
        card.waited.clear()
        blocking()
        assert len(card.waited) == 1
    with card.busy():
        moved = to_device(numbers, CUDA)
    assert moved.device == CUDA
    assert torch.equal(moved.cpu(), numbers)


def test_an_index_on_the_cpu_is_a_hidden_copy(card):
    there(3)[torch.tensor([0, 1])]
    assert "index on the CPU" in card.waited[0]


def test_numbers_and_gradients_are_those_of_the_cpu(card):
    layer, images = torch.nn.Conv2d(1, 2, 3), torch.randn(2, 1, 6, 6)
    expected = torch.autograd.grad(layer(images).square().sum(), list(layer.parameters()))
    layer.to(CUDA)
    found = torch.autograd.grad(layer(images.to(CUDA)).square().sum(), list(layer.parameters()))
    assert all(torch.equal(one.cpu(), other) for one, other in zip(found, expected, strict=True))
