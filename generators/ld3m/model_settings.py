"""Settings of a diffusers model: those that it is built from, known to be harmless, or refused by name.

diffusers drops a setting that it does not know with a line in its log, and builds modules for inputs that no one gives here. Both
would give another model, silently.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ld3m_plugin.errors import PriorError

DIT = "DiTTransformer2DModel"
#: Settings that every class which has them builds its modules from, or reads in its forward pass.
_BUILT = frozenset(
    (
        *(
            "in_channels",
            "out_channels",
            "block_out_channels",
            "layers_per_block",
            "act_fn",
            "norm_num_groups",
            "norm_eps",
        ),
        *("down_block_types", "mid_block_type", "up_block_types", "mid_block_scale_factor", "attention_head_dim"),
        *("center_input_sample", "time_embedding_type", "time_embedding_dim", "freq_shift", "flip_sin_to_cos"),
        *("downsample_padding", "downsample_type", "upsample_type", "resnet_time_scale_shift", "add_attention"),
        *("attn_norm_num_groups", "num_train_timesteps", "only_cross_attention", "cross_attention_dim"),
        *("transformer_layers_per_block", "reverse_transformer_layers_per_block", "num_attention_heads"),
        *("use_linear_projection", "resnet_skip_time_act", "resnet_out_scale_factor", "time_embedding_act_fn"),
        *("timestep_post_act", "conv_in_kernel", "conv_out_kernel", "mid_block_only_cross_attention"),
        *(
            "cross_attention_norm",
            "latent_channels",
            "use_quant_conv",
            "use_post_quant_conv",
            "mid_block_add_attention",
        ),
        *(
            "num_vq_embeddings",
            "vq_embed_dim",
            "norm_type",
            "num_layers",
            "attention_bias",
            "patch_size",
            "activation_fn",
        ),
        *("num_embeds_ada_norm", "norm_elementwise_affine", "sample_size"),
    )
)
#: Settings that change no image here, by the reason why.
_HARMLESS = frozenset(
    (
        "dropout",  # models are in evaluation mode
        *("force_upcast", "upcast_attention"),  # weights and pictures are float32
        "lookup_from_codebook",  # read by a decoding that does not quantise
        # Details of inputs that are refused below.
        *("addition_time_embed_dim", "addition_embed_type_num_heads", "projection_class_embeddings_input_dim"),
    )
)
#: Settings that `Codec` follows, also those of a VQModel, which diffusers has for a KL autoencoder alone.
_FOLLOWED = dict.fromkeys(
    ("AutoencoderKL", "VQModel"), ("scaling_factor", "shift_factor", "latents_mean", "latents_std")
)
_NO_CLASSES: Mapping[str, tuple[Any, ...]] = {"class_embed_type": (None,), "num_class_embeds": (None,)}
#: Settings of a class that are read at these values alone. The first is the one that a message names.
_ONLY: Mapping[str, Mapping[str, tuple[Any, ...]]] = {
    "UNet2DModel": {**_NO_CLASSES},
    "UNet2DConditionModel": {
        **_NO_CLASSES,
        # A projection of the class embedding, or inputs beside it.
        "encoder_hid_dim": (None,),
        "encoder_hid_dim_type": (None,),
        "addition_embed_type": (None,),
        "class_embeddings_concat": (False, None),
        "time_cond_proj_dim": (None,),  # the guidance scale as an input, of models distilled for few steps
        "dual_cross_attention": (False, None),  # two texts of fixed lengths
        "attention_type": ("default",),  # boxes and their texts
    },
    DIT: {
        "norm_type": ("ada_norm_zero",),
        # Settings of `Transformer2DModel`, as which the published DiTs were written.
        "cross_attention_dim": (None,),
        "num_vector_embeds": (None,),
        "caption_channels": (None,),
        "use_linear_projection": (False, None),
        "only_cross_attention": (False, None),
        "double_self_attention": (False, None),
        "attention_type": ("default", None),
        "interpolation_scale": (None, 1),
        "use_additional_conditions": (None, False),
    },
}
#: Settings of U-Nets that an old diffusers lacks, and the values at which it builds the same model.
_LATER: Mapping[str, tuple[Any, ...]] = {"mid_block_type": ("UNetMidBlock2D",)}


def class_name(config: Mapping[str, Any]) -> Any:
    """Name of the class that diffusers builds from a configuration: `Transformer2DModel` was that of DiTs before 0.30."""
    name = config.get("_class_name")
    return DIT if name == "Transformer2DModel" and config.get("norm_type") == "ada_norm_zero" else name


def check_model_fields(path: Path, name: str, config: Mapping[str, Any]) -> None:
    """Reject settings that the class `name` does not have, or has for something that is not followed.

    Args:
        path: of the configuration, for the message.

    Raises:
        PriorError: there is one; the line names it.
    """
    import diffusers

    own = inspect.signature(getattr(diffusers, name).__init__).parameters
    for key, value in config.items():
        if key.startswith("_") or key in _FOLLOWED.get(name, ()):
            continue
        allowed = _ONLY.get(name, {}).get(key)
        if allowed is None and key not in own and value not in _LATER.get(key, ()):
            raise PriorError(
                f"{path}: {key} is no setting of {name} in diffusers {diffusers.__version__}: update diffusers, or remove "
                "the setting if it changes nothing"
            )
        if allowed is None and key in own and key not in _BUILT | _HARMLESS:  # of a later diffusers
            default = own[key].default
            allowed = (list(default) if isinstance(default, tuple) else default,)
        if allowed is not None and value not in allowed:
            raise PriorError(f"{path}: {key} = {value!r} is not supported for {name}: only {allowed[0]!r} is")
