"""Kill runs of every pair of generator and objective with SIGKILL, let them go on, and compare them with runs left alone.

    python scripts/soak.py --out soak            (100 runs; the same command goes on where it was stopped)

Each run is killed up to three times, at seeded moments: some time after the first step, before a write, or inside it; the
first kill of a run goes round all kinds of writes. After a kill, `--resume` goes on, or the same command again where no
configuration was there yet. Then every file of the run folder must be that of a run in a process of its own that nobody
killed, byte for byte; of JSON, all values but `seconds`. A run that fails keeps its folder. Take a new folder when the code
has changed. POSIX only.
"""

from __future__ import annotations

import argparse
import importlib
import itertools
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy
import torch
import yaml
from soak_process import KINDS, Moment, run_process, steps_recorded

from ld3m_plugin.registry import current_registry
from ld3m_plugin.storage import is_temporary

_NETWORK = {"network_settings": {"width": 16}}
#: Few steps, but state between them: fresh noise, a network that lives for several steps, a learned rate.
GENERATORS: dict[str, dict[str, Any]] = {
    "pixel": {},
    "autoencoder": {},
    "glad": {},
    "ld3m": {"steps": 2, "noise": "redrawn"},
}
OBJECTIVES: dict[str, dict[str, Any]] = {
    "dm": {**_NETWORK, "batch_real": 16},
    "dc": {**_NETWORK, "batch_real": 16, "outer_loop": 3},
    "mtt": {**_NETWORK, "syn_steps": 3, "expert_epochs": 1, "max_start_epoch": 2, "expert_settings": {"count": 1}},
}
PAIRS = [f"{generator}-{objective}" for generator, objective in itertools.product(GENERATORS, OBJECTIVES)]
_EXPERTS = ("--count", "1", "--epochs", "2", "--device", "cpu")
_DATA = "fashion-mnist:embedded"
_SETTINGS = {
    "data": {"name": _DATA},
    "device": "cpu",
    "steps": 6,
    "checkpoint_every": 2,
    "evaluation": {
        "every": 3,
        "test_per_class": 5,
        "protocol": {
            "name": "soak",
            "summary": "three epochs of a small network",
            "source": "scripts/soak.py",
            "networks": ["ConvNet"],
            "network_settings": {"ConvNet": {"width": 16}},
            "repeats": 1,
            "epochs": 3,
            "batch_size": 256,
            "learning_rate": 0.01,
            "dsa": "none",
        },
    },
}
#: Kinds of the first kill; their number shares no factor with the 12 pairs, so that each pair meets each kind.
_ROUND = ("computing", "checkpoint", "metrics", "best", "final set", "results", "computing")
_MOST_KILLS = 3
_CHECKPOINTS = 2  # that a line of metrics follows


@dataclass(frozen=True)
class Reference:
    """A run that nobody killed: its folder, its events by kind, and its seconds from the first step to the end."""

    run: Path
    events: dict[str, int]
    seconds: float


