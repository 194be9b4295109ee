"""Nothing in a prior folder executes when it is read, shards included."""

import json
import os
import shutil

import pytest
import torch
from safetensors.torch import load_file

from ld3m_plugin.generators.ld3m.ldm_folder import digest
from ld3m_plugin.generators.ld3m.ldm_prior import load_prior

WEIGHTS = "diffusion_pytorch_model.safetensors"
UNET = f"unet/{WEIGHTS}"


class Payload:
    """A pickle of this makes a folder when it is loaded."""

    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return os.mkdir, (str(self.target),)


@pytest.fixture
def armed(tmp_path):
    """`armed(path)` writes a pickle that leaves a trace when it is read; returns whether it was."""
    trace = tmp_path / "executed"

    def arm(path):
        torch.save(Payload(trace), path)
        with path.open("rb") as file:
            torch.load(file, weights_only=False)  # it does work
        trace.rmdir()
        return trace.exists

    return arm


def test_pickled_weights_are_neither_read_nor_executed(copied, armed, refused):
    folder = copied()
    (folder / UNET).unlink()
    executed = armed(folder / "unet" / "diffusion_pytorch_model.bin")
    assert WEIGHTS in refused(folder)
    assert not executed()


def test_a_pickle_beside_safetensors_is_left_alone(copied, armed):
    folder = copied()
    traces = [armed(folder / part / "diffusion_pytorch_model.bin") for part in ("unet", "vae")]
    load_prior(folder)
    assert not any(executed() for executed in traces)


@pytest.mark.parametrize("inside", ["bin", "pickle named safetensors"])
def test_an_index_of_shards_cannot_bring_a_pickle_in(copied, armed, inside, refused):
    folder = copied()
    name = "shard.bin" if inside == "bin" else "shard.safetensors"
    names = list(load_file(folder / UNET))
    (folder / UNET).unlink()
    executed = armed(folder / "unet" / name)
    index = {"metadata": {}, "weight_map": dict.fromkeys(names, name)}
    (folder / "unet" / f"{WEIGHTS}.index.json").write_text(json.dumps(index))
    assert name in refused(folder)
    assert not executed()


def flip(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


@pytest.fixture
def sharded(copied):
    folder = copied()
    unet = load_prior(folder).denoiser
    (folder / UNET).unlink()
    unet.save_pretrained(folder / "unet", max_shard_size="20KB")
    assert len(list((folder / "unet").glob("*.safetensors"))) > 1
    return folder


@pytest.mark.slow
def test_shards_are_read_and_are_in_the_digest(sharded, priors):
    whole, parts = load_prior(priors()).denoiser.state_dict(), load_prior(sharded).denoiser.state_dict()
    assert all(torch.equal(parts[name], whole[name]) for name in whole)
    before = digest(sharded)
    flip(sorted((sharded / "unet").glob("*.safetensors"))[-1])
    assert digest(sharded) != before


def test_a_shard_that_is_missing_or_elsewhere_is_refused(sharded, tmp_path, refused):
    shard = sorted((sharded / "unet").glob("*.safetensors"))[-1]
    outside = shutil.move(shard, tmp_path / shard.name)
    assert shard.name in refused(sharded)
    index = sharded / "unet" / f"{WEIGHTS}.index.json"
    index.write_text(index.read_text().replace(shard.name, f"../../{outside.name}"))
    assert f"../../{outside.name}" in refused(sharded)
    index.write_text("{}")
    message = refused(sharded)
    assert all(word in message for word in (str(index), "weight_map"))
