"""The summary of a grid: averages by hand, pairs on the same terms, and when nothing is tested or marked."""

from dataclasses import replace
from statistics import stdev

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ld3m_plugin.comparison.seed_results import SeedResult
from ld3m_plugin.comparison.summary import summarise
from ld3m_plugin.errors import UsageError

SEEN = frozenset({"ConvNet"})


def result(generator="ld3m", seed=0, conv=(60.0, 62.0), alex=(50.0, 54.0), vit=(40.0,), **more):
    """A result with two unseen architectures."""
    accuracies = {"ConvNet": conv, "AlexNet": alex, "ViT": vit}
    facts = {"objective": "dm", "data": "A", "images_per_class": 1, "seen": SEEN, **more}
    return SeedResult(generator=generator, seed=seed, accuracies=accuracies, **facts)


def rows(results, *arguments, **settings):
    return summarise(results, *arguments, **settings).rows


def test_averages_by_hand():
    (row,) = rows([result(), result(seed=1, conv=(63.0, 65.0), alex=(56.0, 56.0), vit=(44.0,))])
    # Seed 0: ConvNet 61, AlexNet 52, ViT 40; seed 1: 64, 56, 44.
    assert (row.networks["AlexNet"].mean, row.networks["AlexNet"].n) == (54, 2)
    assert row.networks["AlexNet"].std == pytest.approx(stdev([52, 56]))
    assert (row.averages["seen"].mean, row.averages["unseen"].mean) == (62.5, (46 + 50) / 2)
    assert row.averages["gap"].mean == 48 - 62.5
    assert row.averages["gap"].std == pytest.approx(stdev([46 - 61, 50 - 64]))
    assert row.averages["average"].mean == pytest.approx((153 / 3 + 164 / 3) / 2)
    assert (row.seeds, row.is_baseline, row.differences) == ((0, 1), False, {})


def test_repeats_are_nested_in_seeds():
    # Five networks at one seed are one seed: n counts distilled sets.
    (row,) = rows([result(alex=(50.0, 51.0, 52.0, 53.0, 54.0))])
    assert (row.networks["AlexNet"].n, row.networks["AlexNet"].std) == (1, None)


def test_the_difference_is_paired_by_seed():
    ours = [result("ld3m", seed, alex=(value,)) for seed, value in enumerate((60.0, 50.0, 70.0))]
    base = [result("glad", seed, alex=(value,)) for seed, value in enumerate((57.0, 48.0, 69.0))]
    for results in (ours + base, base[::-1] + ours):
        (row,) = (row for row in rows(results, "glad", ["AlexNet"]) if not row.is_baseline)
        found = row.differences["AlexNet"].estimate
        assert (found.mean, found.std, found.n) == (2, 1, 3)
    # Of the seeds that both have.
    (row,) = rows([*ours, *base[:2]], "glad", ["AlexNet"])[:1]
    assert (row.differences["AlexNet"].estimate.mean, row.differences["AlexNet"].estimate.n) == (2.5, 2)


def test_a_single_seed_is_not_tested():
    summary = summarise([result("ld3m", vit=(90.0,)), result("glad")], "glad")
    found = summary.rows[0].differences["unseen"]
    assert found.estimate.mean == 25
    assert (found.p, found.corrected_p, found.interval, found.simultaneous) == (None,) * 4
    assert (found.marked, found.seeds_for_a_point, summary.questions) == (False, None, 0)


def test_a_baseline_against_itself_is_zero_without_a_mark():
    results = [result(name, seed, vit=(40.0 + seed,)) for name in ("glad", "copy") for seed in range(3)]
    base, copy = rows(results, "glad", ["seen", "unseen", "gap", "average"])
    assert base.is_baseline
    assert base.differences == {}
    for found in copy.differences.values():
        assert found.estimate.mean == 0
        assert (found.marked, found.interval) == (False, None)


