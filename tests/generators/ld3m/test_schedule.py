"""Noise levels: the published timesteps, exact counts, and what predictions mean."""

import math
from itertools import pairwise

import diffusers
import numpy
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ld3m_plugin.errors import InvalidOptionError, PriorError
from ld3m_plugin.generators.ld3m.schedule import clean_and_noise, make_chain, noise_levels

CIN256 = {"beta_start": 0.0015, "beta_end": 0.0195, "beta_schedule": "scaled_linear", "set_alpha_to_one": False}


def levels(prediction="epsilon", **more):
    return noise_levels(diffusers.DDIMScheduler(prediction_type=prediction, **{**CIN256, **more}))


def flow_levels(shift=1.0):
    return noise_levels(diffusers.FlowMatchEulerDiscreteScheduler(shift=shift))


@pytest.mark.parametrize("steps", [10, 20, 50])
def test_published_timesteps_where_the_steps_divide(steps):
    assert make_chain(levels(), steps, "leading").timesteps == tuple(range(1, 1000, 1000 // steps))


@given(st.integers(1, 1000), st.sampled_from(["leading", "trailing"]))
def test_every_count_gives_exactly_that_many_distinct_timesteps(steps, spacing):
    chosen = make_chain(levels(), steps, spacing).timesteps
    assert len(chosen) == len(set(chosen)) == steps
    assert list(chosen) == sorted(chosen)
    assert 0 <= chosen[0] <= chosen[-1] <= 999


def test_trailing_ends_at_the_noisiest():
    assert make_chain(levels(), 4, "trailing").timesteps == (249, 499, 749, 999)


def test_more_steps_than_timesteps():
    with pytest.raises(InvalidOptionError, match=r"steps = 1001\b.*\b1000\b"):
        make_chain(levels(), 1001, "leading")


def test_levels_are_those_of_the_published_schedule():
    # REFERENCE: √ᾱ at the first timestep of 5, 10, 20 and 40 steps, and 0.9992 after the last step.
    for steps, expected in [(5, 0.064), (10, 0.029), (20, 0.019), (40, 0.015)]:
        assert make_chain(levels(), steps, "leading").signal[-1] == pytest.approx(expected, abs=6e-4)
    chain = make_chain(levels(), 10, "leading")
    assert chain.signal[0] == pytest.approx(0.9992, abs=5e-5)
    assert chain.signal[0] ** 2 + chain.noise[0] ** 2 == pytest.approx(1)
    to_one = make_chain(levels(set_alpha_to_one=True), 10, "leading")
    assert (to_one.signal[0], to_one.noise[0]) == (1, 0)


SCHEDULES = {
    "linear": {"beta_schedule": "linear"},
    "scaled_linear": {"beta_schedule": "scaled_linear"},
    "squaredcos_cap_v2": {"beta_schedule": "squaredcos_cap_v2"},
    "trained_betas": {"trained_betas": numpy.linspace(1e-4, 0.02, 1000).tolist()},
    "zero terminal signal": {"beta_schedule": "scaled_linear", "rescale_betas_zero_snr": True},
}


def alpha_bar_by_hand(beta_schedule="", trained_betas=None, rescale_betas_zero_snr=False):
    """ᾱ in numpy's float64: the formulas of Rombach et al. 2022, Nichol and Dhariwal 2021 and Lin et al. 2024."""
    betas = {
        "": numpy.array(trained_betas),
        "linear": numpy.linspace(0.0015, 0.0195, 1000),
        "scaled_linear": numpy.linspace(0.0015**0.5, 0.0195**0.5, 1000) ** 2,
    }.get(beta_schedule)
    if betas is None:
        wave = [math.cos((t / 1000 + 0.008) / 1.008 * math.pi / 2) ** 2 for t in range(1001)]
        betas = numpy.array([min(1 - after / before, 0.999) for before, after in pairwise(wave)])
    alpha_bar = numpy.cumprod(1 - betas)
    if rescale_betas_zero_snr:
        root = numpy.sqrt(alpha_bar)
        alpha_bar = ((root - root[-1]) / (root[0] - root[-1]) * root[0]) ** 2
    return alpha_bar


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
def test_levels_are_exact_in_float64_and_those_of_diffusers_in_float32(schedule):
    scheduler = diffusers.DDIMScheduler(beta_start=0.0015, beta_end=0.0195, prediction_type="v_prediction", **schedule)
    found, expected = noise_levels(scheduler), alpha_bar_by_hand(**schedule)
    assert found.signal.dtype == found.noise.dtype == torch.float64
    torch.testing.assert_close(found.signal**2, torch.from_numpy(expected), rtol=1e-11, atol=1e-15)
    torch.testing.assert_close(found.noise**2, torch.from_numpy(1 - expected), rtol=1e-11, atol=1e-15)
    # A table in float32 ends a cumulative product of 1,000 roundings.
    torch.testing.assert_close(scheduler.alphas_cumprod.double(), torch.from_numpy(expected), rtol=1e-4, atol=1e-6)


def test_flow_levels_sum_to_one_and_follow_the_scheduler():
    for shift in (1.0, 3.0):
        scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=shift)
        found = flow_levels(shift)
        assert torch.allclose(found.signal + found.noise, torch.ones(1000, dtype=torch.float64))
        # Its own table runs from the noisiest down.
        torch.testing.assert_close(found.noise.flip(0).float(), scheduler.sigmas[:1000])
        torch.testing.assert_close(found.model_times.flip(0).float(), scheduler.timesteps)


@pytest.mark.parametrize("kind", ["epsilon", "sample", "v_prediction", "flow"])
def test_a_perfect_prediction_gives_back_clean_latents_and_noise(kind):
    chain = make_chain(flow_levels() if kind == "flow" else levels(kind), 7, "trailing")
    clean, noise = torch.randn(2, 5, dtype=torch.float64)
    for index in range(chain.steps):
        a, s = chain.signal[index + 1], chain.noise[index + 1]
        state = a * clean + s * noise
        output = {"epsilon": noise, "sample": clean, "v_prediction": a * noise - s * clean, "flow": noise - clean}[kind]
        found = clean_and_noise(chain, index, state, output)
        torch.testing.assert_close(found[0], clean, rtol=1e-6, atol=1e-9)
        torch.testing.assert_close(found[1], noise, rtol=1e-6, atol=1e-9)


def test_velocity_is_that_of_diffusers():
    scheduler = diffusers.DDIMScheduler(prediction_type="v_prediction", **CIN256)
    clean, noise = torch.randn(2, 1, 3, 4, 4)
    chain = make_chain(noise_levels(scheduler), 5, "leading")
    for index, timestep in enumerate(chain.timesteps):
        t = torch.tensor([int(timestep)])
        velocity = scheduler.get_velocity(clean, noise, t)
        state = scheduler.add_noise(clean, noise, t)
        torch.testing.assert_close(clean_and_noise(chain, index, state, velocity)[0], clean, rtol=1e-4, atol=1e-4)


def test_flow_settings_that_would_change_the_levels_are_refused():
    with pytest.raises(PriorError, match="invert_sigmas"):
        noise_levels(diffusers.FlowMatchEulerDiscreteScheduler(invert_sigmas=True))


def test_unknown_schedulers_and_predictions():
    with pytest.raises(PriorError, match="'flow_prediction'"):
        noise_levels(diffusers.DDIMScheduler(prediction_type="flow_prediction"))
    with pytest.raises(PriorError, match="EDMEulerScheduler"):
        noise_levels(diffusers.EDMEulerScheduler())
