"""Fine-tuning: a training that starts from the weights of another prior, and says so."""

import json
import shutil
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from ld3m_plugin.errors import HostError, InvalidOptionError, PriorError
from ld3m_plugin.generators.ld3m.ldm_folder import digest
from ld3m_plugin.generators.ld3m.training.ldm_training_options import LAYOUT, LdmTrainingOptions
from ld3m_plugin.generators.ld3m.training.starting_prior import starting_prior
from ld3m_plugin.priors.prior_json import read_json
from ld3m_plugin.testing import tiny_task

TASK = tiny_task(image_size=8)
#: Of its three classes, two are the prior's in another order and in another spelling.
OTHER = replace(TASK, class_names=("Class_2", "new", "class 0"))
#: So small that no weight changes.
STILL = {"autoencoder_rate": 1e-12, "rate": 1e-12}


def one_line(error):
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.fixture(scope="module")
def finetuned(trained, tmp_path_factory, tiny):
    """A training of `OTHER` from the finished prior that changes no weight."""
    out = tmp_path_factory.mktemp("finetuned") / "prior"
    return out, tiny.train(out, OTHER, finetune=str(trained[0]), licence=None, **STILL)


@pytest.fixture
def changed(trained, tmp_path):
    """The finished prior in a folder of the test's own."""
    return shutil.copytree(trained[0], tmp_path / "changed")


@pytest.mark.slow
def test_it_starts_from_the_weights_and_from_the_classes_of_the_same_name(finetuned, trained, tiny):
    for name in tiny.WEIGHTS[:2]:
        made, start = load_file(finetuned[0] / name), load_file(trained[0] / name)
        assert made.keys() == start.keys()
        for key, tensor in start.items():
            torch.testing.assert_close(made[key], tensor, atol=1e-6, rtol=0, msg=key)
    rows, start = (load_file(folder / tiny.WEIGHTS[2])["weight"] for folder in (finetuned[0], trained[0]))
    torch.testing.assert_close(rows[[0, 2, 3]], start[[2, 0, 3]], atol=1e-6, rtol=0)  # the last one is "no class"
    assert (rows[1] - start).abs().amax(1).min() > 0.1


@pytest.mark.slow
def test_records_say_what_it_started_from_and_name_no_folder(finetuned, trained):
    out, notes = finetuned
    sha256, facts, record = digest(trained[0]), read_json(out / "prior.json"), read_json(out / "training.json")
    saw = "trained with `ld3m prior train ldm` on 36 images of tiny, seed 0"
    assert facts["source"] == f"{saw}; fine-tuned from prior (SHA-256 {sha256[:12]}): {saw}"
    assert record["started_from"] == {"name": "prior", "sha256": sha256, "source": saw, "licence": None}
    assert record["options"]["finetune"] == "prior"
    assert any("fine-tuning prior" in line for line in notes.said)
    for path in out.rglob("*.*"):
        assert str(trained[0].parent).encode() not in path.read_bytes(), path.name


def test_a_prior_of_random_weights_says_of_no_start(trained):
    record = read_json(trained[0] / "training.json")
    assert "started_from" not in record
    assert record["options"]["finetune"] is None


@pytest.mark.slow
@pytest.mark.parametrize(("given", "stated"), [(None, "CC-BY-4.0"), ("MIT", "MIT")])
def test_the_licence_is_that_of_the_start_unless_another_is_stated(changed, tmp_path, tiny, given, stated):
    facts = read_json(changed / "prior.json")
    (changed / "prior.json").write_text(json.dumps({**facts, "licence": "CC-BY-4.0"}))
    out = tmp_path / "prior"
    tiny.train(out, finetune=str(changed), licence=given, autoencoder_steps=1, steps=1)
    assert read_json(out / "prior.json")["licence"] == stated
    assert read_json(out / "training.json")["started_from"]["licence"] == "CC-BY-4.0"


@pytest.mark.slow
def test_a_stopped_one_gives_the_same_bits(trained, tmp_path, tiny):
    start = {"finetune": str(trained[0])}
    tiny.train(tmp_path / "whole", **start)
    for name in ("autoencoder", "denoiser"):
        with pytest.raises(KeyboardInterrupt):
            tiny.train(tmp_path / "prior", notes=tiny.Notes((name, 3)), **start)
    tiny.train(tmp_path / "prior", **start)
    assert tiny.same_weights(tmp_path / "prior", tmp_path / "whole")
    assert not tiny.same_weights(tmp_path / "prior", trained[0])


