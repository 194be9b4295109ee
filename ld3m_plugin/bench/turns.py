"""Workers in processes of their own, and turns between those of two trees."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ld3m_plugin.bench.bench_cases import Case

_WORKER = Path(__file__).with_name("bench_worker.py")


@dataclass(frozen=True)
class Setting:
    """What all cases of a benchmark share.

    Attributes:
        trees: name -> the folder of its code; None: the installed code.
        rounds: how often each tree runs each case, after one run to warm up.
        device: of the work.
        threads: of each process.
        scratch: a folder that all workers share.
    """

    trees: Mapping[str, Path | None]
    rounds: int
    device: str
    threads: int
    scratch: Path


@dataclass
class Measured:
    """What one tree did in one case.

    Attributes:
        rounds: `wall`, `user` and `system` seconds of each round.
        built, peak: MiB of the process when the case was ready, and the most from then on.
        device_peak: MiB of torch's tensors on the device, above those that were there when the case was ready.
        problem: why there are no rounds.
        refused: the problem is that a backend does not do such a case.
    """

    rounds: list[dict[str, float]] = field(default_factory=list)
    built: float = 0.0
    peak: float = 0.0
    device_peak: float | None = None
    problem: str | None = None
    refused: bool = False


class Worker:
    """One process that holds one prepared case."""

    def __init__(self, case: Mapping[str, Any], tree: Path | None, setting: Setting) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 (closed with the worker)
        threads = {name: str(setting.threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
        self._process = subprocess.Popen(  # noqa: S603 (this interpreter, a file of this package)
            [sys.executable, "-P", str(_WORKER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env={**os.environ, **threads},
            text=True,
            encoding="utf-8",
        )
        first = {
            "tree": None if tree is None else str(tree),
            "scratch": str(setting.scratch),
            "threads": setting.threads,
        }
        self.measured = Measured()
        if (ready := self._ask({**first, "case": {**case, "device": setting.device}})) is not None:
            self.measured.built = self.measured.peak = ready["ready"]["now"]
            self._device_built = ready["ready"].get("device_now")

    def run(self, *, kept: bool = True) -> None:
        """Run the case once; `kept=False` warms up."""
        answer = None if self.measured.problem else self._ask({})
        if answer is None:
            return
        measured, memory = self.measured, answer["memory"]
        measured.peak = memory["peak"]
        if self._device_built is not None:
            measured.device_peak = memory["device_peak"] - self._device_built
        if kept:
            measured.rounds.append(answer["round"])

    def _ask(self, question: Mapping[str, Any]) -> dict[str, Any] | None:
        assert self._process.stdin is not None  # noqa: S101 (a pipe)
        assert self._process.stdout is not None  # noqa: S101 (a pipe)
        try:
            self._process.stdin.write(json.dumps(question) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        answer = json.loads(line) if line else {"failed": self._last_words()}
        for kind in ("refused", "failed"):
            if kind in answer:
                self.measured.problem, self.measured.refused = answer[kind], kind == "refused"
                return None
        return dict(answer)

    def _last_words(self) -> str:
        code = self._process.wait()
        self._errors.seek(0)
        lines = self._errors.read().decode("utf-8", "replace").strip().splitlines()
        return lines[-1] if lines else f"the process ended with code {code}"

    def close(self) -> None:
        """End the process; it has nothing to keep."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with suppress(BrokenPipeError):  # what it did not read any more
                    pipe.close()
        self._errors.close()


def order(names: Sequence[str], rounds: int) -> list[str]:
    """Who runs when: A B B A A B ..., so that whatever changes slowly on the machine meets both alike.

    >>> "".join(order("AB", 3))
    'ABBAAB'
    """
    return [name for index in range(rounds) for name in (names[::-1] if index % 2 else names)]


def measure(case: Case, setting: Setting) -> dict[str, Measured]:
    """Run one case in a process for each tree, in turns; returns what each tree did."""
    with ExitStack() as stack:
        workers = {}
        for name, tree in setting.trees.items():
            workers[name] = Worker(case.work, tree, setting)
            stack.callback(workers[name].close)
        for worker in workers.values():
            worker.run(kept=False)
        for name in order(list(workers), setting.rounds):
            workers[name].run()
        return {name: worker.measured for name, worker in workers.items()}


def make_prior(name: str, case: Case, setting: Setting) -> str | None:
    """Write the prior that cases need, with the first tree's code; returns what went wrong."""
    if (setting.scratch / name).exists():
        return None
    maker = Worker(
        {"kind": "prior", "prior": name, "data": case.work["data"]}, next(iter(setting.trees.values())), setting
    )
    try:
        return maker.measured.problem
    finally:
        maker.close()
