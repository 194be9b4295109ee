"""A frozen latent diffusion model, read from a prior folder or from the hub; `diffusers_parts` reads its parts."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ld3m_plugin.errors import InvalidOptionError, PriorError
from ld3m_plugin.generators.ld3m import ldm_folder as files
from ld3m_plugin.generators.ld3m.diffusers_parts import (
    load_embedding,
    load_levels,
    load_model,
    one_line,
    some,
    weight_files,
)
from ld3m_plugin.generators.ld3m.schedule import NoiseLevels

EMBEDDED = Path(__file__).parent / "embedded"
#: Priors that are shipped, by name.
SHIPPED = {"embedded": EMBEDDED / "fashion-mnist"}

_UNETS = ("UNet2DConditionModel", "UNet2DModel")
_AUTOENCODERS = ("VQModel", "AutoencoderKL")


class Codec:
    """A frozen autoencoder between pictures (n, P, H, W) in [-1, 1] and the latents (n, L, h, w) that a U-Net works on.

    Latents are (code − mean)/std · scale, with mean, std and scale from the autoencoder's configuration.

    Raises:
        ValueError: one of these numbers is not finite, or std or scale is not positive.
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        config = model.config
        self.channels: int = config.in_channels
        # A code book may have fewer dimensions than the encoder's output.
        self.latent_channels: int = config.get("vq_embed_dim") or config.latent_channels
        self.factor = int(2 ** (len(config.block_out_channels) - 1))
        (shift,) = _numbers(config, "shift_factor", 0.0)
        mean = _numbers(config, "latents_mean", shift, self.latent_channels)
        std = _numbers(config, "latents_std", 1.0, self.latent_channels, positive=True)
        (scale,) = _numbers(config, "scaling_factor", 1.0, positive=True)
        like = next(model.parameters())
        self._mean = torch.tensor(mean).view(1, -1, 1, 1).to(like)
        self._std = (torch.tensor(std).view(1, -1, 1, 1) / scale).to(like)

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

    def decode(self, latents: Tensor) -> Tensor:
        """Decode latents to pictures; a VQ model quantises them first."""
        pictures: Tensor = self.model.decode(latents * self._std + self._mean).sample
        return pictures


@dataclass
class FrozenAutoencoder:
    """The autoencoder of a prior, and facts about the prior."""

    codec: Codec
    facts: files.PriorFacts
    folder: Path

    @property
    def downsampling(self) -> int:
        """Height and width of an image must be a multiple of this factor."""
        return self.codec.factor


@dataclass
class Prior(FrozenAutoencoder):
    """A frozen latent diffusion model.

    Attributes:
        unet: a diffusers UNet2DConditionModel or UNet2DModel.
        class_embedding: (rows, d), or None for an unconditional model.
    """

    unet: Any
    levels: NoiseLevels
    class_embedding: Tensor | None

    @property
    def downsampling(self) -> int:
        return int(self.codec.factor * 2 ** (len(self.unet.config.block_out_channels) - 1))

    @property
    def null_embedding(self) -> Tensor | None:
        """The class embedding of "no class" (1, 1, d), or None if the prior has none."""
        row = self.facts.null_class
        return None if self.class_embedding is None or row is None else self.class_embedding[row].view(1, 1, -1)

    def predict(self, state: Tensor, time: float, embedding: Tensor | None) -> Tensor:
        """Run the U-Net; returns (n, L, h, w), see `sampler.Model`."""
        output: Tensor = self.unet(state, time, *([] if embedding is None else [embedding])).sample
        return output


def find_prior(name: str, revision: str | None = None) -> Path:
    """Find a prior: shipped with the package, on this disk, or from the Hugging Face hub (cache first).

    Raises:
        PriorError: there is no such prior.
        InvalidOptionError: a revision is given for a prior on this disk.
    """
    path = SHIPPED.get(name)
    try:
        path = path or Path(name).expanduser()
        exists = path.exists()
    except (OSError, RuntimeError) as error:  # a name that is too long, or an unknown home directory
        raise PriorError(f"there is no prior folder {name} ({one_line(error)})") from error
    if exists and revision is not None:
        raise InvalidOptionError(f"revision {revision!r} is only for hub ids, and {path} is on this disk: leave it out")
    if exists or name in SHIPPED:
        return path
    if name.count("/") == 1 and not path.is_absolute() and not name.startswith((".", "~")):
        return _from_hub(name, revision)
    raise PriorError(f"there is no prior folder {name}: give a folder, a hub id OWNER/NAME, or {', '.join(SHIPPED)}")


