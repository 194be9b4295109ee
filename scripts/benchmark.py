"""Measure speed and memory, and print lines for docs/results.md with machine and date.

usage: python scripts/benchmark.py forward [--no-keep] [--width W]
       python scripts/benchmark.py step [--steps N] [--no-keep] [--preset NAME] [--set PATH=VALUE ...]
       python scripts/benchmark.py experts [--steps N] [--width W]
       python scripts/benchmark.py dc [--images N] [--set KEY=VALUE ...]
       python scripts/benchmark.py mtt [--gradient NAME] [--syn-steps N] [--images N] [--set KEY=VALUE ...]
       python scripts/benchmark.py cin256 --prior FOLDER [--denoising-steps T] [--classes K] [--return]
       python scripts/benchmark.py stylegan [--network NAME] [--layer N] [--classes K] [--render-batch B] [--return]
       python scripts/benchmark.py modulation [--channels C]

`cin256` makes one DM step at 128x128 with the full-size ImageNet layout (U-Net of 400 million parameters, VQ autoencoder) and
random weights, which are written to FOLDER if it is not there. `stylegan` does the same with StyleGAN-XL. `modulation` compares
the two forms of a modulated convolution in seven layers at 32x32: a copy of the weights for each image, or modulated activations.
`experts` makes updates of expert trajectories on the embedded
Fashion-MNIST, one network after another and stacked.

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
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from ld3m_plugin.allocator import keep_freed_memory, return_freed_memory
from ld3m_plugin.augmentation import DSA
from ld3m_plugin.config import parse_assignment, resolve
from ld3m_plugin.contracts import Network
from ld3m_plugin.data.load import load_task
from ld3m_plugin.distillation.loop import Distillation, distill
from ld3m_plugin.generators.glad.pretrained import IMAGENET
from ld3m_plugin.generators.glad.stylegan_layers import SynthesisLayer
from ld3m_plugin.generators.glad.stylegan_network import SynthesisNetwork
from ld3m_plugin.generators.glad.stylegan_shape import make_shape
from ld3m_plugin.generators.ld3m.compvis.compvis_convert import cin256_modules
from ld3m_plugin.generators.ld3m.ldm_folder import PriorFacts, save_prior
from ld3m_plugin.networks.build import get_network
from ld3m_plugin.objectives.dc.dc_objective import DC
from ld3m_plugin.objectives.dc.distances import layerwise_cosine
from ld3m_plugin.objectives.dc.gradients import synthetic_gradients, vectorises
from ld3m_plugin.objectives.matching import random_network
from ld3m_plugin.objectives.mtt.experts import MemoryExperts, flat
from ld3m_plugin.objectives.mtt.mtt_objective import MTT
from ld3m_plugin.objectives.mtt.store import ExpertSettings
from ld3m_plugin.objectives.mtt.store.learners import learner_of
from ld3m_plugin.objectives.mtt.store.train_experts import epoch_batches, new_experts
from ld3m_plugin.objectives.mtt.store.training_images import TrainingImages
from ld3m_plugin.priors.classes import imagenet_classes
from ld3m_plugin.randomness import stream
from ld3m_plugin.testing import tiny_task


def main() -> None:
    """Parse the command line and run one benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=list(BENCHMARKS))
    parser.add_argument("--no-keep", action="store_true", help="leave the allocator as it is")
    parser.add_argument("--return", action="store_true", dest="give_back", help="return freed memory at once")
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--preset", default="demo")
    parser.add_argument("--set", action="append", default=[], metavar="PATH=VALUE", help="one setting of the run")
    parser.add_argument("--prior", type=Path, help="folder of the random full-size prior")
    parser.add_argument("--denoising-steps", type=int, default=10)
    parser.add_argument("--classes", type=int, default=10, help="images rendered and matched, one a class")
    parser.add_argument("--network", default="imagenet-128", help="official size of a random StyleGAN-XL")
    parser.add_argument("--layer", type=int, default=20)
    parser.add_argument("--render-batch", type=int)
    parser.add_argument("--channels", type=int, default=32)
    parser.add_argument("--width", type=int, default=128, help="of the network")
    parser.add_argument("--gradient", default="adjoint", help="of mtt: adjoint, unrolled or first-order")
    parser.add_argument("--syn-steps", type=int, default=20)
    parser.add_argument("--images", type=int, default=10, help="synthetic images, of mtt all of them in each step")
    arguments = parser.parse_args()
    kept = not arguments.no_keep and not arguments.give_back and keep_freed_memory()
    if arguments.give_back:
        return_freed_memory()
    BENCHMARKS[arguments.what](arguments)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        f"freed memory kept: {kept}, returned at once: {arguments.give_back}; peak memory of the process {peak:.2f} GiB"
    )
    print(
        f"{datetime.date.today()}, {torch.get_num_threads()} threads of {platform.machine()} "
        f"({platform.system()}), torch {torch.__version__}"
    )


