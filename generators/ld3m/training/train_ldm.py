"""Training of a latent diffusion prior: autoencoder, latents, denoiser, quality report."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from ld3m_plugin.contracts import TrainingReporter
from ld3m_plugin.errors import InvalidOptionError
from ld3m_plugin.generators.imaging import PictureSpace
from ld3m_plugin.generators.ld3m.diffusers_parts import one_line
from ld3m_plugin.generators.ld3m.ldm_folder import PriorFacts, digest, save_prior
from ld3m_plugin.generators.ld3m.ldm_prior import Codec, Prior, load_prior
from ld3m_plugin.generators.ld3m.prior_samples import draw_samples
from ld3m_plugin.generators.ld3m.schedule import noise_levels
from ld3m_plugin.generators.ld3m.start import check_multiple
from ld3m_plugin.generators.ld3m.training.ldm_training_options import LdmTrainingOptions
from ld3m_plugin.generators.ld3m.training.starting_prior import StartingPrior, starting_prior
from ld3m_plugin.generators.ld3m.training.train_autoencoder import (
    AutoencoderTraining,
    build_autoencoder,
    encode_everything,
)
from ld3m_plugin.generators.ld3m.training.train_denoiser import Denoiser, DenoisingLoss, build_scheduler
from ld3m_plugin.priors.prior_json import classes_of
from ld3m_plugin.priors.quality.measure import Reconstruct, check_data, name_without_path
from ld3m_plugin.priors.training.batches import RealBatches
from ld3m_plugin.priors.training.origin import check_folder, decisive, origin
from ld3m_plugin.priors.training.phase import Loss, Phase, make_accelerator, run
from ld3m_plugin.priors.training.sample_report import (
    Sampler,
    record_training,
    report,
    save_reconstructions,
    save_samples,
)
from ld3m_plugin.randomness import lent_to_global, stream
from ld3m_plugin.task import Task

#: See `Phase.pictures`.
Pictures = Callable[[nn.Module, int], None]


@dataclass(frozen=True)
class Training:
    """Everything that the phases of a training share.

    Attributes:
        folder: for states and pictures; it is kept when the prior is finished.
        prior: that is fine-tuned; None: the weights are random at first.
        seconds: duration of each finished phase.
    """

    task: Task
    options: LdmTrainingOptions
    seed: int
    folder: Path
    accelerator: Accelerator
    reporter: TrainingReporter
    prior: StartingPrior | None = None
    seconds: dict[str, float] = field(default_factory=dict)

    def run(
        self, name: str, model: nn.Module, loss: Loss, steps: int, rate: float, pictures: Pictures | None = None
    ) -> None:
        """Train one part, and record its duration, stops not counted."""
        # Its digest decides, not its name. Without a prior as in states that were saved before there was the option.
        prior = {"finetune": "" if self.prior is None else self.prior.sha256}
        named = {"finetune": None if self.prior is None else str(self.prior)}
        phase = Phase(
            name=name,
            model=model,
            loss=loss,
            steps=steps,
            rate=rate,
            rng=stream(self.seed, name, self.accelerator.process_index),
            origin={**origin(self.task, self.options, self.seed, _DECISIVE[name]), **prior},
            settings={"seed": self.seed, **named, **decisive(self.options, _DECISIVE[name])},
            pictures=pictures,
        )
        run(phase, self.options, self.folder, self.accelerator, self.reporter)
        self.seconds[name] = round(phase.seconds, 1)
        self.reporter.say(f"{name}: {steps} updates in {phase.seconds:.0f} s")

    def public_options(self) -> LdmTrainingOptions:
        """The options for a record that is shared: the prior by its name, without a path."""
        return self.options.model_copy(update={"finetune": None if self.prior is None else self.prior.name})


_OURS = ("autoencoder.safetensors", "autoencoder.partial", "denoiser.*", "samples-*.png", "reconstruction-*.png")
_AUTOENCODER = (
    *("warmup", "weight_decay", "ema", "mixed_precision", "norm_groups", "latent_channels"),
    *("autoencoder", "kl_weight", "mirror"),
)
_DENOISER = ("batch_size", "channels", "layers", "heads", "embedding", "steps", "rate", "drop_class", "prediction")
#: Prefixes of the names of the options that decide the result of each part.
_DECISIVE = {"autoencoder": _AUTOENCODER, "denoiser": (*_AUTOENCODER, *_DENOISER)}


def start(task: Task, options: LdmTrainingOptions, seed: int, folder: Path, reporter: TrainingReporter) -> Training:
    """Check everything that can be checked before any work, and make the folder.

    Raises:
        InvalidOptionError: the image size does not fit the widths, diffusers cannot build the models, the device does not
            support the precision, or the prior of `finetune` does not fit data or options.
        PriorError: there is no such prior.
        UsageError: `folder` holds other files.
        DataError: there are too few images for the quality report.
    """
    options, prior = starting_prior(task, options)
    factor = options.factor * 2 ** (len(options.channels) - 1)
    check_multiple(task, factor, "or fewer widths in autoencoder_channels or channels")
    check_data(task)
    _check_models(task, options)
    check_folder(folder, _OURS)
    accelerator = make_accelerator(task, options)
    if accelerator.num_processes > 1:
        task = task.to(accelerator.device)
    folder.mkdir(parents=True, exist_ok=True)
    reporter = reporter if accelerator.is_main_process else TrainingReporter()
    if prior is not None:
        reporter.say(f"fine-tuning {prior}: {prior.facts.source}; licence {prior.facts.licence or 'not stated'}")
    return Training(task, options, seed, folder, accelerator, reporter, prior)


def _check_models(task: Task, options: LdmTrainingOptions) -> None:
    """Build both models without memory for their weights: the second would otherwise fail after hours."""
    try:
        with torch.device("meta"):
            build_autoencoder(task, options)
            Denoiser(task.num_classes, task.image_size // options.factor, options)
    except (ValueError, RuntimeError, TypeError, ArithmeticError, NotImplementedError) as error:
        raise InvalidOptionError(
            f"diffusers cannot build models with these options ({one_line(error, 200)}): change autoencoder_channels or "
            "channels"
        ) from error


def train_autoencoder(training: Training) -> Any:
    """Train the autoencoder; returns the diffusers model."""
    task, options = training.task, training.options
    batches = RealBatches(task, options.autoencoder_batch_size, options.mirror)
    with lent_to_global(stream(training.seed, "autoencoder weights")):
        autoencoder = build_autoencoder(task, options)
    if training.prior is not None:
        training.prior.put_in_autoencoder(autoencoder)
    model = AutoencoderTraining(autoencoder).to(task.device)
    grid = task.image_size // options.factor
    shape = (options.autoencoder_batch_size, options.latent_channels, grid, grid)

    def loss(model: nn.Module, rng: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        pictures, _ = batches.draw(rng)
        error, divergence = model(pictures, torch.randn(shape, generator=rng).to(task.device))
        values = {"error": float(error.detach()), "kl": float(divergence.detach())}
        return error + options.kl_weight * divergence, values

    def show(model: nn.Module, done: int) -> None:
        codec = Codec(cast(AutoencoderTraining, model).autoencoder)
        save_reconstructions(_reconstruct(codec, task), task, training.folder / f"reconstruction-{done:06d}.png")

    training.run("autoencoder", model, loss, options.autoencoder_steps, options.autoencoder_rate, show)
    return model.autoencoder


def train_denoiser(training: Training, latents: Tensor, labels: Tensor, codec: Codec) -> Denoiser:
    """Train the U-Net and its class embeddings on `latents` (n, L, h, w) of classes `labels` (n,)."""
    task, options = training.task, training.options
    # The prior's own training drew its classes from the other stream, and the seed is often the same.
    drawn = "denoiser weights" if training.prior is None else "new classes"
    with lent_to_global(stream(training.seed, drawn)):
        model = Denoiser(task.num_classes, task.image_size // options.factor, options)
    if training.prior is not None:
        training.prior.put_in_denoiser(model, task)
    model = model.to(task.device)

    def pictures(model: nn.Module, done: int) -> None:
        prior = _as_prior(training, codec, cast(Denoiser, model))
        save_samples(_sampler(prior, task, options), task, training.folder / f"samples-{done:06d}.png")

    loss = DenoisingLoss(latents, labels, model.null_class, build_scheduler(options), options)
    training.run("denoiser", model, loss, options.steps, options.rate, pictures)
    return model


def train_prior(task: Task, options: LdmTrainingOptions, seed: int, out: Path, reporter: TrainingReporter) -> None:
    """Train both parts, then write the prior folder with a quality report and a picture of samples.

    States and intermediate pictures are in `OUT.training` beside it; a stopped training resumes from there. The folder may be
    deleted when the prior is finished.
    """
    options = options.fitted(task.image_size)
    training = start(task, options, seed, out.with_name(out.name + ".training"), reporter)
    task, options, autoencoder = training.task, training.options, train_autoencoder(training)
    latents, labels = encode_everything(autoencoder, RealBatches(task, options.autoencoder_batch_size, options.mirror))
    codec = Codec(autoencoder)
    prior = _as_prior(training, codec, train_denoiser(training, latents, labels, codec))
    if not training.accelerator.is_main_process:
        return
    save_prior(
        out,
        unet=prior.denoiser,
        autoencoder=autoencoder,
        scheduler=build_scheduler(options),
        facts=prior.facts,
        class_embedding=prior.class_embedding,
        half=options.half,
    )
    started = None if training.prior is None else training.prior.record()
    record_training(out, task, training.public_options(), seed, training.seconds, started)
    stored = load_prior(out, task.device)
    how = {"guidance_scale": options.guidance_scale, "sample_steps": options.sample_steps}
    rebuilt = _reconstruct(stored.codec, task)
    report(_sampler(stored, task, options), task, options, seed, out, reporter, digest(out), how, rebuilt)


def _reconstruct(codec: Codec, task: Task) -> Reconstruct:
    space = PictureSpace(task, codec.channels, "hard")
    return lambda x: space.images(codec.decode(codec.encode(space.pictures(x))))


def _sampler(prior: Prior, task: Task, options: LdmTrainingOptions) -> Sampler:
    """The sampler of pictures and of the report."""
    return lambda labels, rng: draw_samples(prior, task, labels, rng, options.guidance_scale, options.sample_steps)


def _as_prior(training: Training, codec: Codec, model: Denoiser) -> Prior:
    task, options, classes = training.task, training.options, classes_of(training.task)
    images, name = sum(task.train.counts()), name_without_path(task.name)
    source = f"trained with `ld3m prior train ldm` on {images} images of {name}, seed {training.seed}"
    licence = options.licence
    if training.prior is not None:
        source += f"; fine-tuned from {training.prior}: {training.prior.facts.source}"
        licence = licence or training.prior.facts.licence
    null = len(classes) if options.drop_class > 0 else None  # otherwise that row is untrained
    return Prior(
        codec=codec,
        facts=PriorFacts(classes, null, source, licence),
        folder=training.folder,
        denoiser=model.unet,
        levels=noise_levels(build_scheduler(options)),
        class_embedding=model.embedding.weight.detach()[: len(classes) + (null is not None)],
    )
