"""The denoising U-Net as a diffusers model, and the source of each of its tensors."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor

from ld3m_plugin.generators.ld3m.compvis.compvis_config import UNetParams
from ld3m_plugin.generators.ld3m.compvis.names import Entry, Form, renamed

PREFIX = "model.diffusion_model."

#: Parts of diffusers' names -> those of the checkpoint; inside transformers, the names are the same.
_NAMES = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
    "mid_block.resnets.0": "middle_block.0",
    "mid_block.attentions.0": "middle_block.1",
    "mid_block.resnets.1": "middle_block.2",
}
_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
_ATTENTION = {"group_norm": "norm", "to_q": "qkv", "to_k": "qkv", "to_v": "qkv", "to_out.0": "proj_out"}
_FORMS: dict[str, Form] = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out": "linear"}


def build(params: UNetParams) -> Any:
    """Build the diffusers U-Net of a configuration: UNet2DConditionModel with cross-attention, UNet2DModel without.

    The tensors do not tell the number of heads. cin256-v2 has one, diffusers' default is eight, and in UNet2DConditionModel
    `attention_head_dim` is the *number* of heads. With a wrong number, every tensor loads and the U-Net predicts wrong noise:
    the symptom of huggingface/diffusers issue 7240, which names no cause. So heads, the order of sine and cosine, and the
    epsilons are always written.
    """
    from diffusers import UNet2DConditionModel, UNet2DModel

    attends = [2**level in params.attention_resolutions for level in range(len(params.channel_mult))]
    kinds = ("CrossAttn", "") if params.use_spatial_transformer else ("Attn", "")
    shared: dict[str, Any] = {
        "sample_size": params.image_size,
        "in_channels": params.in_channels,
        "out_channels": params.out_channels,
        "block_out_channels": params.channels,
        "layers_per_block": params.num_res_blocks,
        "down_block_types": tuple(f"{kinds[not attend]}DownBlock2D" for attend in attends),
        "up_block_types": tuple(f"{kinds[not attend]}UpBlock2D" for attend in reversed(attends)),
        "flip_sin_to_cos": True,
        "freq_shift": 0,
        "downsample_padding": 1,
        "norm_num_groups": 32,
        "norm_eps": 1e-5,
    }
    kind: Any = UNet2DModel
    heads: dict[str, Any] = {"attention_head_dim": None if set(params.heads) == {1} else min(params.head_widths)}
    if params.use_spatial_transformer:
        kind = UNet2DConditionModel
        heads = {"attention_head_dim": params.heads, "cross_attention_dim": params.context_dim}
        heads["transformer_layers_per_block"] = params.transformer_depth
    return kind(**shared, **heads)


def entries(params: UNetParams, targets: Mapping[str, Tensor]) -> Iterator[Entry]:
    """Source of every tensor of `build(params)`, whose state_dict is `targets`."""
    names, heads = _NAMES | dict(_blocks(params)), dict(zip(params.channels, params.heads, strict=True))
    for new, tensor in targets.items():
        old, shape = PREFIX + renamed(new, names), tuple(tensor.shape)
        if ".resnets." in new:
            yield Entry(renamed(old, _RESNET), new, shape)
        elif ".attentions." in new and not params.use_spatial_transformer:
            form = _FORMS.get(new.split(".attentions.")[1].split(".")[1], "same")
            count = 1 if params.use_new_attention_order else heads[shape[0]]
            yield Entry(renamed(old, _ATTENTION), new, shape, form, count)
        else:
            yield Entry(old, new, shape)


def _blocks(params: UNetParams) -> Iterator[tuple[str, str]]:
    """Names of the blocks: the checkpoint numbers them through all levels."""
    levels, per_level = len(params.channel_mult), params.num_res_blocks + 1
    for level, index in itertools.product(range(levels), range(per_level)):
        at = level * per_level + index
        for position, part in enumerate((f"{level}.resnets.{index}.", f"{level}.attentions.{index}.")):
            yield f"down_blocks.{part}", f"input_blocks.{at + 1}.{position}."
            yield f"up_blocks.{part}", f"output_blocks.{at}.{position}."
        if index == params.num_res_blocks:
            attend = 2 ** (levels - 1 - level) in params.attention_resolutions
            yield f"down_blocks.{level}.downsamplers.0.conv", f"input_blocks.{at + 1}.0.op"
            yield f"up_blocks.{level}.upsamplers.0.conv", f"output_blocks.{at}.{1 + attend}.conv"
