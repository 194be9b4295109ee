"""Random numbers belong to a step and a class: nothing that was drawn before, and no other class, changes them."""

import pytest
import torch
from torch import nn

from ld3m_plugin.backends import get_generator, get_objective
from ld3m_plugin.networks.convnet import ConvNet
from ld3m_plugin.randomness import stream
from ld3m_plugin.testing import tiny_task

SMALL = {"batch_real": 4, "network_settings": {"depth": 2, "width": 8}}


def prepared(name, task, **options):
    objective = get_objective(name, **{**SMALL, **options})
    objective.prepare(task.for_training(), torch.arange(task.num_classes), stream(0, "objective"))
    return objective


def images(task, seed=0):
    shape = (task.num_classes, task.channels, task.image_size, task.image_size)
    return torch.randn(shape, generator=stream(seed, "images")).requires_grad_()


@pytest.mark.parametrize("name", ["dm", "dc"])
def test_a_step_draws_the_same_whatever_came_before(name):
    task = tiny_task()
    labels = torch.arange(task.num_classes)
    first, second = (prepared(name, task) for _ in range(2))
    for step in range(2):
        first.match(images(task, step), labels, step)
    one, other = (objective.match(images(task), labels, 2) for objective in (first, second))
    assert one.loss == other.loss
    assert torch.equal(one.image_grad, other.image_grad)


def test_steps_and_classes_have_streams_of_their_own():
    objective = prepared("dm", tiny_task())
    numbers = {torch.rand((), generator=objective.draws(step, "real", k)).item() for step in range(4) for k in range(3)}
    assert len(numbers) == 12
    assert torch.rand((), generator=objective.draws(3, "real", 2)).item() in numbers


class Dropping(ConvNet):
    """A network that drops units: their masks must not depend on the classes that are handled together."""

    def __init__(self, **settings):
        super().__init__(**settings)
        self.features.append(nn.Dropout(0.5))


def test_classes_in_one_pass_change_no_number_of_a_network_that_drops_units(monkeypatch):
    monkeypatch.setattr("ld3m_plugin.networks.convnet.ConvNet", Dropping)
    task = tiny_task()
    losses = []
    for at_once in (4, 12):  # images in one pass, as a memory budget gives: one class, or three
        objective = prepared("dm", task, dsa="none")
        objective._at_once = {"ConvNet": at_once}
        losses.append(objective.match(images(task), torch.arange(3), 0).loss)
    assert losses[0] == losses[1]


@pytest.mark.parametrize("count", [1, 2])
def test_generators_start_from_the_same_real_images_however_many(count):
    task = tiny_task().for_training()
    pixel = get_generator("pixel")
    few, more = (
        pixel.initial_latents(task, torch.arange(3).repeat_interleave(n), stream(0, "latents"))["pixels"]
        for n in (count, 3)
    )
    assert torch.equal(few, more.unflatten(0, (3, 3))[:, :count].flatten(0, 1))


def test_a_class_starts_from_the_same_real_images_without_the_others():
    task, labels = tiny_task(), torch.tensor([0, 0, 1, 2])
    every = task.real_images_of(labels, stream(0, "latents"))
    alone = task.real_images_of(labels[2:3], stream(0, "latents"))
    assert torch.equal(every[2:3], alone)
