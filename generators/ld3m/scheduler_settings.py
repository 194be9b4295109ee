"""Settings of a diffusers scheduler: those that are read, followed or harmless; any other is refused by name.

A prior is trained on the noise levels that its scheduler describes. A setting that would change them silently gives wrong images.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ld3m_plugin.errors import PriorError
from ld3m_plugin.generators.ld3m.schedule import noise_levels

#: Schedulers whose levels are those of their betas, as `noise_levels` computes them.
OF_BETAS = (
    *("CogVideoXDDIM", "CogVideoXDPM", "DDIM", "DDIMInverse", "DDIMParallel", "DDPM", "DDPMParallel", "DEISMultistep"),
    *(
        "DPMSolverMultistep",
        "DPMSolverMultistepInverse",
        "DPMSolverSDE",
        "DPMSolverSinglestep",
        "EulerAncestralDiscrete",
    ),
    *(
        "EulerDiscrete",
        "HeunDiscrete",
        "KDPM2AncestralDiscrete",
        "KDPM2Discrete",
        "LCM",
        "LMSDiscrete",
        "PNDM",
        "RePaint",
    ),
    *("SASolver", "TCD", "UniPCMultistep"),
)
OF_FLOWS = ("FlowMatchEulerDiscrete", "FlowMatchHeunDiscrete", "FlowMatchLCM")
#: Settings of a scheduler that are read, here or in `noise_levels`, whatever their values.
_READ = (
    *("num_train_timesteps", "trained_betas", "beta_start", "beta_end", "beta_schedule", "prediction_type"),
    "set_alpha_to_one",
)
#: Settings that change levels or predictions, and the values at which they change nothing.
_NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    # Followed for the classes that have them: see `_followed`.
    "rescale_betas_zero_snr": (False, None),
    "snr_shift_scale": (1, None),
    "use_flow_sigmas": (False, None),
    "final_sigmas_type": ("zero", None),
    "timestep_type": ("discrete", None),
    "shift": (1, None),
    # Never followed.
    "sigma_min": (None,),  # another range of levels than that of the betas
    "sigma_max": (None,),
    "thresholding": (False, None),  # clips the clean prediction
    "predict_epsilon": (True, None),  # old form of prediction_type = "sample"
    "use_dynamic_shifting": (False, None),
    "shift_terminal": (None, False),
    "invert_sigmas": (False, None),
    "stochastic_sampling": (False, None),
    "scale_factors": (None,),  # the resolution changes from level to level
}
#: Values of settings that are followed.
_VALUES: Mapping[str, tuple[Any, ...]] = {
    "use_flow_sigmas": (True, False, None),
    "final_sigmas_type": ("zero", "sigma_min", None),
    "timestep_type": ("discrete", "continuous", None),
}
#: Settings with which a flow-matching schedule visits other levels; schedulers with betas only choose among their own.
_FLOW_GRIDS = ("use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas")
#: Settings that change neither the levels a model was trained on nor the meaning of its prediction, by the reason why.
_HARMLESS = frozenset(
    (
        # The generator chooses the levels that it visits (option `spacing`).
        *("timestep_spacing", "steps_offset", "skip_prk_steps", "original_inference_steps", "interpolation_type"),
        *("use_lu_lambdas", "lambda_min_clipped", *_FLOW_GRIDS),
        # Formulas of solvers; the generator has its own step.
        *(
            "algorithm_type",
            "solver_order",
            "solver_type",
            "solver_p",
            "lower_order_final",
            "euler_at_final",
            "predict_x0",
        ),
        *("disable_corrector", "predictor_order", "corrector_order", "noise_sampler_seed"),
        # Noise that a stochastic step adds; the generator's step adds none.
        *("variance_type", "eta", "tau_func"),
        # Bounds of pixels in [-1, 1], which latents exceed.
        *("clip_sample", "clip_sample_range"),
        # Details of settings that are refused: thresholding, dynamic shifting, scales.
        *("sample_max_value", "dynamic_thresholding_ratio", "base_shift", "max_shift", "base_image_seq_len"),
        *("max_image_seq_len", "time_shift_type", "upscale_mode"),
        # Used with `use_flow_sigmas` alone, which reads it.
        "flow_shift",
        # Boundary of a consistency model's sampler.
        "timestep_scaling",
        # The format of arrays in old versions.
        "tensor_format",
    )
)


def _own_defaults(name: str) -> dict[str, Any]:
    """The settings that a diffusers scheduler has, and their defaults."""
    import diffusers

    own = getattr(diffusers, name.removeprefix("Flax"))
    return {key: value.default for key, value in inspect.signature(own.__init__).parameters.items()}


def check_fields(path: Path, name: str, config: Mapping[str, Any]) -> None:
    """Reject settings that are unknown, or that change the levels and are not followed for this scheduler."""
    followed = _followed_settings(name, config)
    for key, value in config.items():
        if key.startswith("_") or key in _READ or key in followed:
            continue
        neutral = _NEUTRAL.get(key)
        if key in _FLOW_GRIDS and (name.startswith("FlowMatch") or config.get("use_flow_sigmas")):
            neutral = (False, None)
        if neutral is None and key not in _HARMLESS:
            raise PriorError(f"{path}: {key} is unknown: remove it if it changes neither noise levels nor predictions")
        if neutral is not None and value not in neutral:
            raise PriorError(f"{path}: {key} = {value!r} is not supported for {name}: only {neutral[0]!r} is")


def _followed_settings(name: str, config: Mapping[str, Any]) -> set[str]:
    """The settings of `_NEUTRAL` that are followed for this scheduler."""
    if name.startswith("FlowMatch"):
        return {"shift"}
    chosen = {"snr_shift_scale", "use_flow_sigmas", "final_sigmas_type", "rescale_betas_zero_snr", "timestep_type"}
    if config.get("use_flow_sigmas"):  # flow takes the place of the betas
        chosen = {"use_flow_sigmas", "rescale_betas_zero_snr"}
    return chosen & set(_own_defaults(name))


def followed(path: Path, name: str, config: Mapping[str, Any]) -> tuple[dict[str, Any], bool]:
    """The settings as DDIM or FlowMatchEuler would state them, and whether they are of flow matching."""
    if name.startswith("FlowMatch"):
        return dict(config), True
    own = _own_defaults(name)
    for key, allowed in _VALUES.items():
        if config.get(key) not in allowed:
            raise PriorError(f"{path}: {key} = {config[key]!r} must be one of {', '.join(map(repr, allowed[:-1]))}")
    if config.get("use_flow_sigmas"):
        if config.get("prediction_type") != "flow_prediction":
            raise PriorError(f"{path}: use_flow_sigmas needs prediction_type = 'flow_prediction'")
        shift = config.get("flow_shift", 1.0)
        return {"num_train_timesteps": config.get("num_train_timesteps", 1000), "shift": shift}, True
    # A setting that is left out has the default of its own class.
    defaults: dict[str, Any] = {key: own[key] for key in ("snr_shift_scale", "set_alpha_to_one") if key in own}
    stated = {**defaults, **config}
    if config.get("final_sigmas_type") == "sigma_min":  # the last state is that of timestep 0
        stated["set_alpha_to_one"] = False
    scale = stated.get("snr_shift_scale")
    if scale is not None and not (type(scale) in (int, float) and math.isfinite(scale) and scale > 0):
        raise PriorError(f"{path}: snr_shift_scale = {scale!r} must be a number above 0")
    return stated, False


def shifted(scheduler: Any, scale: float | None) -> Any:
    """The scheduler with betas of the shifted levels ᾱ / (k + (1−k)·ᾱ), as CogVideoX shifts them before any rescaling."""
    if scale is None or scale == 1:
        return scheduler
    plain = type(scheduler).from_config(scheduler.config, rescale_betas_zero_snr=False)
    alpha_bar = noise_levels(plain).signal.square()
    alpha_bar = alpha_bar / (scale + (1 - scale) * alpha_bar)
    before = torch.cat([alpha_bar.new_ones(1), alpha_bar[:-1]])
    return type(scheduler).from_config(scheduler.config, trained_betas=(1 - alpha_bar / before).tolist())