def forward(arguments: argparse.Namespace) -> None:
    """ConvNet-3 at 32x32 in both memory layouts, in turns: forward passes of many images, and a training's gradient."""
    images, labels = torch.randn(1280, 1, 32, 32), torch.arange(256) % 10
    networks = {
        layout: get_network("ConvNet", channels=1, image_size=32, num_classes=10, width=arguments.width).to(
            memory_format=layout
        )
        for layout in (torch.channels_last, torch.contiguous_format)
    }
    works = {"forward of 1,280 images": (_embed, images), "gradient of 256 images": (_gradient, images[:256], labels)}
    for what, (work, *given) in works.items():
        for layout, seconds in in_turns({k: partial(work, v, *given) for k, v in networks.items()}).items():
            print(
                f"width {arguments.width}, {what}, {layout}: median {statistics.median(seconds):.3f} s of {len(seconds)}"
            )


@torch.no_grad()
def _embed(network: Network, images: torch.Tensor) -> None:
    network.embed(images)


def _gradient(network: Network, images: torch.Tensor, labels: torch.Tensor) -> None:
    torch.autograd.grad(F.cross_entropy(network(images), labels), list(network.parameters()))


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

    objectives = {at_once: DC(classes_at_once=at_once, **options) for at_once in (1, 10)}
    for objective in objectives.values():
        objective.prepare(task, labels, stream(0, "objective"))

    def whole(at_once: int) -> None:
        objectives[at_once].match(images.clone().requires_grad_(), labels, 0)

    check = median_seconds(partial(vectorises, network, images[:1]), 3)
    print(f"dc, the check at the start that classes may go together: {check:.2f} s (median of 3)")
    for what, call, forms in (("synthetic part", synthetic, (1, 2, 5, 10)), ("whole match", whole, (1, 10))):
        for form, times in in_turns({form: partial(call, form) for form in forms}, 5).items():
            median, least = statistics.median(times), min(times)
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
    count = sum(parameter.numel() for parameter in state.generator._prior.denoiser.parameters())
    done = state.step()
    print(
        f"cin256-v2 layout, U-Net of {count:,} parameters, T = {arguments.denoising_steps}, "
        f"{arguments.classes} images of 128x128: built in {built:.0f} s, one DM step {done.seconds:.0f} s, loss {done.loss:.4g}"
    )


def stylegan(arguments: argparse.Namespace) -> None:
    """Two DM steps with an official StyleGAN-XL shape and random weights, on random images of ImageNet's first classes."""
    names = tuple(known.name for known in imagenet_classes()[: arguments.classes])
    task = tiny_task(channels=3, image_size=IMAGENET[arguments.network], train=64, test=1, class_names=names)
    settings = {
        "generator.name": "glad",
        "generator.options": {"network": arguments.network, "weights": "random", "layer": arguments.layer},
        "objective.options": {"batch_real": 64, "network_settings": {"depth": 5}},
        "render_batch": arguments.render_batch,
        "steps": 2,
        **dict(parse_assignment(text) for text in arguments.set),
    }
    started = time.perf_counter()
    state = Distillation(resolve(settings=settings.items()), task=task)
    built = time.perf_counter() - started
    count = sum(parameter.numel() for parameter in state.generator._network.parameters())
    seconds = [state.step().seconds for _ in range(2)]
    print(
        f"StyleGAN-XL {arguments.network}, {count:,} parameters, layer {arguments.layer}, {arguments.classes} images: built in "
        f"{built:.0f} s, DM steps {seconds[0]:.1f} s and {seconds[1]:.1f} s"
    )


