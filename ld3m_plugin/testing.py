"""The contract suite: tests that every generator, objective and initialiser must pass, in this project and in plugins.

    from ld3m_plugin.testing import check_generator, check_initialiser, check_objective, tiny_task

    def test_my_generator():
        check_generator(lambda: MyGenerator(size=4))

Each function raises `AssertionError` with a message that states the broken rule.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ld3m_plugin.contracts import Generator, ImagesByClass, Initialiser, Latents, Match, Objective, Task
from ld3m_plugin.distillation.rendering import render, render_with_pull_back
from ld3m_plugin.randomness import stream

_PER_CLASS = 3
# Relative L2. The order of float32 sums depends on the batch size, and a chain of networks amplifies the difference; a
# gradient passes two such chains.
_SAME_IMAGES, _SAME_GRADIENT = 1e-5, 1e-4


class RandomImages(ImagesByClass):
    """Noisy uint8 stripes whose number differs by class: a network can learn them, and a loss can fall."""

    origin = "random images for tests"

    def __init__(self, classes: int, count: int, channels: int, size: int, seed: int) -> None:
        rng = stream(seed, "tiny task")
        noise = torch.randint(0, 96, (classes, count, channels, size, size), generator=rng)
        waves = torch.arange(1, classes + 1).view(-1, 1) * torch.arange(size) * (2 * torch.pi / size)
        stripes = (79 * (1 + waves.cos())).long().view(classes, 1, 1, 1, size)
        self._images = (noise + stripes).to(torch.uint8)

    def counts(self) -> tuple[int, ...]:
        return (self._images.shape[1],) * len(self._images)

    def read(self, class_index: int, which: Tensor) -> Tensor:
        return self._images[class_index, which]


def tiny_task(
    classes: int = 3,
    channels: int = 1,
    image_size: int = 16,
    train: int = 12,
    test: int = 4,
    class_names: tuple[str, ...] | None = None,
) -> Task:
    """Make a task of random images in milliseconds; `train` and `test` are images per class.

    Args:
        class_names: names that a pre-trained prior knows, in place of "class 0", ...; they also set the number of classes.
    """
    names = class_names or tuple(f"class {index}" for index in range(classes))
    classes = len(names)
    return Task(
        name="tiny",
        source="random images for tests",
        class_names=names,
        wordnet_ids=(None,) * classes,
        mean=(0.5,) * channels,
        std=(0.25,) * channels,
        image_size=image_size,
        train=RandomImages(classes, train, channels, image_size, seed=0),
        test_images=RandomImages(classes, test, channels, image_size, seed=1),
    )


def check_generator(factory: Callable[[], Generator], task: Task | None = None) -> None:
    """Check a generator against the contract.

    Shapes and types; finite images; deterministic and row-wise independent rendering; gradients that reach every learned
    latent and agree between one graph and chunks; the same stream gives the same start and another stream another one; the
    saved state renders the same images; the test set and the global random stream stay untouched.

    Args:
        factory: makes a new generator.
        task: the data; default: `tiny_task()`.
    """
    task = task or tiny_task()
    global_state = torch.get_rng_state()
    generator, latents = _start(factory, task, seed=0)
    images = render(generator, latents)
    _check_images(generator, latents, images, task)
    _check_start_repeats(factory, task, latents)
    _check_rows(generator, latents, images)
    _check_gradients(generator, latents)
    _check_state(factory, generator, task, latents, images)
    assert torch.equal(torch.get_rng_state(), global_state), (
        "a generator must not draw from torch's global random stream"
    )


def check_initialiser(factory: Callable[[], Initialiser], task: Task | None = None) -> None:
    """Check an initialiser against the contract.

    An image of the data's shape for each label, float32 and finite; the same stream gives the same images; the test set and the
    global random stream stay untouched.

    Args:
        factory: makes a new initialiser.
        task: the data; default: `tiny_task()`.
    """
    task = (task or tiny_task()).for_training()
    global_state, labels = torch.get_rng_state(), torch.arange(task.num_classes).repeat_interleave(_PER_CLASS)
    made = []
    for _ in range(2):
        initialiser = factory()
        initialiser.prepare(task)
        made.append(initialiser.images(task, labels, stream(0, "latents")))
    expected = (len(labels), task.channels, task.image_size, task.image_size)
    assert tuple(made[0].shape) == expected, f"images gave {tuple(made[0].shape)}, not {expected}"
    assert made[0].dtype == torch.float32, f"images must be float32, not {made[0].dtype}"
    assert torch.isfinite(made[0]).all(), "images must be finite"
    assert torch.equal(*made), "images must be the same from the same stream"
    assert torch.equal(torch.get_rng_state(), global_state), (
        "an initialiser must not draw from torch's global random stream"
    )


def check_objective(factory: Callable[[], Objective], task: Task | None = None) -> None:
    """Check an objective against the contract.

    A finite loss and a gradient of the images' shape, for class indices and for probabilities; the same stream gives the same
    match bit for bit; a saved state goes on bit for bit; a step against the gradient lowers the loss of the same draw; images,
    the test set and the global random stream stay untouched.

    Args:
        factory: makes a new objective.
        task: the data; default: `tiny_task()`.
    """
    task = task or tiny_task()
    global_state = torch.get_rng_state()
    labels = torch.arange(task.num_classes).repeat_interleave(_PER_CLASS)
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
    assert torch.equal(torch.get_rng_state(), global_state), (
        "an objective must not draw from torch's global random stream"
    )


def _start(factory: Callable[[], Generator], task: Task, seed: int) -> tuple[Generator, Latents]:
    generator = factory()
    generator.prepare(task.for_training())
    labels = torch.arange(task.num_classes).repeat_interleave(_PER_CLASS)
    return generator, generator.initial_latents(task.for_training(), labels, stream(seed, "latents"))


def _check_images(generator: Generator, latents: Latents, images: Tensor, task: Task) -> None:
    rows = task.num_classes * _PER_CLASS
    assert len(latents) == rows, f"initial_latents gave {len(latents)} rows for {rows} labels"
    assert latents.learned, "at least one latent must be learned"
    expected = (rows * generator.images_per_latent, task.channels, task.image_size, task.image_size)
    assert tuple(images.shape) == expected, f"render gave {tuple(images.shape)}, not {expected}"
    assert images.dtype == torch.float32, f"images must be float32, not {images.dtype}"
    assert torch.isfinite(images).all(), "images must be finite"


def _check_start_repeats(factory: Callable[[], Generator], task: Task, latents: Latents) -> None:
    _, again = _start(factory, task, seed=0)
    for name in latents:
        assert torch.equal(latents[name], again[name]), f"latent {name!r} must start the same from the same stream"
    _, other = _start(factory, task, seed=1)
    differs = any(not torch.equal(latents[name], other[name]) for name in latents)
    assert differs, "latents must start differently from another stream"


def _check_rows(generator: Generator, latents: Latents, images: Tensor) -> None:
    assert torch.equal(render(generator, latents), images), "rendering the same latents twice must give the same bits"
    last = len(latents) - 1
    alone = render(generator, latents.rows(slice(last, last + 1)))
    expected = images[-generator.images_per_latent :]
    assert _relative(alone, expected) < _SAME_IMAGES, "images of a row must depend on that row alone"


def _check_gradients(generator: Generator, latents: Latents) -> None:
    plain = render_with_pull_back(generator, latents)
    image_grad = torch.randn(plain.images.shape, generator=stream(0, "image grad")).to(plain.images.device)
    expected = plain.pull_back(image_grad)
    for name, gradient in expected.items():
        assert torch.isfinite(gradient).all(), f"the gradient of latent {name!r} must be finite"
        rows = gradient.flatten(1).abs().sum(1)
        assert (rows > 0).all(), f"no gradient reaches some rows of the learned latent {name!r}"
    for chunk in (1, 2):
        chunked = render_with_pull_back(generator, latents, chunk).pull_back(image_grad)
        for name, gradient in expected.items():
            assert _relative(chunked[name], gradient) < _SAME_GRADIENT, (
                f"the gradient of {name!r} must not change when {chunk} rows are rendered at a time"
            )


def _relative(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


def _check_state(
    factory: Callable[[], Generator], generator: Generator, task: Task, latents: Latents, images: Tensor
) -> None:
    fresh = factory()
    fresh.prepare(task.for_training())
    fresh.load_state_dict(generator.state_dict())
    assert torch.equal(render(fresh, latents), images), (
        "a new generator with the saved state must render identical images"
    )


def _prepared(factory: Callable[[], Objective], task: Task, labels: Tensor, seed: int = 0) -> Objective:
    objective = factory()
    objective.prepare(task.for_training(), labels, stream(seed, "objective"))
    return objective


def _match(objective: Objective, images: Tensor, labels: Tensor, step: int = 0) -> Match:
    return objective.match(images.clone().requires_grad_(), labels, step)


def _check_match(match: Match, images: Tensor) -> None:
    assert torch.isfinite(torch.tensor(match.loss)), "the loss must be finite"
    assert match.image_grad.shape == images.shape, "image_grad must have the shape of the images"
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
