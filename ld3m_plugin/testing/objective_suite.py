"""The rules of objectives."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ld3m_plugin.contracts import Match, Objective, Task
from ld3m_plugin.distillation.plugin_checks import check_match
from ld3m_plugin.randomness import stream
from ld3m_plugin.testing.tiny_task import check_each, class_indices


def check_objective(factory: Callable[[], Objective], task: Task | None = None) -> None:
    """Check an objective against the contract.

    A finite loss of one number and a float32 gradient of the images' shape, for class indices and for probabilities; the same
    stream gives the same match bit for bit; a saved state goes on bit for bit; a step against the gradient lowers the loss of
    the same draw; images, the test set and the global random stream stay untouched.

    Args:
        factory: makes a new objective.
        task: the data; default: `tiny_task()`, and then the same in colour, which `prepare` may refuse by a `HostError`.

    Raises:
        AssertionError: a rule is broken; the message states it.
    """
    check_each(
        task,
        "an objective",
        lambda data: _check_objective(factory, data),
        lambda data: _prepared(factory, data, class_indices(data)),
    )


def _check_objective(factory: Callable[[], Objective], task: Task) -> None:
    labels = class_indices(task)
    images = torch.randn(len(labels), task.channels, task.image_size, task.image_size, generator=stream(0, "images"))
    before = images.clone()
    match = _match(_prepared(factory, task, labels), images, labels)
    _check_match(match, images)
    assert torch.equal(images, before), "match must not change its images"
    again = _match(_prepared(factory, task, labels), images, labels)
    assert again.loss == match.loss, "the same stream must give the same loss"
    assert torch.equal(again.image_grad, match.image_grad), "the same stream must give the same gradient"
    soft = torch.nn.functional.one_hot(labels).float()
    _check_match(_match(_prepared(factory, task, soft), images, soft), images)
    _check_descent(factory, task, images, labels, match)
    _check_resume(factory, task, images, labels)


def _prepared(factory: Callable[[], Objective], task: Task, labels: Tensor, seed: int = 0) -> Objective:
    objective = factory()
    objective.prepare(task.for_training(), labels, stream(seed, "objective"))
    return objective


def _match(objective: Objective, images: Tensor, labels: Tensor, step: int = 0) -> Match:
    return objective.match(images.clone().requires_grad_(), labels, step)


def _check_match(match: Match, images: Tensor) -> None:
    check_match(match, "match", images)
    assert torch.isfinite(torch.as_tensor(match.loss)).all(), "the loss must be finite"
    assert torch.isfinite(match.image_grad).all(), "image_grad must be finite"
    assert not match.image_grad.requires_grad, "image_grad must be free of a graph: detach it"
    assert match.image_grad.abs().sum() > 0, "image_grad must not be zero for random images"


def _check_descent(factory: Callable[[], Objective], task: Task, images: Tensor, labels: Tensor, match: Match) -> None:
    # To first order, a small enough step against the gradient lowers the loss of the same draw.
    for exponent in range(2, 8):
        step = 10.0**-exponent / match.image_grad.abs().max()
        if _match(_prepared(factory, task, labels), images - step * match.image_grad, labels).loss < match.loss:
            return
    raise AssertionError("no step along -image_grad lowers the loss: image_grad must be dloss/dimages")


def _check_resume(factory: Callable[[], Objective], task: Task, images: Tensor, labels: Tensor) -> None:
    straight = _prepared(factory, task, labels)
    _match(straight, images, labels)
    state = {name: tensor.clone() for name, tensor in straight.state_dict().items()}
    expected = _match(straight, images, labels, 1)
    resumed = _prepared(factory, task, labels, seed=7)
    resumed.load_state_dict(state)
    got = _match(resumed, images, labels, 1)
    assert got.loss == expected.loss, "an objective with the saved state must go on bit for bit: its loss differs"
    assert torch.equal(got.image_grad, expected.image_grad), (
        "an objective with the saved state must go on bit for bit: its gradient differs"
    )