@dataclass
class Killed:
    """What became of one run.

    Attributes:
        kills: kind of each, and whether it came between the first step and the end.
        problems: what failed or differs; empty: the artefact is identical.
        litter: number of incomplete files that the kills left and the end of the run did not remove.
    """

    number: int
    pair: str
    kills: list[tuple[str, bool]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    litter: int = 0


def distill_words(out: Path, pair: str, home: Path) -> list[str]:
    """Arguments of `ld3m` that start a run of `pair` in `home`, or go on with it where there is a configuration."""
    run = home / "run"
    if (run / "config.yaml").is_file():
        return ["distill", "--resume", str(run)]
    return ["distill", "--config", str(out / f"{pair}.yaml"), "--out", str(run)]


def _ld3m(words: list[str]) -> None:
    """Run `ld3m` in a new process."""
    done = subprocess.run([sys.executable, "-m", "ld3m_plugin", *words], capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        raise RuntimeError(f"ld3m {' '.join(words)}: {done.stderr}")


def make_reference(out: Path, pair: str) -> Reference:
    """Run `pair` in a new process of its own, and in a fork, which must come to the same."""
    homes = {way: out / "references" / f"{pair}-{way}" for way in ("process", "fork")}
    record = out / "references" / f"{pair}.json"
    if not record.is_file():
        for home in homes.values():
            shutil.rmtree(home, ignore_errors=True)
            home.mkdir(parents=True)
        _ld3m(distill_words(out, pair, homes["process"]))
        ended = run_process(distill_words(out, pair, homes["fork"]), homes["fork"])
        found = differences(homes["process"] / "run", homes["fork"] / "run")
        if ended.code or found:
            raise RuntimeError(f"{pair} does not run in a fork as in a new process: {ended.output} {found}")
        record.write_text(json.dumps([ended.events, ended.seconds_after_first_step]), encoding="utf-8")
    events, seconds = json.loads(record.read_text(encoding="utf-8"))
    return Reference(homes["process"] / "run", events, seconds)


def choose_moments(number: int, rng: numpy.random.Generator, reference: Reference) -> list[Moment]:
    """One to three moments, in the order of the processes they are for."""
    kinds = [_ROUND[number % len(_ROUND)]]
    kinds += [_ROUND[rng.integers(len(_ROUND))] for _ in range(rng.integers(_MOST_KILLS))]
    if len(kinds) < _MOST_KILLS and rng.random() < 0.4:
        kinds.insert(0, str(rng.choice(sorted({"lock", "settings"} & reference.events.keys()))))
    moments, is_new = [], True
    for kind in kinds:
        within = int(rng.integers(120)) if rng.random() < 0.5 else None
        most = reference.events.get(kind, 1)
        delay = float(rng.random()) * 0.9 * reference.seconds
        if kind == "metrics" and is_new:  # a line; a run that goes on writes the whole file anew
            moments.append(Moment(kind, int(rng.integers(_CHECKPOINTS)), int(rng.integers(120))))
        else:
            moments.append(Moment(kind, int(rng.integers(most if is_new else min(most, 8))), within, delay))
        is_new = is_new and kind in ("lock", "settings")
    return moments


def soak_run(out: Path, seed: int, references: dict[str, Reference], number: int) -> Killed:
    """Kill run `number`, let it go on to its end, and compare it."""
    pair = PAIRS[number % len(PAIRS)]
    reference, result, home = references[pair], Killed(number, pair), out / f"run-{number:03d}"
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir()
    moments = choose_moments(number, numpy.random.default_rng([seed, number]), reference)
    ended = None
    while ended is None or ended.code == -signal.SIGKILL:
        moment = moments.pop(0) if moments else None
        ended = run_process(distill_words(out, pair, home), home, moment)
        if ended.code == 0 and not result.kills and moment is not None:  # it was over before its moment came
            if moment == moment.earlier():
                result.problems.append(f"nothing of the kind {moment.kind!r} happens in this run")
                break
            shutil.rmtree(home)
            home.mkdir()
            moments.insert(0, moment.earlier())
            ended = None
        elif ended.killed_in is not None:
            result.kills.append((ended.killed_in, steps_recorded(home / "run") > 0))
    result.litter = sum(map(is_temporary, home.rglob("*")))
    result.problems += (
        [f"exit code {ended.code}: {ended.output}"] if ended.code else differences(reference.run, home / "run")
    )
    if not result.problems:
        shutil.rmtree(home)
    return result


def differences(expected: Path, run: Path) -> list[str]:
    """Names of files that one of two run folders lacks, or whose content differs in more than times."""
    names = [_names(root) for root in (expected, run)]
    found = [f"{name} is missing" for name in sorted(names[0] - names[1])]
    found += [f"{name} is left over" for name in sorted(names[1] - names[0])]
    both = [name for name in sorted(names[0] & names[1]) if (expected / name).is_file()]
    return found + [f"{name} differs" for name in both if _content(expected / name) != _content(run / name)]


def _names(root: Path) -> set[str]:
    """Everything in a folder but incomplete files and folders."""
    paths = [path.relative_to(root) for path in root.rglob("*")]
    return {str(path) for path in paths if not any(is_temporary(Path(part)) for part in path.parts)}


def _content(path: Path) -> object:
    if path.suffix == ".json":
        return _timeless(json.loads(path.read_text(encoding="utf-8")))
    if path.suffix == ".jsonl":
        return [_timeless(json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]
    return path.read_bytes()


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _timeless(item) for key, item in value.items() if key != "seconds"}
    return [_timeless(item) for item in value] if isinstance(value, list) else value


def print_table(results: list[Killed]) -> None:
    """Print a line a pair: runs, kills by kind of moment, runs that went on to the end, and identical ones."""
    head = ["pair", "runs", "kills", *KINDS, "went on", "identical", "litter"]
    lines = [_line(pair, [result for result in results if result.pair == pair]) for pair in PAIRS]
    lines.append(_line("all", results))
    widths = [max(len(str(line[column])) for line in (head, *lines)) for column in range(len(head))]
    for line in (head, *lines):
        print("  ".join(str(cell).rjust(width) for cell, width in zip(line, widths, strict=True)))
    within = sum(any(inside for _, inside in result.kills) for result in results)
    print(f"{within} of {len(results)} runs were killed between the first step and the end")
    for result in sorted(results, key=lambda result: result.number):
        for problem in result.problems:
            print(f"run {result.number} ({result.pair}, killed in {result.kills}): {problem}")


def _line(name: str, results: list[Killed]) -> list[object]:
    kinds = Counter(kind for result in results for kind, _ in result.kills)
    went_on = sum(not any("exit code" in problem for problem in result.problems) for result in results)
    identical = sum(not result.problems for result in results)
    litter = sum(result.litter for result in results)
    return [name, len(results), kinds.total(), *(kinds[kind] for kind in KINDS), went_on, identical, litter]


def prepare(out: Path, chosen: list[str]) -> None:
    """Write settings of the chosen pairs, train experts if one needs them, and import what runs import: forks start at once."""
    for pair in chosen:
        generator, objective = pair.split("-")
        backends = {
            "generator": {"name": generator, "options": GENERATORS[generator]},
            "objective": {"name": objective, "options": OBJECTIVES[objective]},
        }
        (out / f"{pair}.yaml").write_text(yaml.safe_dump({**_SETTINGS, **backends}), encoding="utf-8")
    torch.set_num_threads(1)  # of the forks
    os.environ |= {"LD3M_EXPERTS": str(out / "experts"), "OMP_NUM_THREADS": "1"}
    if any(pair.endswith("-mtt") for pair in chosen) and not (out / "experts").is_dir():
        _ld3m(["experts", "train", "--data", _DATA, "-S", "network_settings={width: 16}", *_EXPERTS])
    for module in ("cli.distill", "cli.progress", "cli.tables", "runs.run"):
        importlib.import_module(f"ld3m_plugin.{module}")
    for kind, names in (("generator", GENERATORS), ("objective", OBJECTIVES)):
        for name in names:
            current_registry().resolve(kind, name)


def _leave_signals() -> None:
    """Let Ctrl-C end the first process alone, which ends the others."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2, help="runs at once, one thread each")
    parser.add_argument("--out", type=Path, required=True, help="folder of the soak, new or of the same seed")
    arguments = parser.parse_args()
    out = arguments.out.absolute()
    out.mkdir(parents=True, exist_ok=True)
    record = out / f"results-seed{arguments.seed}.jsonl"
    lines = record.read_text(encoding="utf-8").splitlines() if record.is_file() else []
    results = [result for line in lines if (result := Killed(**json.loads(line))).number < arguments.runs]
    todo = [number for number in range(arguments.runs) if number not in {result.number for result in results}]
    pairs = sorted({PAIRS[number % len(PAIRS)] for number in todo})
    prepare(out, pairs)
    # Forks of this process, which has started no thread.
    with multiprocessing.get_context("fork").Pool(arguments.jobs, _leave_signals) as pool:
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        references = dict(zip(pairs, pool.imap(partial(make_reference, out), pairs), strict=True))
        soak = partial(soak_run, out, arguments.seed, references)
        with record.open("a", encoding="utf-8") as file:
            for result in pool.imap_unordered(soak, todo):
                results.append(result)
                print(json.dumps(asdict(result)), file=file, flush=True)
                print(f"{len(results)} of {arguments.runs}: {asdict(result)}", file=sys.stderr)
    print_table(results)
    sys.exit(any(result.problems for result in results))


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("stopped; the same command goes on")
