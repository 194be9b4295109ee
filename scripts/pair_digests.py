"""Print a digest of the images that every generator learns with every objective, in gray and in colour.

Two versions of the project that print the same lines compute the same bits:

    python scripts/pair_digests.py > before.txt      (and, in the other version, > after.txt)

Each pair makes ten steps with the whole graph kept, and ten with activations recomputed (`memory=checkpoint` where the
generator has that option) and latents rendered in chunks of four.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import os
import sys
import tempfile
from pathlib import Path

import numpy
import torch
from PIL import Image
from typer.testing import CliRunner

from ld3m_plugin.cli import app

GENERATORS = ("ld3m", "glad", "autoencoder", "pixel")
OBJECTIVES = {
    "dm": ["network_settings={width: 16}", "batch_real=16"],
    "dc": ["network_settings={width: 16}", "batch_real=16"],
    "mtt": [
        "network_settings={width: 16}",
        "syn_steps=5",
        "expert_epochs=1",
        "max_start_epoch=2",
        "expert_settings={count: 1}",
    ],
}
STEPS = 10
MODES = {"graph": {"ld3m": ["memory=graph"]}, "checkpoint": {"ld3m": ["memory=checkpoint"]}}


def make_colour_folder(root: Path) -> Path:
    """Write an image folder of three classes, 40 coloured pictures each, that every machine draws alike."""
    rows, columns = numpy.mgrid[0:32, 0:32]
    for hue, name in enumerate(("Bag", "Coat", "Dress")):
        for number in range(40):
            phase = rows * (1 + number % 5) + columns * (1 + number % 3) + 20 * number
            plane = (127 + 127 * numpy.sin(phase * (hue + 1) / 9)).round()
            picture = numpy.stack([plane, numpy.roll(plane, number, 0), 255 - plane], -1)
            picture = numpy.roll(picture, hue, -1).astype(numpy.uint8)
            path = root / "train" / name / f"{number:02d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture).save(path)
            if number < 10:
                (root / "test" / name).mkdir(parents=True, exist_ok=True)
                Image.fromarray(255 - picture).save(root / "test" / name / path.name)
    return root


def run(*words: object) -> None:
    """Run an `ld3m` command in this process; leave where it fails."""
    log = io.StringIO()
    with contextlib.redirect_stderr(log):
        result = CliRunner().invoke(app, [str(word) for word in words])
    if result.exit_code:
        sys.exit(f"ld3m {' '.join(map(str, words))}\n{log.getvalue()}{result.output}{result.exception!r}")


def digests(data: list[str], only: str) -> None:
    """Print one line a pair and mode."""
    run("experts", "train", *data, "-S", "network_settings={width: 16}", "--count", 1, "--epochs", 2, "--device", "cpu")
    for mode, options in MODES.items():
        for generator in GENERATORS:
            for objective, settings in OBJECTIVES.items():
                name = f"{only}-{mode}-{generator}-{objective}"
                words = ["-g", generator, "-o", objective, *(w for s in settings for w in ("-O", s))]
                words += [w for s in options.get(generator, ()) for w in ("-G", s)]
                words += ["--render-batch", 4] if mode == "checkpoint" else []
                run("distill", *data, *words, "--steps", STEPS, "--device", "cpu", "--no-evaluate", "--out", name)
                digest = hashlib.sha256(Path(name, "distilled", "images.safetensors").read_bytes()).hexdigest()
                print(name, digest, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", choices=("gray", "colour", "both"), default="both")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        if arguments.data in ("gray", "both"):
            digests(["--data", "fashion-mnist:embedded"], "gray")
        if arguments.data in ("colour", "both"):
            digests(["--data", f"imagefolder:{make_colour_folder(Path('pictures'))}", "-D", "image_size=32"], "colour")


if __name__ == "__main__":
    main()
