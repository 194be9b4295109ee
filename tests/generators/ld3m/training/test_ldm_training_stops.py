"""A stop changes no bit of a training; a state of other settings, or a damaged one, is refused."""

import shutil
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from ld3m_plugin.data.load import load_task
from ld3m_plugin.errors import PriorError, UsageError
from ld3m_plugin.generators.ld3m.ldm_prior import load_prior
from ld3m_plugin.priors.service import train_prior as train_any_prior
from ld3m_plugin.storage import read_sealed
from ld3m_plugin.testing import RandomImages, tiny_task

TASK = tiny_task(image_size=8)


def one_line(error):
    assert "\n" not in str(error.value)
    return str(error.value)


STOPS = [
    ("autoencoder", 3),
    ("autoencoder", 4),
    ("denoiser", 1),
    ("denoiser", 4),
    ("quality report: classifier", 2),
    ("quality report: samples", 1),
]


@pytest.mark.slow
def test_a_training_that_is_stopped_everywhere_gives_the_same_bits(trained, tmp_path, tiny):
    out, made = tmp_path / "prior", {"autoencoder": 0, "denoiser": 0}
    for name, step in STOPS:
        torch.manual_seed(step)  # must change nothing
        before = torch.get_rng_state()
        notes = tiny.Notes((name, step))
        with pytest.raises(KeyboardInterrupt):
            tiny.train(out, notes=notes)
        assert torch.equal(torch.get_rng_state(), before)
        begun = {phase: done for phase, _, done in notes.phases if phase in made}
        assert begun == {phase: made[phase] for phase in begun}, "an update was made twice"
        made.update({name: step} if name in made else {})
    tiny.train(out)
    assert tiny.same_weights(out, trained[0])
    for name in ("samples.png", "quality.json"):
        assert (out / name).read_bytes() == (trained[0] / name).read_bytes()


@pytest.mark.parametrize(
    ("other", "differs"),
    [
        ({"seed": 1}, "seed was 0, now 1"),
        ({"rate": 0.1}, "rate was 0.001, now 0.1"),
        ({"autoencoder_rate": 0.1}, "autoencoder_rate was 0.002, now 0.1"),
        ({"ema": 0.5, "seed": 1}, "seed was 0, now 1, ema was 0.998, now 0.5"),
        ({"task": tiny_task(image_size=8, channels=3)}, "data"),
        ({"task": tiny_task(image_size=8, train=13)}, "data"),
        ({"task": tiny_task(image_size=8, class_names=("a", "b", "c"))}, "data"),
        ({"task": replace(TASK, train=RandomImages(3, 12, 1, 8, seed=5))}, "data"),  # another split, perhaps
    ],
    ids=str,
)
def test_a_state_of_other_settings_is_refused_and_kept(copy, other, differs, tiny):
    before = {path.name: path.read_bytes() for path in tiny.states(copy).iterdir()}
    with pytest.raises(PriorError, match=differs) as error:
        tiny.train(copy, **other)
    assert ("denoiser" if "rate" in other else "autoencoder") in one_line(error)
    assert {path.name: path.read_bytes() for path in tiny.states(copy).iterdir()} == before
    assert not copy.exists()


@pytest.mark.slow
def test_the_same_data_at_another_place_goes_on(trained, copy, tiny):
    tiny.train(copy, replace(TASK, name="imagefolder:../x", source="imagefolder ../x"))
    assert tiny.same_weights(copy, trained[0])


def test_a_folder_of_the_users_is_not_written_into(tmp_path, tiny):
    out = tmp_path / "prior"
    tiny.states(out).mkdir()
    (tiny.states(out) / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match=r"prior\.training") as error:
        tiny.train(out)
    one_line(error)
    assert [path.name for path in tiny.states(out).iterdir()] == ["notes.txt"]
    shutil.rmtree(tiny.states(out))
    tiny.states(out).write_text("mine")
    with pytest.raises(UsageError, match=r"prior\.training"):
        tiny.train(out)


