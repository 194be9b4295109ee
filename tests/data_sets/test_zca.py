"""ZCA whitening: the published map, seen by everything, undone in pictures, kept with what was made from whitened data."""

import json
from dataclasses import replace

import numpy
import pytest
import torch
from kornia.enhance import ZCAWhitening
from safetensors.torch import load_file, save_file

from ld3m_plugin.artefact.distilled_set import WHITENING, DistilledSet
from ld3m_plugin.data.data_settings import absolute_data
from ld3m_plugin.data.identity import data_difference, data_facts, task_digest
from ld3m_plugin.data.load import load_task
from ld3m_plugin.data.memory import InMemoryImages
from ld3m_plugin.data.zca import EPS, whitened
from ld3m_plugin.errors import ArtefactError, DataError
from ld3m_plugin.evaluation import evaluate
from ld3m_plugin.evaluation.protocols import get_protocol
from ld3m_plugin.evaluation.same_data import check_data
from ld3m_plugin.evaluation.test_images import TestImages
from ld3m_plugin.exports.imported_set import import_tensors
from ld3m_plugin.generators.imaging import PictureSpace
from ld3m_plugin.objectives.mtt.store import ExpertSettings
from ld3m_plugin.objectives.mtt.store.store_identity import key_of
from ld3m_plugin.runs.start_pictures import read_start
from ld3m_plugin.synthetic.own_generator import ModuleGenerator
from ld3m_plugin.testing import tiny_task

DATA = "fashion-mnist:embedded"


@pytest.fixture(scope="module")
def plain():
    return tiny_task(channels=3, image_size=8, train=100)


@pytest.fixture(scope="module")
def task(plain):
    return whitened(plain)


def every(task, images=None):
    """All images of a split, as networks see them."""
    images = images or task.train
    return torch.cat([task.normalise(images.read(k, torch.arange(n))) for k, n in enumerate(images.counts())])


def test_the_map_is_kornias_of_the_normalised_training_images(plain, task):
    kornias = ZCAWhitening(eps=EPS, compute_inv=True).fit(every(plain).double())
    for split in ("train", "test"):
        expected = kornias(every(plain, getattr(plain, split)).double())
        assert (every(task, getattr(task, split)) - expected).abs().max() < 1e-5
    assert (task.whitening._inverse - kornias.transform_inv).abs().max() < 1e-5


def test_fewer_images_than_pixels_and_pixels_without_variance_are_whitened():
    few = replace(
        tiny_task(image_size=8), train=InMemoryImages([torch.full((3, 1, 8, 8), 7, dtype=torch.uint8)] * 3, "x")
    )
    made = every(whitened(few))
    assert made.abs().max() < 1e-5  # nothing but the mean


def test_whitened_pixels_have_the_variance_that_eps_leaves_and_no_correlation(plain, task):
    variances = torch.linalg.eigvalsh(every(plain).flatten(1).double().T.cov())
    after = torch.linalg.eigvalsh(every(task).flatten(1).double().T.cov())
    assert torch.allclose(after, variances / (variances + EPS), atol=1e-5)


def test_denormalising_undoes_it(plain, task):
    pixels = every(plain) * 0.25 + 0.5
    assert (task.denormalise(every(task)) - pixels).abs().max() < 1e-5
    assert (task.unwhitened(every(task)) - every(plain)).abs().max() < 1e-5


def test_images_that_are_normalised_already_are_whitened_too(plain, task):
    given = InMemoryImages(list(every(plain).split(100)), "x", normalised=True)
    assert torch.equal(every(replace(task, train=given)), every(task))


@pytest.mark.slow
def test_the_test_set_and_held_out_images_take_no_part_in_the_fit():
    one = load_task(DATA, zca=True, select_on="validation", image_size=8)
    other = whitened(replace(load_task(DATA, select_on="validation", image_size=8), test_images=None))
    assert torch.equal(one.whitening.matrix, other.whitening.matrix)
    assert not torch.equal(one.whitening.matrix, load_task(DATA, zca=True, image_size=8).whitening.matrix)


