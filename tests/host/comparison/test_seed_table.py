"""`seeds.csv`: accuracies of each seed, and nothing where nothing is known."""

import csv

from ld3m_plugin.comparison.seed_results import SeedResult
from ld3m_plugin.comparison.seed_table import SEEDS, write_seeds


def read(folder):
    with (folder / SEEDS).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_a_line_has_the_mean_of_its_networks_and_how_many_diverged(tmp_path):
    accuracies = {"MLP": (10.0, 31.0), 'a, "b"': (40.0,)}
    write_seeds([SeedResult("ld3m", "dm", "A", 1, 7, accuracies, diverged={"MLP": 1}, seconds_per_step=0.25)], tmp_path)
    (line,) = read(tmp_path)
    assert line == {
        "generator": "ld3m",
        "objective": "dm",
        "data": "A",
        "images_per_class": "1",
        "numbers_per_class": "",
        "start": "",
        "seed": "7",
        "images_asked": "1",
        "MLP": "20.5",
        "MLP diverged": "1",
        'a, "b"': "40.0",
        'a, "b" diverged': "0",
        "seen": "",
        "unseen": "30.25",
        "gap": "",
        "average": "30.25",
        "seconds_per_step": "0.25",
    }


def test_what_a_row_does_not_have_is_empty(tmp_path):
    varied = {"generator.options.steps": 5}
    write_seeds(
        [
            SeedResult("ld3m", "dm", "A", 1, 0, {"MLP": (20.0,)}, settings=varied),
            SeedResult("pixel", "dm", "A", 1, 0, {"ViT": (30.0,)}),
        ],
        tmp_path,
    )
    ld3m, pixel = read(tmp_path)
    assert (ld3m["generator.options.steps"], ld3m["MLP"], ld3m["ViT"], ld3m["ViT diverged"]) == ("5", "20.0", "", "")
    assert (pixel["generator.options.steps"], pixel["MLP"], pixel["MLP diverged"], pixel["ViT"]) == ("", "", "", "30.0")


def test_the_same_results_give_the_same_bytes_at_full_precision(tmp_path):
    results = [SeedResult("ld3m", "dm", "A", 1, seed, {"MLP": (20.0 + seed / 3,)}) for seed in range(3)]
    write_seeds(results, tmp_path)
    first = (tmp_path / SEEDS).read_bytes()
    write_seeds(results, tmp_path)
    assert (tmp_path / SEEDS).read_bytes() == first
    assert [float(line["MLP"]) for line in read(tmp_path)] == [20.0 + seed / 3 for seed in range(3)]
