"""A run goes on where its data, prior and files lie now, and only with what it was made with."""

import json
import shutil

import numpy
import pytest
import torch
import yaml
from PIL import Image

from ld3m_plugin.artefact.distilled_set import DistilledSet
from ld3m_plugin.config import completed, decisive, digest, former_digest, resolve
from ld3m_plugin.errors import ArtefactError, UsageError
from ld3m_plugin.generators.glad.pretrained import SHIPPED
from ld3m_plugin.generators.ld3m.ldm_prior import EMBEDDED
from ld3m_plugin.runs.folder import read_config
from ld3m_plugin.runs.places import moved
from ld3m_plugin.storage import read_tensors, write_tensors

DISTIL = ["distill", "-g", "pixel", "-o", "mean", "--steps", "2", "--no-evaluate", "--out", "run"]

MEAN = """
from pathlib import Path

from ld3m_plugin import DifferentiableObjective, hookimpl
from ld3m_plugin.contracts import Options


class MeanOptions(Options):
    target: Path | None = None


class Mean(DifferentiableObjective):
    Options = MeanOptions

    def loss(self, images, labels, step):
        return images.square().mean()


@hookimpl
def register_objectives(register):
    register("mean", Mean)
"""


@pytest.fixture
def pictures(tmp_path, site):
    """A folder of pictures, and an objective that takes no time."""
    site.add("mean-objective", {"mean_objective": MEAN})
    rng = numpy.random.default_rng(0)
    for split in ("train", "test"):
        for name in ("cat", "dog"):
            folder = tmp_path / "pictures" / split / name
            folder.mkdir(parents=True)
            for number in range(3):
                Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=numpy.uint8)).save(folder / f"{number}.png")
    return tmp_path / "pictures"


@pytest.fixture
def started(pictures, ld3m, tmp_path):
    """A run of 2 steps that has two more to make; gives its folder."""
    assert ld3m(*DISTIL, "--data", "imagefolder:pictures").code == 0
    with_more_steps(tmp_path / "run")
    return tmp_path / "run"


def with_more_steps(folder, **data):
    config = yaml.safe_load((folder / "config.yaml").read_text())
    config["steps"] = 4
    config["data"] |= data
    (folder / "config.yaml").write_text(yaml.safe_dump(config))


def data_of(folder):
    return yaml.safe_load((folder / "config.yaml").read_text())["data"]


def test_paths_in_a_config_are_absolute(started, pictures, tmp_path):
    assert data_of(started)["name"] == f"imagefolder:{pictures}"


def test_paths_of_all_parts_become_absolute_and_names_stay(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "prior").mkdir()
    (tmp_path / "main").mkdir()
    given = {"generator.name": "ld3m", "generator.options.prior": "prior", "generator.options.class_map": "map.yaml"}
    config = completed(resolve(settings={**given, "data.options.root": "there"}.items()))
    assert config.generator.options["prior"] == str(tmp_path / "prior")
    assert config.generator.options["class_map"] == str(tmp_path / "map.yaml")
    assert config.data.options["root"] == str(tmp_path / "there")
    for name in ("embedded", "owner/name"):
        more = {**given, "generator.options.prior": name, "generator.options.revision": "main"}
        options = completed(resolve(settings=more.items())).generator.options
        assert (options["prior"], options["revision"]) == (name, "main")


