"""What scripts that train evaluation networks on real images take: data, protocol, networks."""

from __future__ import annotations

import argparse

from ld3m_plugin import load_task
from ld3m_plugin.contracts import Task
from ld3m_plugin.distillation.loop import choose_device
from ld3m_plugin.plain_yaml import parse_value


def evaluation_parser(description: str | None) -> argparse.ArgumentParser:
    """A parser with the options that these scripts share."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="fashion-mnist:embedded")
    parser.add_argument("-D", action="append", default=[], metavar="KEY=VALUE", help="option of the data set")
    parser.add_argument("--protocol", default="unseen", help="where the rest of the recipe comes from")
    parser.add_argument("--networks", default="", help="default: the protocol's")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--device", default="auto", help="cpu, cuda, cuda:1, mps, or auto for the best available")
    return parser


def given_task(given: argparse.Namespace) -> Task:
    """The task that `--data` and `-D` name, on the device that `--device` names."""
    options = {key: parse_value(value) for key, _, value in (text.partition("=") for text in given.D)}
    return load_task(given.data, **options).to(choose_device(given.device))
