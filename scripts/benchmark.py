"""Measure speed and memory, and print lines for docs/results.md with machine and date.

usage: python scripts/benchmark.py forward [--no-keep] [--no-channels-last]
       python scripts/benchmark.py step [--steps N] [--no-keep] [--preset NAME] [--set PATH=VALUE ...]
       python scripts/benchmark.py dc [--images N] [--set KEY=VALUE ...]
       python scripts/benchmark.py mtt [--gradient NAME] [--syn-steps N] [--images N] [--set KEY=VALUE ...]
       python scripts/benchmark.py cin256 --prior FOLDER [--denoising-steps T] [--classes K] [--return]

`cin256` makes one DM step at 128x128 with the full-size ImageNet layout (U-Net of 400 million parameters, VQ autoencoder) and
random weights, which are written to FOLDER if it is not there.

`dc` differentiates the gradients of ten classes through ConvNet-3 with 1, 2, 5 and 10 classes in one pass, without and with the
real images' part; forms take turns, so that other work meets all of them.
`mtt` matches one trajectory of a random ConvNet at 32x32 on random images; `--set` gives options of the objective.

Run each line in a process of its own: the allocator's setting and the peak memory belong to the process.
"""

import argparse
import datetime
import platform
import resource
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch

from ld3m_plugin.config import parse_assignment, resolve
from ld3m_plugin.generators.ld3m.compvis.classes import imagenet_classes
from ld3m_plugin.generators.ld3m.compvis.convert import cin256_modules
from ld3m_plugin.generators.ld3m.folder import PriorFacts, save_prior
from ld3m_plugin.loop import Distillation, distill
from ld3m_plugin.memory import keep_freed_memory, return_freed_memory
from ld3m_plugin.networks.build import get_network
from ld3m_plugin.objectives.dc.distances import layerwise_cosine
from ld3m_plugin.objectives.dc.gradients import synthetic_gradients
from ld3m_plugin.objectives.dc.objective import DC
from ld3m_plugin.objectives.matching import random_network
from ld3m_plugin.objectives.mtt.experts import MemoryExperts, flat
from ld3m_plugin.objectives.mtt.objective import MTT
from ld3m_plugin.randomness import stream
from ld3m_plugin.testing import tiny_task


