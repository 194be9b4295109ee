"""What this library wrote before: distilled sets, run folders, stores of experts, and buffers of other programs."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from fuzzing.in_process import check_text
from ld3m_plugin import DistilledSet
from ld3m_plugin.config import resolve
from ld3m_plugin.contracts import Task
from ld3m_plugin.exports import distilled_from_latents, export, import_tensors
from ld3m_plugin.networks.build import get_network
from ld3m_plugin.objectives.mtt.store import open_experts
from ld3m_plugin.objectives.mtt.store.expert_settings import TrainingOptions
from ld3m_plugin.objectives.mtt.store.listing import list_experts
from ld3m_plugin.objectives.mtt.store.published import import_experts
from ld3m_plugin.objectives.mtt.store.train_experts import train_experts
from ld3m_plugin.randomness import stream
from ld3m_plugin.runs import run
from ld3m_plugin.runs.folder import DISTILLED
from ld3m_plugin.testing import tiny_task

_EXPERTS = TrainingOptions(network_settings={"depth": 1, "width": 8}, epochs=2, batch_size=10, count=2)


_SETTINGS = (
    ("data.name", "fashion-mnist"),
    ("generator.name", "pixel"),
    ("objective.name", "dm"),
    ("objective.options.network_settings", {"depth": 1, "width": 8}),
    ("objective.options.batch_real", 4),
    ("steps", 2),
    ("evaluation.final", False),
    ("device", "cpu"),
)


def make_distilled(folder: Path) -> None:
    """The set that a run of two steps makes."""
    run.start(resolve(settings=_SETTINGS), folder / "run", task=_task())
    (folder / "run" / DISTILLED).rename(folder / "input")
    shutil.rmtree(folder / "run")


def read_distilled(path: Path) -> None:
    """Load the set, look at it, and save it again beside."""
    found = DistilledSet.load(path)
    found.denormalised()
    _ = found[0], found.class_names, found.learned
    found.save(path.with_name("again"))
    check_text(path.with_name("again") / "README.md")
    DistilledSet.load(path.with_name("again"))


def make_latents(folder: Path) -> None:
    """The latents of such a set alone."""
    make_distilled(folder)
    distilled = DistilledSet.load(folder / "input")
    shutil.rmtree(folder / "input")
    export(distilled, "latents", folder / "input" / "latents.safetensors")


def read_latents(path: Path) -> None:
    """Render them again."""
    distilled_from_latents(path / "latents.safetensors", device="cpu")[0].save(path.with_name("again"))


def make_published_set(folder: Path) -> None:
    """Images and labels as published code saves them."""
    (folder / "input").mkdir()
    torch.save(torch.zeros(6, 1, 16, 16), folder / "input" / "images_best.pt")
    torch.save(torch.arange(6) % 3, folder / "input" / "labels_best.pt")


def read_published_set(path: Path) -> None:
    """Import them, and save the set."""
    found = import_tensors(path / "images_best.pt", path / "labels_best.pt", [0.5], [0.25])
    found.save(path.with_name("again"))


def make_run(folder: Path) -> None:
    """A run that was stopped after the first of two steps."""

    class Stops(run.Reporter):
        def step(self, step: object) -> None:
            raise KeyboardInterrupt

    try:
        run.start(resolve(settings=_SETTINGS), folder / "input", task=_task(), reporter=Stops())
    except KeyboardInterrupt:
        return
    raise AssertionError("the run was not stopped")


def read_run(path: Path) -> None:
    """Go on with it."""
    run.resume(path, task=_task())


def _task() -> Task:
    return replace(tiny_task(), name="fashion-mnist")


def make_experts(folder: Path) -> None:
    """A store of two experts."""
    train_experts(folder / "input", replace(tiny_task(), name="tiny").for_training(), _EXPERTS)


def read_experts(path: Path) -> None:
    """List the stores, then open the experts and read rows."""
    for entry in list_experts(path, verify=True):
        _ = entry.status
    task = replace(tiny_task(), name="tiny").for_training()
    experts = open_experts(path, task, _EXPERTS.settings(), last_epoch=_EXPERTS.last_epoch)
    experts.digest(experts.epochs)
    for expert in range(len(experts)):
        experts.parameters(expert, experts.epochs[-1])


def make_buffer(folder: Path) -> None:
    """A buffer as the code of MTT saves it."""
    rng = stream(0, "buffer")
    facts = {"channels": 1, "image_size": 16, "num_classes": 3, "depth": 1, "width": 8}
    network = get_network("ConvNet", rng=rng, **facts)
    snapshots: list[list[Tensor]] = [
        [p.detach() + 0.01 * epoch * torch.ones_like(p) for p in network.parameters()] for epoch in range(4)
    ]
    (folder / "input").mkdir()
    torch.save([snapshots], folder / "input" / "replay_buffer_0.pt")


def read_buffer(path: Path) -> None:
    """Import its experts into a new store."""
    task = replace(tiny_task(), name="tiny").for_training()
    import_experts(path.with_name("store"), task, _EXPERTS, [path])
