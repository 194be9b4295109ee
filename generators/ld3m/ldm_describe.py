"""Facts that `ld3m prior info` shows about a latent diffusion prior."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ld3m_plugin.generators.ld3m import ldm_folder as files
from ld3m_plugin.generators.ld3m.ldm_prior import Prior, TransformerPrior, load_prior
from ld3m_plugin.generators.ld3m.schedule import NoiseLevels
from ld3m_plugin.generators.ld3m.scheduler_settings import followed


def describe(path: Path) -> dict[str, str]:
    """Describe a prior, by title: layout, resolution, classes, schedule, parameters, digest, licence.

    Raises:
        PriorError: the folder is not a complete prior. All of it is read, so a prior that is described can be used.
    """
    prior = load_prior(path)
    codec, network = prior.codec, prior.denoiser
    size = network.config.sample_size
    grid = (size, size) if isinstance(size, int) else size  # diffusers writes one number for a square
    name = "transformer" if isinstance(prior, TransformerPrior) else "U-Net"
    kind = f"VQ, {codec.model.config.num_vq_embeddings} codes" if codec.quantises else "KL"
    return {
        "layout": f"{type(network).__name__} + {type(codec.model).__name__} ({kind}), factor {codec.factor}",
        "resolution": f"{_sides(grid, codec.factor)}, {_channels(codec.channels)}" if grid else "not stated",
        "latents": _channels(codec.latent_channels) + (f", {_sides(grid)} in training" if grid else ""),
        "classes": _classes(prior),
        "schedule": _schedule(path / "scheduler" / "scheduler_config.json", prior.levels),
        "parameters": f"{network.num_parameters():,} {name}, {codec.model.num_parameters():,} autoencoder",
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


def _schedule(path: Path, levels: NoiseLevels) -> str:
    """The noise levels that are used, after everything in the scheduler's configuration that moves them."""
    config = files.read_json(path)
    stated, flow = followed(path, config["_class_name"], config)
    count = f"{len(levels.signal)} timesteps"
    if flow:
        return f"rectified flow, {count}, shift {stated.get('shift', 1.0)}"
    names = ("beta_schedule", "beta_start", "beta_end")
    betas = "{} {} to {}".format(*map(stated.get, names)) if not stated.get("trained_betas") else "betas of its own"
    changes = {
        f"snr_shift_scale {stated.get('snr_shift_scale')}": stated.get("snr_shift_scale") not in (None, 1),
        "rescaled to end without signal": stated.get("rescale_betas_zero_snr"),
        "continuous timesteps": levels.model_times.is_floating_point(),
    }
    return ", ".join([betas, *(text for text, made in changes.items() if made), count, f"predicts {levels.prediction}"])
