"""Train a GAN prior: guide, generator and discriminator, mean styles, quality report."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from ld3m_plugin.contracts import Network, TrainingReporter
from ld3m_plugin.errors import InvalidOptionError
from ld3m_plugin.generators.glad.gan_folder import digest, load_network, save_network
from ld3m_plugin.generators.glad.stylegan_network import GeneratorNetwork
from ld3m_plugin.generators.glad.training.adversarial import AdversarialLoss, Adversaries
from ld3m_plugin.generators.glad.training.discriminator import Discriminator
from ld3m_plugin.generators.glad.training.gan_training_options import GanTrainingOptions
from ld3m_plugin.generators.imaging import PictureSpace
from ld3m_plugin.priors.prior_json import PriorFacts, classes_of
from ld3m_plugin.priors.quality.judge import JudgeRecipe, train_judge
from ld3m_plugin.priors.quality.measure import check_data, name_without_path
from ld3m_plugin.priors.training.batches import RealBatches
from ld3m_plugin.priors.training.origin import check_folder, decisive, origin
from ld3m_plugin.priors.training.phase import Phase, make_accelerator, run
from ld3m_plugin.priors.training.sample_report import Sampler, record_training, report, save_samples
from ld3m_plugin.randomness import lent_to_global, stream
from ld3m_plugin.task import Task

_OURS = ("gan.safetensors", "gan.partial", "samples-*.png")
#: Beginnings of the options that decide what is trained.
_DECISIVE = (
    *("warmup", "weight_decay", "ema", "mixed_precision", "z_dim", "w_dim", "embedding", "layers", "channel", "margin"),
    *("discriminator", "steps", "rate", "batch_size", "r1", "guide", "augment", "mirror"),
)
_SMALLEST = 16  # pixels


def train_prior(task: Task, options: GanTrainingOptions, seed: int, out: Path, reporter: TrainingReporter) -> None:
    """Train and write the prior folder, with its quality report and a picture of samples.

    States and pictures of the training are kept in `OUT.training` beside it; a stopped training resumes from there. The folder
    may be deleted when the prior is finished.

    Raises:
        InvalidOptionError: the image size does not fit, or the device lacks the precision.
        UsageError: `OUT.training` has files of something else in it.
        DataError: there are too few images for the quality report.
        PriorError: the stopped training there had other settings or data, or the loss is not finite.
    """
    folder = out.with_name(out.name + ".training")
    _check_size(task, options)
    check_data(task)
    check_folder(folder, _OURS)
    accelerator = make_accelerator(task, options)
    if accelerator.num_processes > 1:
        raise InvalidOptionError("a GAN trains in one process: start `ld3m` without a launcher")
    folder.mkdir(parents=True, exist_ok=True)
    guide = _guide(task, options.guide_steps, seed, reporter) if options.guide > 0 else None
    space = PictureSpace(task, task.channels, "none")
    with lent_to_global(stream(seed, "gan weights")):
        generator = GeneratorNetwork(options.shape(task))
        discriminator = Discriminator(task.channels, task.image_size, task.num_classes, options.discriminator_channels)
    phase = Phase(
        name="gan",
        model=Adversaries(generator, discriminator).to(task.device),
        loss=AdversarialLoss(RealBatches(task, options.batch_size, options.mirror), guide, space, options),
        steps=options.steps,
        rate=options.rate,
        rng=stream(seed, "gan"),
        origin=origin(task, options, seed, _DECISIVE),
        settings={"seed": seed, **decisive(options, _DECISIVE)},
        pictures=lambda model, done: save_samples(
            _sampler(cast(Adversaries, model).generator, task, 1.0), task, folder / f"samples-{done:06d}.png"
        ),
        betas=(0.0, 0.99),
        clip=None,
    )
    run(phase, options, folder, accelerator, reporter)
    reporter.say(f"gan: {phase.steps} updates in {phase.seconds:.0f} s")
    generator.mapping.set_mean_styles(stream(seed, "mean styles"))
    images, name = sum(task.train.counts()), name_without_path(task.name)
    source = f"trained with `ld3m prior train gan` on {images} images of {name}, seed {seed}"
    facts = PriorFacts(classes_of(task), None, source, options.licence)
    save_network(out, generator.shape, generator.state_dict(), facts, half=options.half)
    record_training(out, task, options, seed, {"gan": round(phase.seconds, 1)})
    network, _ = load_network(out, task.device)
    sample = _sampler(network.freeze(), task, options.truncation)
    report(sample, task, options, seed, out, reporter, digest(out), {"truncation": options.truncation})


def _check_size(task: Task, options: GanTrainingOptions) -> None:
    size, halvings = task.image_size, len(options.discriminator_channels) - 1
    least = max(_SMALLEST, 1 << halvings)
    if size < least or size & (size - 1):
        raise InvalidOptionError(
            f"images of {size} pixels: a GAN with {halvings + 1} discriminator_channels needs a power of two, {least} or more: "
            f"give -D image_size={max(least, 1 << (size - 1).bit_length())}"
        )


def _guide(task: Task, steps: int, seed: int, reporter: TrainingReporter) -> Network:
    """Train a classifier of real images. The report's judge is another one, on which the generator was not trained."""
    recipe = JudgeRecipe(epochs=1, least_steps=steps)
    reporter.phase("guide, a classifier", recipe.passes(sum(task.train.counts())), unit="epoch")
    return train_judge(
        task, stream(seed, "guide"), recipe, on_epoch=lambda epoch, loss: reporter.step(epoch, {"loss": loss})
    )


def _sampler(generator: GeneratorNetwork, task: Task, truncation: float) -> Sampler:
    space = PictureSpace(task, task.channels, "hard")

    def sample(labels: Tensor, rng: torch.Generator) -> Tensor:
        z = torch.randn(len(labels), generator.shape.z_dim, generator=rng).to(task.device)
        return space.images(generator(z, labels.to(task.device), truncation))

    return sample
