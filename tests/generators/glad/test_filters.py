"""Filters against a second form: zeros stuffed in, a full convolution, every n-th sample kept."""

import numpy
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ld3m_plugin.budgets import saved_bytes
from ld3m_plugin.generators.glad.filters import design_filter, filter_down, filter_up


def second_up(rows, kernel, factor, padding):
    stuffed = numpy.zeros(len(rows) * factor)
    stuffed[::factor] = rows
    added = [max(side, 0) for side in padding]
    cut = [max(-side, 0) for side in padding]
    padded = numpy.pad(stuffed, added)
    return numpy.convolve(padded[cut[0] : len(padded) - cut[1]], kernel, mode="valid") * factor


def plane_by_rows(images, along):
    """Apply a map of one axis to both axes of (n, c, h, h)."""
    by_columns = numpy.apply_along_axis(along, 3, images)
    return numpy.apply_along_axis(along, 2, by_columns)


@settings(max_examples=60)
@given(
    size=st.integers(4, 12),
    factor=st.sampled_from([2, 4]),
    before=st.integers(-3, 15),
    after=st.integers(-3, 15),
    seed=st.integers(0, 99),
)
def test_filter_up_is_stuffing_padding_and_convolution(size, factor, before, after, seed):
    rng = numpy.random.default_rng(seed)
    kernel = rng.standard_normal(6 * factor)
    if size * factor + before + after < len(kernel):
        return
    images = rng.standard_normal((2, 3, size, size))
    found = filter_up(torch.tensor(images), torch.tensor(kernel), factor, (before, after))
    expected = plane_by_rows(images, lambda row: second_up(row, kernel, factor, (before, after)))
    assert found.shape == expected.shape
    assert numpy.allclose(found.numpy(), expected, atol=1e-12)


@pytest.mark.parametrize("factor", [2, 4])
def test_filter_down_is_convolution_and_decimation(factor):
    rng = numpy.random.default_rng(0)
    kernel, images = rng.standard_normal(6 * factor), rng.standard_normal((2, 3, 40, 40))
    found = filter_down(torch.tensor(images), torch.tensor(kernel), factor)
    expected = plane_by_rows(images, lambda row: numpy.convolve(row, kernel, mode="valid")[::factor])
    assert numpy.allclose(found.numpy(), expected, atol=1e-12)


def test_a_plane_filter_that_is_separable_equals_the_separable_one():
    rng = numpy.random.default_rng(0)
    kernel, images = torch.tensor(rng.standard_normal(12)), torch.tensor(rng.standard_normal((2, 3, 30, 30)))
    assert torch.allclose(
        filter_down(images, torch.outer(kernel, kernel), 2), filter_down(images, kernel, 2), atol=1e-12
    )


@pytest.mark.slow
def test_gradients_in_float64():
    kernel = torch.randn(12, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    images = torch.randn(1, 2, 5, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: filter_up(x, kernel, 2, (9, 8)), images)
    assert torch.autograd.gradgradcheck(lambda x: filter_up(x, kernel, 2, (9, 8)).square(), images)
    for size in (14, 15):  # with and without samples at the end that no window reaches
        wide = torch.randn(1, 2, size, size, dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradcheck(lambda x: filter_down(x, kernel, 2), wide)
        assert torch.autograd.gradcheck(lambda x: filter_down(x, torch.outer(kernel, kernel), 2), wide)
        assert torch.autograd.gradgradcheck(lambda x: filter_down(x, kernel, 2).square(), wide)


def test_filters_keep_no_images_for_the_backward_pass():
    images, kernel = torch.randn(2, 3, 20, 20, requires_grad=True), torch.randn(12)
    weights = 4 * 2 * 3 * 12
    assert saved_bytes(lambda: filter_up(images, kernel, 2, (9, 8))) <= weights
    assert saved_bytes(lambda: filter_down(images, kernel, 2)) <= weights


def test_filters_sum_to_one_pass_low_and_stop_high_frequencies():
    for radial in (False, True):
        kernel = design_filter(24, 4.0, 8.0, 64.0, radial).double()
        row = kernel if kernel.ndim == 1 else kernel.sum(0)
        assert float(kernel.sum()) == pytest.approx(1)
        assert torch.equal(kernel, kernel.flip(0))
        at = (torch.arange(24) - 11.5) / 64

        def response(frequency, row=row, at=at):
            return abs(float((row * torch.cos(2 * torch.pi * frequency * at)).sum()))

        assert response(1.0) > 0.95
        assert response(16.0) < 0.02


def test_a_radial_filter_is_the_same_along_the_axis_and_the_diagonal():
    kernel = design_filter(33, 3.0, 6.0, 33.0, radial=True).double()
    at = (torch.arange(33) - 16.0) / 33

    def response(x, y):
        return float((kernel * torch.cos(2 * torch.pi * (x * at[:, None] + y * at))).sum())

    assert response(4.0, 0.0) == pytest.approx(response(4 / 2**0.5, 4 / 2**0.5), abs=0.02)
    separable = design_filter(33, 3.0, 6.0, 33.0).double()
    plane = separable[:, None] * separable
    along = float((plane * torch.cos(2 * torch.pi * 4.0 * at[:, None])).sum())
    across = float((plane * torch.cos(2 * torch.pi * 4 / 2**0.5 * (at[:, None] + at))).sum())
    assert abs(along - across) > 0.1  # what a separable one does


def test_one_tap_is_no_filter_and_two_are_their_mean():
    assert design_filter(1, 2.0, 1.0, 8.0) is None
    assert design_filter(2, 2.0, 1.0, 8.0).tolist() == [0.5, 0.5]