def test_a_part_of_a_root_stays_a_part(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = completed(resolve(settings=[("data.name", "imagefolder:a"), ("data.options.root", "b")]))
    assert (config.data.name, config.data.options["root"]) == ("imagefolder:a", str(tmp_path / "b"))
    other = moved(config, [("data.options.root", "c")])
    assert (other.data.name, other.data.options["root"]) == ("imagefolder:a", str(tmp_path / "c"))
    other = moved(config, [("data.name", "imagefolder:c")])
    assert (other.data.name, other.data.options["root"]) == (f"imagefolder:{tmp_path / 'c'}", None)


def test_no_place_identifies_a_run():
    config = completed(resolve(settings=[("generator.name", "ld3m"), ("data.name", "imagefolder:a")]))
    elsewhere = moved(
        config,
        [("data.name", "imagefolder:b"), ("generator.options.prior", "/p"), ("generator.options.class_map", "/m")],
    )
    assert digest(elsewhere) == digest(config)
    assert decisive(elsewhere) == decisive(config)
    other = resolve(
        settings=[("generator.name", "ld3m"), ("data.name", "imagefolder:a"), ("data.options.image_size", 8)]
    )
    assert digest(completed(other)) != digest(config)
    full = [completed(resolve(settings=[("data.name", f"fashion-mnist:{part}")])) for part in ("full", "embedded")]
    assert digest(full[0]) != digest(full[1])  # this argument names what is read, not where it lies


@pytest.mark.parametrize(
    "named",
    [
        pytest.param(["--data", "imagefolder:moved"], id="--data", marks=pytest.mark.slow),
        pytest.param(["-D", "root=moved"], id="-D root"),
        pytest.param(["--set", "data.options.root=moved"], id="--set", marks=pytest.mark.slow),
        pytest.param([], id="config.yaml", marks=pytest.mark.slow),
    ],
)
def test_data_that_has_moved_is_named_and_the_run_goes_on(started, pictures, ld3m, tmp_path, named):
    shutil.copytree(started, tmp_path / "straight")
    assert ld3m("distill", "--resume", "straight").code == 0
    pictures.rename(tmp_path / "moved")
    refused = ld3m("distill", "--resume", "run")
    assert refused.code == 1
    assert str(pictures) in refused.error
    assert "--resume run --data imagefolder:NEW" in refused.error
    if not named:
        with_more_steps(started, name=f"imagefolder:{tmp_path / 'moved'}")
    resumed = ld3m("distill", "--resume", "run", *named)
    assert resumed.code == 0, resumed.err
    assert data_of(started)["name"] == f"imagefolder:{tmp_path / 'moved'}"
    assert data_of(started)["options"]["root"] is None
    images = [DistilledSet.load(tmp_path / name).images for name in ("straight", "run")]
    assert torch.equal(*images)


@pytest.mark.slow
def test_the_same_run_goes_on_from_another_folder(started, new_process, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    code = "import os, sys; os.chdir('elsewhere'); from ld3m_plugin import cli; sys.argv = ['ld3m', *sys.argv[1:]]; cli.main()"
    site = type("There", (), {"folder": tmp_path / "site"})
    done = new_process("-c", code, "distill", "--resume", "../run", site=site)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "change",
    ["pixels", "one pixel of the last", "test", "swapped files", pytest.param("exchanged", marks=pytest.mark.slow)],
)
def test_other_pictures_are_refused(started, pictures, ld3m, change):
    train = pictures / "train"
    if change == "exchanged":
        for one, other in (("cat", "x"), ("dog", "cat"), ("x", "dog")):
            for split in ("train", "test"):
                (pictures / split / one).rename(pictures / split / other)
    elif change == "swapped files":
        for one, other in (("0", "x"), ("1", "0"), ("x", "1")):
            (train / "cat" / f"{one}.png").rename(train / "cat" / f"{other}.png")
    else:
        path = {"pixels": train / "cat" / "0.png", "test": pictures / "test" / "dog" / "1.png"}.get(
            change, train / "dog" / "2.png"
        )
        pixels = numpy.array(Image.open(path))
        pixels[0, 0, 0] ^= 1
        Image.fromarray(pixels).save(path)
    before = (started / "config.yaml").read_bytes()
    for named in ([], ["--data", f"imagefolder:{pictures}/../pictures"]):
        refused = ld3m("distill", "--resume", "run", *named)
        assert (refused.code, str(pictures) in refused.error) == (1, True)
        assert ("exchanged" in refused.error) == (change == "exchanged")
        assert (started / "config.yaml").read_bytes() == before
    assert not (started / "checkpoints" / "step-000004").exists()


def test_files_that_changed_and_pixels_that_did_not_are_the_same_data(started, pictures, ld3m):
    for path in list(pictures.rglob("*.png")):
        Image.open(path).save(path.with_suffix(".bmp"))
        path.unlink()
    assert ld3m("distill", "--resume", "run").code == 0


def test_a_record_without_digests_is_of_the_same_data(started, pictures, ld3m):
    record = json.loads((started / "environment.json").read_text())
    del record["data"]["images"]
    (started / "environment.json").write_text(json.dumps(record))
    path = pictures / "train" / "cat" / "0.png"
    Image.new("RGB", (8, 8)).save(path)
    assert ld3m("distill", "--resume", "run").code == 0


@pytest.mark.parametrize(
    ("given", "named"),
    [
        (["-D", "split_seed=1"], "-D split_seed"),
        (["-G", "init=noise"], "-G init"),
        (["-O", "batch_real=2"], "-O batch_real"),
        (["--steps", "9"], "steps"),
        (["-g", "ld3m"], "generator.name"),
        (["--set", "seed=3"], "seed"),
        (["--skip-unreadable"], "-D skip_unreadable"),
        (["--data", "fashion-mnist:embedded"], "fashion-mnist:embedded"),
        (["--out", "there"], "--out"),
        (["--preset", "default"], "--preset"),
    ],
)
def test_what_is_no_place_is_refused_and_named(started, ld3m, given, named):
    before = (started / "config.yaml").read_bytes()
    refused = ld3m("distill", "--resume", "run", *given)
    assert (refused.code, named in refused.error) == (2, True), refused.err
    assert (started / "config.yaml").read_bytes() == before


@pytest.mark.slow
def test_a_file_among_the_options_is_known_by_its_content(pictures, ld3m, tmp_path):
    (tmp_path / "target").write_text("one")
    assert ld3m(*DISTIL, "--data", "imagefolder:pictures", "-O", "target=target").code == 0
    with_more_steps(tmp_path / "run")
    (tmp_path / "target").rename(tmp_path / "moved")
    missing = ld3m("distill", "--resume", "run")
    assert (missing.code, "-O target=NEW" in missing.error) == (1, True)
    (tmp_path / "other").write_text("two")
    refused = ld3m("distill", "--resume", "run", "-O", "target=other")
    assert (refused.code, "target_sha256" in refused.error) == (1, True)
    assert ld3m("distill", "--resume", "run", "-O", "target=moved").code == 0


def test_a_checkpoint_of_version_0_1_goes_on_at_another_place(started, pictures, ld3m, tmp_path):
    # That version wrote the path as it was typed, and counted it as a setting.
    with_more_steps(started, name="imagefolder:pictures")
    state = started / "checkpoints" / "step-000002" / "state.safetensors"
    tensors, _ = read_tensors(state, ArtefactError)
    write_tensors(state, tensors, {"settings": former_digest(read_config(started))})
    pictures.rename(tmp_path / "moved")
    assert ld3m("distill", "--resume", "run", "--data", "imagefolder:moved").code == 0
    assert data_of(started)["name"] == f"imagefolder:{tmp_path / 'moved'}"


def test_an_option_that_decides_is_named_beside_the_places():
    config = resolve(settings=[("generator.name", "ld3m")])
    with pytest.raises(UsageError, match=r"-G eta\b.*-G prior"):
        moved(config, [("generator.options.eta", 0.5)])
    assert moved(config, []) == config


@pytest.mark.slow
@pytest.mark.parametrize(
    ("generator", "option", "shipped", "more"),
    [
        ("autoencoder", "prior", EMBEDDED / "fashion-mnist", []),
        ("glad", "network", SHIPPED["embedded"], []),
        ("glad", "network", SHIPPED["embedded"], ["-G", "weights=random"]),
    ],
)
def test_a_prior_that_has_moved_is_named_and_another_is_refused(site, ld3m, tmp_path, generator, option, shipped, more):
    site.add("mean-objective", {"mean_objective": MEAN})
    shutil.copytree(shipped, tmp_path / "prior")
    start = [
        "distill",
        "-o",
        "mean",
        "--steps",
        "1",
        "--no-evaluate",
        "--data",
        "fashion-mnist:embedded",
        "--out",
        "run",
    ]
    assert ld3m(*start, "-g", generator, "-G", f"{option}=prior", *more).code == 0
    (tmp_path / "prior").rename(tmp_path / "moved")
    refused = ld3m("distill", "--resume", "run")
    assert (refused.code, f"-G {option}=NEW" in refused.error) == (1, True)
    shutil.copytree(tmp_path / "moved", tmp_path / "other")
    with (tmp_path / "other" / "prior.json").open("a") as file:
        file.write(" ")
    refused = ld3m("distill", "--resume", "run", "-G", f"{option}=other")
    assert (refused.code, "_sha256" in refused.error) == (1, True)
    assert ld3m("distill", "--resume", "run", "-G", f"{option}=moved").code == 0
    assert read_config(tmp_path / "run").generator.options[option] == str(tmp_path / "moved")
