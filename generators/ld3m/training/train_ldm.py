"""The whole training of a prior: autoencoder, latents, denoiser, quality report."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from ld3m_plugin.contracts import TrainingReporter
from ld3m_plugin.errors import InvalidOptionError
from ld3m_plugin.generators.ld3m.ldm_folder import PriorFacts, save_prior
from ld3m_plugin.generators.ld3m.ldm_prior import Codec, Prior, load_prior
from ld3m_plugin.generators.ld3m.schedule import noise_levels
from ld3m_plugin.generators.ld3m.training.ldm_report import report, sampler
from ld3m_plugin.generators.ld3m.training.ldm_training_options import LdmTrainingOptions
from ld3m_plugin.generators.ld3m.training.train_autoencoder import (
    AutoencoderTraining,
    build_autoencoder,
    encode_everything,
)
from ld3m_plugin.generators.ld3m.training.train_denoiser import Denoiser, DenoisingLoss, build_scheduler
from ld3m_plugin.priors.prior_json import classes_of
from ld3m_plugin.priors.quality.measure import name_without_path
from ld3m_plugin.priors.training.batches import RealBatches
from ld3m_plugin.priors.training.origin import check_folder, origin
from ld3m_plugin.priors.training.phase import Phase, make_accelerator, run
from ld3m_plugin.priors.training.sample_report import check_data, record_training, save_samples
from ld3m_plugin.randomness import lent_to_global, stream
from ld3m_plugin.task import Task


@dataclass(frozen=True)
class Training:
    """What every phase needs.

    Attributes:
        folder: of states and pictures; it stays when the prior is finished.
    """

    task: Task
    options: LdmTrainingOptions
    seed: int
    folder: Path
    accelerator: Accelerator
    reporter: TrainingReporter
    seconds: dict[str, float] = field(default_factory=dict)

    def say_seconds(self, phase: Phase) -> None:
        """Note how long a phase took, over all sittings."""
        self.seconds[phase.name] = round(phase.seconds, 1)
        self.reporter.say(f"{phase.name}: {phase.steps} updates in {phase.seconds:.0f} s")

    def origin(self, part: tuple[str, ...]) -> dict[str, str]:
        """Digests of everything that decides the phase whose option names start with one of `part`."""
        return origin(self.task, self.options, self.seed, part)


_OURS = ("autoencoder.safetensors", "autoencoder.partial", "denoiser.*", "samples-*.png")
_COMMON = ("warmup", "weight_decay", "ema", "mixed_precision", "norm_groups", "latent_channels")
_AUTOENCODER = (*_COMMON, "autoencoder", "kl_weight")
_DENOISER = (
    *_AUTOENCODER,
    "batch_size",
    "channels",
    "layers",
    "heads",
    "embedding",
    "steps",
    "rate",
    "drop_class",
    "prediction",
)


def start(task: Task, options: LdmTrainingOptions, seed: int, folder: Path, reporter: TrainingReporter) -> Training:
    """Check what can be checked before any work.

    Raises:
        InvalidOptionError: the image size is not a multiple of the autoencoder's factor, the grid is too small to halve,
            diffusers cannot build the models, or the precision is not to be had.
        UsageError: `folder` is somebody else's.
        DataError: the data does not suffice for the quality report.
    """
    smallest = options.factor * 2 ** (len(options.channels) - 1)
    if task.image_size % smallest:
        raise InvalidOptionError(
            f"images of {task.image_size} pixels cannot be halved {smallest.bit_length() - 1} times, as autoencoder_channels "
            f"and channels ask: give -D image_size={-(-task.image_size // smallest) * smallest}, or fewer widths"
        )
    check_data(task)
    _check_models(task, options)
    check_folder(folder, _OURS)
    accelerator = make_accelerator(task, options)
    if accelerator.num_processes > 1:
        task = task.to(accelerator.device)
    folder.mkdir(parents=True, exist_ok=True)
    return Training(
        task, options, seed, folder, accelerator, reporter if accelerator.is_main_process else TrainingReporter()
    )


def _check_models(task: Task, options: LdmTrainingOptions) -> None:
    """Build both models without memory for their weights: the second one's turn would come after hours."""
    try:
        with torch.device("meta"):
            build_autoencoder(task, options)
            Denoiser(task.num_classes, task.image_size // options.factor, options)
    except (ValueError, RuntimeError, TypeError, ArithmeticError, NotImplementedError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InvalidOptionError(
            f"diffusers cannot build models of these options ({reason}): give other autoencoder_channels or channels"
        ) from error


def train_autoencoder(training: Training) -> Any:
    """The autoencoder, trained; with normalised latents."""
    task, options = training.task, training.options
    batches = RealBatches(task, options.autoencoder_batch_size)
    with lent_to_global(stream(training.seed, "autoencoder weights")):
        model = AutoencoderTraining(build_autoencoder(task, options)).to(task.device)
    grid = task.image_size // options.factor
    shape = (options.autoencoder_batch_size, options.latent_channels, grid, grid)

    def loss(model: nn.Module, rng: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        pictures, _ = batches.draw(rng)
        error, divergence = model(pictures, torch.randn(shape, generator=rng).to(task.device))
        return error + options.kl_weight * divergence, {
            "error": float(error.detach()),
            "kl": float(divergence.detach()),
        }

    phase = Phase(
        name="autoencoder",
        model=model,
        loss=loss,
        steps=options.autoencoder_steps,
        rate=options.autoencoder_rate,
        rng=stream(training.seed, "autoencoder", training.accelerator.process_index),
        origin=training.origin(_AUTOENCODER),
    )
    run(phase, options, training.folder, training.accelerator, training.reporter)
    training.say_seconds(phase)
    return model.autoencoder


def train_denoiser(training: Training, latents: Tensor, labels: Tensor, codec: Codec) -> Denoiser:
    """The U-Net and its class embeddings, trained on `latents` (n, L, h, w) of classes `labels` (n,)."""
    task, options = training.task, training.options
    with lent_to_global(stream(training.seed, "denoiser weights")):
        model = Denoiser(task.num_classes, task.image_size // options.factor, options).to(task.device)
    scheduler = build_scheduler(options)

    def pictures(model: nn.Module, done: int) -> None:
        prior = _as_prior(training, codec, cast(Denoiser, model))
        save_samples(sampler(prior, task, options), task, training.folder / f"samples-{done:06d}.png")

    phase = Phase(
        name="denoiser",
        model=model,
        loss=DenoisingLoss(latents, labels, model.null_class, scheduler, options),
        steps=options.steps,
        rate=options.rate,
        rng=stream(training.seed, "denoiser", training.accelerator.process_index),
        origin=training.origin(_DENOISER),
        pictures=pictures,
    )
    run(phase, options, training.folder, training.accelerator, training.reporter)
    training.say_seconds(phase)
    return model


def train_prior(task: Task, options: LdmTrainingOptions, seed: int, out: Path, reporter: TrainingReporter) -> None:
    """Train both parts, write the prior folder, then its quality report and a picture of samples into it.

    States and pictures of the way are in `OUT.training` beside it: from there a stopped training goes on. It may be deleted
    when the prior is finished.
    """
    training = start(task, options, seed, out.with_name(out.name + ".training"), reporter)
    task = training.task
    autoencoder = train_autoencoder(training)
    batches = RealBatches(task, options.autoencoder_batch_size)
    latents, labels = encode_everything(autoencoder, batches)
    denoiser = train_denoiser(training, latents, labels, Codec(autoencoder))
    if not training.accelerator.is_main_process:
        return
    save_prior(
        out,
        unet=denoiser.unet,
        autoencoder=autoencoder,
        scheduler=build_scheduler(options),
        facts=_facts(training),
        class_embedding=_rows(training, denoiser),
        half=options.half,
    )
    record_training(out, task, options, seed, training.seconds)
    report(load_prior(out, task.device), task, options, seed, out, reporter)


def _facts(training: Training) -> PriorFacts:
    task = training.task
    classes = classes_of(task)
    images, name = sum(task.train.counts()), name_without_path(task.name)
    source = f"trained with `ld3m prior train ldm` on {images} images of {name}, seed {training.seed}"
    null = len(classes) if training.options.drop_class > 0 else None  # it has learned nothing otherwise
    return PriorFacts(classes, null, source, training.options.licence)


def _rows(training: Training, denoiser: Denoiser) -> Tensor:
    facts = _facts(training)
    return denoiser.embedding.weight.detach()[: len(facts.classes) + (facts.null_class is not None)]


def _as_prior(training: Training, codec: Codec, model: Denoiser) -> Prior:
    return Prior(
        codec=codec,
        unet=model.unet,
        levels=noise_levels(build_scheduler(training.options)),
        class_embedding=_rows(training, model),
        facts=_facts(training),
        folder=training.folder,
    )
