"""Training of a latent diffusion prior on tiny models: the folder, its report, pictures and samples."""

import json
from dataclasses import replace

import numpy
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from ld3m_plugin.artefact.captions import LINE
from ld3m_plugin.backends import get_generator
from ld3m_plugin.distillation.rendering import render
from ld3m_plugin.generators.ld3m.ldm_folder import digest
from ld3m_plugin.generators.ld3m.ldm_prior import load_prior
from ld3m_plugin.generators.ld3m.prior_samples import draw_samples
from ld3m_plugin.generators.ld3m.training.ldm_training_options import LdmTrainingOptions
from ld3m_plugin.priors.service import describe_prior
from ld3m_plugin.randomness import stream
from ld3m_plugin.testing import check_generator, tiny_task

TASK = tiny_task(image_size=8)
CLASSIFIER, SAMPLES = "quality report: classifier", "quality report: samples"


@pytest.mark.slow
def test_the_prior_is_read_and_rendered_from(trained, started):
    out, notes = trained
    prior = load_prior(out)
    assert [known.name for known in prior.facts.classes] == ["class 0", "class 1", "class 2"]
    assert (prior.facts.null_class, prior.class_embedding.shape) == (3, (4, 8))
    assert prior.codec.factor == 2
    assert json.loads((out / "scheduler" / "scheduler_config.json").read_text())["prediction_type"] == "v_prediction"
    check_generator(lambda: get_generator("ld3m", prior=str(out), steps=2), TASK)
    assert "3 and a null class: class 0, class 1, class 2" in describe_prior(out, kind="ldm")["classes"]
    assert notes.phases == [("autoencoder", 4, 0), ("denoiser", 4, 0), (CLASSIFIER, 4, 0), (SAMPLES, 3, 0)]


def test_latents_of_the_training_images_are_normalised(trained):
    codec = load_prior(trained[0]).codec
    images = torch.cat([TASK.train.read(k, torch.arange(12)) for k in range(3)])
    with torch.no_grad():
        latents = codec.encode(images / 127.5 - 1)
    std, mean = torch.std_mean(latents, dim=(0, 2, 3))
    torch.testing.assert_close(mean, torch.zeros(4), atol=1e-5, rtol=0)
    torch.testing.assert_close(std, torch.ones(4), atol=1e-5, rtol=0)


@pytest.mark.slow
def test_the_averaged_weights_are_stored(tmp_path, tiny):
    # Second form: every state of the way is kept, and the average is worked out from them.
    out, way = tmp_path / "prior", {"autoencoder": [], "denoiser": []}

    class Keeps(tiny.Notes):
        def step(self, done, values):
            super().step(done, values)
            if done > 1 and (name := self.phases[-1][0]) in way:
                way[name].append(load_file(tiny.states(out) / f"{name}.safetensors"))

    tiny.train(out, notes=Keeps(), save_every=1, ema=0.5)
    for name, kept in way.items():
        kept.append(load_file(tiny.states(out) / f"{name}.safetensors"))
        assert len(kept) == 4
        for key, tensor in stored_as_in_states(tiny.WEIGHTS, out, name).items():
            average = kept[0][key].double()  # the first decay is zero
            for update, state in enumerate(kept[1:], 2):
                decay = min(0.5, 1 - update**-0.75)  # 0.41, then 0.5
                average = decay * average + (1 - decay) * state[key].double()
            torch.testing.assert_close(tensor.double(), average, atol=1e-6, rtol=1e-5)


def stored_as_in_states(weights, out, phase):
    """The weights of a finished prior by their names in the states of that phase."""
    if phase == "autoencoder":
        return {f"model.autoencoder.{key}": tensor for key, tensor in load_file(out / weights[1]).items()}
    unet = {f"model.unet.{key}": tensor for key, tensor in load_file(out / weights[0]).items()}
    return {**unet, "model.embedding.weight": load_file(out / weights[2])["weight"]}


def test_the_report_holds_what_it_should(trained):
    out, notes = trained
    quality = json.loads((out / "quality.json").read_text())
    # 200 samples a class are the default, and there are 12 images a class.
    assert (quality["samples"], quality["test_images"], quality["reconstruction"]["images"]) == (36, 12, 12)
    assert [row["name"] for row in quality["classes"]] == ["class 0", "class 1", "class 2"]
    for row in [quality["overall"], *quality["classes"]]:
        assert 0 <= row["accuracy"] <= 100
        assert 0 <= row["real_accuracy"] <= 100
        assert row["spread"] > 0
    accuracies = [row["accuracy"] for row in quality["classes"]]
    assert quality["overall"]["accuracy"] == pytest.approx(sum(accuracies) / 3)
    assert quality["frechet"] > quality["real_frechet"] > 0  # four updates make no good prior
    assert 0 < quality["reconstruction"]["mse"] < 1
    assert quality["sampling"] == {"guidance_scale": 2.0, "sample_steps": 2}
    assert (quality["data"], quality["train_images"]) == ("tiny", 36)
    assert quality["prior_sha256"] == digest(out)
    assert (quality["judge"]["epochs"], quality["judge"]["least_steps"]) == (1, 4)
    table = (out / "quality.md").read_text()
    assert set(notes.said) >= {line for line in table.splitlines() if line and not line.startswith("![")}
    assert any("can be used already" in line for line in notes.said)
    assert "| class 2 " in table
    assert "Fréchet distance" in table


