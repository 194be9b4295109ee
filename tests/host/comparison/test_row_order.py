"""Rows are made seed by seed, so that what is stopped has whole seeds; tables list them generator by generator."""

import re


def ended(said):
    """Kind, images and seed of the rows that ended, in their order."""
    labels = (re.match(r"(scaled|other|mean|random-real)\b.*-ipc(\d)-seed(\d)", line) for line in said.lines)
    return [found.groups() for found in labels if found]


def test_the_first_seed_has_all_its_rows_before_the_next_begins(made, grid):
    result, said = made(grid("scaled", "other", seeds=[3, 1], images_per_class=[1, 2], random_real=False))
    one_seed = [("scaled", "1"), ("other", "1"), ("scaled", "2"), ("other", "2")]
    assert ended(said) == [(*row, seed) for seed in "31" for row in one_seed]
    assert [row.seed for row in result.manifest.rows] == [3, 1, 3, 1, 3, 1, 3, 1]


def test_pictures_that_learn_nothing_belong_to_their_seed(made, grid):
    _, said = made(grid("scaled", "pixel", seeds=[1, 0, 1], controls=["mean"], controls_through="pixel"))
    first = [(kind, seed) for kind, _, seed in ended(said)]
    assert first == [(kind, seed) for seed in "10" for kind in ("scaled", "mean", "random-real")]


def test_seeds_that_are_added_come_after_what_was_left_of_the_first(made, grid, pieces):
    pieces.Other.end, pieces.Other.end_at = "host error", 3
    made(grid("scaled", "other", seeds=[0], random_real=False))
    pieces.Other.end = pieces.Other.end_at = None
    _, said = made(grid("scaled", "other", seeds=[0, 1], random_real=False))
    assert [(kind, seed) for kind, _, seed in ended(said)] == [("other", "0"), ("scaled", "1"), ("other", "1")]