def test_only_corrected_tests_mark():
    def grid(rows):
        # Differences 2.5, 4, 5: t = 5.3 with 2 degrees of freedom, p = 0.034 for each row on its own.
        return [result("glad", seed) for seed in range(3)] + [
            result(f"g{row}", seed, vit=(40.0 + shift,))
            for row in range(rows)
            for seed, shift in enumerate((2.5, 4, 5))
        ]

    alone = rows(grid(1), "glad", ["ViT"])[1].differences["ViT"]
    assert alone.marked
    assert alone.p == alone.corrected_p < 0.05
    assert alone.interval == alone.simultaneous
    three = summarise(grid(3), "glad", ["ViT"])
    assert three.questions == 3
    for row in three.rows[1:]:
        found = row.differences["ViT"]
        assert found.p == alone.p
        assert found.corrected_p == pytest.approx(3 * alone.p)
        assert not found.marked
        assert found.simultaneous[0] < 0 < found.interval[0]


def test_each_measure_is_a_question():
    results = [
        result(name, seed, vit=(40.0 + seed * number,))
        for number, name in enumerate(("glad", "ld3m"))
        for seed in range(3)
    ]
    assert summarise(results, "glad").questions == 1
    assert summarise(results, "glad", ["unseen", "average", "ViT"]).questions == 3


def test_means_over_data_sets():
    results = [
        result(name, seed, vit=(value + seed,), data=data)
        for name, values in (("glad", (40.0, 50.0)), ("ld3m", (42.0, 56.0)))
        for data, value in zip("AB", values, strict=True)
        for seed in range(2)
    ]
    found = rows([*results, result("pixel")], "glad", ["ViT"])
    assert [(row.generator, row.data) for row in found] == [
        *(("glad", "A"), ("glad", "B"), ("ld3m", "A"), ("ld3m", "B"), ("pixel", "A")),
        *(("glad", "mean of 2 data sets"), ("ld3m", "mean of 2 data sets")),
    ]
    assert found[-1].networks["ViT"].mean == 49.5
    assert found[-1].networks["ViT"].n == 2
    assert found[-1].differences["ViT"].estimate.mean == 4
    assert found[-2].is_baseline


def test_seeds_with_other_architectures_give_no_average():
    other = replace(result(seed=1), accuracies={"ConvNet": (60.0,)})
    (row,) = rows([result(), other])
    assert row.averages == {}
    assert (row.networks["ViT"].n, row.networks["ConvNet"].n) == (1, 2)
    assert rows([other, replace(result("glad", 1))], "glad", ["average"])[0].differences == {}


def test_terms_are_the_same_for_both():
    results = [
        result(name, objective=objective, images_per_class=ipc)
        for name in ("glad", "ld3m")
        for objective in ("dm", "dc")
        for ipc in (1, 10)
        if (name, objective, ipc) != ("glad", "dc", 10)
    ]
    found = {(row.objective, row.images_per_class): row for row in rows(results, "glad") if row.generator == "ld3m"}
    assert [key for key, row in found.items() if not row.differences] == [("dc", 10)]


def test_settings_of_a_generator_may_differ_and_others_may_not():
    base = result("glad", settings={"objective.options.batch_real": 8})
    steps = [
        result("ld3m", settings={"generator.options.steps": steps, "objective.options.batch_real": real})
        for steps in (5, 10)
        for real in (8, 16)
    ]
    compared = [bool(row.differences) for row in rows([base, *steps], "glad")]
    assert compared == [False, True, False, True, False]


def test_a_baseline_of_several_settings_is_named_with_them():
    results = [
        result(name, settings={"generator.options.steps": steps}) for name in ("glad", "ld3m") for steps in (5, 10)
    ]
    assert [bool(row.differences) for row in rows(results, "glad")] == [False, False, True, True]
    odd = result("pixel")
    with pytest.raises(UsageError, match="glad"):
        rows([*results, odd], "glad")
    named = {"generator": "glad", "generator.options.steps": 5}
    assert [bool(row.differences) for row in rows([*results, odd], named)] == [False, True, True, True, True]


def test_another_objective_is_a_baseline():
    found = rows([result(objective="dm"), result(objective="dc"), result("pixel", objective="dc")], {"objective": "dm"})
    assert [(row.is_baseline, bool(row.differences)) for row in found] == [(True, False), (False, True), (False, False)]


