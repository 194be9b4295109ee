"""Folders of priors: latent diffusion models and GANs."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch

from fuzzing.in_process import command
from ld3m_plugin.generators.glad.gan_folder import load_network
from ld3m_plugin.generators.glad.pretrained import SHIPPED as GANS
from ld3m_plugin.generators.ld3m.ldm_prior import SHIPPED as LDMS
from ld3m_plugin.generators.ld3m.ldm_prior import load_prior
from ld3m_plugin.randomness import stream

_LEFT_OUT = ("NOTICE", "quality.*", "samples.png", "training.json")


def make_ldm(folder: Path) -> None:
    """The shipped latent diffusion model."""
    shutil.copytree(LDMS["embedded"], folder / "input", ignore=shutil.ignore_patterns(*_LEFT_OUT))


def read_ldm(path: Path) -> None:
    """Show its facts, then predict once."""
    command(path, "prior", "info", str(path))
    prior = load_prior(path)
    size = prior.denoiser.config.sample_size
    state = torch.zeros(1, prior.codec.latent_channels, *((size, size) if isinstance(size, int) else (8, 8)))
    embedding = None if prior.class_embedding is None else prior.class_embedding[:1].view(1, 1, -1)
    prior.predict(state, 5.0, embedding)


def make_gan(folder: Path) -> None:
    """The shipped GAN."""
    shutil.copytree(GANS["embedded-gan"], folder / "input", ignore=shutil.ignore_patterns(*_LEFT_OUT))


def read_gan(path: Path) -> None:
    """Show its facts, then generate an image."""
    command(path, "prior", "info", str(path))
    network, facts = load_network(path)
    shape = network.freeze().shape
    network(torch.randn(1, shape.z_dim, generator=stream(0, "fuzz")), torch.zeros(1, dtype=torch.long))
    _ = facts.source
