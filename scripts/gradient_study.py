"""Gradients and states of LD3M's chain at the initial latents, on the embedded Fashion-MNIST.

usage: python scripts/gradient_study.py norms [--draws 5] [--spacing leading] [--out docs/images/gradient-norms.png]
       python scripts/gradient_study.py truncated [--draws 5] [--steps 10]
       python scripts/gradient_study.py distance [--draws 5] [--prior PRIOR]

`norms`: dloss/dlatent over the number of denoising steps, for each residual (the form of LD3M's Table 1), one image a class and
DM on the embedded prior; median over draws of network, real images and noise; a table and a picture. `truncated`: what
`gradient=last-K` costs, and how far its gradient is from the full one. `distance`: how far what the chain returns is from the
latents Z that it starts from, ‖z₀ − Z‖ / ‖Z‖; near 0, the denoiser does little, and LD3M is its autoencoder.
"""

import argparse
import statistics
import time
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from torch import Tensor

from ld3m_plugin.allocator import keep_freed_memory
from ld3m_plugin.backends import get_generator, get_objective
from ld3m_plugin.data.load import load_task
from ld3m_plugin.distillation.rendering import render_with_pull_back
from ld3m_plugin.randomness import stream

STEPS = (2, 5, 10, 20, 30, 40, 50, 60, 70, 80, 90)
RESIDUALS = ("none", "x0", "mean")
PUBLISHED = dict(zip(range(10, 100, 10), (58.1, 33.5, 19.8, 15.4, 13.9, 12.1, 10.4, 8.7, 6.5), strict=True))


def gradients(draw: int, **options: object) -> tuple[dict[str, Tensor], float]:
    """dloss/dlatent by name for one draw, and the seconds of render and pull-back."""
    task = load_task("fashion-mnist:embedded").for_training()
    labels = torch.arange(task.num_classes)
    generator = get_generator("ld3m", memory="graph", **options)
    generator.prepare(task)
    latents = generator.initial_latents(task, labels, stream(draw, "latents"))
    objective = get_objective("dm", batch_real=64)
    objective.prepare(task, labels, stream(draw, "objective"))
    started = time.perf_counter()
    rendering = render_with_pull_back(generator, latents)
    rendered = time.perf_counter()
    match = objective.match(rendering.images, labels, 0)
    matched = time.perf_counter()
    found = rendering.pull_back(match.image_grad)
    return found, rendered - started + time.perf_counter() - matched


def main() -> None:
    """Parse the command line and run one study."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["norms", "truncated", "distance"])
    parser.add_argument("--out", type=Path, default=Path("docs/images/gradient-norms.png"))
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--spacing", default="leading")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--prior", default="embedded", help="of `distance`: a name or a folder")
    arguments = parser.parse_args()
    keep_freed_memory()
    {"norms": norms, "truncated": truncated, "distance": distance}[arguments.what](arguments)


def truncated(arguments: argparse.Namespace) -> None:
    """Cost and direction of `gradient=last-K` for each K."""
    for residual in RESIDUALS:
        full = [gradients(draw, residual=residual, steps=arguments.steps) for draw in range(arguments.draws)]
        print(f"{residual:5} full    {statistics.median(seconds for _, seconds in full):.3f} s", flush=True)
        for last in (5, 3, 2, 1):
            way = {"residual": residual, "steps": arguments.steps, "gradient": f"last-{last}"}
            found = [gradients(draw, **way) for draw in range(arguments.draws)]
            line = f"{residual:5} last-{last}  {statistics.median(seconds for _, seconds in found):.3f} s"
            for name in ("latent", "class_embedding"):
                cosines, ratios = [], []
                for (mine, _), (exact, _) in zip(found, full, strict=True):
                    a, b = mine[name].flatten(), exact[name].flatten()
                    cosines.append(float(torch.nn.functional.cosine_similarity(a, b, dim=0)))
                    ratios.append(float(a.norm() / b.norm()))
                line += f"  {name}: cosine {statistics.median(cosines):.3f}, norm x{statistics.median(ratios):.2f}"
            print(line, flush=True)


def norms(arguments: argparse.Namespace) -> None:
    """The norm over T for each residual."""
    table: dict[str, list[float]] = {}
    for residual in RESIDUALS:
        table[residual] = []
        for steps in STEPS:
            way = {"residual": residual, "steps": steps, "spacing": arguments.spacing}
            values = [float(gradients(draw, **way)[0]["latent"].norm()) for draw in range(arguments.draws)]
            table[residual].append(statistics.median(values))
            print(
                f"{residual:5} T={steps:3} {table[residual][-1]:.4g} ({min(values):.4g} to {max(values):.4g})",
                flush=True,
            )
    print("| residual | " + " | ".join(f"T={steps}" for steps in STEPS) + " |")
    print("| --- |" + " ---: |" * len(STEPS))
    for residual, values in table.items():
        print(f"| {residual} | " + " | ".join(f"{value:.3g}" for value in values) + " |")
    plot(table, arguments.out)


def distance(arguments: argparse.Namespace) -> None:
    """The distance between the chain's end and its latents, for each residual and T, and with published guidance."""
    task = load_task("fashion-mnist:embedded").for_training()
    labels, lengths = torch.arange(task.num_classes), (2, 5, 10, 20)
    print("| residual | guidance | " + " | ".join(f"T={steps}" for steps in lengths) + " |")
    print("| --- | ---: |" + " ---: |" * len(lengths))
    for residual, guidance in (*((residual, 1.0) for residual in RESIDUALS), ("x0", 3.0)):
        cells = []
        for steps in lengths:
            way = {"residual": residual, "steps": steps, "guidance_scale": guidance, "prior": arguments.prior}
            generator = get_generator("ld3m", **way)
            generator.prepare(task)
            found = []
            for draw in range(arguments.draws):
                latents = generator.initial_latents(task, labels, stream(draw, "latents"))
                with torch.no_grad():
                    end, start = generator.denoise(latents), latents["latent"]
                found.append(float((end - start).norm() / start.norm()))
            cells.append(f"{statistics.median(found):.2f}")
        print(f"| {residual} | {guidance:g} | " + " | ".join(cells) + " |", flush=True)


def plot(table: dict[str, list[float]], path: Path) -> None:
    """The table as a picture, beside the published row scaled to meet at T = 10."""
    figure, axes = plt.subplots(figsize=(6.4, 4), layout="constrained")
    names = {"none": "none (plain DDIM)", "x0": "x0 (published code)", "mean": "mean (paper, Eq. 7)"}
    for residual, marker in zip(RESIDUALS, "os^", strict=True):
        axes.plot(STEPS, table[residual], marker=marker, label=names[residual])
    scale = table["none"][STEPS.index(10)] / PUBLISHED[10]
    scaled = [value * scale for value in PUBLISHED.values()]
    axes.plot(list(PUBLISHED), scaled, ":", color="gray", label="published, no residual (scaled to meet at T = 10)")
    axes.set(xlabel="denoising steps T", ylabel="‖dloss/dlatent‖ (median)", yscale="log")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, loc="center right", bbox_to_anchor=(1, 0.66))
    figure.savefig(path, dpi=130)


if __name__ == "__main__":
    main()
