"""Noise levels of a denoising chain; clean latents and noise from a model's prediction.

A state is x_t = a_t·x_0 + s_t·ε. Every schedule here is a list of (a_t, s_t): for a diffusion model a = √ᾱ and s = √(1−ᾱ), for
rectified flow a = 1−σ and s = σ. The rest of the sampler needs no other distinction. The levels are computed in float64 from
the betas of the configuration, and rounded once, where they meet float32 latents.

Sources: Song et al., "Denoising Diffusion Implicit Models" (DDIM), ICLR 2021, Eq. 12 and 16; Salimans and Ho, ICLR 2022,
appendix D (v-prediction); Liu et al., "Flow Straight and Fast", ICLR 2023 (rectified flow).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from ld3m_plugin.errors import InvalidOptionError, PriorError

#: Settings of a flow-matching schedule that change its levels and are not supported.
_OTHER_FLOWS = ["use_dynamic_shifting", "shift_terminal", "invert_sigmas", "use_karras_sigmas", "stochastic_sampling"]
Prediction = Literal["epsilon", "v_prediction", "sample", "flow"]


@dataclass(frozen=True)
class NoiseLevels:
    """The noise levels that a model was trained on.

    Attributes:
        signal: a_t (M,), float64, for the M training timesteps.
        noise: s_t (M,).
        last: (a, s) of the state after the last step: (1, 0), or those of timestep 0 for priors published that way.
        prediction: quantity that the model predicts.
        model_times: time input of the model at each training timestep (M,).
    """

    signal: Tensor
    noise: Tensor
    last: tuple[float, float]
    prediction: Prediction
    model_times: Tensor


@dataclass(frozen=True)
class Chain:
    """The T noise levels that a render visits, in increasing order of noise.

    Attributes:
        timesteps: time input of the model at each level (T,).
        signal, noise: a (T+1,) and s (T+1,), Python floats; entry 0 is the state after the last step, entry i+1 the state
            before the step with index i.
    """

    timesteps: tuple[float, ...]
    signal: tuple[float, ...]
    noise: tuple[float, ...]
    prediction: Prediction

    @property
    def steps(self) -> int:
        """T, the number of denoising steps."""
        return len(self.timesteps)


def noise_levels(scheduler: Any) -> NoiseLevels:
    """Compute the levels that a diffusers scheduler's configuration describes.

    Raises:
        PriorError: the scheduler is neither of discrete diffusion nor of flow matching, or its prediction is unknown.
    """
    config = scheduler.config
    if hasattr(scheduler, "alphas_cumprod"):
        alpha_bar = _alpha_bar(config)
        prediction = config.get("prediction_type", "epsilon")
        if prediction not in ("epsilon", "v_prediction", "sample"):
            raise PriorError(f"prediction_type is {prediction!r}; known: epsilon, v_prediction, sample")
        first = float(alpha_bar[0])
        last = (1.0, 0.0) if config.get("set_alpha_to_one", True) else (first**0.5, (1 - first) ** 0.5)
        times = torch.arange(len(alpha_bar))
        return NoiseLevels(alpha_bar.sqrt(), (1 - alpha_bar).sqrt(), last, prediction, times)
    if type(scheduler).__name__.startswith("FlowMatch"):
        for name in filter(config.get, _OTHER_FLOWS):
            raise PriorError(f"the flow-matching schedule sets {name}, which is not supported")
        count = config.num_train_timesteps
        times = torch.arange(1, count + 1, dtype=torch.float64)
        # The shift of the scheduler; its own `sigmas` depend on earlier calls.
        sigma = times / count
        shift = config.get("shift", 1.0)
        sigma = shift * sigma / (1 + (shift - 1) * sigma)
        return NoiseLevels(1 - sigma, sigma, (1.0, 0.0), "flow", sigma * count)
    raise PriorError(
        f"{type(scheduler).__name__} is not supported: use the configuration of a DDIM, DDPM or FlowMatch scheduler"
    )


def _alpha_bar(config: Any) -> Tensor:
    """ᾱ (M,) in float64, from the betas that the configuration describes.

    A diffusers scheduler computes its own table in float32: it is 1e-6 off, which ten steps with guidance amplify to 5e-5.
    """
    count, start, end, schedule = config.num_train_timesteps, config.beta_start, config.beta_end, config.beta_schedule
    if config.trained_betas is not None:
        betas = torch.tensor(config.trained_betas, dtype=torch.float64)
    elif schedule == "linear":
        betas = torch.linspace(start, end, count, dtype=torch.float64)
    elif schedule == "scaled_linear":
        betas = torch.linspace(start**0.5, end**0.5, count, dtype=torch.float64) ** 2
    elif schedule == "squaredcos_cap_v2":  # Nichol and Dhariwal, ICML 2021, Eq. 17
        wave = torch.cos((torch.arange(count + 1, dtype=torch.float64) / count + 0.008) / 1.008 * torch.pi / 2) ** 2
        betas = (1 - wave[1:] / wave[:-1]).clamp(max=0.999)
    else:
        raise PriorError(f"beta_schedule is {schedule!r}; known: linear, scaled_linear, squaredcos_cap_v2")
    alpha_bar = (1 - betas).cumprod(0)
    if config.get("rescale_betas_zero_snr"):  # Lin et al., WACV 2024, Algorithm 1
        root = alpha_bar.sqrt()
        alpha_bar = ((root - root[-1]) * root[0] / (root[0] - root[-1])) ** 2
    return alpha_bar


def make_chain(levels: NoiseLevels, steps: int, spacing: Literal["leading", "trailing"]) -> Chain:
    """Choose exactly `steps` of the M training levels.

    `leading` takes timestep ⌊i·M/T⌋ + 1 for i = 0 .. T−1: the published list if T divides M (10, 20, 50, ...). For other T,
    the published code steps by ⌊M/T⌋, which gives a longer list (31 for T = 30) or ends beyond the last timestep. `trailing`
    takes M−1−⌊i·M/T⌋, so that the first state is (almost) pure noise also with few steps (Lin et al., "Common Diffusion Noise
    Schedules and Sample Steps are Flawed", WACV 2024, section 3.3).

    Raises:
        InvalidOptionError: more steps than the model has timesteps.
    """
    total = len(levels.signal)
    if steps > total:
        raise InvalidOptionError(
            f"generator option steps = {steps}: the prior has {total} timesteps; give at most that many"
        )
    if spacing == "leading":
        chosen = [i * total // steps for i in range(steps)]
        if chosen[-1] + 1 < total:  # only T = M has no room for the offset
            chosen = [t + 1 for t in chosen]
    else:
        chosen = sorted(total - 1 - i * total // steps for i in range(steps))
    return Chain(
        timesteps=tuple(levels.model_times[chosen].tolist()),
        signal=(levels.last[0], *levels.signal[chosen].tolist()),
        noise=(levels.last[1], *levels.noise[chosen].tolist()),
        prediction=levels.prediction,
    )


def clean_and_noise(chain: Chain, index: int, state: Tensor, output: Tensor) -> tuple[Tensor, Tensor]:
    """Convert the model's output at step `index` to clean latents x̂_0 and noise ε̂; `state` is the state before that step."""
    a, s = chain.signal[index + 1], chain.noise[index + 1]
    if chain.prediction == "epsilon":
        return (state - s * output) / a, output
    if chain.prediction == "sample":
        return output, (state - a * output) / s
    if chain.prediction == "v_prediction":  # v = a·ε − s·x_0
        return a * state - s * output, a * output + s * state
    return state - s * output, state + a * output  # flow: v = ε − x_0, a + s = 1
