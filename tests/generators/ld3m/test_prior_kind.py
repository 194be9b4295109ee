"""Latent diffusion priors on the command line: recognised, described, and what loads which library."""

import json
import shutil
import zipfile

import pytest
import torch
from safetensors.torch import load_file

from ld3m_plugin.generators.ld3m.ldm_describe import describe
from ld3m_plugin.generators.ld3m.ldm_folder import digest
from ld3m_plugin.generators.ld3m.ldm_kind import LatentDiffusionKind
from ld3m_plugin.storage import write_tensors

WEIGHTS = "diffusion_pytorch_model.safetensors"
TITLES = ["kind", "layout", "resolution", "latents", "classes", "schedule", "parameters", "sha256", "source", "licence"]


def numbers_in(path):
    return sum(tensor.numel() for tensor in load_file(path).values())


def test_folders_and_checkpoints_are_recognised(priors, tmp_path):
    kind = LatentDiffusionKind()
    for what in ({}, {"vq": True}, {"conditional": False}):
        assert kind.recognises(priors(**what))
    torch.save({}, tmp_path / "model")  # a zip by content
    (tmp_path / "old.ckpt").write_bytes(b"a pickle without a zip around it, or a truncated file")
    assert kind.recognises(tmp_path / "model")
    assert kind.recognises(tmp_path / "old.ckpt")
    (tmp_path / "model.safetensors").write_bytes(b"")
    assert kind.recognises(tmp_path / "model.safetensors")


def test_other_things_are_not(priors, tmp_path):
    kind = LatentDiffusionKind()
    (tmp_path / "notes.txt").write_text("PK is how a zip begins")
    for part in ("model_index.json", "unet", "vae"):
        folder = shutil.copytree(priors(), tmp_path / f"without {part}")
        shutil.rmtree(folder / part) if (folder / part).is_dir() else (folder / part).unlink()
        assert not kind.recognises(folder)
    for path in (tmp_path, tmp_path / "notes.txt", tmp_path / "nowhere"):
        assert not kind.recognises(path)


def test_facts_of_a_conditional_prior(priors):
    folder = priors()
    parameters = numbers_in(folder / "unet" / WEIGHTS), numbers_in(folder / "vae" / WEIGHTS)
    assert describe(folder) == {
        "layout": "UNet2DConditionModel + AutoencoderKL (KL), factor 4",
        "resolution": "16x16, 1 channel",
        "latents": "3 channels, 4x4 in training",
        "classes": "3 and a null class: class 0, class 1, class 2",
        "schedule": "scaled_linear 0.0015 to 0.0195, 1000 timesteps, predicts epsilon",
        "parameters": f"{parameters[0]:,} U-Net, {parameters[1]:,} autoencoder",
        "sha256": digest(folder),
        "source": "random weights for tests",
        "licence": "not stated",
    }


@pytest.mark.parametrize(
    ("what", "title", "text"),
    [
        ({"vq": True}, "layout", "UNet2DConditionModel + VQModel (VQ, 32 codes), factor 4"),
        ({"conditional": False}, "layout", "UNet2DModel + AutoencoderKL (KL), factor 4"),
        ({"conditional": False}, "classes", "none (unconditional)"),
        ({"null": False}, "classes", "3 without a null class: class 0, class 1, class 2"),
        ({"channels": 3}, "resolution", "16x16, 3 channels"),
        (
            {"prediction": "v_prediction"},
            "schedule",
            "scaled_linear 0.0015 to 0.0195, 1000 timesteps, predicts v_prediction",
        ),
        ({"flow": True}, "schedule", "rectified flow, 1000 timesteps, shift 3.0"),
    ],
    ids=str,
)
def test_facts_of_other_priors(priors, what, title, text):
    assert describe(priors(**what))[title] == text


@pytest.mark.slow
def test_what_is_not_stated_is_said_to_be_so(own_prior, edit_json):
    folder = own_prior()
    for size, resolution, latents in (
        (None, "not stated", "3 channels"),
        ([4, 8], "16x32, 1 channel", "3 channels, 4x8 in training"),
    ):
        edit_json(folder / "unet" / "config.json", sample_size=size)
        facts = describe(folder)
        assert (facts["resolution"], facts["latents"]) == (resolution, latents)
    edit_json(folder / "prior.json", licence="MIT", classes=None)
    facts = describe(folder)
    assert (facts["licence"], facts["classes"]) == ("MIT", "4 rows without names")
    (folder / "prior.json").unlink()
    facts = describe(folder)
    assert (facts["source"], facts["licence"]) == ("unknown", "not stated")


def test_many_classes_are_abbreviated(own_prior, edit_json):
    folder = own_prior(null=False)
    write_tensors(folder / "class_embedding.safetensors", {"weight": torch.zeros(12, 6)})
    edit_json(folder / "prior.json", classes=[{"name": f"c{row}"} for row in range(12)])
    assert describe(folder)["classes"] == "12 without a null class: c0, c1, c2, c3, c4, c5, c6, c7, c8, c9, ..."


def test_info_is_aligned_text_or_json(priors, ld3m):
    ended = ld3m("prior", "info", priors())
    assert (ended.code, ended.err) == (0, "")
    lines = dict(line.split(maxsplit=1) for line in ended.out.splitlines())
    assert list(lines) == TITLES
    assert lines == {"kind": "ldm", **describe(priors())}
    ended = ld3m("prior", "info", priors(), "--json")
    assert (ended.code, ended.err, json.loads(ended.out)) == (0, "", lines)


@pytest.mark.parametrize(
    "part",
    [f"unet/{WEIGHTS}", "scheduler/scheduler_config.json", "class_embedding.safetensors", "model_index.json"],
)
def test_info_of_an_incomplete_folder_is_one_line(own_prior, ld3m, part):
    folder = own_prior()
    (folder / part).unlink()
    ended = ld3m("prior", "info", folder)
    assert (ended.code, ended.out) == (1, "")
    assert str(folder) in ended.error
    assert part == "model_index.json" or part.rsplit("/")[-1] in ended.error


def test_info_of_a_checkpoint_is_one_line(ld3m, tmp_path):
    with zipfile.ZipFile(tmp_path / "model.ckpt", "w") as file:
        file.writestr("archive/data.pkl", b"")
    ended = ld3m("prior", "info", tmp_path / "model.ckpt")
    assert ended.code == 1
    assert f"ld3m prior convert {tmp_path / 'model.ckpt'}" in ended.error


@pytest.mark.parametrize(
    "arguments", [["--help"], ["plugins"], ["plugins", "--json"], ["prior", "info", "--help"]], ids=" ".join
)
def test_what_lists_plugins_imports_no_backend(arguments, new_process):
    program = f"""
import sys
import ld3m_plugin
sys.argv = ["ld3m", *{arguments!r}]
from ld3m_plugin.cli import main
try:
    main()
except SystemExit as left:
    assert not left.code, left.code
print("IMPORTED", sorted({{"torch", "diffusers", "transformers", "huggingface_hub"}} & set(sys.modules)))
"""
    done = new_process("-c", program)
    assert done.stdout.splitlines()[-1:] == ["IMPORTED []"], done.stderr
