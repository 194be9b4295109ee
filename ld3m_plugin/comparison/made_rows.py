"""Making a row of a comparison in this process, and reading one that is finished."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ld3m_plugin.artefact.distilled_set import DistilledSet
from ld3m_plugin.backends import create
from ld3m_plugin.comparison.points import RowKind
from ld3m_plugin.config import RunConfig
from ld3m_plugin.contracts import Generator
from ld3m_plugin.data.load import load_task
from ld3m_plugin.distillation.loop import choose_device
from ld3m_plugin.distillation.rendering import render
from ld3m_plugin.errors import ArtefactError
from ld3m_plugin.evaluation import Evaluation, check_evaluation, evaluate, evaluate_random_real, get_protocol
from ld3m_plugin.evaluation.predictions import PREDICTIONS, save_predictions
from ld3m_plugin.options import build
from ld3m_plugin.randomness import stream
from ld3m_plugin.runs.folder import CONFIG, DISTILLED, step_seconds
from ld3m_plugin.runs.provenance import start_metadata
from ld3m_plugin.runs.reporter import Reporter
from ld3m_plugin.runs.run import resume, start
from ld3m_plugin.storage import complete_folder, read_json, write_json

EVALUATION = "evaluation.json"
#: Settings of the evaluation that decide the accuracies of random real images.
_DECIDING = {"protocol", "networks", "repeats", "test_per_class", "together"}


def make_run(settings: Mapping[str, Any], folder: Path, reporter: Reporter) -> dict[str, Any]:
    """Start a run, or go on with it where it was stopped.

    Returns:
        `seconds` of all steps, and the number of `steps`.
    """
    config = build(RunConfig, settings, str(folder))
    if (folder / CONFIG).is_file():
        resume(folder, config=config, reporter=reporter)  # a place or the device may have changed
    else:
        start(config, folder, reporter=reporter)
    seconds = step_seconds(folder)
    return {"seconds": round(sum(seconds), 2), "steps": len(seconds)}


def make_random_real(settings: Mapping[str, Any], folder: Path, reporter: Reporter) -> dict[str, Any]:
    """Evaluate random real images and write the record; returns no facts."""
    config = build(RunConfig, settings, str(folder))
    task = load_task(config.data.name, **config.data.options)
    evaluation = evaluate_random_real(
        torch.arange(task.num_classes).repeat_interleave(config.images_per_class),
        task.to(choose_device(config.device)),
        seed=config.seed,
        on_progress=reporter.evaluating,
        **config.evaluation.model_dump(include=_DECIDING),
    )
    folder.mkdir(parents=True, exist_ok=True)
    save_predictions(folder / PREDICTIONS, evaluation)
    numbers = config.images_per_class * task.channels * task.image_size**2
    write_json(folder / EVALUATION, {**evaluation.record(), "storage": {"numbers_per_class": numbers}})
    return {}


def make_start(settings: Mapping[str, Any], folder: Path, reporter: Reporter) -> dict[str, Any]:
    """Write and evaluate the pictures of an initialiser, as a generator has them before the first step; returns no facts."""
    config = build(RunConfig, settings, str(folder))
    task = load_task(config.data.name, **config.data.options).to(choose_device(config.device))
    labels = torch.arange(task.num_classes).repeat_interleave(config.images_per_class)
    check_evaluation(task, get_protocol(config.evaluation.protocol), config.evaluation.networks, 0)
    generator: Generator = create("generator", config.generator.name, config.generator.options)
    generator.prepare(task.for_training())
    latents = generator.initial_latents(task.for_training(), labels, stream(config.seed, "latents"))
    images = render(generator, latents, config.render_batch).cpu()
    facts = start_metadata(config, task, generator, latents)
    distilled = DistilledSet(images, labels, facts, latents.to("cpu"), task.whitening)
    evaluation = evaluate(
        distilled,
        task,
        random_real=False,
        seed=config.seed,
        on_progress=reporter.evaluating,
        **config.evaluation.model_dump(include=_DECIDING),
    )
    distilled.metadata["results"] = {"final": {"step": 0, **evaluation.record()}}
    folder.mkdir(parents=True, exist_ok=True)
    with complete_folder(folder / DISTILLED) as whole:
        distilled.save(whole)
        save_predictions(whole / PREDICTIONS, evaluation)
    return {}


MAKERS: dict[RowKind, Callable[[Mapping[str, Any], Path, Reporter], dict[str, Any]]] = {
    "run": make_run,
    "start": make_start,
    "random real": make_random_real,
}


@dataclass(frozen=True)
class MadeRow:
    """The result of a finished row; `distilled` is None for random real images.

    Attributes:
        facts: the metadata of the distilled set, or of the evaluation.
    """

    evaluation: Evaluation
    facts: Mapping[str, Any]
    distilled: DistilledSet | None = None


def read_made(folder: Path) -> MadeRow:
    """Read the result of a finished row.

    Raises:
        ArtefactError: it is missing or damaged.
    """
    advice = f"delete {folder} to make the row again"
    if (folder / EVALUATION).is_file():
        record, distilled = read_json(folder / EVALUATION, ArtefactError), None
        facts = record
    else:
        distilled = DistilledSet.load(folder / DISTILLED)
        facts = distilled.metadata
        record = (facts.get("results") or {}).get("final")
    try:
        return MadeRow(Evaluation.from_record(record), facts, distilled)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ArtefactError(f"the results in {folder} are damaged: {advice}") from error
