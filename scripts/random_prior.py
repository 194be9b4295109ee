"""Copy a prior of LD3M with new random weights in some of its parts: a control for what its training is worth.

usage: python scripts/random_prior.py PRIOR OUT [--parts unet,class_embedding,vae] [--seed 0]

PRIOR is a folder of `ld3m prior train ldm`. A part keeps its layout and gets the weights that diffusers starts a training
from; class embeddings become Gaussians with the mean and deviation of the whole table. With `vae`, the normalisation of
latents stays that of the trained autoencoder. OUT is in half precision.
"""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from ld3m_plugin.errors import PriorError
from ld3m_plugin.generators.ld3m.diffusers_parts import load_embedding, load_model, load_scheduler
from ld3m_plugin.generators.ld3m.ldm_folder import read_facts, save_prior
from ld3m_plugin.randomness import lent_to_global, stream

MODELS = {"unet": "UNet2DConditionModel", "vae": "AutoencoderKL"}
EMBEDDING = "class_embedding"


def redrawn(model: Any, part: str, seed: int) -> Any:
    """A model of the same configuration with the weights that a training starts from."""
    with lent_to_global(stream(seed, "random prior", part)):
        return type(model).from_config(model.config)


def randomise(prior: Path, out: Path, parts: list[str], seed: int) -> None:
    """Write the prior `out`.

    Raises:
        PriorError: `prior` has no such part, or is damaged.
    """
    facts = read_facts(prior)
    models = {part: load_model(prior / part, [kind]) for part, kind in MODELS.items()}
    embedding = load_embedding(prior, models["unet"], facts)
    if embedding is not None and EMBEDDING in parts:
        drawn = torch.randn(embedding.shape, generator=stream(seed, "random prior", EMBEDDING))
        embedding = drawn * embedding.std() + embedding.mean()
    models |= {part: redrawn(model, part, seed) for part, model in models.items() if part in parts}
    source = f"random weights in {', '.join(parts)} (seed {seed}); layout of: {facts.source}"
    save_prior(
        out,
        unet=models["unet"],
        autoencoder=models["vae"],
        scheduler=load_scheduler(prior / "scheduler"),
        facts=replace(facts, source=source),
        class_embedding=embedding,
        half=True,
    )


def main() -> None:
    """Read the arguments and write the prior."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("prior", type=Path)
    parser.add_argument("out", type=Path, help="new folder")
    parser.add_argument("--parts", default=f"unet,{EMBEDDING}", help=f"of {', '.join(MODELS)}, {EMBEDDING}")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    parts = given.parts.split(",")
    if unknown := set(parts) - {*MODELS, EMBEDDING}:
        parser.error(f"no part {', '.join(sorted(unknown))}; parts are {', '.join(MODELS)}, {EMBEDDING}")
    if given.out.exists():
        parser.error(f"{given.out} is there already: name a new folder")
    try:
        randomise(given.prior, given.out, parts, given.seed)
    except PriorError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
