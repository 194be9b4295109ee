"""Recomputed functions: the gradient of the plain graph in every precision, and nothing kept but the inputs."""

from contextlib import nullcontext
from functools import partial

import pytest
import torch

from ld3m_plugin.budgets import saved_bytes
from ld3m_plugin.generators.ld3m.recomputed import recomputed
from ld3m_plugin.randomness import stream

bf16 = partial(torch.autocast, "cpu", torch.bfloat16)


def wave(state, weight, shift):
    return (state @ weight).sin() * state + (0 if shift is None else shift)


def inputs(dtype=torch.float32):
    rng = stream(0, "inputs")
    return [torch.randn(4, 4, generator=rng, dtype=dtype, requires_grad=asked) for asked in (True, False, True)]


def test_gradcheck():
    state, weight, shift = inputs(torch.float64)
    assert torch.autograd.gradcheck(lambda s, h: recomputed(wave, s, weight, h), (state, shift))


@pytest.mark.parametrize("precision", [nullcontext, bf16])
def test_same_bits_as_the_plain_graph(precision):
    state, weight, shift = inputs()
    found = []
    for run in (wave, partial(recomputed, wave)):
        with precision():
            output = run(state, weight, shift)
        found.append((output, *torch.autograd.grad(output.sum(), (state, shift))))
    for one, other in zip(*found, strict=True):
        assert one.dtype == other.dtype
        assert torch.equal(one, other)


def test_an_input_may_be_missing_or_without_effect():
    state, weight, _ = inputs()
    output = recomputed(wave, state, weight, None)
    torch.testing.assert_close(output, wave(state, weight, None))
    unused = torch.ones(1, requires_grad=True)
    output = recomputed(lambda s, u: s.sin(), state, unused)
    assert torch.autograd.grad(output.sum(), unused, allow_unused=True) == (None,)


def test_only_inputs_are_kept():
    state, weight, shift = inputs()
    assert saved_bytes(lambda: wave(state, weight, shift), [state, weight, shift]) > 0
    assert saved_bytes(lambda: recomputed(wave, state, weight, shift), [state, weight, shift]) == 0


def test_a_second_derivative_is_refused():
    state, weight, shift = inputs()
    (first,) = torch.autograd.grad(recomputed(wave, state, weight, shift).square().sum(), state, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.sum().backward()