def main() -> None:
    """Parse the command line and run one benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["forward", "step", "dc", "mtt", "cin256"])
    parser.add_argument("--no-keep", action="store_true", help="leave the allocator as it is")
    parser.add_argument("--return", action="store_true", dest="give_back", help="return freed memory at once")
    parser.add_argument("--no-channels-last", action="store_true")
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--preset", default="demo")
    parser.add_argument("--set", action="append", default=[], metavar="PATH=VALUE", help="one setting of the run")
    parser.add_argument("--prior", type=Path, help="folder of the random full-size prior")
    parser.add_argument("--denoising-steps", type=int, default=10)
    parser.add_argument("--classes", type=int, default=10, help="images rendered and matched, one a class")
    parser.add_argument("--gradient", default="adjoint", help="of mtt: adjoint, unrolled or first-order")
    parser.add_argument("--syn-steps", type=int, default=20)
    parser.add_argument("--images", type=int, default=10, help="synthetic images, of mtt all of them in each step")
    arguments = parser.parse_args()
    kept = not arguments.no_keep and not arguments.give_back and keep_freed_memory()
    if arguments.give_back:
        return_freed_memory()
    {"forward": forward, "step": step, "dc": dc, "mtt": mtt, "cin256": cin256}[arguments.what](arguments)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        f"freed memory kept: {kept}, returned at once: {arguments.give_back}; peak memory of the process {peak:.2f} GiB"
    )
    print(
        f"{datetime.date.today()}, {torch.get_num_threads()} threads of {platform.machine()} "
        f"({platform.system()}), torch {torch.__version__}"
    )


def forward(arguments: argparse.Namespace) -> None:
    """A graph-free forward of 1,280 images through ConvNet-3 of width 128 at 32x32."""
    network = get_network("ConvNet", channels=1, image_size=32, num_classes=10)
    layout = torch.contiguous_format if arguments.no_channels_last else torch.channels_last
    network = network.to(memory_format=layout)
    images = torch.randn(1280, 1, 32, 32)

    @torch.no_grad()
    def once() -> None:
        network.embed(images)

    print(f"forward of 1,280 images, {layout}: {median_seconds(once):.2f} s (median of 7)")


def step(arguments: argparse.Namespace) -> None:
    """Steps of a preset, without evaluation."""
    chosen = [parse_assignment(text) for text in arguments.set]
    config = resolve(presets=[arguments.preset], settings=[("steps", arguments.steps), *chosen])
    seconds = [done.seconds for done in distill(config)]
    print(
        f"preset {arguments.preset}: {statistics.median(seconds[3:]):.3f} s a step "
        f"(median of {len(seconds) - 3}, after 3 to warm up)"
    )


def dc(arguments: argparse.Namespace) -> None:
    """Gradient matching with more or fewer classes in one pass."""
    task = tiny_task(classes=10, image_size=32, train=256)
    options = dict(parse_assignment(text) for text in arguments.set)
    labels = torch.arange(10).repeat_interleave(arguments.images // 10)
    images = torch.randn(len(labels), 1, 32, 32, generator=stream(0, "images"))
    network = random_network(MTT().options, task, stream(0, "network"))
    real = [torch.randn(10, *parameter.shape) for parameter in network.parameters()]
    grouped = images.unflatten(0, (10, -1)), labels.unflatten(0, (10, -1))

    def synthetic(at_once: int) -> None:
        for rows in torch.arange(10).split(at_once):
            leaf = grouped[0][rows].requires_grad_()
            loss = layerwise_cosine([r[rows] for r in real], synthetic_gradients(network, leaf, grouped[1][rows]))
            torch.autograd.grad(loss.sum(), leaf)

    def whole(at_once: int) -> None:
        objective = DC(classes_at_once=at_once, **options)
        objective.prepare(task, labels, stream(0, "objective"))
        objective.match(images.clone().requires_grad_(), labels, 0)

    for what, call, forms in (("synthetic part", synthetic, (1, 2, 5, 10)), ("whole match", whole, (1, 10))):
        seconds: dict[int, list[float]] = {form: [] for form in forms}
        for form in forms * 6:
            started = time.perf_counter()
            call(form)
            seconds[form].append(time.perf_counter() - started)
        for form, times in seconds.items():
            median, least = statistics.median(times[1:]), min(times[1:])
            print(
                f"dc, {what}, {form} classes at once, {len(labels)} images: median {median:.3f} s, least {least:.3f} s of 5"
            )


def mtt(arguments: argparse.Namespace) -> None:
    """Matches of trajectory matching; what a student, its experts and the images are does not change what a match costs."""
    task = tiny_task(classes=10, image_size=32)
    options = dict(parse_assignment(text) for text in arguments.set)
    objective = MTT(gradient=arguments.gradient, syn_steps=arguments.syn_steps, max_start_epoch=1, **options)
    network = random_network(objective.options, task, stream(0, "network"))
    start = flat(network)
    end = start + 0.01 * torch.randn(start.shape, generator=stream(0, "end"))
    objective.experts = MemoryExperts([{0: start, 3: end}])
    labels = torch.arange(arguments.images) % task.num_classes
    images = torch.randn(arguments.images, 1, 32, 32, generator=stream(0, "images")).requires_grad_()
    objective.prepare(task.for_training(), labels, stream(0, "objective"))
    before = resident()
    started = time.perf_counter()
    objective.match(images, labels, 0)
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    print(
        f"mtt {arguments.gradient}, {arguments.syn_steps} steps, {arguments.images} images, {len(start):,} parameters: "
        f"{seconds / arguments.syn_steps:.3f} s a step, {seconds:.1f} s a match; peak {peak:.0f} MiB, "
        f"{peak - before:.0f} MiB of it by the match"
    )


def resident() -> float:
    """Memory of the process now, MiB (Linux)."""
    pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1])
    return pages * resource.getpagesize() / 2**20


def cin256(arguments: argparse.Namespace) -> None:
    """One DM step with the layout of `cin256-v2` and random weights, on random images of ImageNet's first classes."""
    if not arguments.prior.exists():
        parts = cin256_modules(stream(0, "cin256"))
        facts = PriorFacts(imagenet_classes(), 1000, "random weights in the layout of cin256-v2")
        save_prior(
            arguments.prior,
            unet=parts.unet,
            autoencoder=parts.autoencoder,
            scheduler=parts.scheduler,
            class_embedding=parts.class_embedding,
            facts=facts,
        )
        del parts
    names = tuple(known.name for known in imagenet_classes()[: arguments.classes])
    task = tiny_task(channels=3, image_size=128, train=64, test=1, class_names=names)
    settings = {
        "generator.name": "ld3m",
        "generator.options.prior": str(arguments.prior),
        "generator.options.steps": arguments.denoising_steps,
        "generator.options.guidance_scale": 3.0,
        "generator.options.memory": "checkpoint",
        "objective.options": {"batch_real": 64, "network_settings": {"depth": 5}},
        "steps": 1,
        **dict(parse_assignment(text) for text in arguments.set),
    }
    started = time.perf_counter()
    state = Distillation(resolve(settings=settings.items()), task=task)
    built = time.perf_counter() - started
    count = sum(parameter.numel() for parameter in state.generator._prior.unet.parameters())
    done = state.step()
    print(
        f"cin256-v2 layout, U-Net of {count:,} parameters, T = {arguments.denoising_steps}, "
        f"{arguments.classes} images of 128x128: built in {built:.0f} s, one DM step {done.seconds:.0f} s, loss {done.loss:.4g}"
    )


def median_seconds(call: Callable[[], None], runs: int = 7) -> float:
    """Median time of `call`, after one call to warm up."""
    call()
    times = []
    for _ in range(runs):
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return statistics.median(times)


if __name__ == "__main__":
    main()
