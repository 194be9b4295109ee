"""Paired differences: by hand, against scipy's paired t test, and what holds for any numbers."""

import math
import warnings

import numpy as np
import pytest
import scipy.stats
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from ld3m_plugin.comparison.paired import estimate, holm, seeds_needed

#: Differences of two seeds and three test images.
IMAGES = np.array([[100.0, 0.0, 0.0], [100.0, 100.0, 0.0]])
points = st.floats(-30, 30).map(lambda value: round(value, 2))


def test_seeds_alone_give_the_paired_t_test():
    ours, theirs = [61.0, 64.5, 60.2, 66.1], [58.3, 60.0, 59.9, 62.8]
    found = estimate([a - b for a, b in zip(ours, theirs, strict=True)])
    second = scipy.stats.ttest_rel(ours, theirs)
    assert found.p_value() == pytest.approx(second.pvalue)
    assert found.interval() == pytest.approx(tuple(second.confidence_interval(0.95)))
    assert (found.n, found.has_images) == (4, False)


def test_an_interval_by_hand():
    # Differences 1, 2, 3: mean 2, deviation 1, t of 2 degrees of freedom 4.302653: 2 -+ 4.302653 / sqrt(3).
    found = estimate([1.0, 2.0, 3.0])
    assert (found.mean, found.std) == (2.0, 1.0)
    assert found.interval() == pytest.approx((2 - 4.302653 / 3**0.5, 2 + 4.302653 / 3**0.5), abs=1e-6)


def test_parts_of_the_variance_by_hand():
    # Seeds: 100/3 and 200/3, variance 5000/9, over two seeds. Images: means 100, 50, 0, mean square 2 * 2500; rest: 6 squares of
    # 16.7 and 33.3 over 2 degrees of freedom, 5000/3; (5000 - 5000/3) / 6.
    found = estimate([100 / 3, 200 / 3], [(1.0, IMAGES, None)])
    seeds, images = found.parts
    assert (seeds.variance, seeds.freedom) == (pytest.approx(5000 / 18), 1)
    assert (images.variance, images.freedom) == (pytest.approx(5000 / 9), 2)
    # The critical value: t of 1 and of 2 degrees of freedom, weighted 1 to 2.
    half = (12.706205 + 2 * 4.302653) / 3 * (5000 / 18 + 5000 / 9) ** 0.5
    assert found.interval() == pytest.approx((50 - half, 50 + half), rel=1e-6)
    assert found.has_images


def test_images_of_several_data_sets_are_weighted():
    found = estimate([100 / 3, 200 / 3], [(0.5, IMAGES, None), (0.5, IMAGES, None)])
    assert [part.variance for part in found.parts[1:]] == pytest.approx([5000 / 36] * 2)


def test_groups_take_the_place_of_images():
    one, two = np.array([[60.0, 0.0], [80.0, 40.0]]), [30.0, 60.0]
    repeated = np.repeat(one, 5, axis=1)  # five copies of an image tell nothing new
    groups = np.repeat([7, 3], 5)
    by_image, by_group = (estimate(two, [(1.0, values, g)]) for values, g in ((one, None), (repeated, groups)))
    for part, second in zip(by_group.parts, by_image.parts, strict=True):
        assert (part.variance, part.freedom) == (pytest.approx(second.variance), second.freedom)
    assert estimate(two, [(1.0, one, np.array([4, 9]))]).parts[1].variance == pytest.approx(by_image.parts[1].variance)


def test_groups_of_other_sizes_are_those_of_a_ratio():
    # One seed twice: the rest is 0. Groups of 1 and 3 images with sums 100 and 0 around the mean 25: residual sums 75 and -75,
    # times 2 groups / 4 images: 62.5 and -12.5 around 25, variance 2812.5, over two groups.
    values = np.array([[100.0, 0.0, 0.0, 0.0]] * 2)
    found = estimate([25.0, 25.0], [(1.0, values, np.array([0, 1, 1, 1]))])
    assert found.parts[1].variance == pytest.approx(2812.5 / 2)


