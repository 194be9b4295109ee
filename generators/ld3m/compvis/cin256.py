"""The published class-conditional ImageNet model `cin256-v2` (256×256 pixels, VQ-f4): its settings, without its weights."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from ld3m_plugin.generators.ld3m.compvis.compvis_config import (
    AutoencoderParams,
    ClassConditioning,
    Config,
    FirstStage,
    UNetParams,
)

CLASSES = ClassConditioning(target="classembedder", n_classes=1001, embed_dim=512)
CONFIG = Config(
    unet_target="unetmodel",
    unet=UNetParams(
        image_size=64,
        in_channels=3,
        out_channels=3,
        model_channels=192,
        attention_resolutions=(8, 4, 2),
        num_res_blocks=2,
        channel_mult=(1, 2, 3, 5),
        num_heads=1,
        use_spatial_transformer=True,
        transformer_depth=1,
        context_dim=512,
    ),
    first_stage=FirstStage(
        target="vqmodelinterface",
        embed_dim=3,
        n_embed=8192,
        ddconfig=AutoencoderParams(
            double_z=False,
            z_channels=3,
            resolution=256,
            in_channels=3,
            out_ch=3,
            ch=128,
            ch_mult=(1, 2, 4),
            num_res_blocks=2,
            attn_resolutions=(),
        ),
    ),
    conditioning=CLASSES,
    conditioning_key="crossattn",
    linear_start=0.0015,
    linear_end=0.0195,
)

_SIGNATURE = {
    "cond_stage_model.embedding.weight": (1001, 512),
    "first_stage_model.quantize.embedding.weight": (8192, 3),
    "model.diffusion_model.input_blocks.0.0.weight": (192, 3, 3, 3),
    "model.diffusion_model.middle_block.1.proj_in.weight": (960, 960, 1, 1),
}


def is_cin256(state: Mapping[str, Tensor]) -> bool:
    """Whether these tensors have this layout: four shapes that no other published model has together."""
    return all(name in state and tuple(state[name].shape) == shape for name, shape in _SIGNATURE.items())
