"""What comes before the first step, in a run and in a caller's loop: latents to start from, and how they are rendered."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from ld3m_plugin.config import RunConfig, changed
from ld3m_plugin.contracts import Generator, Latents, RenderPlan, Task
from ld3m_plugin.devices.tf32 import tf32
from ld3m_plugin.distillation.plugin_checks import check_latents, check_plan
from ld3m_plugin.errors import HostError, UsageError
from ld3m_plugin.randomness import stream
from ld3m_plugin.registry import blaming, described


def first_latents(generator: Generator, config: RunConfig, task: Task) -> tuple[Tensor, Latents]:
    """Prepare a generator and make its start: class indices (N,) of the images, ordered by class, and the latents of all rows.

    Args:
        task: without its test set.

    Raises:
        UsageError: the images of a class are no multiple of those that a latent renders.
    """
    name, per_class = config.generator.name, config.images_per_class
    with blaming("generator", name, "prepare"), tf32(config.tf32, task.device):
        generator.prepare(task)
    who, per_latent = described("generator", name), generator.images_per_latent
    if type(per_latent) is not int or per_latent < 1:
        raise HostError(f"{who}: images_per_latent = {per_latent!r}, not a whole number of at least 1")
    if per_class % per_latent:
        raise UsageError(
            f"images_per_class = {per_class} is not a multiple of the {per_latent} images "
            f"that a latent of {who} renders"
        )
    classes = torch.arange(task.num_classes)
    rows = classes.repeat_interleave(per_class // per_latent)
    with blaming("generator", name, "initial_latents"), tf32(config.tf32, task.device):
        start = generator.initial_latents(task, rows, stream(config.seed, "latents"))
    return classes.repeat_interleave(per_class), check_latents(start, who, len(rows)).clone()


def planned(generator: Generator, config: RunConfig, latents: Latents, task: Task) -> tuple[RenderPlan, RunConfig]:
    """What the generator chooses of what the settings leave open, and the settings with it, which a run folder records."""
    name = config.generator.name
    with blaming("generator", name, "plan"), precision(config, task.device)():
        given = generator.plan(latents, config.render_batch)
    plan = check_plan(given, described("generator", name), generator.options.model_dump())
    if plan.options:
        config = changed(config, "generator", options={**config.generator.options, **plan.options})
    if config.render_batch is None and plan.rows is not None and plan.rows < len(latents):
        config = config.model_copy(update={"render_batch": plan.rows})
    return plan, config


def precision(config: RunConfig, device: torch.device) -> Callable[[], AbstractContextManager[object]]:
    """What makes the context (autocast) in which images are rendered and matched."""
    if config.autocast == "none":
        return nullcontext  # some devices do not support autocast at all, not even turned off
    # Without torch's cache of half-precision weights: a network that is trained in the context would go on with its first ones.
    return lambda: torch.autocast(device.type, dtype=torch.bfloat16, cache_enabled=False)
