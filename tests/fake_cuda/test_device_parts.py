"""On a stand-in for CUDA: real images, DSA, training and testing, each with the numbers of the CPU and without waiting."""

import subprocess
import sys

import pytest
import torch

from ld3m_plugin.augmentation import DSA, FULL
from ld3m_plugin.data.memory import InMemoryImages
from ld3m_plugin.devices.tf32 import tf32
from ld3m_plugin.devices.transfer import number, read_numbers
from ld3m_plugin.evaluation.protocols import get_protocol
from ld3m_plugin.evaluation.train_network import predict, train
from ld3m_plugin.images import images_by_class
from ld3m_plugin.networks.build import network_for
from ld3m_plugin.randomness import stream
from ld3m_plugin.testing import tiny_task

CUDA = torch.device("cuda", 0)
EXPECTED_TF32 = {"none": [False, False], "convolutions": [True, False], "all": [True, True]}


@pytest.mark.parametrize("fits", [True, False])
def test_real_images_are_copied_once_if_they_fit(card, fits, monkeypatch):
    monkeypatch.setattr(images_by_class, "RESIDENT_BYTES", 2 * 6 * 16 if fits else 2 * 6 * 16 - 1)
    pixels = torch.arange(2 * 6 * 16, dtype=torch.uint8).view(2, 6, 1, 4, 4)
    images, which = InMemoryImages(list(pixels), "here"), torch.tensor([4, 1])
    copied = []
    monkeypatch.setattr(
        images_by_class, "to_device", lambda tensor, device: copied.append(tensor.nbytes) or tensor.to(device)
    )
    for _ in range(2):
        found = images.read_to(1, which, CUDA)
        assert found.device == CUDA
        assert torch.equal(found.cpu(), pixels[1][which])
    # The images of the class once and the rows twice; else nothing stays, and two images are copied each time.
    assert copied == ([96, 16, 16] if fits else [32, 32])
    assert torch.equal(images.read_to(1, which, torch.device("cpu")), images.read(1, which))


def test_real_images_come_without_waiting(card):
    task = tiny_task()
    expected, there = task.real_images(1, 3, stream(0, "real")), task.to("cuda")
    there.real_images(0, 1, stream(0, "first"))  # makes the constants of the normalisation
    with card.busy():
        found = there.real_images(1, 3, stream(0, "real"))
    assert torch.equal(found.cpu(), expected)


@pytest.mark.parametrize("name", FULL.split("_"))
@pytest.mark.parametrize("siamese", [True, False])
def test_augmentation(card, name, siamese):
    dsa, images = DSA(name), torch.randn(5, 3, 8, 8)
    draw = dsa.draw(images.shape, stream(0, "draw"), siamese=siamese)
    there = images.to(CUDA).requires_grad_()
    with card.busy():
        found = dsa.apply(there, draw)
        (gradient,) = torch.autograd.grad(found.square().sum(), there)
    on_cpu = images.clone().requires_grad_()
    expected = dsa.apply(on_cpu, draw)
    assert torch.equal(found.detach().cpu(), expected.detach())
    assert torch.equal(gradient.cpu(), torch.autograd.grad(expected.square().sum(), on_cpu)[0])


SMALL = {
    "ConvNet": {"width": 8, "depth": 2},
    "ViT": {"patch_size": 4, "dim": 8, "depth": 1, "heads": 2, "mlp_dim": 8},
    **dict.fromkeys(("AlexNet", "ResNet18", "VGG11", "MLP", "SmallViT", "MaxConvNet", "ResNet8")),
}


@pytest.mark.parametrize(
    "name", [name if name in ("ConvNet", "ViT") else pytest.param(name, marks=pytest.mark.slow) for name in SMALL]
)
def test_training_and_prediction(card, name):
    """A training never reads the device, a prediction once."""
    task = tiny_task(image_size=32).to("cuda")
    recipe = get_protocol("quick").model_copy(update={"epochs": 2, "batch_size": 4, "ema": 0.9})
    network = network_for(task, name, SMALL[name] or {}, stream(0, "network"))
    images, labels = task.real_images(0, 6, stream(0, "real")), torch.arange(6, device=CUDA) % task.num_classes
    with card.busy():
        trained = train(network, images, labels, recipe, 0.01, stream(0, "training"))
    card.waited.clear()
    found = predict(trained, task)
    assert found.device.type == "cpu"
    assert len(card.waited) == 1, card.waited


def test_numbers_are_read_in_one_copy(card):
    values = [
        number(torch.tensor(value, dtype=dtype).to(CUDA))
        for value, dtype in [(0.1, torch.float64), (2.5, torch.float32)]
    ]
    assert all(value.device == CUDA for value in values)
    card.waited.clear()
    assert read_numbers([*values, 7.0]) == [0.1, 2.5, 7.0]
    assert len(card.waited) == 1
    assert (number(torch.tensor(0.1, requires_grad=True)), number(3)) == (pytest.approx(0.1), 3.0)


def test_tf32_is_set_for_a_while_and_on_cuda_alone():
    convolutions, products = torch.backends.cudnn, torch.backends.cuda.matmul
    before = state = (convolutions.allow_tf32, products.allow_tf32)
    for where, expected in {"none": (False, False), "convolutions": (True, False), "all": (True, True)}.items():
        with tf32(where, CUDA):
            state = (convolutions.allow_tf32, products.allow_tf32)
        assert state == expected
        with tf32(where, torch.device("cpu")):
            assert (convolutions.allow_tf32, products.allow_tf32) == before
    with pytest.raises(ZeroDivisionError), tf32("all", CUDA):
        raise ZeroDivisionError
    assert (convolutions.allow_tf32, products.allow_tf32) == before


@pytest.mark.skipif(not hasattr(torch.backends.cudnn, "conv"), reason="torch before 2.9 has one name of the setting")
@pytest.mark.parametrize(
    "set_before",
    [
        'torch.backends.fp32_precision = "tf32"',
        'torch.backends.fp32_precision = "ieee"',
        'torch.backends.fp32_precision = "tf32"; torch.backends.cuda.matmul.fp32_precision = "ieee"',
        'torch.backends.cuda.matmul.fp32_precision = "tf32"',
    ],
)
def test_tf32_is_set_where_a_program_uses_the_newer_name_of_the_setting(tmp_path, set_before):
    """In a process of its own: once the newer name is set, torch lets no test read the older one."""
    program = f"""
import torch
from ld3m_plugin.devices.tf32 import tf32, tf32_state

{set_before}
holders = torch.backends.cudnn.conv, torch.backends.cuda.matmul
before = [each.fp32_precision for each in holders]
states = set()
for where, expected in {EXPECTED_TF32}.items():
    with tf32(where, torch.device("cuda")):
        found = [each.fp32_precision == "tf32" for each in holders]
        states.add(tf32_state())
    assert found == expected, (where, found)
    assert [each.fp32_precision for each in holders] == before
assert len(states) == 3
"""
    subprocess.run([sys.executable, "-c", program], check=True, cwd=tmp_path)
