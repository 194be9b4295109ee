"""`scripts/random_prior.py`: a prior keeps its layout and gets other weights in the parts that are named."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from ld3m_plugin import Synthetic, load_task
from ld3m_plugin.generators.ld3m.ldm_prior import SHIPPED

PRIOR = SHIPPED["embedded"]
SCRIPT = Path(__file__).parents[3] / "scripts" / "random_prior.py"
FILES = {
    "unet": "unet/diffusion_pytorch_model.safetensors",
    "vae": "vae/diffusion_pytorch_model.safetensors",
    "class_embedding": "class_embedding.safetensors",
}


def make(out, *arguments):
    return subprocess.run([sys.executable, SCRIPT, PRIOR, out, *arguments], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("parts", ["unet,class_embedding", "unet,class_embedding,vae"])
def test_only_the_named_parts_get_other_weights(parts, tmp_path):
    made = make(tmp_path / "prior", "--parts", parts)
    assert made.returncode == 0, made.stderr
    for part, file in FILES.items():
        before, after = load_file(PRIOR / file), load_file(tmp_path / "prior" / file)
        assert {name: value.shape for name, value in before.items()} == {n: v.shape for n, v in after.items()}
        weight = max(before, key=lambda name: before[name].numel())
        assert torch.equal(before[weight].float(), after[weight].float()) == (part not in parts)


def test_ld3m_renders_with_it(tmp_path):
    assert make(tmp_path / "prior").returncode == 0
    task = load_task("fashion-mnist:embedded")
    priors = (str(tmp_path / "prior"), "embedded")
    images = [Synthetic("ld3m", task, ipc=1, prior=prior, steps=2)() for prior in priors]
    assert images[0].isfinite().all()
    assert not torch.allclose(images[0], images[1], atol=0.05)


def test_an_unknown_part_is_refused(tmp_path):
    made = make(tmp_path / "prior", "--parts", "unet,vqvae")
    assert made.returncode == 2
    assert "no part vqvae" in made.stderr
    assert not (tmp_path / "prior").exists()


def test_what_is_there_is_not_replaced(tmp_path):
    (tmp_path / "prior").mkdir()
    (tmp_path / "prior" / "thesis.txt").write_text("mine")
    assert "is there already" in make(tmp_path / "prior").stderr
    assert (tmp_path / "prior" / "thesis.txt").read_text() == "mine"


def test_a_folder_that_is_no_prior_is_refused_in_a_line(tmp_path):
    made = subprocess.run(
        [sys.executable, SCRIPT, tmp_path, tmp_path / "prior"], capture_output=True, text=True, check=False
    )
    assert made.returncode == 2
    assert "Traceback" not in made.stderr
    assert not (tmp_path / "prior").exists()
