"""Warm-up and cosine against torch's own schedulers, and bit for bit as the three trainings have always had it."""

import math

import pytest
import torch
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, SequentialLR

from ld3m_plugin.evaluation import get_protocol
from ld3m_plugin.evaluation.train_network import rate_factor
from ld3m_plugin.networks.learning_rate import warmup_cosine
from ld3m_plugin.priors.quality.judge import JudgeRecipe


@pytest.mark.filterwarnings("ignore:The epoch parameter in:UserWarning")  # torch 2.5 warns of its own SequentialLR
@pytest.mark.parametrize(("steps", "warmup"), [(1000, 500), (110, 10), (30, 1), (7, 6)])
@pytest.mark.parametrize("start", [1e-7, None])
def test_it_is_torchs_linear_and_cosine_schedule(steps, warmup, start):
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.3)
    if start is None:  # of torch's own count, step `warmup - 1` is the end of the warm-up
        first, length = 1 / warmup, warmup - 1
    else:
        first, length = start, warmup
    warm = LinearLR(optimizer, first, 1, max(1, length))
    schedule = SequentialLR(optimizer, [warm, CosineAnnealingLR(optimizer, steps - warmup)], [warmup])
    for step in range(steps):
        ours = warmup_cosine(step, steps, warmup, peak=0.3, start=None if start is None else 0.3 * start)
        assert optimizer.param_groups[0]["lr"] == pytest.approx(ours, abs=1e-12)
        optimizer.step()
        schedule.step()


def test_without_warmup_it_begins_at_the_peak():
    assert [warmup_cosine(step, 4, 0, peak=2.0) for step in (0, 2)] == pytest.approx([2.0, 1.0])


def test_a_training_may_end_in_its_warmup():
    assert [warmup_cosine(step, 2, 4) for step in range(2)] == [0.25, 0.5]
    assert warmup_cosine(1, 1, 1) == 1


def former(step, steps, warmup, peak):
    """The judge's formula of version 0.1; with a peak of 1, that of a prior's phases."""
    if step < warmup:
        return peak * (step + 1) / warmup
    return peak * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup))) / 2


@pytest.mark.parametrize("steps", [1, 2, 14, 100, 1404])
@pytest.mark.parametrize("peak", [0.05, 0.3, 1])
def test_bits_of_a_judge_are_kept(steps, peak):
    recipe = JudgeRecipe(learning_rate=peak)
    expected = [former(step, steps, max(1, round(0.1 * steps)), peak) for step in range(steps)]
    assert [recipe.rate(step, steps) for step in range(steps)] == expected


def test_bits_of_a_prior_are_kept():
    for steps, warmup in ((1, 0), (5, 10), (110, 3), (500, 100)):
        ours = [warmup_cosine(step, steps, warmup) for step in range(steps)]
        assert ours == [former(step, steps, warmup, 1) for step in range(steps)]


@pytest.mark.parametrize("schedule", ["cosine", "drop"])
@pytest.mark.parametrize(("epochs", "warmup"), [(1, 0), (7, 3), (30, 30), (1000, 500)])
def test_bits_of_an_evaluation_are_kept(schedule, epochs, warmup):
    changes = {"epochs": epochs, "warmup_epochs": warmup, "schedule": schedule}
    protocol = get_protocol("glad-2023").model_copy(update=changes)

    def expected(epoch):
        if epoch < warmup:
            return 1e-7 + (1 - 1e-7) * epoch / warmup
        if schedule == "drop":
            return 1.0 if epoch <= epochs // 2 else 0.1
        return (1 + math.cos(math.pi * (epoch - warmup) / (epochs - warmup))) / 2

    assert [rate_factor(epoch, protocol) for epoch in range(epochs)] == [expected(epoch) for epoch in range(epochs)]
