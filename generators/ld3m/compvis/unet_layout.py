"""The denoising U-Net as a diffusers model, and the source of each of its tensors."""

from __future__ import annotations

from collections.abc import Container, Iterator
from typing import Any

from ld3m_plugin.generators.ld3m.compvis.compvis_config import UNetParams
from ld3m_plugin.generators.ld3m.compvis.names import Entry, Form, layer, layers

PREFIX = "model.diffusion_model."

_RESNET = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
}
_TRANSFORMER = ("attn1.to_out.0", "attn2.to_out.0", "ff.net.0.proj", "ff.net.2", "norm1", "norm2", "norm3")
_THIRDS: dict[str, Form] = {"to_q": "query", "to_k": "key", "to_v": "value"}


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


def entries(params: UNetParams, targets: Container[str]) -> Iterator[Entry]:
    """Source of every tensor of `build(params)`.

    Args:
        targets: names in the module; they tell which blocks change their width and have a shortcut.
    """
    last, depth = len(params.channel_mult) - 1, params.num_res_blocks
    yield from layer(f"{PREFIX}time_embed.0", "time_embedding.linear_1")
    yield from layer(f"{PREFIX}time_embed.2", "time_embedding.linear_2")
    yield from layer(f"{PREFIX}input_blocks.0.0", "conv_in")
    position = 1
    for level in range(last + 1):
        attend, down = 2**level in params.attention_resolutions, f"down_blocks.{level}"
        for index in range(depth):
            old = f"{PREFIX}input_blocks.{position}"
            yield from _block(params, old, down, index, level, attend, targets)
            position += 1
        if level < last:
            yield from layer(f"{PREFIX}input_blocks.{position}.0.op", f"{down}.downsamplers.0.conv")
            position += 1
    for index, block in enumerate((0, 2)):
        yield from layers(f"{PREFIX}middle_block.{block}", f"mid_block.resnets.{index}", _RESNET, among=targets)
    yield from _attention(params, f"{PREFIX}middle_block.1", "mid_block.attentions.0", last)
    for position in range((last + 1) * (depth + 1)):
        level, index = last - position // (depth + 1), position % (depth + 1)
        attend, up = 2**level in params.attention_resolutions, f"up_blocks.{last - level}"
        old = f"{PREFIX}output_blocks.{position}"
        yield from _block(params, old, up, index, level, attend, targets)
        if index == depth and level > 0:
            yield from layer(f"{old}.{1 + attend}.conv", f"{up}.upsamplers.0.conv")
    yield from layer(f"{PREFIX}out.0", "conv_norm_out")
    yield from layer(f"{PREFIX}out.2", "conv_out")


def _block(
    params: UNetParams, old: str, new: str, index: int, level: int, attend: bool, targets: Container[str]
) -> Iterator[Entry]:
    yield from layers(f"{old}.0", f"{new}.resnets.{index}", _RESNET, among=targets)
    if attend:
        yield from _attention(params, f"{old}.1", f"{new}.attentions.{index}", level)


def _attention(params: UNetParams, old: str, new: str, level: int) -> Iterator[Entry]:
    if not params.use_spatial_transformer:
        yield from layer(f"{old}.norm", f"{new}.group_norm")
        for name, form in _THIRDS.items():
            by_head = not params.use_new_attention_order
            yield from layer(f"{old}.qkv", f"{new}.{name}", form, heads=params.heads[level], by_head=by_head)
        yield from layer(f"{old}.proj_out", f"{new}.to_out.0", "linear")
        return
    yield from layers(old, new, {"norm": "norm", "proj_in": "proj_in", "proj_out": "proj_out"})
    for index in range(params.transformer_depth):
        block = f"transformer_blocks.{index}"
        yield from layers(f"{old}.{block}", f"{new}.{block}", {name: name for name in _TRANSFORMER})
        for name in (f"{block}.attn{attention}.{part}.weight" for attention in (1, 2) for part in _THIRDS):
            yield Entry(f"{old}.{name}", f"{new}.{name}")
