"""The first stage as a diffusers VQModel or AutoencoderKL, and the source of each of its tensors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor

from ld3m_plugin.generators.ld3m.compvis.compvis_config import FirstStage
from ld3m_plugin.generators.ld3m.compvis.names import Entry, renamed

PREFIX = "first_stage_model."

#: Parts of diffusers' names -> those of the checkpoint.
_NAMES = {
    "mid_block.resnets.0": "mid.block_1",
    "mid_block.attentions.0": "mid.attn_1",
    "mid_block.resnets.1": "mid.block_2",
    "down_blocks": "down",
    "downsamplers.0": "downsample",
    "upsamplers.0": "upsample",
    "resnets": "block",
    "attentions": "attn",
    "conv_norm_out": "norm_out",
    "conv_shortcut": "nin_shortcut",
    "group_norm": "norm",
    "to_out.0": "proj_out",
    ".to_": ".",
}


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


def entries(stage: FirstStage, targets: Mapping[str, Tensor]) -> Iterator[Entry]:
    """Source of every tensor of `build(stage)`, whose state_dict is `targets`."""
    last = len(stage.ddconfig.ch_mult) - 1
    # The decoder's levels are counted from the image in the checkpoint, from the latent in diffusers.
    levels = {f"up_blocks.{last - level}.": f"up.{level}." for level in range(last + 1)}
    for new, tensor in targets.items():
        old = PREFIX + renamed(new, levels | _NAMES)
        yield Entry(old, new, tuple(tensor.shape), "linear" if ".to_" in new else "same")
