"""Copy a prior of LD3M with new random weights in some of its parts: a control for what its training is worth.

usage: python scripts/random_prior.py PRIOR OUT [--parts unet,class_embedding,vae] [--seed 0]

PRIOR is a folder of `ld3m prior train ldm`: UNet2DConditionModel and AutoencoderKL. A part keeps its layout and gets the
weights that diffusers starts a training from; class embeddings become Gaussians with the mean and deviation of the whole
table. With `vae`, the normalisation of latents stays that of the trained autoencoder.
"""

import argparse
import json
import shutil
from pathlib import Path

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import load_file, save_file

MODELS = {"unet": UNet2DConditionModel, "vae": AutoencoderKL}
EMBEDDING = "class_embedding"


def randomise_model(folder: Path, part: str) -> None:
    """Replace the weights of a diffusers model by random ones."""
    model = MODELS[part]
    model.from_config(model.load_config(folder / part)).save_pretrained(folder / part)


def randomise_embedding(folder: Path) -> None:
    """Replace class embeddings by Gaussians of the same mean and deviation."""
    path = folder / f"{EMBEDDING}.safetensors"
    drawn = {
        name: (torch.randn(rows.shape) * rows.float().std() + rows.float().mean()).to(rows.dtype)
        for name, rows in load_file(path).items()
    }
    save_file(drawn, path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("prior", type=Path)
    parser.add_argument("out", type=Path, help="new folder")
    parser.add_argument("--parts", default=f"unet,{EMBEDDING}", help=f"of {', '.join(MODELS)}, {EMBEDDING}")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    parts = given.parts.split(",")
    if unknown := set(parts) - {*MODELS, EMBEDDING}:
        parser.error(f"no part {', '.join(sorted(unknown))}; parts are {', '.join(MODELS)}, {EMBEDDING}")
    about = given.prior / "prior.json"
    if missing := [
        path for path in (about, *(given.prior / part for part in parts if part in MODELS)) if not path.exists()
    ]:
        parser.error(f"{given.prior} has no {', '.join(path.name for path in missing)}")
    shutil.copytree(given.prior, given.out, ignore=shutil.ignore_patterns("quality*", "*.png", "training.json"))
    for part in parts:
        torch.manual_seed(given.seed)  # of each part, whatever others are named
        if part in MODELS:
            randomise_model(given.out, part)
        else:
            randomise_embedding(given.out)
    record = json.loads(about.read_text(encoding="utf-8"))
    record["source"] = f"random weights in {', '.join(parts)} (seed {given.seed}); layout of: {record['source']}"
    (given.out / "prior.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
