"""Conversion of an original latent-diffusion checkpoint to a prior folder: every tensor by name, none left over."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ld3m_plugin.errors import PriorError
from ld3m_plugin.generators.ld3m.compvis import accounting, cin256
from ld3m_plugin.generators.ld3m.compvis import autoencoder_layout as autoencoder
from ld3m_plugin.generators.ld3m.compvis import unet_layout as unet
from ld3m_plugin.generators.ld3m.compvis.compvis_checkpoint import read_state
from ld3m_plugin.generators.ld3m.compvis.compvis_config import Config, find_config, read_config
from ld3m_plugin.generators.ld3m.diffusers_parts import one_line
from ld3m_plugin.generators.ld3m.ldm_folder import PriorFacts, save_prior
from ld3m_plugin.generators.ld3m.ldm_prior import load_prior
from ld3m_plugin.priors.classes import class_names, read_classes
from ld3m_plugin.priors.prior_json import converted_from
from ld3m_plugin.randomness import lent_to_global
from ld3m_plugin.storage import complete_folder

#: CompVis' names of schedules and predictions -> diffusers' names; "linear" is linear in the square root of beta.
_BETAS = {"linear": "scaled_linear", "sqrt_linear": "linear", "cosine": "squaredcos_cap_v2"}
_PREDICTS = {"eps": "epsilon", "x0": "sample", "v": "v_prediction"}


@dataclass(frozen=True)
class Converted:
    """The parts of a prior as diffusers modules, in evaluation mode, without gradients of their own.

    Attributes:
        unet: UNet2DConditionModel, or UNet2DModel when unconditional.
        autoencoder: VQModel or AutoencoderKL, with the `scaling_factor` in its configuration.
        scheduler: DDIMScheduler.
        class_embedding: (rows, d), or None when unconditional.
    """

    unet: Any
    autoencoder: Any
    scheduler: Any
    class_embedding: Tensor | None


def convert(
    source: Path,
    out: Path,
    *,
    config: Path | None = None,
    classes: Path | None = None,
    note: str | None = None,
    licence: str | None = None,
    half: bool = False,
) -> None:
    """Write the prior folder of a checkpoint.

    Args:
        source: a .ckpt, .pt or .safetensors file with CompVis' names.
        out: the folder to write, complete or not at all.
        config: YAML of the checkpoint's training. Default: the YAML beside the checkpoint (`find_config`), or the built-in
            one for the layout of `cin256-v2`.
        classes: file of class names (`read_classes`); default: see `class_names`.
        note: origin of the checkpoint; file name and SHA-256 are always recorded.
        licence: of the weights.
        half: store weights in half precision.

    Raises:
        PriorError: the file, a name, a tensor, a shape or the configuration does not fit; the message says which.
    """
    state = read_state(source)
    settings = _settings(source, state, config)
    if classes is not None and settings.conditioning is None:
        raise PriorError(f"{source} is unconditional: leave classes={classes} out")
    listed = None if classes is None else read_classes(classes)
    parts = convert_state(state, settings, str(source), half=half)
    facts = PriorFacts(source=converted_from(source, note), licence=licence)
    if parts.class_embedding is not None:
        names, null = class_names(len(parts.class_embedding), listed, str(classes))
        facts = replace(facts, classes=names, null_class=null)
    with complete_folder(out) as folder:
        save_prior(folder, **vars(parts), facts=facts, half=half)
        try:
            load_prior(folder)
        except PriorError as error:
            reason = str(error).replace(f"{folder}/", "").replace(str(folder), "the prior")
            raise PriorError(f"{source} gives a prior that cannot be read: {reason}") from error


def _settings(source: Path, state: Mapping[str, Tensor], given: Path | None) -> Config:
    found = given if given is not None else find_config(source)
    if found is not None:
        return read_config(found)
    if cin256.is_cin256(state):
        return cin256.CONFIG
    if not any(name.startswith("model.diffusion_model.") for name in state):
        raise PriorError(f"{source} is not a latent-diffusion checkpoint: it has no model.diffusion_model.*")
    raise PriorError(
        f"the number of attention heads of {source} is unknown: give the YAML it was trained with (-S config=FILE)"
    )


def convert_state(
    state: Mapping[str, Tensor], config: Config, name: str = "the checkpoint", *, half: bool = False
) -> Converted:
    """Convert a state_dict to diffusers modules, in memory.

    Args:
        state: every tensor of the checkpoint by its CompVis name.
        name: of the checkpoint, for messages.
        half: check that the weights, which become float32 here, fit into half precision.

    Raises:
        PriorError: a name is missing or left over, a tensor is not of dense, finite floating-point numbers, or a shape or the
            noise schedule is not that of the configuration.
    """
    try:
        network, stage = _build(config, accounting.scaling_factor(state, config))
        plans = accounting.make_plans(state, config, network, stage)
        plan, scheduler = [entry for part in plans for entry in part], _scheduler(config)
        accounting.check_tensors(state, plan)
        accounting.check_values(state, plan, half)
        accounting.check_schedule(state, scheduler.alphas_cumprod)
    except PriorError as error:
        raise PriorError(f"{name}: {error}") from error
    for module, part in zip((network, stage), plans[:2], strict=True):
        tensors = {entry.new: entry.take(state[entry.old].detach().float()) for entry in part}
        module.load_state_dict(tensors, strict=True, assign=True)
    embedding = None if config.conditioning is None else state[accounting.EMBEDDING].detach().float()
    return _frozen(network, stage, scheduler, embedding)


def _build(config: Config, scale: float) -> tuple[Any, Any]:
    """Build U-Net and autoencoder without storage."""
    try:
        with torch.device("meta"):
            return unet.build(config.unet), autoencoder.build(config.first_stage, scale)
    except Exception as error:  # diffusers may raise anything about a configuration
        raise PriorError(
            f"diffusers cannot build a network of this configuration ({one_line(error)}): check the YAML"
        ) from error


def cin256_modules(rng: torch.Generator) -> Converted:
    """Build networks of the full layout of `cin256-v2` with random weights (456 million numbers), for measurements."""
    config = cin256.CONFIG
    with lent_to_global(rng):
        network, stage = unet.build(config.unet), autoencoder.build(config.first_stage, config.scale_factor)
        embedding = torch.randn(cin256.CLASSES.n_classes, cin256.CLASSES.embed_dim)
    return _frozen(network, stage, _scheduler(config), embedding)


def _frozen(network: Any, stage: Any, scheduler: Any, embedding: Tensor | None) -> Converted:
    return Converted(network.eval().requires_grad_(False), stage.eval().requires_grad_(False), scheduler, embedding)


def _scheduler(config: Config) -> Any:
    """Build the noise schedule: the published sampler ends at alpha-bar of the first timestep, not at 1, and counts from 1."""
    from diffusers import DDIMScheduler

    return DDIMScheduler(
        num_train_timesteps=config.timesteps,
        beta_start=config.linear_start,
        beta_end=config.linear_end,
        beta_schedule=_BETAS[config.beta_schedule],
        prediction_type=_PREDICTS[config.parameterization],
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        timestep_spacing="leading",
    )
