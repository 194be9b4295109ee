"""The chain against a second form, arithmetic by hand, diffusers' own schedulers, and numerical gradients.

The golden render, with the published images and gradients, is in `compvis/test_ld3m_golden_render.py`.
"""

import diffusers
import pytest
import torch
from torch import nn

from ld3m_plugin.generators.ld3m.frozen_layers import copied
from ld3m_plugin.generators.ld3m.sampler import Sampling, posterior_deviation, residual_weight, sample
from ld3m_plugin.generators.ld3m.schedule import make_chain, noise_levels
from ld3m_plugin.randomness import lent_to_global, stream

SHAPE = (2, 3, 4, 4)


def chain_of(steps, prediction="epsilon", flow=False, spacing="leading", **settings):
    if flow:
        return make_chain(noise_levels(diffusers.FlowMatchEulerDiscreteScheduler()), steps, spacing)
    settings = {"beta_start": 0.0015, "beta_end": 0.0195, "beta_schedule": "scaled_linear", **settings}
    scheduler = diffusers.DDIMScheduler(prediction_type=prediction, clip_sample=False, **settings)
    return make_chain(noise_levels(scheduler), steps, spacing)


def draw(*names, shape=SHAPE, dtype=torch.float64):
    return [torch.randn(shape, generator=stream(0, name), dtype=dtype) for name in names]


class Net(nn.Module):
    """A smooth float64 denoiser with a class embedding of 5 numbers, that counts how many images it was asked for."""

    def __init__(self):
        super().__init__()
        with lent_to_global(stream(0, "net")):
            self.inner = nn.Conv2d(3, 6, 3, padding=1)
            self.outer = nn.Conv2d(6, 3, 3, padding=1)
            self.condition = nn.Linear(5, 6)
        self.double().requires_grad_(False)
        self.calls, self.images, self.times = 0, 0, []

    def forward(self, state, time, embedding):
        self.calls += 1
        state = state if embedding is None else copied(state, len(embedding))
        self.images += len(state)
        self.times.append(time)
        hidden = self.inner(state) + time / 1000
        if embedding is not None:
            hidden = hidden + self.condition(embedding.flatten(1))[:, :, None, None]
        return self.outer(hidden.tanh())


def embeddings(rows=2):
    return torch.randn(rows, 1, 5, generator=stream(0, "embedding"), dtype=torch.float64)


def by_hand(net, chain, residual, latents, noise, embedding, null, scale, anchor):
    """The published loop, written with √ᾱ and without any of the sampler's functions."""
    abar = [a * a for a in chain.signal]
    start = abar[-1] ** 0.5 * latents + (1 - abar[-1]) ** 0.5 * noise
    x = start
    steps = len(chain.timesteps)
    for index in range(steps - 1, -1, -1):
        conditional = net(x, chain.timesteps[index], embedding)
        unconditional = net(x, chain.timesteps[index], null.expand_as(embedding))
        e = unconditional + scale * (conditional - unconditional)
        x0 = (x - (1 - abar[index + 1]) ** 0.5 * e) / abar[index + 1] ** 0.5
        if residual == "x0":
            w = index / (steps - 1)
            x0 = (1 - w) * x0 + w * anchor
        x = abar[index] ** 0.5 * x0 + (1 - abar[index]) ** 0.5 * e
        if residual == "mean":
            t = index + 1
            x = (1 - t / steps) * x + (t / steps) * start
    return x


