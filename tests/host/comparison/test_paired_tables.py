"""`scripts/paired_tables.py`: differences of pictures that share seeds, data and networks, and of no others."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from ld3m_plugin.comparison.seed_results import SeedResult
from ld3m_plugin.comparison.seed_table import SEEDS, write_seeds

SCRIPT = Path(__file__).parents[3] / "scripts" / "paired_tables.py"


@pytest.fixture(scope="module")
def script(load_script):
    return load_script("paired_tables")


def result(generator, seed, mlp, vit=20.0, *, objective="dm", ipc=1, **settings):
    accuracies = {"MLP": (mlp,), "ViT.1": (vit,)}
    return SeedResult(generator, objective, "A", ipc, seed, accuracies, settings=settings)


def test_a_generator_is_compared_at_shared_seeds_with_its_objective_and_what_learns_nothing(script, tmp_path):
    rows = [result("ld3m", seed, 30.0 + seed) for seed in range(3)]
    rows += [result("pixel", seed, 28.0) for seed in (1, 2, 3)]
    rows += [result("pixel", 0, 90.0, objective="dc"), result("mean", 0, 34.0, objective="")]
    write_seeds(rows, tmp_path)
    made = dict(script.differences(script.read([tmp_path / SEEDS]), "ld3m"))
    assert {name: (value.mean, value.n) for name, value in made.items()} == {
        "ld3m+dm - pixel+dm": (1.75, 2),  # half of (31 - 28 + 32 - 28) / 2
        "ld3m+dm - mean": (-2.0, 1),
    }


def test_settings_tell_pictures_apart_and_a_dot_makes_no_network_a_setting(script, tmp_path):
    write_seeds([result("ld3m", 0, 30.0 + steps, steps=steps) for steps in (5, 10)], tmp_path)
    found = script.read([tmp_path / SEEDS])
    assert {name: seeds[0]["ViT.1"] for name, seeds in found.items()} == {
        "ld3m+dm steps=5": 20.0,
        "ld3m+dm steps=10": 20.0,
    }
    ((name, value),) = script.differences(found, "ld3m+dm steps=5")
    assert (name, value.mean) == ("ld3m+dm steps=5 - ld3m+dm steps=10", -2.5)


def test_what_is_written_is_read_again_in_the_order_of_its_columns(script, tmp_path):
    write_seeds([result("ld3m", 0, 30.0, 40.0)], tmp_path)
    other = tmp_path / "other.csv"
    other.write_text("pictures,seed,ViT.1,MLP\nmean,0,1,2\n")
    found = script.read([tmp_path / SEEDS, other])
    script.write(found, tmp_path / "all.csv")
    assert script.read([tmp_path / "all.csv"]) == found
    assert (tmp_path / "all.csv").read_text().splitlines()[1:] == ["ld3m+dm,0,30.0,40.0", "mean,0,2.0,1.0"]


@pytest.mark.parametrize(
    "rows",
    [
        [result("ld3m", 0, 30.0), result("ld3m", 0, 31.0)],
        [result("ld3m", 0, 30.0), result("ld3m", 0, 30.0, ipc=10)],
        [result("ld3m", 0, 30.0), SeedResult("pixel", "dm", "A", 1, 0, {"MLP": (30.0,)})],
    ],
    ids=["twice", "other number of images", "other networks"],
)
def test_lines_that_cannot_stand_in_one_table_are_refused(script, tmp_path, rows):
    write_seeds(rows, tmp_path)
    with pytest.raises(script.UnfitError):
        script.read([tmp_path / SEEDS])


def test_files_of_other_networks_share_those_that_are_asked_for(script, tmp_path):
    write_seeds([result("ld3m", 0, 30.0)], tmp_path)
    other = tmp_path / "other.csv"
    other.write_text("pictures,seed,MLP,Third\npixel+dm,0,28,90\n")
    with pytest.raises(script.UnfitError, match="other networks"):
        script.read([tmp_path / SEEDS, other])
    found = script.read([tmp_path / SEEDS, other], ["MLP"])
    assert found == {"ld3m+dm": {0: {"MLP": 30.0}}, "pixel+dm": {0: {"MLP": 28.0}}}
    with pytest.raises(script.UnfitError, match=r"no network Third; there are: MLP, ViT\.1"):
        script.read([tmp_path / SEEDS, other], ["Third"])


def test_another_table_is_refused(script, tmp_path):
    table = tmp_path / "table.csv"
    table.write_text("generator,objective,data,MLP mean\nld3m,dm,A,30\n")
    with pytest.raises(script.UnfitError, match=r"table\.csv: these columns"):
        script.read([table])


def test_equal_storage_is_one_table_on_the_terms_that_were_asked_for(script, tmp_path):
    more = SeedResult("autoencoder", "dm", "A", 4, 0, {"MLP": (40.0,), "ViT.1": (20.0,)}, asked=1)
    write_seeds([result("ld3m", 0, 30.0), more], tmp_path)
    ((_, value),) = script.differences(script.read([tmp_path / SEEDS]), "ld3m")
    assert value.mean == -5.0
    other = tmp_path / "other.csv"
    other.write_text("pictures,seed,MLP,ViT.1\nglad+dm,0,30,30\n")
    with pytest.raises(script.UnfitError, match="equal storage"):
        script.read([tmp_path / SEEDS, other])


def test_p_is_corrected_among_generators_and_among_what_learns_nothing(script):
    values = {
        "ld3m+dm - pixel+dm": [1.0, 2.0, 3.0],
        "ld3m+dm - glad+dm": [0.0, 2.0, 1.0],
        "ld3m+dm - mean": [1.0, 3.0, 2.5],
    }
    made = [(name, script.estimate(differences)) for name, differences in values.items()]
    pixel, glad, mean = (value.p_value() for _, value in made)
    assert pixel < glad
    assert script.corrected(made) == pytest.approx(
        {"ld3m+dm - pixel+dm": 2 * pixel, "ld3m+dm - glad+dm": max(2 * pixel, glad), "ld3m+dm - mean": mean}
    )


@pytest.mark.parametrize("wrong", [["--leave-out", "medoid"], ["--baseline", "glad"], ["--networks", "VGG11"]])
def test_a_name_that_is_not_there_is_refused(tmp_path, wrong):
    write_seeds([result("ld3m", 0, 30.0)], tmp_path)
    ran = subprocess.run(
        [sys.executable, SCRIPT, tmp_path / SEEDS, *wrong], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 2
    assert "there are: " in ran.stderr


def test_networks_that_diverged_are_counted_in_the_table_and_in_the_file(script, tmp_path, capsys):
    rows = [result("ld3m", seed, 30.0) for seed in (0, 1)]
    rows[1] = replace(rows[1], diverged={"MLP": 1})
    write_seeds(rows, tmp_path)
    found = script.read([tmp_path / SEEDS])
    script.print_tables(found, [])
    assert "| ld3m+dm | 30.0 ± 0.0, 1 diverged | 20.0 ± 0.0 | **25.0 ± 0.0** | 2 |" in capsys.readouterr().out
    script.write(found, tmp_path / "all.csv")
    assert (tmp_path / "all.csv").read_text().splitlines() == [
        "pictures,seed,MLP,ViT.1,MLP diverged",
        "ld3m+dm,0,30.0,20.0,0",
        "ld3m+dm,1,30.0,20.0,1",
    ]
    again = script.read([tmp_path / "all.csv"])
    assert again == found
    assert {seed: row.diverged for seed, row in again["ld3m+dm"].items()} == {0: {}, 1: {"MLP": 1}}
    other = tmp_path / "other.csv"
    other.write_text("pictures,seed,MLP,AlexNet\nmean,0,1,2\n")
    joined = script.read([tmp_path / "all.csv", other], ["MLP"])
    assert [joined["ld3m+dm"][1].diverged, joined["mean"][0].diverged] == [{"MLP": 1}, {}]
    other.write_text("pictures,seed,MLP,MLP diverged\nmean,0,1,some\n")
    with pytest.raises(script.UnfitError, match="no whole number"):
        script.read([other])
