"""Whole steps and runs on a stand-in for CUDA: each generator and objective, the CPU's numbers, no waiting, errors by step."""

import json

import pytest
import torch

from ld3m_plugin.config import RunConfig
from ld3m_plugin.data.load import load_task
from ld3m_plugin.distillation.loop import READ_EVERY, Distillation
from ld3m_plugin.distillation.step_record import read_steps
from ld3m_plugin.errors import NonFiniteError
from ld3m_plugin.runs.reporter import Reporter
from ld3m_plugin.runs.run import start
from ld3m_plugin.testing import tiny_task


@pytest.mark.parametrize("objective", ["dm", "dc", "dc one by one", "mtt"])
def test_an_objective_waits_for_nothing(card, registry, config, objective):
    """Trajectory matching reads once a step: its learned rate is a number of the host."""
    check_steps(card, registry, tiny_task(), config("pixel", objective), 1 if objective == "mtt" else 0)


@pytest.mark.slow
@pytest.mark.parametrize("generator", ["autoencoder", "ld3m", "ld3m in parts", "glad"])
def test_a_generator_waits_for_nothing(card, registry, config, generator):
    check_steps(card, registry, load_task("fashion-mnist:embedded"), config(generator), 0)


@pytest.mark.slow
def test_chunks_wait_for_nothing(card, registry, config):
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


def test_an_error_is_named_with_its_step_and_the_last_reading_is_kept(card, registry, config):
    settings = config("pixel", "breaks", device="cuda")
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


def made(registry, folder, settings):
    """A run on the stand-in; its records and what its reporter was told."""
    notes, run = Notes(), RunConfig(**settings, device="cuda", evaluation={"final": False})
    try:
        start(run, folder, task=tiny_task(), registry=registry, reporter=notes)
    finally:
        lines = (folder / "metrics.jsonl").read_text().splitlines()
        notes.records = [json.loads(line) for line in lines]
    return notes


def test_a_run_records_each_step_in_order(card, registry, config, tmp_path):
    notes = made(registry, tmp_path / "run", config(steps=READ_EVERY + 2, checkpoint_every=4))
    steps = list(range(1, READ_EVERY + 3))
    assert [record["step"] for record in notes.records] == steps
    assert all(isinstance(record["loss"], float) for record in notes.records)
    assert notes.steps == [(step, float) for step in steps]


def test_a_run_that_breaks_keeps_what_was_read(card, registry, config, tmp_path):
    with pytest.raises(NonFiniteError, match="at step 4"):
        made(registry, tmp_path / "run", config("pixel", "breaks", steps=20))
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == ["step-000001"]
    assert len((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()) == 1