@pytest.mark.slow
def test_nothing_that_is_shared_names_a_folder_of_the_users(tmp_path, tiny):
    task = replace(TASK, name=f"imagefolder:{tmp_path}/birds/", source=f"imagefolder {tmp_path}/birds")
    tiny.train(tmp_path / "prior", task, autoencoder_steps=1, steps=1)
    for path in (tmp_path / "prior").rglob("*.*"):
        assert str(tmp_path).encode() not in path.read_bytes(), path.name
    for name in ("quality.json", "training.json"):
        assert json.loads((tmp_path / "prior" / name).read_text())["data"] == "imagefolder:birds"


def test_the_record_gives_the_options_back(trained, tiny):
    record = json.loads((trained[0] / "training.json").read_text())
    assert LdmTrainingOptions.model_validate(record["options"]) == LdmTrainingOptions(**tiny.OPTIONS)
    assert (record["seed"], record["data"], record["images"]) == (0, "tiny", 36)
    assert record["seconds"].keys() == {"autoencoder", "denoiser"}
    assert record["versions"]["diffusers"]


def test_pictures_have_a_row_for_each_class(trained, tiny):
    pictures = [trained[0] / "samples.png", tiny.states(trained[0]) / "samples-000004.png"]
    # 8 pixels enlarged to 96, and a gap; three real images and eight samples, with the names of rows and columns.
    sizes = [size_of(path) for path in pictures]
    assert sizes[0] == sizes[1]
    assert sizes[0][0] > 11 * 100 + 4
    assert sizes[0][1] == LINE + 3 * 100 + 4
    # A test image of each class, and its reconstruction below it.
    strip = Image.open(trained[0] / "reconstruction.png")
    left, top = strip.width - 3 * 100, LINE + 4
    real = TASK.test.read(0, torch.arange(1))[0].float() / 255
    shown = torch.from_numpy(numpy.array(strip.crop((left, top, left + 96, top + 96))))[::12, ::12] / 255
    assert (shown - real[0]).abs().max() < 1 / 255
    assert strip.height == LINE + 2 * 100 + 4
    assert sorted(path.name for path in tiny.states(trained[0]).iterdir()) == [
        "autoencoder.safetensors",
        "denoiser.safetensors",
        "reconstruction-000004.png",
        "samples-000004.png",
    ]


def size_of(path):
    with Image.open(path) as picture:
        return picture.size


@pytest.mark.slow
def test_half_precision_is_stored_and_measured(trained, copy, tiny):
    tiny.train(copy, half=True)
    full, mse = {}, {}
    for folder in (trained[0], copy):
        tensors = [tensor for name in tiny.WEIGHTS for tensor in load_file(folder / name).values()]
        full[folder] = {tensor.dtype for tensor in tensors}
        mse[folder] = json.loads((folder / "quality.json").read_text())["reconstruction"]["mse"]
    assert list(full.values()) == [{torch.float32}, {torch.float16}]
    assert mse[copy] != mse[trained[0]]
    codec = load_prior(copy).codec
    pixels = torch.cat([TASK.test.read(k, torch.arange(4)) for k in range(3)]) / 255
    with torch.no_grad():
        decoded = (codec.decode(codec.encode(pixels * 2 - 1)) + 1) / 2
    by_hand = (decoded.clamp(0, 1).double() - pixels.double()).square().mean()
    assert mse[copy] == pytest.approx(float(by_hand), rel=1e-5)


@pytest.mark.slow
def test_losses_fall_and_the_prior_comes_closer(trained, tmp_path, tiny):
    notes = tiny.train(tmp_path / "prior", autoencoder_steps=30, steps=50, samples_every=0)
    for name, share in (("autoencoder", 0.75), ("denoiser", 0.93)):
        losses = notes.losses[name]
        assert sum(losses[-10:]) < share * sum(losses[:10]), name
    short, long = (json.loads((out / "quality.json").read_text()) for out in (trained[0], tmp_path / "prior"))
    assert long["reconstruction"]["mse"] < 0.7 * short["reconstruction"]["mse"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "options"),
    [
        (
            tiny_task(channels=3, classes=2),
            {"prediction": "epsilon", "autoencoder_channels": (8, 8, 8), "channels": (8, 16)},
        ),
        (tiny_task(image_size=8, train=2, test=2), {"prediction": "sample", "autoencoder_channels": (8,)}),
    ],
    ids=["colour", "two images a class"],
)
def test_other_tasks_are_trained_on(tmp_path, started, task, options, tiny):
    tiny.train(tmp_path / "prior", task, **{"autoencoder_steps": 2, "steps": 2, **options})
    generator = get_generator("ld3m", prior=str(tmp_path / "prior"), steps=2)
    images = render(generator, started(generator, task))
    assert images.shape[1:] == (task.channels, task.image_size, task.image_size)
    assert images.isfinite().all()


@pytest.mark.slow
def test_without_dropped_classes_there_is_no_null_class(tmp_path, tiny):
    tiny.train(tmp_path / "prior", autoencoder_steps=1, steps=1, drop_class=0.0, samples_every=1)
    prior = load_prior(tmp_path / "prior")
    assert (prior.facts.null_class, len(prior.class_embedding)) == (None, 3)


@pytest.mark.slow
def test_many_classes_are_not_all_shown(tmp_path, tiny):
    tiny.train(tmp_path / "prior", tiny_task(classes=23, image_size=8, train=2), autoencoder_steps=1, steps=1)
    assert size_of(tmp_path / "prior" / "samples.png")[1] == LINE + 20 * 100 + 4


def test_samples_are_drawn_from_the_stream_alone(trained):
    prior, labels = load_prior(trained[0]), torch.tensor([0, 2])
    one, same, other = (draw_samples(prior, TASK, labels, stream(s, "x"), 2.0, 2) for s in (0, 0, 1))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert TASK.denormalise(one).min() >= -1e-6
    assert TASK.denormalise(one).max() <= 1 + 1e-6
