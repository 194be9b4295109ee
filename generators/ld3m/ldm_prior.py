"""A frozen latent diffusion model, read from a prior folder or from the hub; `diffusers_parts` reads its parts."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import OutOfMemoryError, Tensor

from ld3m_plugin.errors import InvalidOptionError, PriorError, is_out_of_memory
from ld3m_plugin.generators.ld3m import dit
from ld3m_plugin.generators.ld3m import ldm_folder as files
from ld3m_plugin.generators.ld3m.codec import Codec as Codec
from ld3m_plugin.generators.ld3m.diffusers_parts import (
    load_embedding,
    load_levels,
    load_model,
    one_line,
    some,
    weight_files,
)
from ld3m_plugin.generators.ld3m.frozen_layers import copied, shorten
from ld3m_plugin.generators.ld3m.ldm_folder import EMBEDDED as EMBEDDED
from ld3m_plugin.generators.ld3m.ldm_folder import SHIPPED as SHIPPED
from ld3m_plugin.generators.ld3m.model_settings import DIT
from ld3m_plugin.generators.ld3m.schedule import NoiseLevels
from ld3m_plugin.generators.ld3m.short_unet import shorten_unet, takes_copies
from ld3m_plugin.priors.shipped import find_shipped
from ld3m_plugin.task import Task

_UNETS = ("UNet2DConditionModel", "UNet2DModel")
_AUTOENCODERS = ("VQModel", "AutoencoderKL")


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

    @property
    def image_size(self) -> int | None:
        """The only height and width of an image that the prior can make; None: any multiple of `downsampling`."""
        return None

    @property
    def trained_size(self) -> int | None:
        """Height and width of the images it was trained on; None: not known, or without a say in what it can make."""
        return None


@dataclass
class Prior(FrozenAutoencoder):
    """A frozen latent diffusion model.

    Attributes:
        denoiser: a diffusers UNet2DConditionModel or UNet2DModel.
        class_embedding: (rows, d), or None for an unconditional model.
    """

    denoiser: Any
    levels: NoiseLevels
    class_embedding: Tensor | None

    @property
    def downsampling(self) -> int:
        return int(self.codec.factor * 2 ** (len(self.denoiser.config.block_out_channels) - 1))

    @property
    def trained_size(self) -> int | None:
        size = self.denoiser.config.get("sample_size")
        return self.codec.factor * size if isinstance(size, int) else None

    @property
    def null_embedding(self) -> Tensor | None:
        """The class embedding of "no class" (1, 1, d), or None if the prior has none."""
        row = self.facts.null_class
        return None if self.class_embedding is None or row is None else self.class_embedding[row].view(1, 1, -1)

    def predict(self, state: Tensor, time: float, embedding: Tensor | None) -> Tensor:
        """Run the network; see `sampler.Model`."""
        # A tensor that the device fills: diffusers copies a number there and waits, and UNet2DModel cuts it to a whole one.
        return self.predict_at(state, torch.full((), time, device=state.device), embedding)

    def predict_at(self, state: Tensor, when: Tensor, embedding: Tensor | None) -> Tensor:
        """Run the network at a time () that lies on the device."""
        if embedding is None:
            output: Tensor = self.denoiser(state, when).sample
            return output
        state = state if takes_copies(self.denoiser) else copied(state, len(embedding))
        output = self.denoiser(state, when, embedding).sample
        return output


@dataclass
class TransformerPrior(Prior):
    """A frozen latent diffusion model whose network is a DiT without its tables of labels, see `dit.take_tables`.

    Guidance applies to all latent channels, as in diffusers; the published sampling code guides the first three alone.
    """

    @property
    def downsampling(self) -> int:
        return int(self.codec.factor * self.denoiser.config.patch_size)

    @property
    def image_size(self) -> int:
        return int(self.codec.factor * self.denoiser.config.sample_size)

    def predict_at(self, state: Tensor, when: Tensor, embedding: Tensor | None) -> Tensor:
        """Run the transformer on vectors (k·n, 1, d); a learned variance is left out."""
        state = state if embedding is None else copied(state, len(embedding))
        times = when.expand(len(state))
        vectors = None if embedding is None else embedding.flatten(1)
        output: Tensor = self.denoiser(state, timestep=times, class_labels=vectors).sample
        return output[:, : state.shape[1]]


def find_prior(name: str, revision: str | None = None, task: Task | None = None) -> Path:
    """Find a prior: shipped with the package, on this disk, or from the Hugging Face hub (cache first).

    Args:
        task: `embedded` is the shipped prior that was trained on its data set, else that of Fashion-MNIST.

    Raises:
        PriorError: there is no such prior.
        InvalidOptionError: a revision is given for a prior on this disk.
    """
    path = find_shipped(name, task, SHIPPED)
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

    parts = (*files.NETWORKS, "scheduler", *files.AUTOENCODERS)
    wanted = [files.INDEX, files.FACTS, files.CLASS_EMBEDDING]
    wanted += [f"{part}/*{suffix}" for part in parts for suffix in (".json", ".safetensors")]
    what: dict[str, Any] = {"revision": revision, "allow_patterns": wanted, "ignore_patterns": ["*.fp16.*"]}
    try:
        with suppress(LocalEntryNotFoundError, PriorError):
            found = Path(snapshot_download(name, local_files_only=True, **what))
            for kind in ("network", "autoencoder"):
                weight_files(found / _part(found, kind))  # raises for the rest of an interrupted download
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
    part = _part(folder, "network")
    if part == "transformer":
        dit.check_dit(folder / part / "config.json")
    frozen = load_autoencoder(folder, device)
    prior = (_load_transformer if part == "transformer" else _load_unet)(folder, frozen, device)
    _try(prior, folder / part)
    return prior


@torch.no_grad()
def _try(prior: Prior, part: Path) -> None:
    """Run the network once on a small latent: some configurations build a model that fails in its first use."""
    table = prior.class_embedding
    side = 2 * prior.downsampling // prior.codec.factor
    if isinstance(prior, TransformerPrior):
        side = prior.denoiser.config.sample_size  # its positions are fixed
    state = torch.zeros(1, prior.codec.latent_channels, side, side, device=next(prior.denoiser.parameters()).device)
    try:
        prior.predict(state, prior.levels.model_times[0].item(), None if table is None else table[:1, None])
    except (OutOfMemoryError, MemoryError):
        raise
    except Exception as error:  # whatever diffusers makes of it
        if is_out_of_memory(error):
            raise
        raise PriorError(
            f"{part / 'config.json'} describes a network that fails in use: {one_line(error, 200)}"
        ) from error


def _load_unet(folder: Path, frozen: FrozenAutoencoder, device: torch.device | str) -> Prior:
    unet = _load_part(folder, "unet", _UNETS, device)
    _check_channels(folder / "unet", unet.config.in_channels, unet.config.out_channels, frozen.codec)
    shorten_unet(unet)
    embedding = load_embedding(folder, unet, frozen.facts, device)
    levels = load_levels(folder / "scheduler")
    if unet.config.get("time_embedding_type") == "learned":
        times, known = levels.model_times, unet.config.num_train_timesteps
        if times.is_floating_point() or times.max() >= known:
            raise PriorError(
                f"{folder / 'unet'} has learned {known} whole timesteps, and the scheduler has others, to {float(times.max()):g}"
            )
    return Prior(**vars(frozen), denoiser=unet, levels=levels, class_embedding=embedding)


def _load_transformer(folder: Path, frozen: FrozenAutoencoder, device: torch.device | str) -> TransformerPrior:
    model = _load_part(folder, "transformer", (DIT,), device)
    path = folder / "transformer" / "config.json"
    dit.check_shape(path, model.config)
    taken = model.config.in_channels
    _check_channels(folder / "transformer", taken, taken, frozen.codec)
    if (folder / files.CLASS_EMBEDDING).is_file():
        raise PriorError(f"{folder / files.CLASS_EMBEDDING} does not belong to a transformer, which has its own table")
    embedding = dit.take_tables(model)
    known = {**vars(frozen), "facts": dit.facts_of_labels(folder, frozen.facts, len(embedding))}
    levels = load_levels(folder / "scheduler")
    return TransformerPrior(**known, denoiser=model, levels=levels, class_embedding=embedding)


def _check_channels(part: Path, taken: int, made: int, codec: Codec) -> None:
    if not taken == made == codec.latent_channels:
        raise PriorError(
            f"{part} makes {made} channels of {taken}, and the latents have {codec.latent_channels}: the three must be equal"
        )


def load_autoencoder(folder: Path, device: torch.device | str = "cpu") -> FrozenAutoencoder:
    """Read only the autoencoder and the facts of a prior folder; raises the same errors as `load_prior`."""
    part = _part(folder, "autoencoder")
    model = _load_part(folder, part, _AUTOENCODERS, device)
    path = folder / part / "config.json"
    if model.config.in_channels != model.config.out_channels:
        raise PriorError(f"{path}: in_channels and out_channels must be equal")
    shorten(model)
    try:
        return FrozenAutoencoder(Codec(model), files.read_facts(folder), folder)
    except ValueError as error:
        raise PriorError(f"{path}: {error}") from error


def _part(folder: Path, kind: Literal["network", "autoencoder"]) -> str:
    """Name of the folder that holds the network or the autoencoder: the one that the index names, or that is there."""
    index = folder / files.INDEX
    if folder.is_file():
        raise PriorError(
            f"{folder} is a file, not a prior folder: convert it with `ld3m prior convert {folder} FOLDER`"
        )
    if not index.is_file():
        raise PriorError(f"{folder} is not a prior folder: it has no {files.INDEX}")
    content = files.read_json(index)
    parts = files.NETWORKS if kind == "network" else files.AUTOENCODERS
    named = [part for part in parts if content.get(part)]
    named = named or [part for part in parts if (folder / part).is_dir()]
    if len(named) != 1:
        raise PriorError(f"{index} must name one {kind}, in {'/ or '.join(parts)}/; found: {some(named)}")
    return named[0]


def _load_part(folder: Path, part: str, known: tuple[str, ...], device: torch.device | str) -> Any:
    """Load the model of a part; reject it if the index states another class: the part belongs to another model."""
    model = load_model(folder / part, known, device)
    stated, name = files.read_json(folder / files.INDEX).get(part), type(model).__name__
    if stated is not None and not (isinstance(stated, list) and len(stated) == 2):
        raise PriorError(f"{folder / files.INDEX}: {part} = {stated!r} must be a library and a class")
    if isinstance(stated, list) and stated[-1] in (*_UNETS, DIT, *_AUTOENCODERS) and stated[-1] != name:
        raise PriorError(
            f"{folder / files.INDEX} states class {stated[-1]} for {part}, but its config.json states {name}"
        )
    return model
