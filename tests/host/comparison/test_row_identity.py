"""What decides the bits of a row decides its identity, and nothing else does."""

import pytest

from ld3m_plugin.comparison.points import points
from ld3m_plugin.comparison.row_identity import Identities
from ld3m_plugin.errors import UsageError


def identities(grid):
    found = Identities(grid)
    return [found.row(point) for point in points(grid)]


def ids(grid):
    return [row.id for row in identities(grid)]


@pytest.mark.parametrize(
    "config",
    [
        {"device": "cpu"},
        {"checkpoint_every": 7},
        {"render_batch": 1},
        {"data": {"name": "tiny", "options": {"root": "elsewhere"}}},
        {"trackers": ["jsonl"]},
    ],
    ids=lambda config: next(iter(config)),
)
def test_places_and_the_device_do_not_count(grid, config):
    assert ids(grid("scaled", "pixel")) == ids(grid("scaled", "pixel", config=config))


@pytest.mark.parametrize(
    ("fields", "runs", "real"),
    [
        ({"seeds": [1]}, True, True),
        ({"threads": 2}, True, True),
        ({"data": ["tiny:13"]}, True, True),
        ({"images_per_class": [2]}, True, True),
        ({"generator_options": {"scaled": {"factor": 3}}}, True, False),
        ({"config": {"steps": 5}}, True, False),
        ({"config": {"seconds": 5.0}}, True, False),
        ({"config": {"optimizer": {"learning_rates": {"w": 0.3}}}}, True, False),
        ({"config": {"objective": {"name": "level", "options": {"level": 0.5}}}}, True, False),
    ],
)
def test_what_decides_the_bits_counts(grid, fields, runs, real):
    before, after = ids(grid("scaled")), ids(grid("scaled", **fields))
    assert [one != other for one, other in zip(before, after, strict=True)] == [runs, real]


def test_priors_and_experts_count_by_digest(grid, pieces):
    first = ids(grid("scaled", "pixel"))
    pieces.Scaled.prior = "second"
    second = ids(grid("scaled", "pixel"))
    assert [one != other for one, other in zip(first, second, strict=True)] == [True, False, False]
    pieces.Level.experts = "second"
    third = ids(grid("scaled", "pixel"))
    assert [one != other for one, other in zip(second, third, strict=True)] == [True, True, False]


def test_backends_are_prepared_once_for_all_seeds(grid, pieces):
    pieces.Scaled.prepared = 0
    identities(grid("scaled", seeds=[0, 1, 2], images_per_class=[1, 2]))
    assert pieces.Scaled.prepared == 1


def test_a_generator_that_cannot_be_prepared_is_a_problem_of_its_rows_alone(grid):
    rows = identities(grid("scaled", "pixel", generator_options={"scaled": {"factor": 101}}))
    assert ["factor" in row.problem for row in rows] == [True, False, False]


def test_equal_storage_gives_as_many_images_as_fit_the_numbers_of_pixels(grid):
    half = {"vary": {"generator.options.factor": [2.0]}}
    rows = identities(grid("scaled", "half", "pixel", images_per_class=[3], equal="storage", **half))
    images = {row.point.generator: row.point.config.images_per_class for row in rows}
    # `scaled` and `pixel` learn one number for each of a pixel's, `half` a half of it.
    assert images == {"scaled": 3, "half": 6, "pixel": 3, None: 3}
    with pytest.raises(UsageError, match="double"):
        identities(grid("double", images_per_class=[1], equal="storage"))
