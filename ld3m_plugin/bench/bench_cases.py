"""The plan of a benchmark: which cases there are, from `cases.yaml` and the installed backends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

from ld3m_plugin.errors import UsageError, nearest
from ld3m_plugin.plain_yaml import read_yaml
from ld3m_plugin.registry import current_registry

_FILE = Path(__file__).with_name("cases.yaml")
#: Height and width of the images -> what is measured there beside the pairs.
SIZES = (32, 128)
_EVALUATION = {
    "data": "fashion-mnist:embedded",
    "protocol": "quick",
    "epochs": 20,
    "test_per_class": 20,
    "ipc": 1,
    "repeats": 1,
}


@dataclass(frozen=True)
class Case:
    """One thing that is measured.

    Attributes:
        name: unique; a group and a name in it, such as `pairs/pixel+dm`.
        what: one line on what it does.
        work: what the worker is told, beside the device.
        prior: a prior with random weights that it needs, or None.
        optional: a backend may refuse it, such as a prior of another image size; that is said, and is no failure.
    """

    name: str
    what: str
    work: Mapping[str, Any]
    prior: str | None = None
    optional: bool = False


def plan(size: int = 32, full_size: bool = False, only: Sequence[str] = ()) -> list[Case]:
    """List the cases in the order in which they run.

    Args:
        size: height and width of the images of the pairs: 32, the embedded gray data, or 128, random colour images. The named
            cases and the growth over T and N belong to 32.
        full_size: priors of published layouts with random weights, at 128.
        only: patterns of names, such as `ld3m/*`; none: all cases.

    Raises:
        UsageError: another size, full-size priors at 32, or a pattern that no case has.
    """
    if size not in SIZES:
        raise UsageError(f"--size {size}: choose {' or '.join(map(str, SIZES))}")
    if full_size and size != 128:
        raise UsageError("--full-size has layouts for 128x128 alone: add --size 128")
    cases = [*_named(), *_growth()] if size == 32 else []
    cases += _pairs(size, full_size)
    return _matching(cases, only) if only else cases


def _matching(cases: Sequence[Case], only: Sequence[str]) -> list[Case]:
    for pattern in only:
        if not any(fnmatchcase(case.name, pattern) for case in cases):
            names = nearest(pattern, (case.name for case in cases))
            raise UsageError(f"--only {pattern!r} matches no case: {names}")
    return [case for case in cases if any(fnmatchcase(case.name, pattern) for pattern in only)]


@cache
def _content() -> dict[str, Any]:
    return read_yaml(_FILE)


def _named() -> list[Case]:
    cases = []
    for entry in _content()["named"]:
        work = {key: value for key, value in entry.items() if key not in ("name", "what", "prior")}
        defaults = _EVALUATION if work["kind"] == "evaluation" else {"data": "fashion-mnist:embedded"}
        cases.append(Case(entry["name"], entry["what"], {**defaults, **work}, entry.get("prior")))
    return cases


def _growth() -> list[Case]:
    content, cases = _content()["growth"], []
    for line in content["over"]:
        for steps, ipc in product(line["T"], line["ipc"]):
            chunk = line.get("render_batch")
            options = {**content["settings"]["generator.options"], "steps": steps, "memory": line["memory"]}
            settings = {**content["settings"], "generator.options": options, "images_per_class": ipc}
            name = f"growth/{line['memory']}{f'-by-{chunk}' if chunk else ''}-T{steps}-N{10 * ipc}"
            work = {"kind": "chain", "data": "fashion-mnist:embedded", "settings": {**settings, "render_batch": chunk}}
            what = f"LD3M's chain alone, memory={line['memory']}, T = {steps}, {10 * ipc} images"
            cases.append(Case(name, what + (f", {chunk} at a time" if chunk else ""), work, content["prior"]))
    return cases


def _pairs(size: int, full_size: bool) -> list[Case]:
    """Every installed generator with every installed objective."""
    content, registry = _content()["pairs"][str(size)], current_registry()
    generators = content.get("full_size" if full_size else "generators", {})
    cases = []
    for generator, objective in product(registry.names("generator"), registry.names("objective")):
        chosen = content["objectives"].get(objective, {})
        settings = {
            "generator.name": generator,
            "generator.options": generators.get(generator, {}),
            "objective.name": objective,
            "objective.options": chosen.get("options", {}),
        }
        work = {
            "kind": "step",
            "data": content["data"],
            "settings": settings,
            "random_experts": chosen.get("random_experts", False),
        }
        name = f"pairs/{generator}+{objective}" + (f"@{size}" if size != 32 else "")
        what = f"one step, 1 image a class, {size}x{size}"
        asked = f"{{{content.get('prior')}}}" in str(settings["generator.options"])
        prior = content["prior"] if asked else None
        cases.append(Case(name, what, work, prior, optional=True))
    return cases
