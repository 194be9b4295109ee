"""Settings of a checkpoint that its tensors do not hold, from the YAML it was trained with.

Only settings that the conversion supports validate; others are rejected by name. The `target` strings are compared and never
imported.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from reprlib import Repr
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, PositiveInt, ValidationError, model_validator

from ld3m_plugin.errors import PriorError
from ld3m_plugin.generators.ld3m.diffusers_parts import one_line

UNCONDITIONAL = "__is_unconditional__"
_FIRST_STAGES = ("vqmodelinterface", "vqmodel", "autoencoderkl")

# Far above any published model; a larger number is a typing error that would take minutes to build, or overflow.
Depth = Annotated[int, Field(gt=0, le=32)]
Channels = Annotated[int, Field(gt=0, le=2**16)]
Rows = Annotated[int, Field(gt=0, le=2**24)]
#: Every normalisation has 32 groups.
GroupedChannels = Annotated[int, Field(gt=0, le=2**16, multiple_of=32)]
Multiples = Annotated[tuple[Annotated[int, Field(gt=0, le=64)], ...], Field(min_length=1, max_length=10)]


class _Node(BaseModel):
    """A section in which every setting shapes the network, so an unknown setting is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class _Loose(BaseModel):
    """A section with settings of training, which are ignored."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class UNetParams(_Node):
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


class AutoencoderParams(_Node):
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


class FirstStage(_Loose):
    """`first_stage_config`: its params; `quantised` tells VQ from KL."""

    quantised: bool
    embed_dim: Channels
    n_embed: Rows | None = None
    remap: None = None
    ddconfig: AutoencoderParams

    @model_validator(mode="after")
    def _fits_together(self) -> FirstStage:
        if self.quantised and self.n_embed is None:
            raise ValueError("a VQ first stage needs n_embed")
        if self.quantised == self.ddconfig.double_z:
            kind = "VQ" if self.quantised else "KL"
            raise ValueError(f"ddconfig.double_z must be {not self.ddconfig.double_z} for a {kind} first stage")
        return self


class ClassConditioning(_Loose):
    """`cond_stage_config.params` of a ClassEmbedder."""

    n_classes: Rows = 1000
    embed_dim: Channels


class Config(_Loose):
    """A latent diffusion model, from its YAML; `linear_start` and `linear_end` are the first and last beta."""

    unet: UNetParams
    first_stage: FirstStage
    conditioning: ClassConditioning | None
    timesteps: int = Field(1000, gt=0, le=10**6)
    beta_schedule: Literal["linear", "sqrt_linear", "cosine"] = "linear"
    linear_start: float = Field(1e-4, gt=0, lt=1)
    linear_end: float = Field(2e-2, gt=0, lt=1)
    parameterization: Literal["eps", "x0", "v"] = "eps"
    scale_factor: float = Field(1.0, gt=0, allow_inf_nan=False)
    scale_by_std: bool = False

    @model_validator(mode="after")
    def _fits_together(self) -> Config:
        if (self.conditioning is None) == self.unet.use_spatial_transformer:
            raise ValueError(
                "a ClassEmbedder needs a U-Net with use_spatial_transformer, and the other way round; one is missing"
            )
        if self.conditioning is not None and self.conditioning.embed_dim != self.unet.context_dim:
            raise ValueError(
                f"embed_dim {self.conditioning.embed_dim} must equal the U-Net's context_dim {self.unet.context_dim}"
            )
        return self


def read_config(path: Path) -> Config:
    """Read the configuration in a YAML file, with or without its outer `model:`.

    Raises:
        PriorError: the file cannot be read, or describes a model that is not supported.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (
        OSError,
        ValueError,
        RecursionError,
        yaml.YAMLError,
    ) as error:  # ValueError: not UTF-8, or an impossible date
        raise PriorError(f"cannot read {path}: {one_line(error)}") from error
    return parse_config(content, str(path))


def parse_config(content: Any, name: str) -> Config:
    """Read the configuration from the content of a YAML file.

    Args:
        name: of the file, for messages.
    """
    model = content.get("model", content) if isinstance(content, Mapping) else None
    params = _mapping(model, "params", name)
    kind, stage = _section(params, "first_stage_config", _FIRST_STAGES, name)
    _, unet = _section(params, "unet_config", ("unetmodel",), name)
    parts = {"unet": unet, "first_stage": {**stage, "quantised": kind != "autoencoderkl"}}
    try:
        return Config.model_validate({**params, **parts, "conditioning": _conditioning(params, name)})
    except ValidationError as error:
        problem = error.errors(include_url=False, include_context=False)[0]
        where = " ".join(".".join(map(str, problem["loc"])).split()) or "the model"
        value = "" if isinstance(problem["input"], Mapping) else f"is {_short(problem['input'])}: "
        raise PriorError(f"{name}: {where}: {value}{problem['msg']}; this model is not supported") from error


def _conditioning(params: Mapping[str, Any], name: str) -> Mapping[str, Any] | None:
    if params.get("cond_stage_config", UNCONDITIONAL) == UNCONDITIONAL:
        return None
    _, embedder = _section(params, "cond_stage_config", ("classembedder",), name)
    key = params.get("conditioning_key", "concat" if params.get("concat_mode", True) else "crossattn")
    if key != "crossattn":
        raise PriorError(f"{name}: conditioning_key is {_short(key)}; only 'crossattn' is supported")
    return embedder


def _section(params: Mapping[str, Any], key: str, kinds: tuple[str, ...], name: str) -> tuple[str, Mapping[str, Any]]:
    """The class that the section's `target` names, in lower case, and the section's `params`."""
    node = params.get(key)
    target = node.get("target") if isinstance(node, Mapping) else node
    kind = target.rsplit(".", 1)[-1].lower() if isinstance(target, str) else ""
    if kind not in kinds:
        raise PriorError(f"{name}: {key}.target is {_short(target)}, which is not supported; known: {', '.join(kinds)}")
    return kind, _mapping(node, "params", name)


def _short(value: Any) -> str:
    """Shorten a value for a message: with aliases, a few lines of YAML can stand for gigabytes."""
    shortened = Repr()
    shortened.maxlevel, shortened.maxstring, shortened.maxother = 1, 100, 100
    return shortened.repr(value)


def _mapping(node: Any, key: str, name: str) -> Mapping[str, Any]:
    value = node.get(key) if isinstance(node, Mapping) else None
    if not isinstance(value, Mapping):
        raise PriorError(f"{name} has no section {key!r}: give the YAML of a latent diffusion model")
    return value


def find_config(checkpoint: Path) -> Path | None:
    """Find the YAML beside a checkpoint: of the same stem, `config.yaml`, or the only one about a U-Net."""
    folder = checkpoint.parent
    for name in (f"{checkpoint.stem}.yaml", f"{checkpoint.stem}.yml", "config.yaml", "config.yml"):
        if (folder / name).is_file():
            return folder / name
    others = []
    for path in (*folder.glob("*.yaml"), *folder.glob("*.yml")):
        with suppress(OSError):
            if "unet_config" in path.read_text(encoding="utf-8", errors="replace"):
                others.append(path)
    return others[0] if len(others) == 1 else None