@pytest.mark.parametrize("residual", ["x0", "mean", "none"])
@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_equals_the_loop_by_hand_with_its_gradients(residual, scale):
    net, chain = Net(), chain_of(5, set_alpha_to_one=False)
    latents, noise, anchor, cotangent = draw("z", "noise", "anchor", "cotangent")
    embedding, null = embeddings(), embeddings(3)[2:]
    found, expected = [], []
    for way in (found, expected):
        z, c, q = (t.clone().requires_grad_() for t in (latents, embedding, anchor))
        if way is found:
            sampling = Sampling(chain, residual, guidance_scale=scale)
            out = sample(net, sampling, z, noise, embedding=c, null_embedding=null, anchor=q)
        else:
            out = by_hand(net, chain, residual, z, noise, c, null, scale, q)
        way += [out, *torch.autograd.grad(out, (z, c, q), cotangent, allow_unused=True)]
    for mine, theirs in zip(found, expected, strict=True):
        assert (mine is None) == (theirs is None)
        if mine is not None:
            torch.testing.assert_close(mine, theirs, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("eta", [0.0, 0.7, 1.0])
def test_without_residual_it_is_the_ddim_of_diffusers(eta):
    net = Net()
    scheduler = diffusers.DDIMScheduler(clip_sample=False, set_alpha_to_one=False, steps_offset=1)
    chain = make_chain(noise_levels(scheduler), 10, "leading")
    scheduler.set_timesteps(10)
    latents, noise = draw("z", "noise")
    (step_noise,) = draw("steps", shape=(2, 10, 3, 4, 4))
    state = chain.signal[-1] * latents + chain.noise[-1] * noise
    for index, t in zip(reversed(range(10)), scheduler.timesteps, strict=True):
        assert int(t) == chain.timesteps[index]
        output = net(state, int(t), None)
        state = scheduler.step(output, t, state, eta=eta, variance_noise=step_noise[:, index]).prev_sample
    found = sample(net, Sampling(chain, "none", eta=eta), latents, noise, step_noise=step_noise)
    torch.testing.assert_close(found, state, rtol=1e-5, atol=1e-5)  # diffusers keeps its schedule in float32


def test_rectified_flow_is_euler_of_diffusers():
    net = Net()
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler()
    chain = chain_of(8, flow=True, spacing="trailing")
    latents, noise = draw("z", "noise")
    sigmas = [*reversed(chain.noise[1:])]
    scheduler.set_timesteps(sigmas=sigmas)
    state = chain.signal[-1] * latents + chain.noise[-1] * noise
    for t in scheduler.timesteps:
        state = scheduler.step(net(state, float(t), None), t, state).prev_sample
    found = sample(net, Sampling(chain, "none"), latents, noise)
    torch.testing.assert_close(found, state, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("prediction", ["v_prediction", "sample"])
def test_other_predictions_are_those_of_diffusers(prediction):
    net = Net()
    scheduler = diffusers.DDIMScheduler(prediction_type=prediction, clip_sample=False, steps_offset=1)
    chain = make_chain(noise_levels(scheduler), 5, "leading")
    scheduler.set_timesteps(5)
    latents, noise = draw("z", "noise")
    state = chain.signal[-1] * latents + chain.noise[-1] * noise
    for t in scheduler.timesteps:
        state = scheduler.step(net(state, int(t), None), t, state).prev_sample
    torch.testing.assert_close(sample(net, Sampling(chain, "none"), latents, noise), state, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("residual", ["x0", "mean", "none"])
@pytest.mark.parametrize("checkpointed", [False, True])
def test_gradcheck(residual, checkpointed):
    net, chain = Net(), chain_of(3)
    noise, anchor = (t[:1, :, :2, :2] for t in draw("noise", "anchor"))
    null = embeddings(3)[2:]
    step_noise = draw("steps", shape=(1, 3, 3, 2, 2))[0]

    def chain_end(z, c):
        sampling = Sampling(chain, residual, guidance_scale=2.0, eta=0.5, checkpointed=checkpointed)
        return sample(
            net, sampling, z, noise, embedding=c, null_embedding=null, anchor=z.tanh() + anchor, step_noise=step_noise
        )

    z, c = draw("z")[0][:1, :, :2, :2].clone().requires_grad_(), embeddings(1).requires_grad_()
    assert torch.autograd.gradcheck(chain_end, (z, c))


@pytest.mark.parametrize("steps", [1, 2, 3, 7, 9, 30])
def test_exactly_so_many_evaluations_at_the_chain_s_timesteps(steps):
    net, chain = Net(), chain_of(steps)
    latents, noise = draw("z", "noise")
    sample(net, Sampling(chain), latents, noise, embedding=embeddings())
    assert net.calls == steps
    assert net.times == list(reversed(chain.timesteps))


def test_guidance_of_one_skips_the_unconditional_pass():
    latents, noise = draw("z", "noise")
    for scale, images in [(1.0, 2 * 4), (2.0, 2 * 2 * 4), (0.0, 2 * 2 * 4)]:
        net = Net()
        sampling = Sampling(chain_of(4), guidance_scale=scale)
        sample(net, sampling, latents, noise, embedding=embeddings(), null_embedding=embeddings(1))
        assert net.images == images


def test_guidance_of_zero_is_the_unconditional_model():
    net, null = Net(), embeddings(3)[2:]
    latents, noise = draw("z", "noise")
    chain = chain_of(3)
    zero = sample(net, Sampling(chain, guidance_scale=0.0), latents, noise, embedding=embeddings(), null_embedding=null)
    plain = sample(net, Sampling(chain), latents, noise, embedding=null.expand(2, -1, -1))
    torch.testing.assert_close(zero, plain)


def test_checkpointing_changes_no_bit():
    net, chain = Net(), chain_of(6)
    latents, noise = draw("z", "noise")
    results = []
    for checkpointed in (False, True):
        z, c = latents.clone().requires_grad_(), embeddings().requires_grad_()
        out = sample(net, Sampling(chain, checkpointed=checkpointed), z, noise, embedding=c)
        results.append([out, *torch.autograd.grad(out.square().sum(), (z, c))])
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_checkpointing_calls_the_model_once_more_a_step_and_truncation_not():
    latents, noise = draw("z", "noise")
    for checkpointed, exact, calls in [(False, None, 6), (True, None, 12), (True, 2, 8), (False, 2, 6)]:
        net = Net()
        z = latents.clone().requires_grad_()
        sampling = Sampling(chain_of(6), checkpointed=checkpointed, exact_steps=exact)
        sample(net, sampling, z, noise).sum().backward()
        assert net.calls == calls


class Constant(nn.Module):
    def __init__(self, value):
        super().__init__()
        self.value = value

    def forward(self, state, time, embedding):
        return torch.full_like(state, self.value)


@pytest.mark.parametrize("steps", [1, 2, 10])
def test_a_zero_denoiser_gives_the_anchor_back(steps):
    # With ε̂ = 0 the first step (w = 1) sets x̂_0 to the anchor, and every later one keeps it: z_0 = a_0·anchor.
    latents, noise, anchor = draw("z", "noise", "anchor")
    chain = chain_of(steps, set_alpha_to_one=False)
    found = sample(Constant(0.0), Sampling(chain), latents, noise, anchor=anchor)
    if steps == 1:  # w = 0: the one step is plain DDIM
        start = chain.signal[-1] * latents + chain.noise[-1] * noise
        torch.testing.assert_close(found, chain.signal[0] * start / chain.signal[1])
    else:
        torch.testing.assert_close(found, chain.signal[0] * anchor)


def test_two_steps_by_hand():
    # ε̂ = 1. Step 1 (w = 1): x = a_1·q + s_1. Step 0 (w = 0): x̂_0 = (x − s_1)/a_1 = q, so z_0 = a_0·q + s_0.
    chain = chain_of(2, set_alpha_to_one=False)
    latents, noise, anchor = draw("z", "noise", "anchor")
    found = sample(Constant(1.0), Sampling(chain), latents, noise, anchor=anchor)
    torch.testing.assert_close(found, chain.signal[0] * anchor + chain.noise[0])


def test_weights_of_the_residuals():
    assert [residual_weight("x0", i, 10) for i in (9, 0)] == [1, 0]
    assert [residual_weight("mean", i, 10) for i in (9, 0)] == [1, 0.1]
    assert {residual_weight("none", i, 10) for i in range(10)} == {0.0}
    assert residual_weight("x0", 0, 1) == residual_weight("mean", 0, 1) == 0


def test_posterior_deviation_is_that_of_ddpm():
    # β̃_t = (1 − ᾱ_prev)/(1 − ᾱ)·β for neighbouring timesteps (Ho et al. 2020, Eq. 7).
    alpha_bar = (1 - torch.linspace(0.0001, 0.02, 1000, dtype=torch.float64)).cumprod(0)
    chain = make_chain(noise_levels(diffusers.DDIMScheduler(clip_sample=False)), 1000, "leading")
    for index in (1, 10, 500, 999):
        now, before = alpha_bar[index], alpha_bar[index - 1]
        variance = (1 - before) / (1 - now) * (1 - now / before)
        assert posterior_deviation(chain, index) ** 2 == pytest.approx(float(variance), rel=1e-9)


def test_truncated_gradient_is_exact_where_the_model_is_constant_in_its_input():
    latents, noise = draw("z", "noise")
    gradients = []
    for exact in (None, 0, 2):
        z = latents.clone().requires_grad_()
        out = sample(Constant(0.3), Sampling(chain_of(5), "none", exact_steps=exact), z, noise)
        gradients.append(torch.autograd.grad(out.square().sum(), z)[0])
    torch.testing.assert_close(gradients[1], gradients[0])
    torch.testing.assert_close(gradients[2], gradients[0])


@pytest.mark.parametrize("residual", ["x0", "mean"])
@pytest.mark.parametrize("checkpointed", [False, True])
def test_truncated_gradient_takes_early_outputs_for_constants(residual, checkpointed):
    # A second form: the outputs of the early steps are recorded first, then replayed as numbers.
    net, chain, null = Net(), chain_of(5), embeddings(3)[2:]
    latents, noise = draw("z", "noise")
    outputs = []

    class Recorded(nn.Module):
        def forward(self, state, time, embedding):
            outputs.append(net(state, time, embedding).detach())
            return outputs[-1]

    class Replayed(nn.Module):
        def __init__(self):
            super().__init__()
            self.left = list(outputs[:3])

        def forward(self, state, time, embedding):
            return self.left.pop(0) if self.left else net(state, time, embedding)

    way = {"residual": residual, "guidance_scale": 2.0}
    sample(Recorded(), Sampling(chain, **way), latents, noise, embedding=embeddings(), null_embedding=null)
    found = []
    for model, extra in ((net, {"exact_steps": 2, "checkpointed": checkpointed}), (Replayed(), {})):
        z, c = latents.clone().requires_grad_(), embeddings().requires_grad_()
        out = sample(model, Sampling(chain, **way, **extra), z, noise, embedding=c, null_embedding=null)
        found.append(torch.autograd.grad(out.square().sum(), (z, c)))
    for mine, theirs in zip(*found, strict=True):
        torch.testing.assert_close(mine, theirs)


def test_truncated_gradient_keeps_values_and_converges_to_the_full_one():
    net, chain = Net(), chain_of(5)
    latents, noise = draw("z", "noise")
    results = []
    for exact in (None, 5, 4, 1):
        z = latents.clone().requires_grad_()
        out = sample(net, Sampling(chain, exact_steps=exact), z, noise, anchor=z)
        results.append((out, torch.autograd.grad(out.square().sum(), z)[0]))
    for out, _ in results:
        assert torch.equal(out, results[0][0])
    assert torch.equal(results[1][1], results[0][1])
    errors = [float((gradient - results[0][1]).norm()) for _, gradient in results]
    assert 0 == errors[1] < errors[2] < errors[3]
