"""Files that are pickles: networks of StyleGAN-XL, CompVis checkpoints, CIFAR."""

from __future__ import annotations

import dataclasses
import json
import pickle
import shutil
from pathlib import Path

import numpy
import torch

from fuzzing.in_process import command
from ld3m_plugin.data.cifar import CIFAR10, load_variant
from ld3m_plugin.task import ImageOptions

_GOLDENS = Path(__file__).parents[2] / "tests" / "data"
_SMALL = dataclasses.replace(CIFAR10, train=dict.fromkeys(CIFAR10.train, 10), test={"test_batch": 10})


def make_stylegan(folder: Path) -> None:
    """A tiny network as the official code saves it."""
    (folder / "input").mkdir()
    shutil.copy(_GOLDENS / "stylegan_xl_16.pkl", folder / "input" / "model.pkl")


def make_compvis(folder: Path) -> None:
    """A tiny checkpoint of latent-diffusion with its YAML."""
    (folder / "input").mkdir()
    about = json.loads((_GOLDENS / "ldm_class_conditional.json").read_text(encoding="utf-8"))
    rng = torch.Generator().manual_seed(0)
    state = {name: torch.zeros(shape) for name, shape in about["buffers"].items()}
    state |= {name: torch.randn(shape, generator=rng) / 10 for name, shape in about["parameters"].items()}
    betas = torch.linspace(0.0015**0.5, 0.0195**0.5, 1000, dtype=torch.float64) ** 2
    state |= {"betas": betas.float(), "alphas_cumprod": (1 - betas).cumprod(0).float()}
    torch.save({"state_dict": state, "global_step": 7}, folder / "input" / "model.ckpt")
    config = {"model": {"base_learning_rate": 1e-4, **about["config"]}}
    (folder / "input" / "model.yaml").write_text(json.dumps(config, indent=1), encoding="utf-8")


def read_conversion(path: Path) -> None:
    """Convert the file as `ld3m prior convert` does."""
    name = "model.pkl" if (path / "model.pkl").exists() else "model.ckpt"
    kind = "gan" if name == "model.pkl" or not (path / "model.yaml").exists() else "ldm"
    command(path, "prior", "convert", str(path / name), str(path.with_name("prior")), "--kind", kind)


def make_cifar(folder: Path) -> None:
    """CIFAR-10 in its python version, with ten images a file."""
    place = folder / "input" / _SMALL.python
    place.mkdir(parents=True)
    rng = numpy.random.default_rng(0)
    for number, (name, count) in enumerate({**_SMALL.train, **_SMALL.test}.items()):
        pixels = rng.integers(0, 256, (count, 3072), dtype=numpy.uint8)
        batch = {"data": pixels, "labels": [index % 10 for index in range(count)], "filenames": ["a.png"] * count}
        (place / name).write_bytes(pickle.dumps(batch, protocol=number % 5))


def read_cifar(path: Path) -> None:
    """Read all images."""
    task = load_variant(_SMALL, "", ImageOptions(root=path))
    task.train.read(0, torch.tensor([0]))
