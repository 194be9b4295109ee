"""The rules of generators and initialisers."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ld3m_plugin.contracts import Generator, Initialiser, Latents, Task
from ld3m_plugin.distillation.plugin_checks import check_latents
from ld3m_plugin.distillation.rendering import render, render_with_pull_back
from ld3m_plugin.options import RatedOptions
from ld3m_plugin.randomness import stream
from ld3m_plugin.testing.tiny_task import PER_CLASS, check_each, class_indices

# Relative L2. The order of float32 sums depends on the batch size, and a chain of networks amplifies the difference; a
# gradient passes two such chains.
_SAME_IMAGES, _SAME_GRADIENT = 1e-5, 1e-4


def check_generator(factory: Callable[[], Generator], task: Task | None = None) -> None:
    """Check a generator against the contract.

    Shapes and float32; finite images; deterministic and row-wise independent rendering; gradients that reach every learned
    latent and agree between one graph and chunks; a learning rate above 0 for every learned latent; the same stream gives the
    same start and another stream another one; latents after `on_step` render too; the saved state renders the same images; the
    test set and the global random stream stay untouched.

    Args:
        factory: makes a new generator.
        task: the data; default: `tiny_task()`, and then the same in colour, which `prepare` may refuse by a `HostError`.

    Raises:
        AssertionError: a rule is broken; the message states it.
    """
    check_each(
        task,
        "a generator",
        lambda data: _check_generator(factory, data),
        lambda data: factory().prepare(data.for_training()),
    )


def _check_generator(factory: Callable[[], Generator], task: Task) -> None:
    generator, latents = _start(factory, task, seed=0)
    images = _images(generator, latents)
    _check_images(generator, images, task)
    _check_start_repeats(factory, task, latents)
    _check_rows(generator, latents, images)
    _check_gradients(generator, latents)
    _check_step(factory, task)
    _check_state(factory, generator, task, latents, images)
    _check_rates(generator, latents)


def check_initialiser(factory: Callable[[], Initialiser], task: Task | None = None) -> None:
    """Check an initialiser against the contract.

    An image of the data's shape for each label, float32 and finite; the same stream gives the same images; the test set and the
    global random stream stay untouched.

    Args:
        factory: makes a new initialiser.
        task: the data; default: `tiny_task()`, and then the same in colour.

    Raises:
        AssertionError: a rule is broken; the message states it.
    """
    check_each(task, "an initialiser", lambda data: _check_initialiser(factory, data.for_training()))


def _check_initialiser(factory: Callable[[], Initialiser], task: Task) -> None:
    labels, made = class_indices(task), []
    for _ in range(2):
        initialiser = factory()
        initialiser.prepare(task)
        made.append(initialiser.images(task, labels, stream(0, "latents")))
    expected = (len(labels), task.channels, task.image_size, task.image_size)
    assert tuple(made[0].shape) == expected, f"images gave {tuple(made[0].shape)}, not {expected}"
    assert made[0].dtype == torch.float32, f"images must be float32, not {made[0].dtype}"
    assert torch.isfinite(made[0]).all(), "images must be finite"
    assert torch.equal(*made), "images must be the same from the same stream"


def _start(factory: Callable[[], Generator], task: Task, seed: int) -> tuple[Generator, Latents]:
    generator = factory()
    generator.prepare(task.for_training())
    labels = class_indices(task)
    latents = generator.initial_latents(task.for_training(), labels, stream(seed, "latents"))
    return generator, check_latents(latents, "initial_latents", len(labels))


def _images(generator: Generator, latents: Latents) -> Tensor:
    """What `render` gives, before the host makes float32 of it."""
    with torch.no_grad():
        given = generator.render(latents)
    assert isinstance(given, Tensor), f"render gave a {type(given).__name__}, not a tensor"
    assert given.dtype == torch.float32, f"render must give float32 images, not {given.dtype}"
    return render(generator, latents)


def _check_rates(generator: Generator, latents: Latents) -> None:
    rates = generator.learning_rates()
    for name in sorted(latents.learned):
        assert name in rates, (
            f"learning_rates() has no rate for the learned latent {name!r} (it has {sorted(rates) or 'none'}): a run with Adam "
            "needs one"
        )
    for name, rate in rates.items():
        assert 0 < rate < math.inf, f"learning_rates()[{name!r}] = {rate} must be finite and above 0"
    if isinstance(generator.options, RatedOptions):
        said = generator.options.learning_rates()
        assert said == rates, (
            f"learning_rates() of the options gave {said}, of the generator {rates}: leave out the latter"
        )


def _check_step(factory: Callable[[], Generator], task: Task) -> None:
    generator, latents = _start(factory, task, seed=0)
    moved = generator.on_step(latents, 1, stream(0, "on_step"))
    check_latents(moved, "on_step", len(latents))
    images = _images(generator, moved)
    assert len(images) == len(latents) * generator.images_per_latent, "latents that on_step gave must render as before"


def _check_images(generator: Generator, images: Tensor, task: Task) -> None:
    rows = task.num_classes * PER_CLASS
    expected = (rows * generator.images_per_latent, task.channels, task.image_size, task.image_size)
    assert tuple(images.shape) == expected, f"render gave {tuple(images.shape)}, not {expected}"
    assert torch.isfinite(images).all(), "images must be finite"


def _check_start_repeats(factory: Callable[[], Generator], task: Task, latents: Latents) -> None:
    _, again = _start(factory, task, seed=0)
    for name in latents:
        assert torch.equal(latents[name], again[name]), f"latent {name!r} must start the same from the same stream"
    generator, other = _start(factory, task, seed=1)
    if getattr(generator, "initialiser", None) is not None:
        return  # some pictures, such as class means, are the same for every stream
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