def test_one_group_has_no_spread_to_resample():
    assert not estimate([1.0, 2.0], [(1.0, IMAGES, np.zeros(3, int))]).has_images


@pytest.mark.parametrize("differences", [[1.5], [1.5, 1.5, 1.5], [0.1 + 0.2, 0.3], [0.0, 0.0]])
def test_without_a_spread_there_is_no_test(differences):
    found = estimate(differences)
    assert not found.testable
    assert (found.interval(), found.p_value()) == (None, None)


@given(st.lists(points, min_size=2, max_size=6), st.integers(0, 2**32 - 1))
@settings(max_examples=60)
def test_the_interval_at_level_p_just_reaches_zero(differences, seed):
    images = np.random.default_rng(seed).integers(-1, 2, (len(differences), 20)) * 100.0
    for found in (estimate(differences), estimate(differences, [(1.0, images, None)])):
        p = found.p_value()
        if p is None:
            continue
        assert 0 < p <= 1
        assume(p > 1e-9)
        low, high = found.interval(p)
        assert min(abs(low), abs(high)) <= 1e-6 * (high - low) + 1e-9
        wide, narrow = found.interval(0.01), found.interval(0.05)
        assert wide[0] < narrow[0] < narrow[1] < wide[1]


@given(st.permutations(range(4)))
def test_the_order_of_seeds_changes_nothing(order):
    differences = [3.0, -1.25, 0.7, 2.2]
    images = np.random.default_rng(0).integers(-1, 2, (4, 15)) * 100.0
    groups = np.arange(15) // 4
    first = estimate(differences, [(1.0, images, groups)])
    other = estimate([differences[i] for i in order], [(1.0, images[list(order)], groups)])
    assert other.mean == first.mean
    assert other.p_value() == pytest.approx(first.p_value())


def test_holm_by_hand():
    # Sorted 0.005, 0.01, 0.03, 0.04 times 4, 3, 2, 1: 0.02, 0.03, 0.06, 0.04; never below the one before.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.7, 0.6]) == [1.0, 1.0]
    assert holm([0.04]) == [0.04]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_a_correction_lies_between_the_p_value_and_bonferroni(p_values):
    for p, corrected in zip(p_values, holm(p_values), strict=True):
        assert p <= corrected <= 1
        assert corrected == 1 or corrected <= max(len(p_values) * q for q in p_values if q <= p)


@pytest.mark.parametrize(("std", "seeds"), [(1.0, 10), (1 / 0.8, 15), (2.0, 34), (5.0, 199)])
def test_seeds_for_a_point_are_those_of_published_tables(std, seeds):
    # Two-sided paired t test, level 0.05, power 0.8, effects 1, 0.8, 0.5, 0.2: Cohen, Statistical Power Analysis; G*Power.
    assert seeds_needed(std) == seeds


def test_seeds_needed_has_the_power_and_one_less_has_not():
    rng = np.random.default_rng(0)
    for seeds, enough in ((10, True), (8, False)):
        p_values = scipy.stats.ttest_1samp(rng.normal(1, 1, (4000, seeds)), 0, axis=1).pvalue
        assert (np.mean(p_values < 0.05) > 0.79) == enough


@pytest.mark.parametrize("std", [1e-9, 1e-3, 0.01, 0.02, 0.03, 0.05, 0.2, 0.5, 30.0, 100.0])
def test_seeds_needed_is_a_number_for_any_spread(std):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        needed = seeds_needed(std)
    assert 2 <= needed <= max(3, 3 * (2.9 * max(std, 1)) ** 2)
    assert not math.isnan(needed)


def test_more_spread_needs_more_seeds():
    needed = [seeds_needed(std) for std in np.geomspace(0.01, 50, 40)]
    assert needed == sorted(needed)
