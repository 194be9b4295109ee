"""Facts that `ld3m prior info` shows about a latent diffusion prior."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ld3m_plugin.generators.ld3m import ldm_folder as files
from ld3m_plugin.generators.ld3m.diffusers_parts import load_scheduler
from ld3m_plugin.generators.ld3m.ldm_prior import Prior, load_prior


def describe(path: Path) -> dict[str, str]:
    """Describe a prior, by title: layout, resolution, classes, schedule, parameters, digest, licence.

    Raises:
        PriorError: the folder is not a complete prior. All of it is read, so a prior that is described can be used.
    """
    prior = load_prior(path)
    codec, unet = prior.codec, prior.unet
    size = unet.config.sample_size
    grid = (size, size) if isinstance(size, int) else size  # diffusers writes one number for a square
    kind = f"VQ, {codec.model.config.num_vq_embeddings} codes" if codec.quantises else "KL"
    return {
        "layout": f"{type(unet).__name__} + {type(codec.model).__name__} ({kind}), factor {codec.factor}",
        "resolution": f"{_sides(grid, codec.factor)}, {_channels(codec.channels)}" if grid else "not stated",
        "latents": _channels(codec.latent_channels) + (f", {_sides(grid)} in training" if grid else ""),
        "classes": _classes(prior),
        "schedule": _schedule(load_scheduler(path / "scheduler")),
        "parameters": f"{unet.num_parameters():,} U-Net, {codec.model.num_parameters():,} autoencoder",
        "sha256": files.digest(path),
        "source": prior.facts.source,
        "licence": prior.facts.licence or "not stated",
    }


def _sides(grid: Sequence[int], factor: int = 1) -> str:
    return "x".join(str(side * factor) for side in grid)


def _channels(count: int) -> str:
    return f"{count} channel{'s' * (count != 1)}"


def _classes(prior: Prior) -> str:
    if prior.class_embedding is None:
        return "none (unconditional)"
    names = [known.name for known in prior.facts.classes]
    shown = ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")
    null = "without a null class" if prior.facts.null_class is None else "and a null class"
    return f"{len(names)} {null}: {shown}" if names else f"{len(prior.class_embedding)} rows without names"


def _schedule(scheduler: Any) -> str:
    config = scheduler.config
    if "beta_schedule" not in config:
        return f"rectified flow, {config.num_train_timesteps} timesteps, shift {config.shift}"
    return (
        f"{config.beta_schedule} {config.beta_start} to {config.beta_end}, {config.num_train_timesteps} timesteps, "
        f"predicts {config.prediction_type}"
    )
