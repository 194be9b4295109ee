"""The learned numbers alone: images that are rendered from them again are the same, bit for bit."""

import json

import pytest
import torch

from ld3m_plugin.artefact.distilled_set import DistilledSet
from ld3m_plugin.config import RunConfig
from ld3m_plugin.errors import ArtefactError
from ld3m_plugin.exports import distilled_from_latents, export
from ld3m_plugin.exports.latent_file import read_latents
from ld3m_plugin.runs.run import start
from ld3m_plugin.storage import read_tensors, write_tensors


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Runs a generator for two steps on embedded Fashion-MNIST; returns the folder."""

    def run(generator, images_per_class=1, **settings):
        folder = tmp_path_factory.mktemp("runs") / "run"
        objective = {"name": "dm", "options": {"batch_real": 4, "network_settings": {"width": 8}}}
        config = {
            "data": {"name": "fashion-mnist:embedded"},
            "generator": generator,
            "objective": objective,
            "images_per_class": images_per_class,
            "steps": 2,
            "device": "cpu",
            "evaluation": {"final": False},
            **settings,
        }
        start(RunConfig(**config), folder)
        return folder

    return run


@pytest.fixture(scope="module")
def pixel_run(finished):
    return finished({"name": "pixel"}, images_per_class=2)


@pytest.fixture
def made(pixel_run):
    """The set of a run with pixels."""
    return DistilledSet.load(pixel_run)


def test_pixels_come_back_as_they_were(pixel_run, made, ld3m, tmp_path):
    assert ld3m("export", pixel_run, "--to", "latents", "--out", "numbers").code == 0
    outcome = ld3m("import", "numbers.safetensors", "--out", "again")
    assert outcome.code == 0, outcome.err
    assert "bit for bit" in outcome.err
    again = DistilledSet.load(tmp_path / "again")
    assert torch.equal(again.images, made.images)
    assert torch.equal(again.labels, made.labels)
    assert again.class_names == made.class_names
    assert torch.equal(again.latents["pixels"], made.latents["pixels"])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("generator", "settings"),
    [
        ({"name": "ld3m", "options": {"steps": 3}}, {"render_batch": 3}),
        ({"name": "glad"}, {}),
        ({"name": "autoencoder"}, {"autocast": "bf16"}),
    ],
    ids=["ld3m", "glad", "autoencoder"],
)
def test_latents_of_a_prior_render_to_the_same_bits(finished, tmp_path, generator, settings):
    made = DistilledSet.load(finished(generator, **settings))
    path = export(made, "latents", tmp_path / "numbers")
    again, same = distilled_from_latents(path)
    assert same is True
    assert torch.equal(again.images, made.images)

    changed = dict(made.metadata, generator={**made.metadata["generator"]})
    digests = [name for name in changed["generator"] if name.endswith("_sha256")]
    assert digests
    changed["generator"][digests[0]] = "0" * 64
    other = export(DistilledSet(made.images, made.labels, changed, made.latents), "latents", tmp_path / "other")
    with pytest.raises(ArtefactError, match=digests[0].removesuffix("_sha256")):
        distilled_from_latents(other)


def test_halved_numbers_take_half_the_room_and_images_stay_close(made, tmp_path):
    full, half = (export(made, "latents", tmp_path / str(half), half=half) for half in (False, True))
    numbers = made.latents["pixels"].numel()
    assert full.stat().st_size - half.stat().st_size == pytest.approx(2 * numbers, abs=500)  # the header has no digest
    again, same = distilled_from_latents(half)
    assert same is None
    assert again.images.dtype == torch.float32
    assert torch.equal(again.images, made.images.half().float())


def test_numbers_beyond_half_precision_are_refused(made, tmp_path):
    made.latents["pixels"][0, 0, 0, 0] = 1e6
    with pytest.raises(ArtefactError, match="pixels"):
        export(made, "latents", tmp_path / "half", half=True)
    assert not list(tmp_path.glob("half*"))


def test_images_that_differ_are_said_to(made, ld3m, tmp_path):
    made.images[0, 0, 0, 0] += 1
    export(made, "latents", tmp_path / "numbers")
    outcome = ld3m("import", "numbers.safetensors", "--out", "again")
    assert outcome.code == 0
    assert "warning: the images differ" in outcome.err


@pytest.mark.parametrize("damage", ["cut", "another file", "header", "labels", "config", "learned"])
def test_a_damaged_file_is_one_line(made, ld3m, tmp_path, damage):
    path = export(made, "latents", tmp_path / "numbers")
    tensors, header = read_tensors(path, ArtefactError)
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-100])
    elif damage == "another file":
        write_tensors(path, {"weight": torch.zeros(3)})
    elif damage == "header":
        write_tensors(path, tensors, {**header, "metadata": "[1"})
    elif damage == "labels":
        write_tensors(path, {**tensors, "labels": tensors["labels"] + 5}, header)
    elif damage == "config":
        facts = json.loads(header["metadata"])
        del facts["config"]
        write_tensors(path, tensors, {**header, "metadata": json.dumps(facts)})
    else:
        write_tensors(path, tensors, {**header, "learned": "nosuch"})
    outcome = ld3m("import", path, "--out", "again")
    assert outcome.code == 1
    assert str(path) in outcome.error
    assert not (tmp_path / "again").exists()


def test_no_results_travel_with_the_numbers(made, tmp_path):
    made.metadata["results"] = {}
    assert "results" not in read_latents(export(made, "latents", tmp_path / "numbers")).metadata