def _from_hub(name: str, revision: str | None) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    parts = ("unet", "scheduler", *files.AUTOENCODERS)
    wanted = [files.INDEX, files.FACTS, files.CLASS_EMBEDDING]
    wanted += [f"{part}/*{suffix}" for part in parts for suffix in (".json", ".safetensors")]
    what: dict[str, Any] = {"revision": revision, "allow_patterns": wanted, "ignore_patterns": ["*.fp16.*"]}
    try:
        with suppress(LocalEntryNotFoundError, PriorError):
            found = Path(snapshot_download(name, local_files_only=True, **what))
            for part in ("unet", _autoencoder_part(found)):
                weight_files(found / part)  # raises for the rest of an interrupted download
            return found
        return Path(snapshot_download(name, **what))
    except Exception as error:  # the hub's client raises errors of its HTTP library
        raise PriorError(
            f"prior {name!r} is not a folder here, and downloading it from the hub failed ({one_line(error, 200)}): check name, "
            "revision and connection"
        ) from error


def load_prior(folder: Path, device: torch.device | str = "cpu") -> Prior:
    """Read a prior folder in diffusers' layout; weights become float32, frozen, in evaluation mode.

    Raises:
        PriorError: a part is missing, damaged, of an unknown class, or its tensors do not fit its configuration.
    """
    frozen = load_autoencoder(folder, device)
    unet = _load_part(folder, "unet", _UNETS, device)
    taken, made, latent = unet.config.in_channels, unet.config.out_channels, frozen.codec.latent_channels
    if not taken == made == latent:
        raise PriorError(
            f"{folder / 'unet'} takes {taken} channels and makes {made}, and the latents have {latent}: the three "
            "must be equal"
        )
    embedding = load_embedding(folder, unet, frozen.facts, device)
    levels = load_levels(folder / "scheduler")
    return Prior(**vars(frozen), unet=unet, levels=levels, class_embedding=embedding)


def load_autoencoder(folder: Path, device: torch.device | str = "cpu") -> FrozenAutoencoder:
    """Read only the autoencoder and the facts of a prior folder; raises the same errors as `load_prior`."""
    part = _autoencoder_part(folder)
    model = _load_part(folder, part, _AUTOENCODERS, device)
    path = folder / part / "config.json"
    if model.config.in_channels != model.config.out_channels:
        raise PriorError(f"{path}: in_channels and out_channels must be equal")
    try:
        return FrozenAutoencoder(Codec(model), files.read_facts(folder), folder)
    except ValueError as error:
        raise PriorError(f"{path}: {error}") from error


def _autoencoder_part(folder: Path) -> str:
    index = folder / files.INDEX
    if folder.is_file():
        raise PriorError(
            f"{folder} is a file, not a prior folder: convert it with `ld3m prior convert {folder} FOLDER`"
        )
    if not index.is_file():
        raise PriorError(f"{folder} is not a prior folder: it has no {files.INDEX}")
    content = files.read_json(index)
    named = [part for part in files.AUTOENCODERS if content.get(part)]
    named = named or [part for part in files.AUTOENCODERS if (folder / part).is_dir()]
    if len(named) != 1:
        raise PriorError(f"{index} must name one autoencoder, in vqvae/ or vae/; found: {some(named)}")
    return named[0]


def _load_part(folder: Path, part: str, known: tuple[str, ...], device: torch.device | str) -> Any:
    """Load the model of a part; reject it if the index states another class: the part belongs to another model."""
    model = load_model(folder / part, known, device)
    stated, name = files.read_json(folder / files.INDEX).get(part), type(model).__name__
    if stated is not None and not (isinstance(stated, list) and len(stated) == 2):
        raise PriorError(f"{folder / files.INDEX}: {part} = {stated!r} must be a library and a class")
    if isinstance(stated, list) and stated[-1] in (*_UNETS, *_AUTOENCODERS) and stated[-1] != name:
        raise PriorError(
            f"{folder / files.INDEX} states class {stated[-1]} for {part}, but its config.json states {name}"
        )
    return model


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
