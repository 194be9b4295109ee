"""Read thousands of hostile inputs, and fail on any traceback, hang, excess of memory, or execution.

usage: python scripts/fuzz.py [--kind KIND ...] [--inputs 2000] [--seed 0] [--jobs 1]
       python scripts/fuzz.py --kind config --number 17     reads one input again and prints its plan

Each input is a valid thing of its kind with one to three damages, read through the public function or command that a user would
use. An input is known by its kind, number and seed. It must end in a value, or in a refusal of one line without control
characters. A process that takes over 20 s (`--seconds`) of processor time for an input, or does nothing for 20 s, is ended.
Exit code 1: at least one input ended otherwise; each is printed.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import lru_cache, partial
from pathlib import Path
from threading import Lock
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from fuzzing.fuzz_worker import ROOT, Outcome, serve
from fuzzing.hostile_plans import BATCH, SHARES, STRATEGIES, Plan, draw_plans

_LONGEST = 180.0  # on a busy machine
_draw_lock = Lock()


class Worker:
    """A process that reads inputs, started when it is needed and again after its end."""

    def __init__(self, folder: Path, name: str, seconds: float) -> None:
        self._seconds = seconds
        self._stacks = folder / f"{name}.txt"
        self._process: Any = None

    def read(self, kind: str, plan: Plan) -> Outcome:
        """Read one input; a process that hangs is ended."""
        if self._process is None:
            self._start()
        self._connection.send((kind, plan))
        try:
            if self._comes():
                return self._connection.recv()  # type: ignore[no-any-return]
            outcome = Outcome("hang", f"over {self._seconds:g} s", self._stack())
        except (EOFError, OSError):
            self._process.join()
            outcome = Outcome("traceback", f"the process ended with code {self._process.exitcode}")
        self.end()
        return outcome

    def end(self) -> None:
        """End the process."""
        if self._process is not None:
            self._connection.close()
            self._process.kill()
            self._process.join()
            self._process = None

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, other = context.Pipe()
        self._process = context.Process(target=serve, args=(other, str(self._stacks)), daemon=True)
        self._process.start()
        other.close()
        self._connection.recv()

    def _comes(self) -> bool:
        """Whether an answer comes before the process has worked, or idled, for too long."""
        begin = last = time.monotonic()
        spent = first = _processor_seconds(self._process.pid)
        while not self._connection.poll(0.2):
            now, seconds = time.monotonic(), _processor_seconds(self._process.pid)
            if seconds > spent:
                spent, last = seconds, now
            if seconds - first > self._seconds or now - last > self._seconds or now - begin > _LONGEST:
                return False
        return True

    def _stack(self) -> str:
        """The innermost frame of the package, which the process writes when it is asked."""
        os.kill(self._process.pid, signal.SIGUSR1)
        time.sleep(0.5)
        lines = self._stacks.read_text(errors="replace").splitlines()
        return next(
            (line.strip().replace(f"{ROOT}/", "") for line in lines if f'"{ROOT}/' in line and "/scripts/" not in line),
            "",
        )


def _processor_seconds(pid: int) -> float:
    with suppress(OSError, IndexError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return 0.0


@lru_cache(maxsize=4)
def _batch(kind: str, seed: int, batch: int) -> list[Plan]:
    return draw_plans(kind, seed, batch)


def plan_of(kind: str, seed: int, number: int) -> Plan:
    """The plan of an input."""
    with _draw_lock:
        plans = _batch(kind, seed, number // BATCH)
    return plans[number % BATCH % len(plans)]


def main() -> int:
    """Read the inputs, print counts and faults."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kind", action="append", choices=sorted(STRATEGIES), help="repeatable; default: all")
    parser.add_argument("--inputs", type=int, default=2000, help="in all; default 2000")
    parser.add_argument("--number", type=int, help="read this input of the kind alone")
    parser.add_argument("--verbose", action="store_true", help="print how every input ended")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=20.0, help="of work, or of idling, after which an input hangs")
    parser.add_argument("--jobs", type=int, default=1, help="processes at a time")
    given = parser.parse_args()
    kinds = given.kind or list(SHARES)
    total = sum(SHARES[kind] for kind in kinds)
    inputs = [(kind, number) for kind in kinds for number in range(-(-given.inputs * SHARES[kind] // total))]
    if given.number is not None:
        inputs = [(kind, given.number) for kind in kinds]
    begin = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="fuzz-stacks-") as folder:
        outcomes = _read_all(inputs, given.seed, given.jobs, partial(Worker, Path(folder), seconds=given.seconds))
    _print_counts(outcomes)
    faults = [(key, outcome) for key, outcome in outcomes.items() if outcome.is_fault]
    print(f"{len(outcomes)} inputs, seed {given.seed}, {len(faults)} faults, {time.monotonic() - begin:.0f} s")
    if given.verbose or given.number is not None:
        for kind, number in inputs:
            print(f"{kind} {number}: ", end="")
            print(f"{plan_of(kind, given.seed, number)!a:.2000}\n    {outcomes[kind, number]!a}")
    return 1 if faults else 0


def _read_all(
    inputs: list[tuple[str, int]], seed: int, jobs: int, start: Callable[[str], Worker]
) -> dict[tuple[str, int], Outcome]:
    """Read all inputs; faults are printed as they come."""
    outcomes: dict[tuple[str, int], Outcome] = {}

    def read(job: int) -> None:
        worker = start(str(job))
        try:
            for kind, number in inputs[job * len(inputs) // jobs : (job + 1) * len(inputs) // jobs]:
                outcome = outcomes[kind, number] = worker.read(kind, plan_of(kind, seed, number))
                if outcome.is_fault:
                    text = ascii(" ".join(outcome.text.split()))[1:-1]
                    text = text[:300] if outcome.end != "harness" else text[-600:]
                    print(f"FAULT {kind} {number} (seed {seed}): {outcome.end}: {text} [{outcome.frame}]", flush=True)
        finally:
            worker.end()

    with ThreadPoolExecutor(jobs) as pool:
        list(pool.map(read, range(jobs)))
    return outcomes


def _print_counts(outcomes: dict[tuple[str, int], Outcome]) -> None:
    counts: dict[str, Counter[str]] = {}
    for (kind, _), outcome in outcomes.items():
        counts.setdefault(kind, Counter())[outcome.end] += 1
    for kind, ends in counts.items():
        print(f"{kind:14}" + ", ".join(f"{count} {end}" for end, count in sorted(ends.items())))


if __name__ == "__main__":
    sys.exit(main())