@pytest.mark.slow
def test_a_state_of_another_start_is_refused(trained, copy, tiny):
    with pytest.raises(PriorError, match=r"finetune was null, now \"prior \(SHA-256 [0-9a-f]{12}\)\"") as error:
        tiny.train(copy, finetune=str(trained[0]))
    one_line(error)


@pytest.mark.slow
def test_the_weights_decide_whether_the_start_is_another(changed, tmp_path, tiny):
    out, file = tmp_path / "prior", changed / tiny.WEIGHTS[2]
    with pytest.raises(KeyboardInterrupt):
        tiny.train(out, notes=tiny.Notes(("autoencoder", 2)), finetune=str(changed))
    moved = changed.rename(tmp_path / "moved")
    with pytest.raises(KeyboardInterrupt):
        tiny.train(out, notes=tiny.Notes(("autoencoder", 3)), finetune=str(moved))
    moved.rename(changed)
    save_file({"weight": load_file(file)["weight"] + 1}, file)
    for start in (str(changed), None):
        with pytest.raises(PriorError, match="finetune was") as error:
            tiny.train(out, finetune=start)
        one_line(error)


@pytest.mark.parametrize(
    ("task", "options", "words"),
    [
        (TASK, {"channels": (16,), "heads": 4}, ["channels = (8,), not (16,)", "heads = 2, not 4", "leave"]),
        (TASK, {"prediction": "epsilon"}, ["prediction = v_prediction, not epsilon"]),
        (tiny_task(image_size=16), {}, ["of 8 pixels", "of 16 pixels", "-D image_size=8"]),
        (tiny_task(image_size=8, channels=3), {}, ["gray images", "colour images", "-D grayscale=true"]),
        (
            tiny_task(image_size=64, channels=3),
            {},
            ["-D grayscale=true -D image_size=8, or -S finetune=embedded-emoji"],
        ),
    ],
    ids=["two options", "prediction", "size", "channels", "both"],
)
def test_options_and_data_that_do_not_fit_are_refused_before_any_work(trained, tmp_path, tiny, task, options, words):
    with pytest.raises(InvalidOptionError) as error:
        tiny.train(tmp_path / "prior", task, finetune=str(trained[0]), **options)
    assert all(word in one_line(error) for word in words)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("part", "change", "words"),
    [
        ("vae", {"act_fn": "relu"}, "vae/config.json has act_fn = 'relu'"),
        ("unet", {"freq_shift": 1}, "unet/config.json has freq_shift = 1"),
        ("unet", {"attention_head_dim": [2]}, "is of a layout that is not trained here"),
        ("unet", {"_class_name": "UNet2DModel"}, "_class_name is 'UNet2DModel'"),
        ("scheduler", {"beta_end": 0.02}, "another noise schedule"),
    ],
    ids=["autoencoder", "U-Net", "layout", "class", "schedule"],
)
def test_other_models_are_refused(changed, part, change, words):
    path = changed / part / ("scheduler_config.json" if part == "scheduler" else "config.json")
    path.write_text(json.dumps({**read_json(path), **change}))
    with pytest.raises(HostError) as error:
        starting_prior(TASK, LdmTrainingOptions(finetune=str(changed)))
    assert words in one_line(error)


@pytest.mark.slow
def test_the_shipped_priors_decide_the_layout():
    task = tiny_task(image_size=64, channels=3)
    options, prior = starting_prior(task, LdmTrainingOptions(finetune="embedded-emoji", size="tiny"))
    assert (options.latent_channels, options.autoencoder_channels) == (8, (16, 32, 64, 64))
    assert (options.factor, options.fitted(64)) == (8, options)
    assert prior.facts.null_class == 40
    assert starting_prior(task, options)[0] == options  # what a record holds is taken again
    gray = starting_prior(tiny_task(image_size=32), LdmTrainingOptions(finetune="embedded", size="tiny"))[0]
    assert (gray.latent_channels, gray.factor) == (4, 4)


def test_sizes_make_fewer_updates_and_choose_no_layout():
    for size in LdmTrainingOptions.sizes:
        tuned, alone = LdmTrainingOptions(size=size, finetune="x"), LdmTrainingOptions(size=size)
        assert tuned.autoencoder_steps < alone.autoencoder_steps
        assert tuned.steps < alone.steps
        assert not tuned.model_fields_set & set(LAYOUT)
    assert LdmTrainingOptions(size="tiny", finetune="x", steps=7).steps == 7
    assert LdmTrainingOptions(finetune="x") == LdmTrainingOptions(size="base", finetune="x")
