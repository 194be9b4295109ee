"""Distances between Gaussians and within a class: by hand, and by a second form."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ld3m_plugin.priors.quality.frechet import fit_gaussian, frechet_distance, nearest_distance, variance
from ld3m_plugin.randomness import stream


def gaussian(seed, features=3, rank=None):
    factor = torch.randn(features, rank or features, generator=stream(seed, "factor"), dtype=torch.float64)
    return torch.randn(features, generator=stream(seed, "mean"), dtype=torch.float64), factor @ factor.T


@pytest.mark.parametrize("rank", [1, 3, 8])
def test_equal_gaussians_are_at_distance_zero(rank):
    mean, cov = gaussian(0, features=8, rank=rank)
    assert frechet_distance(mean, cov, mean, cov) == pytest.approx(0, abs=1e-9)


def test_in_one_dimension():
    # (μ1 − μ2)² + (σ1 − σ2)² with σ = 3 and 0.5.
    distance = frechet_distance(
        torch.tensor([1.0]), torch.tensor([[9.0]]), torch.tensor([-1.0]), torch.tensor([[0.25]])
    )
    assert distance == pytest.approx(4 + 6.25)


def test_covariances_that_commute():
    # Diagonal: a sum over dimensions, one of them without any variance in either and one in the first alone.
    a, b = torch.tensor([4.0, 1.0, 0.0, 0.0]), torch.tensor([1.0, 9.0, 0.0, 25.0])
    zero = torch.zeros(4)
    assert frechet_distance(zero, a.diag(), zero, b.diag()) == pytest.approx(1 + 4 + 0 + 25)


def test_a_rotation_of_both_changes_nothing():
    (mean_a, cov_a), (mean_b, cov_b) = gaussian(0), gaussian(1)
    turn = torch.linalg.qr(torch.randn(3, 3, generator=stream(2), dtype=torch.float64)).Q
    turned = frechet_distance(turn @ mean_a, turn @ cov_a @ turn.T, turn @ mean_b, turn @ cov_b @ turn.T)
    assert turned == pytest.approx(frechet_distance(mean_a, cov_a, mean_b, cov_b))


@pytest.mark.parametrize(("rows_a", "rows_b"), [(40, 50), (5, 50), (4, 3)])
def test_of_samples_equals_a_second_form(rows_a, rows_b):
    # For sample covariances the cross term is the sum of the singular values of the matrix of centred inner products;
    # no square root of a matrix is needed. With fewer rows than the 12 features the covariances are singular.
    a = torch.randn(rows_a, 12, generator=stream(0), dtype=torch.float64)
    b = 0.5 + 2 * torch.randn(rows_b, 12, generator=stream(1), dtype=torch.float64)
    centred = [(part - part.mean(0)) / math.sqrt(len(part) - 1) for part in (a, b)]
    cross = torch.linalg.matrix_norm(centred[0] @ centred[1].T, "nuc")
    expected = (a.mean(0) - b.mean(0)).square().sum() + sum(part.square().sum() for part in centred) - 2 * cross
    assert frechet_distance(*fit_gaussian([a]), *fit_gaussian([b])) == pytest.approx(float(expected), rel=1e-9)


@settings(max_examples=50)
@given(seeds=st.tuples(st.integers(0, 99), st.integers(0, 99)), rank=st.integers(1, 4), scale=st.floats(1e-3, 1e3))
def test_never_negative_and_symmetric(seeds, rank, scale):
    (mean_a, cov_a), (mean_b, cov_b) = gaussian(seeds[0], 4, rank), gaussian(seeds[1], 4)
    there = frechet_distance(mean_a, cov_a, mean_b, scale * cov_b)
    back = frechet_distance(mean_b, scale * cov_b, mean_a, cov_a)
    assert there >= 0
    assert there == pytest.approx(back, rel=1e-6, abs=1e-6)


def test_a_gaussian_is_fitted_over_all_parts():
    features = torch.randn(30, 5, generator=stream(0)) + 100
    mean, cov = fit_gaussian([features[:7], features[7:]])
    torch.testing.assert_close(mean, features.double().mean(0))
    torch.testing.assert_close(cov, features.double().T.cov())


def test_variance_is_half_the_mean_squared_distance_of_pairs():
    features = torch.randn(9, 4, generator=stream(0), dtype=torch.float64)
    assert variance(features) == pytest.approx(float(torch.pdist(features).square().mean()) / 2)


def test_equal_rows_are_at_distance_zero():
    rows = 100 + torch.randn(2, 300, generator=stream(0))
    assert nearest_distance(rows.repeat(30, 1)) == 0
