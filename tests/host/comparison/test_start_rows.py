"""Rows of initialisers: pictures that learn nothing, beside what is distilled."""

import pytest
import torch

from ld3m_plugin.comparison.grid import read_grid
from ld3m_plugin.comparison.made_rows import read_made
from ld3m_plugin.comparison.points import points, without_rows
from ld3m_plugin.comparison.row_identity import Identities
from ld3m_plugin.errors import UsageError
from ld3m_plugin.evaluation import evaluate
from ld3m_plugin.report.writing import write_report
from ld3m_plugin.testing import tiny_task


def ids(grid, kind="start"):
    known = Identities(grid)
    return [known.row(point).id for point in points(grid) if point.kind == kind]


def test_a_row_is_the_initialisers_pictures_evaluated_like_the_others(made, grid, two_epochs):
    result, _ = made(grid("scaled", controls=["mean"], seeds=[3]))
    assert not result.failed
    run, start, real = result.manifest.rows
    assert [(row.kind, row.generator, row.objective) for row in (run, start, real)] == [
        ("run", "scaled", "level"),
        ("start", "mean", ""),
        ("random real", "random real", ""),
    ]
    assert start.start == "class means"
    row = read_made(result.manifest.run_folder(start))
    task = tiny_task(image_size=8, train=12, test=20)
    means = [task.train.read(k, torch.arange(12)).double().mean(0) for k in range(3)]
    torch.testing.assert_close(row.distilled.images, task.normalise(torch.stack(means)))
    again = evaluate(
        row.distilled, task, protocol=two_epochs, networks=["Linear", "Deeper"], repeats=2, random_real=False, seed=3
    )
    assert [r.accuracies for r in row.evaluation.rows] == [r.accuracies for r in again.rows]
    assert "seen_networks" not in row.facts
    assert (row.facts["generator"]["name"], row.facts["steps"]) == ("pixel", 0)
    assert list(result.pictures) == ["scaled+level", "mean"]
    page = write_report(result.manifest.folder).read_text(encoding="utf-8")
    assert "class means" in page


def test_controls_change_the_identity_of_no_other_row(grid):
    plain = grid("scaled", "pixel")
    more = grid("scaled", "pixel", controls=["mean", "medoids"])
    for kind in ("run", "random real"):
        assert ids(plain, kind) == ids(more, kind)


def test_a_start_does_not_know_what_is_compared_beside_it(grid):
    one = ids(grid("scaled", controls=["centres"]))
    other = {"objective": {"name": "level", "options": {"level": 0.5}}, "steps": 9, "optimizer": {"name": "sgd"}}
    other["optimizer"]["learning_rates"] = {"w": 0.1}
    assert len(one) == 1
    assert one == ids(grid("other", controls=["centres"], config=other))
    assert one == ids(grid("scaled", "other", controls=["centres"], vary={"generator.options.factor": [1, 2]}))
    assert one != ids(grid("scaled", controls=["mean"]))
    assert one != ids(grid("scaled", controls=["centres"], seeds=[1]))
    assert one != ids(grid("scaled", controls=["centres"], images_per_class=[2]))


def test_an_initialiser_with_options_takes_them_from_a_compared_generator(plain, registry):
    def starts(*generators, **fields):
        fields = {"controls": ["latent-centres"], "baseline": None, "generators": generators, "config": plain, **fields}
        return [point.config.generator for point in points(read_grid(settings=fields)) if point.kind == "start"]

    assert starts("pixel") == []  # nothing compared has a prior
    lent = starts("autoencoder", generator_options={"autoencoder": {"prior": "embedded", "init": "gaussian"}})
    assert [(g.name, g.options["init"]) for g in lent] == [("pixel", "latent-centres")]
    assert lent[0].options["init_options"] == {"prior": "embedded", "revision": None}
    given = starts("pixel", generator_options={"latent-centres": {"prior": "embedded"}})
    assert given[0].options["init_options"] == {"prior": "embedded"}


def test_an_initialiser_that_nothing_lends_its_options_is_said_to_have_no_row(made, grid):
    (line,) = without_rows(wanted := grid("pixel", controls=["mean", "samples"]), points(wanted))
    assert line.startswith("no rows of samples: ")
    assert "-G samples.prior=VALUE" in line
    given = grid("pixel", controls=["samples"], generator_options={"samples": {"prior": "embedded"}})
    assert without_rows(given, points(given)) == []
    _, said = made(wanted)
    assert said.warned == [line]