def modulation(arguments: argparse.Namespace) -> None:
    """Forward and backward of 32 images through seven layers at 32x32, both forms, with the filters and convolutions alone."""
    shape = make_shape(
        resolutions=(32,),
        stem_layers=7,
        head_layers=0,
        classes=0,
        channel_base=10**6,
        channel_max=arguments.channels,
        image_channels=1,
    )
    network = SynthesisNetwork(shape).eval()
    ws = torch.randn(32, shape.num_ws, shape.w_dim)

    def run(activations: bool) -> Callable[[], None]:
        def once() -> None:
            features = network.input(ws[:, 0])
            for index, layer in enumerate(shape.layers):
                module = network.get_submodule(layer.name)
                form = module if activations or layer.to_rgb else partial(_weights_per_image, module)
                features = form(features, ws[:, index + 1])
            torch.autograd.grad(features, list(network.parameters()), torch.randn_like(features), allow_unused=True)

        return once

    for name, activations in (("weights a copy for each image", False), ("activations modulated", True)):
        print(
            f"{name}, {arguments.channels} channels, margin 10: {median_seconds(run(activations), 3):.2f} s (median of 3)"
        )


def _weights_per_image(layer: SynthesisLayer, features: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    style = layer.affine(w)
    weight = layer.weight / layer.weight.square().mean((1, 2, 3), keepdim=True).sqrt()
    weight = weight * style[:, None, :, None, None]
    weight = weight / (weight.square().sum((2, 3, 4), keepdim=True) + 1e-8).sqrt()
    grouped = features.contiguous().reshape(1, -1, *features.shape[2:])
    convolved = F.conv2d(grouped, weight.flatten(0, 1), padding=layer.shape.kernel - 1, groups=len(features))
    return layer._activate(convolved.view(len(features), -1, *convolved.shape[2:]) + layer.bias[:, None, None])


def experts(arguments: argparse.Namespace) -> None:
    """Seconds of an update of one expert (ConvNet-3, batch 256, DSA) in groups of 1, 2 and 4, which take turns."""
    images, dsa = TrainingImages(load_task("fashion-mnist:embedded")), DSA()
    groups = {}
    for together in (1, 2, 4):
        options = ExpertSettings(network_settings={"width": arguments.width})
        networks, streams = zip(*new_experts(options, images.task, range(together)), strict=True)
        groups[together] = (
            learner_of(networks, options),
            epoch_batches(images, dsa, options.batch_size, streams),
            [],
            [],
        )
    for _ in range(arguments.steps + 1):
        for together, (learner, batches, wall, processor) in groups.items():
            started, used = time.perf_counter(), time.process_time()
            learner.update(next(batches))
            wall.append((time.perf_counter() - started) / together)
            processor.append((time.process_time() - used) / together)
    for together, (_, _, wall, processor) in groups.items():
        print(
            f"width {arguments.width}, {together} together, an update of one expert: {statistics.median(wall[1:]):.3f} s, "
            f"processor time {statistics.median(processor[1:]):.3f} s (smallest {min(processor[1:]):.3f}), "
            f"medians of {arguments.steps}"
        )


def median_seconds(call: Callable[[], None], runs: int = 7) -> float:
    """Median time of `call`, after one call to warm up."""
    return statistics.median(in_turns({"": call}, runs)[""])


def in_turns(calls: Mapping[Any, Callable[[], None]], rounds: int = 7) -> dict[Any, list[float]]:
    """Seconds of each call in each round, one call after the other, so that other work meets all; a first round is not kept."""
    seconds: dict[Any, list[float]] = {name: [] for name in calls}
    for name in [*calls] * (rounds + 1):
        started = time.perf_counter()
        calls[name]()
        seconds[name].append(time.perf_counter() - started)
    return {name: times[1:] for name, times in seconds.items()}


BENCHMARKS = {
    "forward": forward,
    "step": step,
    "experts": experts,
    "dc": dc,
    "mtt": mtt,
    "cin256": cin256,
    "stylegan": stylegan,
    "modulation": modulation,
}

if __name__ == "__main__":
    main()
