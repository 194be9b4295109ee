"""`ld3m prior convert CHECKPOINT OUT` as a user runs it, and `ld3m prior info OUT` on what it wrote."""

import hashlib
import json
import os

import pytest
import torch
from safetensors.torch import load_file, save_file

from ld3m_plugin.generators.ld3m.ldm_prior import load_prior


@pytest.fixture
def refused(ld3m, tmp_path):
    """`refused(*arguments)`: the one line of an `ld3m prior convert` that fails and leaves nothing behind."""

    def run(*arguments, exit_code=1):
        before = sorted(tmp_path.rglob("*"))
        ended = ld3m("prior", "convert", *arguments)
        assert (ended.code, ended.out) == (exit_code, "")
        assert sorted(tmp_path.rglob("*")) == before
        return ended.error

    return run


class Command:
    def __init__(self, line):
        self.line = line

    def __reduce__(self):
        return os.system, (self.line,)


@pytest.mark.slow
def test_a_golden_checkpoint_becomes_a_prior(checkpoint, tmp_path, ld3m):
    path, out = checkpoint(), tmp_path / "prior"
    ended = ld3m("prior", "convert", path, out)
    assert (ended.code, ended.err) == (0, "")
    assert str(out) in ended.out
    ended = ld3m("prior", "info", out, "--json")
    facts = json.loads(ended.out)
    assert (ended.code, ended.err, facts["kind"]) == (0, "", "ldm")
    assert facts["layout"] == "UNet2DConditionModel + VQModel (VQ, 64 codes), factor 4"
    assert facts["resolution"] == "32x32, 3 channels"
    assert facts["classes"].startswith("10 and a null class: class 0, class 1")
    assert facts["schedule"] == "scaled_linear 0.0015 to 0.0195, 1000 timesteps, predicts epsilon"
    assert facts["source"] == f"converted from model.ckpt, SHA-256 {hashlib.sha256(path.read_bytes()).hexdigest()}"
    assert facts["licence"] == "not stated"
    load_prior(out)


@pytest.mark.slow
def test_its_options_are_given_with_s(checkpoint, tmp_path, ld3m, refused):
    path, out = checkpoint(), tmp_path / "prior"
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    config = (tmp_path / "model.yaml").rename(elsewhere / "it.yaml")
    assert "-S config=FILE" in refused(path, out)
    (elsewhere / "names.txt").write_text("".join(f"thing {row}\n" for row in range(10)))
    settings = (f"config={config}", f"classes={elsewhere / 'names.txt'}", "licence=MIT", "source=a test", "half=true")
    ended = ld3m("prior", "convert", path, out, *(part for setting in settings for part in ("-S", setting)))
    assert (ended.code, ended.err) == (0, "")
    facts = json.loads(ld3m("prior", "info", out, "--json").out)
    assert facts["classes"].startswith("10 and a null class: thing 0, thing 1")
    assert (facts["licence"], facts["source"].split(";")[0]) == ("MIT", "a test")
    weights = load_file(out / "unet" / "diffusion_pytorch_model.safetensors")
    assert {value.dtype for value in weights.values()} == {torch.float16}
    assert "config" in refused(path, tmp_path / "other", "-S", "confg=it.yaml", exit_code=2)


def test_what_is_there_is_not_written_over(checkpoint, tmp_path, refused):
    out = tmp_path / "prior"
    out.mkdir()
    (out / "notes.txt").write_text("mine")
    assert str(out) in refused(checkpoint(), out, exit_code=2)
    assert (out / "notes.txt").read_text() == "mine"


@pytest.mark.slow
def test_a_pickle_that_asks_for_a_command_does_not_get_it(checkpoint, tmp_path, refused):
    path, mark = checkpoint(), tmp_path / "executed"
    torch.save({**torch.load(path, weights_only=True), "extra": Command(f"touch {mark}")}, path)
    err = refused(path, tmp_path / "prior")
    assert str(path) in err
    assert ".system" in err
    assert not mark.exists()


@pytest.mark.slow
def test_weights_that_are_no_numbers_leave_nothing_behind(checkpoint, tmp_path, refused):
    bias = "model.diffusion_model.out.2.bias"
    path = checkpoint(change=lambda state: state.update({bias: state[bias] * torch.nan}))
    err = refused(path, tmp_path / "prior")
    assert str(path) in err
    assert bias in err


@pytest.mark.slow
def test_safetensors_are_converted_as_well(checkpoint, tmp_path, ld3m, refused):
    path = tmp_path / "model.safetensors"
    save_file(torch.load(checkpoint(), weights_only=True)["state_dict"], path)
    ended = ld3m("prior", "convert", path, tmp_path / "prior")
    assert (ended.code, ended.err) == (0, "")
    load_prior(tmp_path / "prior")
    data = path.read_bytes()
    for keep in (0, 100, len(data) // 2):
        path.write_bytes(data[:keep])
        assert str(path) in refused(path, tmp_path / "other")
