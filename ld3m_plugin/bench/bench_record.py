"""The record of a benchmark: what was measured, where and with which versions, as JSON and back."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError, computed_field

from ld3m_plugin.bench.turns import Measured
from ld3m_plugin.errors import ArtefactError
from ld3m_plugin.storage import read_json

FORMAT = 1
#: Names of the two trees in records.
THIS, AGAINST = "this", "against"


class CaseResult(BaseModel):
    """One case: what it does, and what each tree took for it."""

    name: str
    what: str
    measured: dict[str, Measured]

    @computed_field  # type: ignore[prop-decorator]
    @property
    def ratios(self) -> dict[str, float]:
        """The other tree over this one; above 1, this tree takes less. Empty unless both trees ran all rounds.

        `cpu` and `wall` are ratios of medians, `cpu_least` and `cpu_most` those of single rounds, `growth` that of memory.
        """
        both = [self.measured.get(name) for name in (AGAINST, THIS)]
        other, this = both
        if other is None or this is None or not other.rounds or other.problem or this.problem:
            return {}
        rounds = [cpu(a) / cpu(b) for a, b in zip(other.rounds, this.rounds, strict=True)]
        found = {"cpu": cpu_seconds(other) / cpu_seconds(this), "cpu_least": min(rounds), "cpu_most": max(rounds)}
        found["wall"] = wall_seconds(other) / wall_seconds(this)
        if growth(this) > 0:
            found["growth"] = growth(other) / growth(this)
        return {name: round(value, 4) for name, value in found.items()}


class Record(BaseModel):
    """A whole benchmark.

    Attributes:
        trees: name -> `commit` and whether the sources were `changed` since; empty outside of a repository.
        rounds: of each case and tree, after one to warm up.
        threads: of each process.
        cases: in the order in which they ran.
    """

    model_config = ConfigDict(extra="ignore")
    format: int = FORMAT
    date: str
    machine: dict[str, Any]
    versions: dict[str, str]
    trees: dict[str, dict[str, Any]]
    rounds: int
    threads: int
    device: str
    size: int
    full_size: bool
    cases: list[CaseResult]


def cpu(seconds: Mapping[str, float]) -> float:
    """Processor seconds of one round: user and system."""
    return seconds["user"] + seconds["system"]


def cpu_seconds(measured: Measured) -> float:
    """Median processor seconds of a round."""
    return statistics.median(map(cpu, measured.rounds))


def system_seconds(measured: Measured) -> float:
    """Median of the system's part of a round's processor seconds."""
    return statistics.median(seconds["system"] for seconds in measured.rounds)


def wall_seconds(measured: Measured) -> float:
    """Median wall seconds of a round."""
    return statistics.median(seconds["wall"] for seconds in measured.rounds)


def growth(measured: Measured) -> float:
    """MiB that the case needs beside what was there when it was ready; on a CUDA device, that of the device."""
    return measured.peak - measured.built if measured.device_peak is None else measured.device_peak


def machine(device: str) -> dict[str, Any]:
    """What the numbers depend on, without a name of the machine: processor, cores, memory, system, load and device."""
    import torch

    about: dict[str, Any] = {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "system": platform.system(),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "device": torch.cuda.get_device_name(device) if device.startswith("cuda") else device,
        "load": load(),
    }
    with suppress(AttributeError, ValueError, OSError):  # Windows
        about["memory_gib"] = round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    return about


def load() -> float | None:
    """How many processes wanted the processor over the last minute, where the system says."""
    with suppress(AttributeError, OSError):
        return round(os.getloadavg()[0], 1)
    return None


def _processor() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def read_record(path: Path) -> Record:
    """Read what `ld3m bench --json` wrote.

    Raises:
        ArtefactError: the file is missing, or something else.
    """
    advice = "`ld3m bench --json FILE` writes one"
    content = read_json(path, ArtefactError)
    try:
        record = Record.model_validate(content)
    except ValidationError as error:
        where = ".".join(map(str, error.errors()[0]["loc"]))
        raise ArtefactError(f"{path} is no record of a benchmark (at {where or 'the top'}): {advice}") from error
    if record.format != FORMAT:
        raise ArtefactError(f"{path} has format {record.format}, not {FORMAT}: {advice}")
    return record
