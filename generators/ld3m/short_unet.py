"""The pass of a frozen, conditional U-Net in which states that guidance has twice are computed once, until the class joins.

Classifier-free guidance wants the same states with a class and without one. Layers before the first cross-attention do not see
the class, so they run on the states alone. The layers themselves are those of `frozen_layers`.
"""

from __future__ import annotations

from types import MethodType
from typing import Any

import torch
from torch import Tensor

from ld3m_plugin.generators.ld3m.frozen_layers import copied, is_short, own_pass, shorten

_BLOCKS = ("DownBlock2D", "CrossAttnDownBlock2D", "UNetMidBlock2DCrossAttn", "UpBlock2D", "CrossAttnUpBlock2D")


def shorten_unet(model: Any) -> None:
    """Give a frozen U-Net and its layers their shorter forms, in place; a U-Net of other blocks keeps its own pass."""
    shorten(model)
    if takes_copies(model):
        return
    blocks = [*model.down_blocks, model.mid_block, *model.up_blocks]
    if type(model).__name__ == "UNet2DConditionModel" and all(type(block).__name__ in _BLOCKS for block in blocks):
        inner = [layer for block in blocks for part in ("resnets", "attentions") for layer in getattr(block, part, ())]
        if all(map(is_short, inner)):
            model.forward = MethodType(_pass, model)


def takes_copies(model: Any) -> bool:
    """Whether a U-Net takes n states beside k·n tokens."""
    return is_short(model)


def _pass(model: Any, states: Tensor, time: Any, tokens: Tensor) -> Any:
    """`UNet2DConditionModel` of states (n, L, h, w), one time and tokens (k·n, S, d) of text; gives k·n outputs."""
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionOutput

    rows = len(tokens)
    odd = any(side % 2**model.num_upsamplers for side in states.shape[2:])
    if odd or model.training or tokens.shape[1] != 1 or (torch.is_tensor(time) and time.numel() > 1):
        return own_pass(model)(copied(states, rows), time, tokens)
    if model.config.center_input_sample:
        states = 2 * states - 1
    when = model.time_embedding(model.get_time_embed(states[:1], time))
    when = when if model.time_embed_act is None else model.time_embed_act(when)
    hidden = model.conv_in(states)
    kept = [hidden]
    for block in model.down_blocks:
        hidden, made = block(hidden, when, **_text(block, tokens))
        kept += made
    hidden = copied(model.mid_block(hidden, when, **_text(model.mid_block, tokens)), rows)
    kept = [copied(state, rows) for state in kept]
    for block in model.up_blocks:
        used = len(block.resnets)
        hidden = block(hidden, tuple(kept[-used:]), when, **_text(block, tokens))
        del kept[-used:]
    if model.conv_norm_out:
        hidden = model.conv_act(model.conv_norm_out(hidden))
    return UNet2DConditionOutput(sample=model.conv_out(hidden))


def _text(block: Any, tokens: Tensor) -> dict[str, Tensor]:
    return {"encoder_hidden_states": tokens} if getattr(block, "has_cross_attention", False) else {}