def test_costs_are_those_that_are_known():
    known = {"numbers_per_class": 1024, "start": "real images", "seconds": 10.0, "peak_memory": 100.0}
    (row,) = rows([result(**known), result(seed=1, **{**known, "peak_memory": 300.0, "seconds": None})])
    assert (row.numbers_per_class, row.start, row.seconds, row.peak_memory) == (1024, "real images", 10, 300)
    assert row.seconds_per_step is None
    (row,) = rows([result(**known), result(seed=1, numbers_per_class=2048)])
    assert (row.numbers_per_class, row.start) == (None, None)


@pytest.mark.parametrize(
    ("results", "settings", "named"),
    [
        ([result(), result()], {}, "seed 0"),
        ([result()], {"baseline": "glad"}, "glad"),
        ([result()], {"baseline": {"generator": "ld3m", "steps": 3}}, "steps"),
        ([result()], {"baseline": {"data": "A"}}, "data"),
        ([result()], {"measures": ["unsen"]}, "unseen"),
    ],
)
def test_refusals(results, settings, named):
    with pytest.raises(UsageError, match=named):
        summarise(results, **settings)


def test_results_that_contradict_themselves_are_a_programs_mistake():
    right = np.array([[True, False]])
    with pytest.raises(ValueError, match="ViT"):
        result(vit=(60.0,), correct={"ViT": right})
    with pytest.raises(ValueError, match="test images"):
        result(vit=(50.0,), correct={"ViT": right}, test_groups=np.zeros(3, int))


def kept(generator, seed, rng, groups=None, share=0.5):
    right = {name: rng.random((2, 40)) < share for name in ("ConvNet", "AlexNet", "ViT")}
    accuracies = {name: tuple(100 * found.mean(1)) for name, found in right.items()}
    return replace(result(generator, seed), accuracies=accuracies, correct=right, test_groups=groups)


def test_test_images_are_resampled_where_they_are_known():
    rng = np.random.default_rng(0)
    results = [kept(name, seed, rng) for name in ("glad", "ld3m") for seed in range(3)]
    found = rows(results, "glad", ["gap"])[1]
    assert found.differences["gap"].estimate.has_images
    assert found.averages["gap"].mean == pytest.approx(
        np.mean([one.by_image("gap").mean() for one in results if one.generator == "ld3m"])
    )
    without = [replace(one, correct={}) if one.seed == 2 else one for one in results]
    assert not rows(without, "glad", ["gap"])[1].differences["gap"].estimate.has_images
    grouped = [replace(one, test_groups=np.arange(40) // 4) for one in results]
    assert rows(grouped, "glad")[1].differences["unseen"].estimate.parts[1].freedom == 9
    # Two rows whose groups differ are not tested on the same images.
    mixed = [replace(one, test_groups=None) if one.generator == "glad" else one for one in grouped]
    assert not rows(mixed, "glad")[1].differences["unseen"].estimate.has_images


numbers = st.lists(st.floats(0, 90).map(lambda value: round(value, 1)), min_size=6, max_size=6)


@pytest.mark.slow
@given(numbers, numbers, st.permutations(range(6)), st.integers(1, 9))
@settings(max_examples=25)
def test_the_order_of_seeds_changes_nothing_and_a_constant_no_difference(ours, theirs, order, constant):
    def grid(order, shift):
        return [
            result(name, 10 + seed, conv=(value + shift,), alex=(value / 2 + shift,), vit=(7.0 + shift,))
            for seed in order
            for name, value in (("glad", theirs[seed]), ("ld3m", ours[seed]))
        ]

    measures = ["seen", "unseen", "gap"]
    plain = rows(grid(range(6), 0), "glad", measures)
    assert rows(grid(order, 0), "glad", measures) == plain
    for before, after in zip(plain, rows(grid(range(6), constant), "glad", measures), strict=True):
        for measure, shift in (("seen", constant), ("unseen", constant), ("gap", 0)):
            assert after.averages[measure].mean == pytest.approx(before.averages[measure].mean + shift)
        for measure, found in before.differences.items():
            second = after.differences[measure]
            assert second.estimate.mean == pytest.approx(found.estimate.mean, abs=1e-9)
            assert (second.p is None) == (found.p is None)
            assert second.p is None or second.p == pytest.approx(found.p)
            assert second.marked == found.marked
