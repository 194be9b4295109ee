"""Whole steps and runs on a stand-in for CUDA: each generator and objective, the CPU's numbers, no waiting, errors by step."""

import json
from functools import cache

import pytest
import torch

from ld3m_plugin.config import RunConfig
from ld3m_plugin.data.load import load_task
from ld3m_plugin.distillation.loop import READ_EVERY, Distillation
from ld3m_plugin.distillation.step_record import read_steps
from ld3m_plugin.errors import NonFiniteError
from ld3m_plugin.networks.build import network_for
from ld3m_plugin.objectives.dm import DM
from ld3m_plugin.objectives.mtt.experts import MemoryExperts, flat
from ld3m_plugin.objectives.mtt.mtt_objective import MTT
from ld3m_plugin.randomness import stream
from ld3m_plugin.registry import Backend, Owner, build_registry
from ld3m_plugin.runs.run import Reporter, start
from ld3m_plugin.testing import tiny_task

SMALL = {"network_settings": {"depth": 2, "width": 8}}
MATCHING = {**SMALL, "batch_real": 6}
#: By name, options with which an objective's second step also goes on with the network of the first.
OBJECTIVES = {
    "dm": MATCHING,
    "dc": {**MATCHING, "outer_loop": 2, "inner_loop": 2, "batch_train": 2},
    "dc one by one": {**MATCHING, "classes_at_once": 1},
    "mtt": {**SMALL, "syn_steps": 2, "expert_epochs": 1, "max_start_epoch": 1, "batch_syn": 2},
}
GENERATORS = {
    "autoencoder": {},
    "ld3m": {"steps": 2, "guidance_scale": 3.0, "noise": "redrawn"},
    "ld3m in parts": {"steps": 2, "memory": "checkpoint", "eta": 1.0},
    "glad": {},
    "pixel": {},
}


class Breaks(DM):
    """Not finite at its fourth step."""

    def loss(self, images, labels, step):
        return super().loss(images, labels, step) * (float("nan") if step == 3 else 1)


@cache
def trajectories():
    networks = [network_for(tiny_task(), "ConvNet", SMALL["network_settings"], stream(0, epoch)) for epoch in range(2)]
    return MemoryExperts([{epoch: flat(network) for epoch, network in enumerate(networks)}])


@pytest.fixture
def registry():
    registry = build_registry()

    class Given(MTT):
        experts = trajectories()

    for name, factory in {"given": Given, "breaks": Breaks}.items():
        registry.add(Backend("objective", name, factory, "", Owner("tests", "tests", "0")))
    return registry


def config(generator="pixel", objective="dm", options=None, **settings):
    """Of a pair; a name ends where its variant begins."""
    name = {"mtt": "given"}.get(objective, objective.partition(" ")[0])
    return {
        "generator": {"name": generator.partition(" ")[0], "options": GENERATORS[generator]},
        "objective": {"name": name, "options": OBJECTIVES[objective] if options is None else options},
        **settings,
    }


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_an_objective_waits_for_nothing(card, registry, objective):
    """Trajectory matching reads once a step: its learned rate is a number of the host."""
    check_steps(card, registry, tiny_task(), config("pixel", objective), 1 if objective == "mtt" else 0)


@pytest.mark.slow
@pytest.mark.parametrize("generator", [name for name in GENERATORS if name != "pixel"])
def test_a_generator_waits_for_nothing(card, registry, generator):
    check_steps(card, registry, load_task("fashion-mnist:embedded"), config(generator), 0)


@pytest.mark.slow
def test_chunks_wait_for_nothing(card, registry):
    check_steps(card, registry, load_task("fashion-mnist:embedded"), config("autoencoder", render_batch=4), 0)


def check_steps(card, registry, task, settings, waits):
    """Check that a step reads the device `waits` times, and that steps have the numbers that they have on the CPU."""
    found, expected = (
        Distillation({"device": device, "images_per_class": 2, "steps": 9, **settings}, task=task, registry=registry)
        for device in ("cuda", "cpu")
    )
    found.step()
    card.waited.clear()
    second = found.step()
    assert len(card.waited) == waits, card.waited
    assert all(tensor.device.type == "cuda" for tensor in found.latents.tensors().values())
    expected.step()
    (numbers,), same = read_steps([second]), expected.step()
    assert numbers.loss == pytest.approx(same.loss, rel=1e-3)
    assert numbers.gradient_norms == pytest.approx(dict(same.gradient_norms), rel=1e-2)


def test_an_error_is_named_with_its_step_and_the_last_reading_is_kept(card, registry):
    settings = config() | {"objective": {"name": "breaks", "options": MATCHING}, "device": "cuda"}
    state = Distillation(settings, task=tiny_task(), registry=registry)
    state.step()
    kept = {name: value.clone() for name, value in state.state_dict().items()}
    for _ in range(READ_EVERY - 2):  # the fourth step breaks, and those after it go on from what is not finite
        state.step()
    with pytest.raises(NonFiniteError, match=r"the loss is not finite at step 4: .* after step 1 is kept"):
        state.step()
    restored = state.state_dict()
    assert state.iteration == 1
    assert restored.keys() == kept.keys()
    assert all(torch.equal(restored[name].cpu(), value.cpu()) for name, value in kept.items())


class Notes(Reporter):
    def __init__(self):
        self.steps = []

    def step(self, step):
        self.steps.append((step.iteration, type(step.loss)))


def made(registry, folder, **settings):
    """A run on the stand-in; its records and what its reporter was told."""
    notes, chosen = Notes(), {"objective": {"name": "dm", "options": MATCHING}, "evaluation": {"final": False}}
    run = RunConfig(**config() | chosen | {"device": "cuda", **settings})
    try:
        start(run, folder, task=tiny_task(), registry=registry, reporter=notes)
    finally:
        lines = (folder / "metrics.jsonl").read_text().splitlines()
        notes.records = [json.loads(line) for line in lines]
    return notes


def test_a_run_records_each_step_in_order(card, registry, tmp_path):
    notes = made(registry, tmp_path / "run", steps=READ_EVERY + 2, checkpoint_every=4)
    steps = list(range(1, READ_EVERY + 3))
    assert [record["step"] for record in notes.records] == steps
    assert all(isinstance(record["loss"], float) for record in notes.records)
    assert notes.steps == [(step, float) for step in steps]


def test_a_run_that_breaks_keeps_what_was_read(card, registry, tmp_path):
    with pytest.raises(NonFiniteError, match="at step 4"):
        made(registry, tmp_path / "run", steps=20, objective={"name": "breaks", "options": MATCHING})
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == ["step-000001"]
    assert len((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()) == 1
