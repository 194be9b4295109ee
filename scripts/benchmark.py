"""Measure speed and memory, and print lines for docs/results.md with machine and date.

usage: python scripts/benchmark.py forward [--no-keep] [--no-channels-last]
       python scripts/benchmark.py step [--steps N] [--no-keep] [--preset NAME]

Run each line in a process of its own: the allocator's setting and the peak memory belong to the process.
"""

import argparse
import datetime
import platform
import resource
import statistics
import time
from collections.abc import Callable

import torch

from ld3m_plugin.config import resolve
from ld3m_plugin.loop import distill
from ld3m_plugin.memory import keep_freed_memory
from ld3m_plugin.networks.build import get_network


def main() -> None:
    """Parse the command line and run one benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["forward", "step"])
    parser.add_argument("--no-keep", action="store_true", help="leave the allocator as it is")
    parser.add_argument("--no-channels-last", action="store_true")
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--preset", default="demo")
    arguments = parser.parse_args()
    kept = not arguments.no_keep and keep_freed_memory()
    run = forward if arguments.what == "forward" else step
    run(arguments)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"freed memory kept: {kept}; peak memory of the process {peak:.2f} GiB")
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
    config = resolve(presets=[arguments.preset], settings=[("steps", arguments.steps)])
    seconds = [done.seconds for done in distill(config)]
    print(
        f"preset {arguments.preset}: {statistics.median(seconds[3:]):.3f} s a step "
        f"(median of {len(seconds) - 3}, after 3 to warm up)"
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