def test_it_goes_with_the_task_and_is_the_same_each_time(plain, task):
    for made in (task.for_training(), task.to("cpu"), whitened(plain), whitened(task)):
        assert torch.equal(every(made), every(task))


def test_gradients_pass_even_after_a_use_in_inference_mode(plain):
    made = whitened(plain)
    with torch.inference_mode():
        made.denormalise(every(made))
    images = every(plain)[:2].requires_grad_()
    made.whitened(images).sum().backward()
    matrix = made.whitening.matrix
    assert torch.allclose(images.grad.flatten(1), matrix.sum(1).expand(2, -1), atol=1e-4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(made.whitened(every(plain)), every(made))


@pytest.mark.parametrize("clamp", ["none", "hard", "straight-through"])
def test_renders_are_whitened_as_real_images_are(plain, task, clamp):
    space, pictures = PictureSpace(task, 3, clamp), (every(plain) * 0.25 + 0.5) * 2 - 1
    assert (space.images(pictures) - every(task)).abs().max() < 1e-5
    assert (space.pictures(every(task)) - pictures).abs().max() < 1e-5
    assert (space.clamped(every(task)) - every(task)).abs().max() < 1e-5
    if clamp != "none":
        beyond = space.clamped(task.whitened(every(plain) * 5))
        assert task.denormalise(beyond).min() > -1e-5
        assert task.denormalise(beyond).max() < 1 + 1e-5


def test_a_module_of_ones_own_gives_pictures_that_are_whitened(plain, task):
    pixels = every(plain)[:3] * 0.25 + 0.5
    module = ModuleGenerator(torch.nn.Identity(), {"x": pixels}, output="0 to 1")
    module.prepare(task)
    made = module.render(module.initial_latents(task, torch.arange(3), torch.Generator()))
    assert (made - every(task)[:3]).abs().max() < 1e-5


@pytest.mark.parametrize(("channels", "size"), [(3, 65), (1, 128)])
def test_large_images_are_refused(channels, size):
    with pytest.raises(DataError, match=r"zca=true: .* at most 12288 \(3x64x64\)"):
        whitened(tiny_task(channels=channels, image_size=size, train=1))


def test_one_image_alone_is_refused():
    with pytest.raises(DataError, match="at least two"):
        whitened(tiny_task(classes=1, train=1))


def test_records_tell_whitened_data_and_stay_as_they_were_without(plain, task):
    assert "zca" not in data_facts(plain)
    assert data_difference(data_facts(plain), task) == "with ZCA whitening"
    assert data_difference(data_facts(task), plain) == "without ZCA whitening"
    assert data_difference(data_facts(task), whitened(plain)) is None
    assert task_digest(task) != task_digest(plain)
    assert "zca" not in absolute_data(DATA, {"zca": False})["options"]
    assert absolute_data(DATA, {"zca": True})["options"]["zca"] is True


def test_experts_of_whitened_data_have_a_key_of_their_own(plain, task):
    settings = ExpertSettings()
    assert key_of(task, settings) == key_of(whitened(plain), settings) != key_of(plain, settings)


@pytest.mark.parametrize("is_named", [False, True])
def test_a_set_is_evaluated_on_data_that_is_whitened_alike(plain, task, is_named):
    for one, other, word in ((plain, task, "false"), (task, plain, "true")):
        metadata = {"class_names": list(one.class_names), "data": data_facts(one)}
        assert check_data(metadata, one, is_named) is None
        with pytest.raises(ArtefactError, match=f"-D zca={word}"):
            check_data(metadata, other, is_named)


def test_networks_are_tested_on_whitened_images(task):
    assert torch.equal(torch.cat(list(TestImages(task, None).batches())), every(task, task.test))


def whitened_set(task):
    images, facts = every(task)[::100], data_facts(task)
    metadata = {
        "class_names": list(task.class_names),
        "mean": [0.5] * 3,
        "std": [0.25] * 3,
        "data": {"name": "x", **facts},
    }
    return DistilledSet(images, torch.arange(3), metadata, whitening=task.whitening)


def test_the_artefact_keeps_the_map(plain, task, tmp_path):
    original = whitened_set(task)
    original.save(tmp_path)
    loaded = DistilledSet.load(tmp_path)
    assert torch.equal(loaded.images, original.images)
    assert torch.equal(loaded.denormalised(), original.denormalised())
    assert (loaded.denormalised() - (every(plain)[::100] * 0.25 + 0.5)).abs().max() < 1e-5
    assert "ZCA-whitened" in (tmp_path / "README.md").read_text()


def test_whitened_tensors_of_another_program_are_read_with_the_map_of_the_data(plain, task, tmp_path):
    torch.save(every(task)[::100], tmp_path / "images.pt")
    torch.save(torch.arange(3), tmp_path / "labels.pt")
    files = tmp_path / "images.pt", tmp_path / "labels.pt"
    made = import_tensors(*files, task.mean, task.std, task=replace(task, name=DATA))
    made.save(tmp_path / "set")
    pictures = DistilledSet.load(tmp_path / "set").denormalised()
    assert (pictures - (every(plain)[::100] * 0.25 + 0.5)).abs().max() < 1e-5
    with pytest.raises(ArtefactError, match="-D zca=true"):
        import_tensors(*files, [0.4] * 3, task.std, task=replace(task, name=DATA))


def _missing(path):
    path.unlink()


def _of_others(path):
    save_file({"mean": torch.zeros(2), "matrix": torch.eye(2)}, path)


def _not_finite(path):
    save_file({**load_file(path), "mean": torch.full((192,), torch.nan)}, path)


@pytest.mark.parametrize(("damage", "said"), [(_missing, "missing"), (_of_others, "matrix"), (_not_finite, "finite")])
def test_an_artefact_without_its_map_is_refused(task, tmp_path, damage, said):
    whitened_set(task).save(tmp_path)
    damage(tmp_path / WHITENING)
    with pytest.raises(ArtefactError, match=f"{WHITENING} .*{said}"):
        DistilledSet.load(tmp_path)


@pytest.mark.slow
def test_a_run_on_whitened_data_is_evaluated_shown_and_exported(ld3m, tmp_path):
    small = ("-O", "network_settings={width: 8}", "-O", "batch_real=8", "-O", "dsa=color_crop_flip")
    data = ("--data", DATA, "-D", "zca=true", "-D", "image_size=16", "--out", "run")
    run = ld3m("distill", "-g", "pixel", "-o", "dm", *small, "--steps", "2", "--no-evaluate", *data)
    assert run.code == 0, run.err
    task, plain = (load_task(DATA, zca=zca, image_size=16) for zca in (True, False))
    distilled = DistilledSet.load(tmp_path / "run")
    assert torch.equal(distilled.whitening.matrix, task.whitening.matrix)
    assert distilled.metadata["value_range"].endswith("then whitened, not clipped")
    pictures = distilled.denormalised()
    assert torch.equal(pictures, task.denormalise(distilled.images).clamp(0, 1))
    start = torch.stack([picture for _, picture in sorted(read_start(tmp_path / "run").items())])
    real = torch.cat([plain.train.read(k, torch.arange(n)) for k, n in enumerate(plain.train.counts())])
    assert all(any(torch.equal((one * 255).round(), other) for other in real.float()) for one in start)
    assert 0 < (pictures - start).abs().mean() < 0.2

    short = get_protocol("quick").model_copy(update={"epochs": 2})
    found = evaluate(distilled, task, protocol=short, networks=["ConvNet"], repeats=1, test_per_class=20)
    assert [row.images for row in found.rows] == ["distilled", "random real"]
    refused = ld3m("evaluate", "run", "-D", "zca=false")
    assert (refused.code, "-D zca=true" in refused.error) == (1, True)
    assert "zca=true" in ld3m("export", "run", "--to", "latents", "--out", "latents").error
    assert ld3m("export", "run", "--to", "npz", "--out", "arrays.npz").code == 0
    with numpy.load(tmp_path / "arrays.npz") as arrays:
        assert numpy.array_equal(arrays["zca_matrix"], task.whitening.matrix.numpy())
    assert json.loads((tmp_path / "run" / "environment.json").read_text())["data"]["zca"] is True
