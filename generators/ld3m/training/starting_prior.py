"""Fine-tuning: a training that starts from the weights of a prior in place of random ones.

Autoencoder, U-Net and the embedding of "no class" are taken over, and those of classes that both have by the same name; the other
classes are new to it. Losses and updates are those of a training from random weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor, nn

from ld3m_plugin.data.class_names import comparable
from ld3m_plugin.errors import InvalidOptionError, PriorError, one_line
from ld3m_plugin.generators.ld3m import ldm_folder as files
from ld3m_plugin.generators.ld3m.diffusers_parts import load_embedding, load_levels, load_model
from ld3m_plugin.generators.ld3m.ldm_prior import find_prior
from ld3m_plugin.generators.ld3m.schedule import NoiseLevels, noise_levels
from ld3m_plugin.generators.ld3m.training.ldm_training_options import LAYOUT, LdmTrainingOptions
from ld3m_plugin.generators.ld3m.training.train_autoencoder import build_autoencoder
from ld3m_plugin.generators.ld3m.training.train_denoiser import Denoiser, build_scheduler
from ld3m_plugin.priors.prior_json import classes_of
from ld3m_plugin.task import Task

#: Settings that may differ: normalisation of the latents is computed anew, and the others change no weight's meaning.
_FREE = ("latents_mean", "latents_std", "scaling_factor", "shift_factor", "sample_size", "force_upcast")
_DIGITS = 12  # of a digest, in one line


@dataclass(frozen=True)
class StartingPrior:
    """A prior that a training starts from.

    Attributes:
        name: without the folders of a path, for records that are shared.
        sha256: digest of the prior, see `ldm_folder.digest`.
        facts: its classes, source and licence.
        rows: its class embedding (rows, d).
    """

    name: str
    sha256: str
    facts: files.PriorFacts
    autoencoder: Any
    unet: Any
    rows: Tensor

    def __str__(self) -> str:
        return f"{self.name} (SHA-256 {self.sha256[:_DIGITS]})"

    def record(self) -> dict[str, Any]:
        """Facts for `training.json`: which prior it was, what that one saw, and its licence."""
        return {"name": self.name, "sha256": self.sha256, "source": self.facts.source, "licence": self.facts.licence}

    def put_in_denoiser(self, model: Denoiser, task: Task) -> None:
        """Give `model` the U-Net's weights, and the embeddings of "no class" and of the classes that both have by name."""
        model.unet.load_state_dict(self.unet.state_dict())
        known = {comparable(found.name): row for row, found in enumerate(self.facts.classes)}
        pairs = [(k, known.get(comparable(wanted.name))) for k, wanted in enumerate(classes_of(task))]
        with torch.no_grad():
            for row, theirs in [*pairs, (model.null_class, self.facts.null_class)]:
                if theirs is not None:
                    model.embedding.weight[row] = self.rows[theirs]

    def put_in_autoencoder(self, model: nn.Module) -> None:
        """Give `model` the autoencoder's weights."""
        model.load_state_dict(self.autoencoder.state_dict())


def starting_prior(task: Task, options: LdmTrainingOptions) -> tuple[LdmTrainingOptions, StartingPrior | None]:
    """Read the prior that `options.finetune` names; returns the options with its layout, and None where it names none.

    Raises:
        InvalidOptionError: an option asks for another layout, the prior was trained on images of another size or number of
            channels, or its models are not such as are trained here.
        PriorError: there is no such prior.
    """
    if options.finetune is None:
        return options, None
    name, folder = options.finetune, find_prior(options.finetune, task=task)
    shown = folder.resolve().name if Path(name).expanduser() == folder else name  # a hub id has no path to hide
    start, levels = _read(name, shown, folder)
    autoencoder, unet = start.autoencoder.config, start.unet.config
    _check_images(task, name, autoencoder)
    options = _with_layout(options, name, _layout(autoencoder, unet, levels.prediction))
    with torch.device("meta"):
        _check_config(f"{name}: vae/config.json", autoencoder, build_autoencoder(task, options).config)
        _check_config(f"{name}: unet/config.json", unet, Denoiser(1, 1, options).unet.config)
    wanted = noise_levels(build_scheduler(options)).signal
    if len(levels.signal) != len(wanted) or not torch.allclose(levels.signal, wanted):
        raise InvalidOptionError(
            f"finetune = {name!r} was trained with another noise schedule: choose a prior of `ld3m prior train ldm`"
        )
    return options, start


