"""The denoising chain of LD3M, differentiable with respect to latents and class embedding.

Start: z_T = a_T·Z + s_T·noise (forward process). Then for index = T−1 .. 0, with classifier-free guidance (Ho and Salimans 2022):

    x̂_0, ε̂ = clean latents and noise, from the model's output at this noise level
    residual x0:    x̂_0 ← (1−w)·x̂_0 + w·Q(Z),  w = index/(T−1)        (published code)
    z   ← a·x̂_0 + √(s² − σ²)·ε̂ + σ·n                                  (DDIM, Eq. 12; σ = 0 for eta = 0)
    residual mean:  z ← (1−w)·z + w·z_T before the noise, w = (index+1)/T    (LD3M, Eq. 7)

The paper's Eq. 7 and the published code are different methods. In the code, z_T is only the first input of the U-Net (w = 1
there), and the direct path from Z to z_0 has gain a_0 for every T. Eq. 7 mixes the noisy z_T into every state. It is unknown
which one made the published tables; both are implemented.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from ld3m_plugin.generators.ld3m.recomputed import recomputed
from ld3m_plugin.generators.ld3m.schedule import Chain, clean_and_noise

#: (state (n, L, h, w), time input, class embedding (k·n, 1, d) or None) -> output (k·n, L, h, w), of the states k times in turn
Model = Callable[[Tensor, float, Tensor | None], Tensor]
Residual = Literal["x0", "mean", "none"]


@dataclass(frozen=True)
class Sampling:
    """Settings of a run of the chain.

    Attributes:
        chain: noise levels.
        residual: the residual from the start that is mixed in.
        guidance_scale: 1 skips the unconditional pass.
        eta: scale of the noise of each step, 0 (DDIM) to 1 (DDPM).
        exact_steps: number of last steps that are differentiated through the model; None: all. In earlier steps, the model's
            output counts as a constant, and the gradient follows only the linear path through states and residual.
        checkpointed: keep the states between the steps, and recompute each step in the backward pass.
    """

    chain: Chain
    residual: Residual = "x0"
    guidance_scale: float = 1.0
    eta: float = 0.0
    exact_steps: int | None = None
    checkpointed: bool = False

    def is_exact(self, index: int) -> bool:
        """Whether the step `index` is differentiated through the model."""
        return self.exact_steps is None or index < self.exact_steps


def sample(
    model: Model,
    sampling: Sampling,
    latents: Tensor,
    noise: Tensor,
    *,
    embedding: Tensor | None = None,
    null_embedding: Tensor | None = None,
    anchor: Tensor | None = None,
    step_noise: Tensor | None = None,
) -> Tensor:
    """Run the chain; returns the denoised latents z_0 (n, L, h, w).

    Args:
        latents: Z (n, L, h, w).
        noise: of the forward process (n, L, h, w).
        embedding: class embeddings (n, 1, d), or None for an unconditional model.
        null_embedding: of "no class" (1, 1, d); without it, there is no guidance.
        anchor: Q(Z) (n, L, h, w), which the x0 residual mixes in; default: `latents`.
        step_noise: (n, T, L, h, w), required for eta > 0; entry `index` is added in the step of that index.
    """
    chain = sampling.chain
    start = chain.signal[-1] * latents + chain.noise[-1] * noise
    anchor = latents if anchor is None else anchor
    with_guidance = partial(guided, model, sampling.guidance_scale, null_embedding)
    state = start
    for index in reversed(range(chain.steps)):
        fresh = None if step_noise is None else step_noise[:, index]
        step = partial(_step, with_guidance, sampling, index, fresh)
        if sampling.checkpointed and sampling.is_exact(index) and torch.is_grad_enabled():
            state = recomputed(step, state, start, anchor, embedding)
        else:
            state = step(state, start, anchor, embedding)
    return state


def guided(
    model: Model, scale: float, null: Tensor | None, state: Tensor, time: float, embedding: Tensor | None
) -> Tensor:
    """Compute the model's output with classifier-free guidance of `scale`; without it if there is no class or no null class."""
    if scale == 1 or embedding is None or null is None:
        return model(state, time, embedding)
    both = torch.cat([null.to(embedding.dtype).expand_as(embedding), embedding])
    without, with_class = model(state, time, both).chunk(2)
    return without + scale * (with_class - without)


def _step(
    with_guidance: Model,
    sampling: Sampling,
    index: int,
    fresh: Tensor | None,
    state: Tensor,
    start: Tensor,
    anchor: Tensor,
    embedding: Tensor | None,
) -> Tensor:
    """Compute the state after step `index`; `fresh` is the noise of that step, or None."""
    chain = sampling.chain
    with torch.set_grad_enabled(torch.is_grad_enabled() and sampling.is_exact(index)):
        output = with_guidance(state, chain.timesteps[index], embedding)
    clean, noise = clean_and_noise(chain, index, state, output.to(state.dtype))
    weight = residual_weight(sampling.residual, index, chain.steps)
    if sampling.residual == "x0":
        clean = (1 - weight) * clean + weight * anchor
    sigma = sampling.eta * posterior_deviation(chain, index)
    a, s = chain.signal[index], chain.noise[index]
    moved: Tensor = a * clean + math.sqrt(max(s * s - sigma * sigma, 0.0)) * noise
    if sampling.residual == "mean":
        moved = (1 - weight) * moved + weight * start
    if fresh is not None and sigma > 0:
        moved = moved + sigma * fresh
    return moved


def residual_weight(residual: Residual, index: int, steps: int) -> float:
    """Weight of the residual in step `index` of `steps`: from 1 to 0 for `x0`, from 1 to 1/T for `mean`, 0 for `none`.

    In a chain of one step the weight is 0: index/(T−1) is not defined for `x0`, and weight 1 for `mean` would ignore the model.

    >>> [residual_weight("x0", index, 5) for index in (4, 2, 0)], [residual_weight("mean", index, 4) for index in (3, 0)]
    ([1.0, 0.5, 0.0], [1.0, 0.25])
    """
    if residual == "none" or steps == 1:
        return 0.0
    return index / (steps - 1) if residual == "x0" else (index + 1) / steps


def posterior_deviation(chain: Chain, index: int) -> float:
    """σ of q(x_prev | x_t, x_0) in step `index` (DDIM, Eq. 16 with η = 1; Ho et al. 2020, Eq. 7, in terms of a and s)."""
    a, s = chain.signal[index + 1], chain.noise[index + 1]
    a_prev, s_prev = chain.signal[index], chain.noise[index]
    jump = s * s - (a / a_prev) ** 2 * s_prev * s_prev
    return math.sqrt(max(jump, 0.0)) * s_prev / s
