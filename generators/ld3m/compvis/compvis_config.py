"""Settings of a checkpoint that its tensors do not hold, from the YAML it was trained with.

Only settings that the conversion supports validate; others are rejected by name. The `target` strings are compared and never
imported.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AliasChoices,
    AliasPath,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PositiveInt,
    ValidationError,
    model_validator,
)

from ld3m_plugin.errors import PriorError, one_line
from ld3m_plugin.plain_yaml import plain, read_yaml
from ld3m_plugin.storage import open_regular

_NONE = BeforeValidator(lambda section: None if section == "__is_unconditional__" else section or {})
#: Of a `target`, only the name of the class counts.
_CLASS = BeforeValidator(lambda target: str(target).rsplit(".", 1)[-1].lower())

# Far above any published model; a larger number is a typing error that would take minutes to build, or overflow.
Depth = Annotated[int, Field(gt=0, le=32)]
Channels = Annotated[int, Field(gt=0, le=2**16)]
Rows = Annotated[int, Field(gt=0, le=2**24)]
#: Every normalisation has 32 groups.
GroupedChannels = Annotated[int, Field(gt=0, le=2**16, multiple_of=32)]
Multiples = Annotated[tuple[Annotated[int, Field(gt=0, le=64)], ...], Field(min_length=1, max_length=10)]


class _Section(BaseModel):
    """Settings of training are ignored; where every setting shapes the network, an unknown one is an error."""

    model_config = ConfigDict(frozen=True, populate_by_name=True)


class UNetParams(_Section, extra="forbid"):
    """`unet_config.params`; `image_size` is the size of the latent grid, `attention_resolutions` are strides (1, 2, 4, ...)."""

    image_size: PositiveInt
    in_channels: Channels
    out_channels: Channels
    model_channels: GroupedChannels
    num_res_blocks: Depth
    attention_resolutions: tuple[PositiveInt, ...]
    channel_mult: Multiples = (1, 2, 4, 8)
    num_heads: int = -1
    num_head_channels: int = -1
    num_heads_upsample: Literal[-1] = -1
    use_spatial_transformer: bool = False
    transformer_depth: Depth = 1
    context_dim: Channels | None = None
    use_new_attention_order: bool = False
    # Without effect on the network that is evaluated.
    dropout: float = 0.0
    use_checkpoint: bool = False
    use_fp16: bool = False
    legacy: bool = True
    # Variants that are not supported.
    conv_resample: Literal[True] = True
    dims: Literal[2] = 2
    num_classes: None = None
    n_embed: None = None
    use_scale_shift_norm: Literal[False] = False
    resblock_updown: Literal[False] = False

    @model_validator(mode="after")
    def _fits_together(self) -> UNetParams:
        given = self.num_heads != -1 if self.num_head_channels == -1 else self.num_head_channels > 0
        if not given:
            raise ValueError("num_heads or num_head_channels must be given")
        if self.channel_mult[0] != 1:
            raise ValueError(f"channel_mult must begin with 1, not {self.channel_mult[0]}")
        if self.use_spatial_transformer and self.context_dim is None:
            raise ValueError("use_spatial_transformer needs context_dim")
        if any(count < 1 or width % count for width, count in zip(self.channels, self.heads, strict=True)):
            raise ValueError(f"{self.heads} heads do not divide {self.channels} channels")
        if not self.use_spatial_transformer and set(self.heads) != {1} and len(self.head_widths) > 1:
            raise ValueError(
                f"{self.num_heads} attention heads of {sorted(self.head_widths)} channels, which diffusers' UNet2DModel "
                "cannot express: only a fixed num_head_channels is supported"
            )
        return self

    @property
    def channels(self) -> tuple[int, ...]:
        """Channels at each level, the finest first."""
        return tuple(self.model_channels * multiple for multiple in self.channel_mult)

    @property
    def heads(self) -> tuple[int, ...]:
        """Attention heads at each level; `num_head_channels` overrides `num_heads`."""
        if self.num_head_channels == -1:
            return (self.num_heads,) * len(self.channel_mult)
        return tuple(width // self.num_head_channels for width in self.channels)

    @property
    def head_widths(self) -> set[int]:
        """Channels of a head at the levels with attention; the middle block, at the last level, always has it."""
        attend = [2**level in self.attention_resolutions for level in range(len(self.channels) - 1)] + [True]
        pairs = zip(self.channels, self.heads, strict=True)
        return {width // count for (width, count), used in zip(pairs, attend, strict=True) if used}


class AutoencoderParams(_Section, extra="forbid"):
    """`first_stage_config.params.ddconfig`; `attn_resolutions` are grid sizes in pixels at `resolution`."""

    z_channels: Channels
    resolution: PositiveInt
    in_channels: Channels
    out_ch: Channels
    ch: GroupedChannels
    ch_mult: Multiples = (1, 2, 4, 8)
    num_res_blocks: Depth
    attn_resolutions: tuple[PositiveInt, ...]
    double_z: bool = True
    # Without effect on the network that is evaluated.
    dropout: float = 0.0
    # Variants that are not supported.
    resamp_with_conv: Literal[True] = True
    attn_type: Literal["vanilla"] = "vanilla"
    use_linear_attn: Literal[False] = False
    give_pre_end: Literal[False] = False
    tanh_out: Literal[False] = False


class FirstStage(_Section):
    """`first_stage_config`: a VQ or KL autoencoder."""

    target: Annotated[Literal["vqmodelinterface", "vqmodel", "autoencoderkl"], _CLASS]
    embed_dim: Channels = Field(validation_alias=AliasPath("params", "embed_dim"))
    n_embed: Rows | None = Field(None, validation_alias=AliasPath("params", "n_embed"))
    remap: None = Field(None, validation_alias=AliasPath("params", "remap"))
    ddconfig: AutoencoderParams = Field(validation_alias=AliasPath("params", "ddconfig"))

    @property
    def quantised(self) -> bool:
        """Whether the latents come from a code book (VQ)."""
        return self.target != "autoencoderkl"

    @model_validator(mode="after")
    def _fits_together(self) -> FirstStage:
        if self.quantised and self.n_embed is None:
            raise ValueError("a VQ first stage needs n_embed")
        if self.quantised == self.ddconfig.double_z:
            kind = "VQ" if self.quantised else "KL"
            raise ValueError(f"ddconfig.double_z must be {not self.ddconfig.double_z} for a {kind} first stage")
        if not self.quantised and self.embed_dim != self.ddconfig.z_channels:
            raise ValueError(f"a KL embed_dim of {self.embed_dim} must equal z_channels, {self.ddconfig.z_channels}")
        return self


class ClassConditioning(_Section):
    """`cond_stage_config` of a ClassEmbedder."""

    target: Annotated[Literal["classembedder"], _CLASS]
    n_classes: Rows = Field(1000, validation_alias=AliasPath("params", "n_classes"))
    embed_dim: Channels = Field(validation_alias=AliasPath("params", "embed_dim"))


class Config(_Section):
    """`params` of a latent diffusion model; `linear_start` and `linear_end` are the first and last beta."""

    unet_target: Annotated[Literal["unetmodel"], _CLASS] = Field(validation_alias=AliasPath("unet_config", "target"))
    unet: UNetParams = Field(validation_alias=AliasPath("unet_config", "params"))
    first_stage: FirstStage = Field(validation_alias="first_stage_config")
    conditioning: Annotated[ClassConditioning | None, _NONE] = Field(None, validation_alias="cond_stage_config")
    conditioning_key: str | None = None
    concat_mode: bool = True
    timesteps: int = Field(1000, gt=0, le=10**6)
    beta_schedule: Literal["linear", "sqrt_linear", "cosine"] = "linear"
    linear_start: float = Field(1e-4, gt=0, lt=1)
    linear_end: float = Field(2e-2, gt=0, lt=1)
    parameterization: Literal["eps", "x0", "v"] = "eps"
    scale_factor: float = Field(1.0, gt=0, allow_inf_nan=False)
    scale_by_std: bool = False

    @model_validator(mode="after")
    def _fits_together(self) -> Config:
        key = self.conditioning_key or ("concat" if self.concat_mode else "crossattn")
        if self.conditioning is not None and key != "crossattn":
            raise ValueError(f"conditioning_key is {one_line(repr(key))}; only 'crossattn' is supported")
        if (self.conditioning is None) == self.unet.use_spatial_transformer:
            raise ValueError("a ClassEmbedder and a U-Net with use_spatial_transformer need each other; one is missing")
        if self.conditioning is not None and self.conditioning.embed_dim != self.unet.context_dim:
            raise ValueError(
                f"embed_dim {self.conditioning.embed_dim} must equal the U-Net's context_dim {self.unet.context_dim}"
            )
        return self


class _File(BaseModel):
    config: Config = Field(validation_alias=AliasChoices(AliasPath("model", "params"), "params"))


def read_config(path: Path) -> Config:
    """Read the configuration in a YAML file, with or without its outer `model:`.

    Raises:
        PriorError: the file cannot be read, or describes a model that is not supported.
    """
    return parse_config(plain(read_yaml(path, PriorError)), str(path))


def parse_config(content: Any, name: str) -> Config:
    """Read the configuration from the content of a YAML file.

    Args:
        name: of the file, for messages.
    """
    try:
        return _File.model_validate(content).config
    except ValidationError as error:
        problem = error.errors(include_url=False, include_context=False)[0]
        where = one_line(".".join(map(str, problem["loc"])))
        value = "" if isinstance(problem["input"], Mapping) else f" is {one_line(repr(problem['input']), 100)}"
        advice = "give the YAML of a latent diffusion model" if problem["type"] == "missing" else "it is not supported"
        raise PriorError(f"{name}: {where}{value}: {problem['msg']}; {advice}") from error


def find_config(checkpoint: Path) -> Path | None:
    """Find the YAML beside a checkpoint: of the same stem, `config.yaml`, or the only one about a U-Net."""
    folder = checkpoint.parent
    for name in (f"{checkpoint.stem}.yaml", f"{checkpoint.stem}.yml", "config.yaml", "config.yml"):
        if (folder / name).is_file():
            return folder / name
    others = []
    for path in (*folder.glob("*.yaml"), *folder.glob("*.yml")):
        with suppress(OSError), open_regular(path) as file:
            if b"unet_config" in file.read(2**20):
                others.append(path)
    return others[0] if len(others) == 1 else None