def _read(name: str, shown: str, folder: Path) -> tuple[StartingPrior, NoiseLevels]:
    """Read a prior in `folder`; the message of an error has its `name`."""
    try:
        unet = load_model(folder / "unet", ("UNet2DConditionModel",))
        autoencoder = load_model(folder / "vae", ("AutoencoderKL",))
        facts = files.read_facts(folder)
        rows, levels = load_embedding(folder, unet, facts, "cpu"), load_levels(folder / "scheduler")
        if rows is None:
            raise PriorError(f"{folder} has no class embedding")
    except PriorError as error:
        raise PriorError(f"finetune = {name!r} cannot be trained further: {error}") from error
    return StartingPrior(shown, files.digest(folder), facts, autoencoder, unet, rows), levels


def _check_images(task: Task, name: str, autoencoder: Mapping[str, Any]) -> None:
    """Raise `InvalidOptionError` where the prior was trained on images of another size or number of channels."""
    channels, size = autoencoder["in_channels"], autoencoder["sample_size"]
    fits = []
    if channels != task.channels:
        fits.append(f"-D grayscale={str(channels == 1).lower()}")
    if size != task.image_size:
        fits.append(f"-D image_size={size}")
    if fits:
        raise InvalidOptionError(
            f"finetune = {name!r} was trained on {_described(channels, size)}, and the data has "
            f"{_described(task.channels, task.image_size)}: give {' '.join(fits)}{_fitting(task)}, or leave finetune out"
        )


def _described(channels: int, size: int) -> str:
    return f"{'gray' if channels == 1 else 'colour'} images of {size} pixels"


def _fitting(task: Task) -> str:
    """Advice to take the shipped prior of the task's size and channels, if there is one."""
    for name, folder in files.SHIPPED.items():
        config = files.read_json(folder / "vae" / "config.json")
        if (config["in_channels"], config["sample_size"]) == (task.channels, task.image_size):
            return f", or -S finetune={name}"
    return ""


def _layout(autoencoder: Mapping[str, Any], unet: Mapping[str, Any], prediction: str) -> dict[str, Any]:
    """The options that would build such models; `_check_config` compares what they do build."""
    return {
        "latent_channels": autoencoder["latent_channels"],
        "autoencoder_channels": autoencoder["block_out_channels"],
        "autoencoder_layers": autoencoder["layers_per_block"],
        "norm_groups": autoencoder["norm_num_groups"],
        "channels": unet["block_out_channels"],
        "layers": unet["layers_per_block"],
        "heads": unet["attention_head_dim"],
        "embedding_size": unet["cross_attention_dim"],
        "prediction": prediction,
    }


def _with_layout(options: LdmTrainingOptions, name: str, layout: Mapping[str, Any]) -> LdmTrainingOptions:
    given = {key: getattr(options, key) for key in LAYOUT if key in options.model_fields_set}
    try:
        fitted = LdmTrainingOptions.model_validate({**options.model_dump(), **layout})
    except ValidationError as error:
        reason = one_line(error.errors(include_url=False)[0]["msg"])
        raise InvalidOptionError(f"finetune = {name!r} is of a layout that is not trained here: {reason}") from error
    other = [
        f"{key} = {getattr(fitted, key)}, not {value}" for key, value in given.items() if value != getattr(fitted, key)
    ]
    if other:
        raise InvalidOptionError(
            f"finetune = {name!r} has {', '.join(other)}: leave these options out, it decides them"
        )
    return fitted


def _check_config(where: str, found: Mapping[str, Any], trained: Mapping[str, Any]) -> None:
    for key, value in trained.items():
        theirs = found.get(key)
        if key.startswith("_") or key in _FREE:
            continue
        if (list(theirs) if isinstance(theirs, tuple) else theirs) != (
            list(value) if isinstance(value, tuple) else value
        ):
            raise InvalidOptionError(
                f"finetune = {where} has {key} = {one_line(repr(theirs), 40)}, and `ld3m prior train ldm` trains models with "
                f"{one_line(repr(value), 40)}: choose a prior of that command"
            )