def test_an_option_that_is_varied_is_lent_to_no_initialiser():
    """Not even its default, which is the prior of no run."""
    fields = {"generators": ["ld3m"], "controls": ["samples"], "baseline": None}
    varied = read_grid(settings={**fields, "vary": {"generator.options.prior": ["one", "two"]}})
    assert [point.generator for point in points(varied)] == ["ld3m", "ld3m", None]
    (line,) = without_rows(varied, points(varied))
    assert "no compared generator lends" in line
    given = {**fields, "generator_options": {"samples": {"prior": "one"}}, "vary": varied.vary}
    starts = [point for point in points(read_grid(settings=given)) if point.kind == "start"]
    assert [start.config.generator.options["init_options"]["prior"] for start in starts] == ["one"]


@pytest.mark.parametrize(
    ("preset", "rows"),
    [("emoji-dc", ["mean", "medoids"]), ("emoji-mtt", ["mean", "medoids", "samples"])],
)
def test_controls_of_a_preset_without_options_are_left_out_in_silence(preset, rows):
    """`emoji-mtt` gives samples an option, so that they have a row without a lender."""
    alone = read_grid(presets=(preset,), settings={"generators": ["pixel"], "baseline": None})
    assert [point.generator for point in points(alone) if point.kind == "start"] == rows
    assert without_rows(alone, points(alone)) == []


def test_pictures_that_learn_nothing_are_the_same_beside_every_objective_of_emoji():
    def starts(objective):
        grid = read_grid(presets=(f"emoji-{objective}",), settings={"seeds": [1]})
        return {p.generator: p.config.generator for p in points(grid) if p.kind == "start"}

    assert list(starts("dm")) == ["mean", "medoids", "latent-centres", "samples"]
    assert starts("dm") == starts("dc") == starts("mtt")


def test_usual_controls_without_options_are_left_out_in_silence():
    usual = read_grid(settings={"generators": ["pixel"], "baseline": None})
    found = [point.generator for point in points(usual) if point.kind == "start"]
    assert found == ["centres", "medoids"]
    assert without_rows(usual, points(usual)) == []
    beside_ld3m = points(read_grid(settings={"generators": ["ld3m"], "baseline": None}))
    starts = {point.generator: point.config.generator.options for point in beside_ld3m if point.kind == "start"}
    assert list(starts) == ["centres", "medoids", "latent-centres", "samples"]
    assert starts["samples"]["init_options"]["prior"] == "embedded"


def test_an_initialiser_with_options_is_read_with_the_data_of_its_row():
    """Whose options the data set of the presets need not have."""
    settings = {
        "generators": ["ld3m"],
        "controls": ["latent-centres"],
        "data": ["emoji"],
        "config": {"data": {"options": {"split": "equal-data"}}},
    }
    (start,) = (point for point in points(read_grid(settings=settings)) if point.kind == "start")
    assert start.config.data.options["split"] == "equal-data"
    assert start.config.generator.options["init_options"]["prior"] == "embedded"


def test_names_of_controls_are_checked(grid):
    with pytest.raises(UsageError, match=r"control 'medoid' is neither.*did you mean 'medoids'"):
        points(grid("scaled", controls=["medoid"]))
    with pytest.raises(UsageError, match="controls_through"):
        points(grid("scaled", controls=["mean"], controls_through=None))


def test_an_initialiser_may_be_the_baseline_of_every_objective(made, grid):
    result, _ = made(grid("scaled", "pixel", controls=["mean", "medoids"], baseline="mean", seeds=[0, 1]))
    rows = {row.generator: row for row in result.summary.rows}
    assert rows["mean"].is_baseline
    assert all(rows[name].differences for name in ("scaled", "pixel", "medoids"))
    measure = result.summary.measures[0]
    by_hand = rows["pixel"].averages[measure].mean - rows["mean"].averages[measure].mean
    assert rows["pixel"].differences[measure].estimate.mean == pytest.approx(by_hand)


def test_the_default_grid_has_all_pictures_that_learn_nothing(registry):
    assert read_grid().controls == ("autoencoder", "centres", "medoids", "latent-centres", "samples")
    assert read_grid(presets=("demo",)).controls == ("mean",)