@pytest.mark.slow
@pytest.mark.parametrize("left", [None, "autoencoder.partial"])
def test_what_a_training_left_before_its_first_state_is_no_hindrance(trained, tmp_path, left, tiny):
    out = tmp_path / "prior"
    tiny.states(out).mkdir()
    if left:
        (tiny.states(out) / left).write_text("half a state")
    tiny.train(out)
    assert tiny.same_weights(out, trained[0])


@pytest.mark.slow
def test_what_decides_no_weight_may_change(trained, copy, tiny):
    tiny.train(copy, save_every=5, samples_every=0, guidance_scale=1.0, report_per_class=3, licence="CC0-1.0")
    assert tiny.same_weights(copy, trained[0])
    assert load_prior(copy).facts.licence == "CC0-1.0"


def damaged(path, how):
    if how == "truncated":
        path.write_bytes(path.read_bytes()[:-100])
        return
    if how == "bit":
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(content)
        return
    if how == "no safetensors":
        path.write_bytes(b"PK\x03\x04 or so")
        return
    tensors, header = read_sealed(path, PriorError)
    # Saved below as version 0.1 wrote it: the digest would notice all that follows.
    if how == "no header":
        header = {"format": "pt"}
    elif how == "count":
        header["done"] = "many"
    elif how == "stream":
        tensors["rng"] = torch.zeros(3)
    else:
        del tensors[next(name for name in tensors if name.startswith(how))]
    save_file(tensors, path, header)


@pytest.mark.parametrize(
    "how", ["truncated", "bit", "no safetensors", "no header", "count", "stream", "model.", "average.", "seconds"]
)
def test_a_damaged_state_is_one_line(copy, how, tiny):
    damaged(tiny.states(copy) / "autoencoder.safetensors", how)
    with pytest.raises(PriorError, match=r"autoencoder\.safetensors") as error:
        tiny.train(copy)
    one_line(error)


@pytest.mark.slow
def test_a_deleted_state_is_made_again(trained, copy, tiny):
    for path in tiny.states(copy).glob("*oder.safetensors"):
        path.unlink()
    tiny.train(copy)
    assert tiny.same_weights(copy, trained[0])


@pytest.mark.slow
def test_a_rate_too_high_is_one_line(tmp_path, tiny):
    with pytest.raises(PriorError, match=r"autoencoder .*(nan|inf)") as e:
        tiny.train(tmp_path / "prior", autoencoder_rate=1e30)
    one_line(e)
    assert not (tmp_path / "prior").exists()


@pytest.mark.slow
def test_the_command_goes_on_and_gives_the_same_bits(tmp_path, tiny):
    images = RandomImages(2, 5, 1, 8, seed=0)
    for k, name in enumerate(("left", "right")):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        for index, image in enumerate(images.read(k, torch.arange(5))):
            Image.fromarray(image[0].numpy()).save(tmp_path / "pictures" / name / f"{index}.png")
    data, options = f"imagefolder:{tmp_path / 'pictures'}", {**tiny.OPTIONS, "samples_every": 0}
    task = load_task(data, test_fraction=0.4)
    with pytest.raises(KeyboardInterrupt):
        train_any_prior("ldm", task, tmp_path / "prior", options, seed=3, reporter=tiny.Notes(("denoiser", 3)))
    train_any_prior("ldm", task, tmp_path / "straight", options, seed=3)
    command = ["-m", "ld3m_plugin", "prior", "train", "ldm", "--data", data, "-D", "test_fraction=0.4"]
    settings = [f"{name}={list(value) if isinstance(value, tuple) else value}" for name, value in options.items()]
    ended = subprocess.run(
        [sys.executable, "-W", "error", *command, "--out", "prior", "--seed", "3", "--device", "cpu"]
        + [argument for setting in settings for argument in ("-S", setting)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout == "prior: prior (`ld3m prior info prior` describes it)\n"
    assert "denoiser: 4 steps, 3 of them made before" in ended.stderr
    assert "| left " in ended.stderr
    assert tiny.same_weights(tmp_path / "prior", tmp_path / "straight")
