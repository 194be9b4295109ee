"""`ld3m prior convert CHECKPOINT OUT` as a user runs it, and `ld3m prior info OUT` on what it wrote."""

import hashlib
import json
import os
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

from ld3m_plugin import cli
from ld3m_plugin.generators.ld3m.ldm_prior import load_prior
from ld3m_plugin.registry import default_registry


@pytest.fixture
def ld3m_prior(monkeypatch, capfd):
    """`ld3m_prior(*arguments)`: exit code, output and errors of `ld3m prior`."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["ld3m", "prior", *map(str, arguments)])
        default_registry.cache_clear()
        capfd.readouterr()
        try:
            cli.main()
            code = 0
        except SystemExit as left:
            code = int(left.code or 0)
        finally:
            default_registry.cache_clear()
        return code, *capfd.readouterr()

    return run


@pytest.fixture
def refused(ld3m_prior, tmp_path):
    """`refused(*arguments)`: the one line of an `ld3m prior convert` that fails and leaves nothing behind."""

    def run(*arguments, exit_code=1):
        before = sorted(tmp_path.rglob("*"))
        code, out, err = ld3m_prior("convert", *arguments)
        assert (code, out) == (exit_code, "")
        assert err.startswith("error: ")
        assert err.count("\n") == 1
        assert sorted(tmp_path.rglob("*")) == before
        return err

    return run


class Command:
    def __init__(self, line):
        self.line = line

    def __reduce__(self):
        return os.system, (self.line,)


def test_a_golden_checkpoint_becomes_a_prior(checkpoint, tmp_path, ld3m_prior):
    path, out = checkpoint(), tmp_path / "prior"
    code, said, err = ld3m_prior("convert", path, out)
    assert (code, err) == (0, "")
    assert said == f"prior of kind ldm: {out} (`ld3m prior info {out}` describes it)\n"
    code, said, err = ld3m_prior("info", out, "--json")
    facts = json.loads(said)
    assert (code, err, facts["kind"]) == (0, "", "ldm")
    assert facts["layout"] == "UNet2DConditionModel + VQModel (VQ, 64 codes), factor 4"
    assert facts["resolution"] == "32x32, 3 channels"
    assert facts["classes"].startswith("10 and a null class: class 0, class 1")
    assert facts["schedule"] == "scaled_linear 0.0015 to 0.0195, 1000 timesteps, predicts epsilon"
    assert facts["source"] == f"converted from model.ckpt, SHA-256 {hashlib.sha256(path.read_bytes()).hexdigest()}"
    assert facts["licence"] == "not stated"
    load_prior(out)


def test_its_options_are_given_with_s(checkpoint, tmp_path, ld3m_prior, refused):
    path, out = checkpoint(), tmp_path / "prior"
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    config = (tmp_path / "model.yaml").rename(elsewhere / "it.yaml")
    assert "-S config=FILE" in refused(path, out)
    (elsewhere / "names.txt").write_text("".join(f"thing {row}\n" for row in range(10)))
    settings = (f"config={config}", f"classes={elsewhere / 'names.txt'}", "licence=MIT", "source=a test", "half=true")
    code, _, err = ld3m_prior("convert", path, out, *(part for setting in settings for part in ("-S", setting)))
    assert (code, err) == (0, "")
    facts = json.loads(ld3m_prior("info", out, "--json")[1])
    assert facts["classes"].startswith("10 and a null class: thing 0, thing 1")
    assert (facts["licence"], facts["source"].split(";")[0]) == ("MIT", "a test")
    weights = load_file(out / "unet" / "diffusion_pytorch_model.safetensors")
    assert {value.dtype for value in weights.values()} == {torch.float16}
    assert "config" in refused(path, tmp_path / "other", "-S", "confg=it.yaml", exit_code=2)


def test_what_is_there_is_not_written_over(checkpoint, tmp_path, refused):
    out = tmp_path / "prior"
    out.mkdir()
    (out / "notes.txt").write_text("mine")
    assert f"{out} is not empty" in refused(checkpoint(), out, exit_code=2)
    assert (out / "notes.txt").read_text() == "mine"


def test_a_pickle_that_asks_for_a_command_does_not_get_it(checkpoint, tmp_path, refused):
    path, mark = checkpoint(), tmp_path / "executed"
    torch.save({**torch.load(path, weights_only=True), "extra": Command(f"touch {mark}")}, path)
    err = refused(path, tmp_path / "prior")
    assert f"{path} asks for " in err
    assert ".system, which a model's weights do not need: nothing in it was run" in err
    assert not mark.exists()


def test_weights_that_are_no_numbers_leave_nothing_behind(checkpoint, tmp_path, refused):
    bias = "model.diffusion_model.out.2.bias"
    path = checkpoint(change=lambda state: state.update({bias: state[bias] * torch.nan}))
    assert f"{path} has values that are not finite numbers: {bias};" in refused(path, tmp_path / "prior")


def test_safetensors_are_converted_as_well(checkpoint, tmp_path, ld3m_prior, refused):
    path = tmp_path / "model.safetensors"
    save_file(torch.load(checkpoint(), weights_only=True)["state_dict"], path)
    code, said, err = ld3m_prior("convert", path, tmp_path / "prior")
    assert (code, err) == (0, "")
    assert said.startswith("prior of kind ldm: ")
    load_prior(tmp_path / "prior")
    data = path.read_bytes()
    for keep in (0, 100, len(data) // 2):
        path.write_bytes(data[:keep])
        err = refused(path, tmp_path / "other")
        assert f"{path} is not a readable checkpoint" in err
        assert "truncated or damaged" in err
