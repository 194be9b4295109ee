"""The first stage as a diffusers VQModel or AutoencoderKL, and the source of each of its tensors."""

from __future__ import annotations

from collections.abc import Container, Iterator
from typing import Any

from ld3m_plugin.generators.ld3m.compvis.compvis_config import FirstStage
from ld3m_plugin.generators.ld3m.compvis.names import Entry, layer, layers

PREFIX = "first_stage_model."
CODEBOOK = f"{PREFIX}quantize.embedding.weight"

_RESNET = {name: name for name in ("norm1", "conv1", "norm2", "conv2")} | {"nin_shortcut": "conv_shortcut"}


def build(stage: FirstStage, scaling_factor: float) -> Any:
    """Build the diffusers autoencoder of a configuration.

    Args:
        scaling_factor: scale of the latents before the U-Net. It is always written: diffusers' default (0.18215, of Stable
            Diffusion) is wrong for checkpoints that do not scale.
    """
    from diffusers import AutoencoderKL, VQModel

    kind: Any = VQModel if stage.quantised else AutoencoderKL
    codes = {"num_vq_embeddings": stage.n_embed, "vq_embed_dim": stage.embed_dim} if stage.quantised else {}
    params = stage.ddconfig
    attends = [params.resolution // 2**level in params.attn_resolutions for level in range(len(params.ch_mult))]
    return kind(
        in_channels=params.in_channels,
        out_channels=params.out_ch,
        down_block_types=tuple(f"{'Attn' * attend}DownEncoderBlock2D" for attend in attends),
        up_block_types=tuple(f"{'Attn' * attend}UpDecoderBlock2D" for attend in reversed(attends)),
        block_out_channels=tuple(params.ch * multiple for multiple in params.ch_mult),
        layers_per_block=params.num_res_blocks,
        latent_channels=params.z_channels,
        sample_size=params.resolution,
        norm_num_groups=32,
        scaling_factor=scaling_factor,
        **codes,
    )


def entries(stage: FirstStage, targets: Container[str]) -> Iterator[Entry]:
    """Source of every tensor of `build(stage)`.

    Args:
        targets: names in the module; they tell which blocks have a shortcut or attention.
    """
    last, depth = len(stage.ddconfig.ch_mult) - 1, stage.ddconfig.num_res_blocks
    for half in ("encoder", "decoder"):
        old, new = f"{PREFIX}{half}", half
        yield from layers(old, new, {"conv_in": "conv_in", "norm_out": "conv_norm_out", "conv_out": "conv_out"})
        for index in (0, 1):
            block = f"{old}.mid.block_{index + 1}"
            yield from layers(block, f"{new}.mid_block.resnets.{index}", _RESNET, among=targets)
        yield from _attention(f"{old}.mid.attn_1", f"{new}.mid_block.attentions.0")
    for level in range(last + 1):
        # The decoder's levels are counted from the image in the checkpoint, from the latent in diffusers.
        old, new = f"{PREFIX}encoder.down.{level}", f"encoder.down_blocks.{level}"
        yield from _level(old, new, depth, targets)
        if level < last:
            yield from layer(f"{old}.downsample.conv", f"{new}.downsamplers.0.conv")
        old, new = f"{PREFIX}decoder.up.{level}", f"decoder.up_blocks.{last - level}"
        yield from _level(old, new, depth + 1, targets)
        if level > 0:
            yield from layer(f"{old}.upsample.conv", f"{new}.upsamplers.0.conv")
    for name in ("quant_conv", "post_quant_conv"):
        yield from layer(f"{PREFIX}{name}", name)
    if stage.quantised:
        yield Entry(CODEBOOK, "quantize.embedding.weight")


def _level(old: str, new: str, depth: int, targets: Container[str]) -> Iterator[Entry]:
    for index in range(depth):
        yield from layers(f"{old}.block.{index}", f"{new}.resnets.{index}", _RESNET, among=targets)
        if f"{new}.attentions.{index}.to_q.weight" in targets:
            yield from _attention(f"{old}.attn.{index}", f"{new}.attentions.{index}")


def _attention(old: str, new: str) -> Iterator[Entry]:
    yield from layer(f"{old}.norm", f"{new}.group_norm")
    yield from layers(old, new, {"q": "to_q", "k": "to_k", "v": "to_v", "proj_out": "to_out.0"}, "linear")
