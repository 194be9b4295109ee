"""Intervals keep their promise: of some thousand simulated grids, how many intervals hold the true difference."""

import numpy as np
import pytest

from ld3m_plugin.comparison.paired import estimate
from ld3m_plugin.comparison.seed_results import SeedResult
from ld3m_plugin.comparison.summary import summarise

GRIDS = 3000
pytestmark = pytest.mark.slow


def covered(found, truth, level=0.05):
    low, high = found.interval(level)
    return low <= truth <= high


def accuracies_of(rng, seeds, images, over_seeds, over_images, networks=1):
    """Two rows: which test images each of their networks gets right, (2, seeds, networks, images).

    An image is harder or easier for both rows, and for one row more than for the other; a seed shifts a row's images together;
    its networks are repeats within it.
    """
    shared = rng.standard_normal((1, 1, 1, images))
    own = over_images * rng.standard_normal((2, 1, 1, images)) + over_seeds * rng.standard_normal((2, seeds, 1, 1))
    own = own + 0.5 * over_seeds * rng.standard_normal((2, seeds, networks, 1))
    return rng.standard_normal((2, seeds, networks, images)) < shared + own


@pytest.mark.parametrize("seeds", [3, 5])
@pytest.mark.parametrize("over_seeds", [0.0, 0.05, 0.1, 0.4])
def test_intervals_over_seeds_and_test_images(seeds, over_seeds):
    rng, hits = np.random.default_rng(0), 0
    for _ in range(GRIDS):
        ours, theirs = accuracies_of(rng, seeds, 200, over_seeds, over_images=0.5, networks=2).mean(2) * 100.0
        difference = ours - theirs
        hits += covered(estimate(list(difference.mean(1)), [(1.0, difference, None)]), 0.0)
    assert 0.93 <= hits / GRIDS <= 0.975


@pytest.mark.parametrize("seeds", [3, 5])
@pytest.mark.parametrize(("over_seeds", "over_images"), [(1, 0), (1, 1), (0.3, 1), (0.1, 1), (0.05, 1), (0, 1)])
def test_intervals_where_all_is_normal(seeds, over_seeds, over_images):
    rng, hits, images = np.random.default_rng(1), 0, 200
    for _ in range(GRIDS):
        shift = over_seeds * rng.standard_normal((seeds, 1)) + over_images * rng.standard_normal((1, images))
        difference = 3 + shift + rng.standard_normal((seeds, images))
        hits += covered(estimate(list(difference.mean(1)), [(1.0, difference, None)]), 3.0)
    assert 0.93 <= hits / GRIDS <= 0.975


def test_test_images_that_come_in_groups():
    """Thirty artists of unequal numbers of images: intervals by artist hold, those by image do not."""
    rng, by_group, by_image = np.random.default_rng(2), 0, 0
    for _ in range(GRIDS):
        groups = np.repeat(np.arange(30), rng.integers(4, 11, 30))
        of_group = rng.standard_normal(30)[groups]
        difference = 0.1 * rng.standard_normal((3, 1)) + of_group + rng.standard_normal((3, len(groups)))
        means = list(difference.mean(1))
        by_group += covered(estimate(means, [(1.0, difference, groups)]), 0.0)
        by_image += covered(estimate(means, [(1.0, difference, None)]), 0.0)
    assert 0.93 <= by_group / GRIDS <= 0.975
    assert by_image / GRIDS < 0.9


def test_simpler_ways_do_not_hold():
    """What the choice rests on: seeds alone, and a percentile bootstrap over three seeds, are far too short."""
    rng, alone, bootstrap = np.random.default_rng(3), 0, 0
    draws = rng.integers(0, 3, (2000, 3))
    for _ in range(GRIDS):
        ours, theirs = accuracies_of(rng, 3, 200, 0.02, over_images=1.5).mean(2) * 100.0
        means = (ours - theirs).mean(1)
        found = estimate(list(means))
        alone += found.interval() is not None and covered(found, 0.0)
        low, high = np.quantile(means[draws].mean(1), [0.025, 0.975])
        bootstrap += low <= 0.0 <= high
    assert alone / GRIDS < 0.9
    assert bootstrap / GRIDS < 0.75


def test_a_grid_without_any_difference_is_marked_in_one_of_twenty():
    """Six rows against one baseline: without the correction a quarter of the grids would have a mark."""
    rng, marked, uncorrected, grids = np.random.default_rng(4), 0, 0, 300
    for _ in range(grids):
        shared = rng.standard_normal(100)
        results = []
        for row in range(7):
            own = shared + 0.3 * rng.standard_normal(100)
            for seed in range(3):
                right = rng.standard_normal((1, 100)) < own + 0.2 * rng.standard_normal()
                accuracy = (100 * float(right.mean()),)
                results.append(SeedResult(f"g{row}", "o", "d", 1, seed, {"A": accuracy}, correct={"A": right}))
        found = [row.differences["unseen"] for row in summarise(results, "g0").rows[1:]]
        marked += any(difference.marked for difference in found)
        uncorrected += any(difference.p is not None and difference.p < 0.05 for difference in found)
    assert marked / grids <= 0.07
    assert uncorrected / grids > 0.1


def test_parts_of_the_variance_are_right_on_average():
    rng, seeds, images, found = np.random.default_rng(5), 4, 50, []
    for _ in range(GRIDS):
        shift = 2 * rng.standard_normal((seeds, 1)) + 3 * rng.standard_normal((1, images))
        difference = shift + 5 * rng.standard_normal((seeds, images))
        found.append([part.variance for part in estimate(list(difference.mean(1)), [(1.0, difference, None)]).parts])
    # (4 + 25 / 50) / 4 of seeds, 9 / 50 of images.
    assert np.mean(found, axis=0) == pytest.approx([1.125, 0.18], rel=0.05)
