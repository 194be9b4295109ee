"""A frozen autoencoder between pictures and the latents that a prior's network works on."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ld3m_plugin.generators.ld3m.recomputed import recomputed


class Codec:
    """A frozen autoencoder between pictures (n, P, H, W) in [-1, 1] and the latents (n, L, h, w) of a prior's network.

    Latents are (code − mean)/std · scale, with mean, std and scale from the autoencoder's configuration.

    Raises:
        ValueError: one of these numbers is not finite, std or scale is not positive, or there are two kinds of mean.
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        config = model.config
        self.channels: int = config.in_channels
        # A code book may have fewer dimensions than the encoder's output.
        self.latent_channels: int = config.get("vq_embed_dim") or config.latent_channels
        self.factor = int(2 ** (len(config.block_out_channels) - 1))
        (shift,) = _numbers(config, "shift_factor", 0.0)
        if shift and config.get("latents_mean") is not None:
            raise ValueError(f"shift_factor = {shift} beside latents_mean: both are the mean of the latents")
        mean = _numbers(config, "latents_mean", shift, self.latent_channels)
        std = _numbers(config, "latents_std", 1.0, self.latent_channels, positive=True)
        (scale,) = _numbers(config, "scaling_factor", 1.0, positive=True)
        like = next(model.parameters())
        self._mean = torch.tensor(mean).view(1, -1, 1, 1).to(like)
        self._std = (torch.tensor(std).view(1, -1, 1, 1) / scale).to(like)
        self._checkpointed = False
        for block in (model.decoder.mid_block, *model.decoder.up_blocks):
            block.forward = partial(self._pass, block.forward)

    @property
    def quantises(self) -> bool:
        """Whether the codes come from a code book (VQ) or are continuous (KL)."""
        return hasattr(self.model, "quantize")

    def encode(self, pictures: Tensor) -> Tensor:
        """Encode pictures to latents: before quantisation (VQ), or the mean of the posterior (KL)."""
        encoded = self.model.encode(pictures)
        code: Tensor = encoded.latents if self.quantises else encoded.latent_dist.mode()
        return (code - self._mean) / self._std

    def quantise(self, latents: Tensor) -> Tensor:
        """Replace latents by the nearest code book entries, with a straight-through gradient; KL latents stay as they are."""
        if not self.quantises:
            return latents
        code: Tensor = self.model.quantize(latents * self._std + self._mean)[0]
        return (code - self._mean) / self._std

    def decode(self, latents: Tensor, checkpointed: bool = False) -> Tensor:
        """Decode latents to pictures; a VQ model quantises them first.

        Args:
            checkpointed: recompute each block of the decoder in the backward pass instead of keeping its activations.
        """
        self._checkpointed = checkpointed and torch.is_grad_enabled()
        pictures: Tensor = self.model.decode(latents * self._std + self._mean).sample
        return pictures

    def _pass(self, block: Callable[..., Tensor], *inputs: Tensor | None) -> Tensor:
        """Run a block of the decoder."""
        return recomputed(block, *inputs) if self._checkpointed else block(*inputs)


def _numbers(
    config: Mapping[str, Any], name: str, default: float, channels: int = 1, *, positive: bool = False
) -> list[float]:
    """Read one number, or one for each of `channels`."""
    value = default if config.get(name) is None else config[name]
    values = value if isinstance(value, (list, tuple)) else [value]
    finite = all(type(v) in (int, float) and math.isfinite(v) for v in values)
    if len(values) not in (1, channels) or not finite or (positive and min(values) <= 0):
        more = f", or {channels} of them" if channels > 1 else ""
        raise ValueError(f"{name} = {value!r} must be a finite number{' above 0' if positive else ''}{more}")
    return [float(v) for v in values]
