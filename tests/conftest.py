"""What tests of all folders share: golden files, throw-away distributions, the command line, and runs that take a second."""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import textwrap
import traceback
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint, distributions
from math import prod
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from hypothesis import HealthCheck, settings
from safetensors.torch import load_file

from ld3m_plugin import cli
from ld3m_plugin.evaluation.protocols import get_protocol
from ld3m_plugin.registry import Registry, build_registry, default_registry

# A busy machine is slow, and that is no defect: an example has no deadline, and examples may take long to draw.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")

_DATA = Path(__file__).parent / "data"


@pytest.fixture(scope="session")
def load_script() -> Iterator[Callable[[str], Any]]:
    """Loads a file of scripts/ by its stem; as when it runs, it finds its neighbours."""
    folder = str(Path(__file__).parents[1] / "scripts")
    sys.path.insert(0, folder)
    yield importlib.import_module
    sys.path.remove(folder)


@pytest.fixture(scope="session")
def golden():
    """Loads a golden file by its stem."""
    return lambda stem: load_file(_DATA / f"{stem}.safetensors")


@pytest.fixture(scope="session")
def set_golden_weights():
    """Gives every parameter of a network the value that golden files define by its name."""

    def value(name, shape):
        random = numpy.random.RandomState(zlib.crc32(name.encode())).standard_normal(tuple(shape))
        if len(shape) >= 2:
            return random / numpy.sqrt(prod(shape[1:]))
        return 1 + 0.1 * random if name.endswith("weight") else 0.1 * random

    @torch.no_grad()
    def set_weights(network):
        for name, parameter in network.named_parameters():
            parameter.copy_(torch.from_numpy(value(name, parameter.shape).astype(numpy.float32)))
        return network

    return set_weights


@pytest.fixture(scope="session")
def relative_error():
    """||out - expected|| / ||expected||, the measure that golden tolerances are given in."""
    return lambda out, expected: float((out - expected).norm() / expected.norm())


GROUP = "ld3m_plugin"


def _normalised(name: str) -> str:
    return name.replace("-", "_")


class Site:
    """A folder as pip leaves it: modules, and a `.dist-info` that `importlib.metadata` finds for each distribution."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True)

    def add(
        self,
        name: str,
        modules: Mapping[str, str],
        *,
        entry_points: Mapping[str, str] | None = None,
        version: str = "1.0",
        metadata: bool = True,
    ) -> Site:
        """Install a distribution.

        Args:
            modules: path below the folder -> source; a bare name is a module.
            entry_points: entry-point name -> module; default: each top-level module under its own name.
            metadata: whether METADATA is there; without, the distribution is one that was half removed.
        """
        for module, source in modules.items():
            path = self.folder / (module if module.endswith(".py") else f"{module}.py")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(textwrap.dedent(source), encoding="utf-8")
        info = self.folder / f"{_normalised(name)}-{version}.dist-info"
        info.mkdir()
        if metadata:
            (info / "METADATA").write_text(
                f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n", encoding="utf-8"
            )
        points = {module: module for module in modules} if entry_points is None else entry_points
        lines = [f"[{GROUP}]", *(f"{point} = {target}" for point, target in points.items())]
        (info / "entry_points.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
        return self

    def points(self) -> list[EntryPoint]:
        """The entry points that are installed here."""
        found = distributions(path=[str(self.folder)])
        return [point for distribution in found for point in distribution.entry_points.select(group=GROUP)]


@pytest.fixture
def site(tmp_path, monkeypatch) -> Iterator[Site]:
    """An empty site folder that this process can import from; what was imported from it is forgotten afterwards."""
    made = Site(tmp_path / "site")
    monkeypatch.syspath_prepend(str(made.folder))
    before = set(sys.modules)
    yield made
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", None) or "").startswith(str(made.folder)):
            del sys.modules[name]


@pytest.fixture(scope="session")
def host_points() -> list[EntryPoint]:
    """The built-ins' entry points, without whatever else is installed on this machine."""
    found = distributions(name="ld3m-plugin")
    # An editable install may be found twice, by its .dist-info and by the build folder's .egg-info.
    return list({point.name: point for dist in found for point in dist.entry_points.select(group=GROUP)}.values())


@pytest.fixture
def load(site, host_points) -> Callable[..., Registry]:
    """A new registry of the built-ins and of the site's plugins."""

    def load(environ: Mapping[str, str] | None = None) -> Registry:
        return build_registry(found=[*site.points(), *host_points], environ=environ or {})

    return load


@dataclass(frozen=True)
class Outcome:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The one line of the error; whatever else a failing command says are warnings and progress."""
        assert "Traceback" not in self.err, self.err
        (line,) = [line for line in self.err.splitlines() if line.startswith("error: ")]
        assert self.err.endswith(line + "\n"), self.err
        return line


@pytest.fixture
def ld3m(tmp_path, monkeypatch, capfd) -> Callable[..., Outcome]:
    """The command line in this process, in a folder of its own, with the plugins that are found now."""

    def run(*arguments: str | Path) -> Outcome:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["ld3m", *map(str, arguments)])
        default_registry.cache_clear()
        capfd.readouterr()
        try:
            cli.main()
            code = 0
        except SystemExit as left:
            code = left.code if isinstance(left.code, int) else int(left.code is not None)
        finally:
            default_registry.cache_clear()
        return Outcome(code, *capfd.readouterr())

    return run


@pytest.fixture
def new_process(tmp_path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Python in a new process that imports nothing from the folder it starts in; with `site`, from there too."""

    def run(*arguments: str | Path, site: Site | None = None, **environ: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-P", *map(str, arguments)],
            cwd=tmp_path,
            env=process_environment(site, environ),
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    return run


def process_environment(site: Site | None, extra: Mapping[str, str]) -> dict[str, str]:
    plain = {name: value for name, value in os.environ.items() if name not in ("LD3M_PLUGINS", "PYTHONPATH")}
    path = {} if site is None else {"PYTHONPATH": str(site.folder)}
    return {**plain, **path, **extra}


@pytest.fixture
def environment_of() -> Callable[[Site | None, Mapping[str, str]], dict[str, str]]:
    """The environment of a new process, for tests that start one themselves."""
    return process_environment


@pytest.fixture
def two_epochs(tmp_path_factory) -> str:
    """A file with a protocol for tests that ask when an evaluation runs, not how well a network learns."""
    protocol = get_protocol("quick").model_copy(update={"name": "two-epochs", "epochs": 2, "dsa": "none"})
    path = tmp_path_factory.mktemp("protocols") / "two-epochs.yaml"
    path.write_text(protocol.model_dump_json(), encoding="utf-8")
    return str(path)


@pytest.fixture(scope="session")
def small() -> list[str]:
    """Arguments of `ld3m distill` for a run of a second."""
    return [
        *("--data", "fashion-mnist:embedded", "-g", "pixel", "--steps", "2", "--no-evaluate"),
        *("--set", "objective.options.batch_real=4"),
    ]


@pytest.fixture(scope="session")
def small_dm() -> list[str]:
    """Arguments that make DM quick."""
    return ["-O", "network_settings={width: 8}"]


# Processes of their own that tests end as users and kernels do ----------------------------------------------------------


@dataclass
class Held:
    """A process that stays inside a context."""

    pid: int

    def kill(self):
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        self.pid = 0


@pytest.fixture
def process_in():
    """Starts a process that enters a context and stays in it until it is killed."""
    started = []

    def start(context):
        reading, writing = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                with context():
                    os.write(writing, b"in")
                    signal.pause()
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(1)
        os.close(writing)
        entered = os.read(reading, 2)
        os.close(reading)
        held = Held(pid)
        started.append(held)
        assert entered == b"in"
        return held

    yield start
    for held in started:
        if held.pid:
            held.kill()


#: Sends signals where Python makes a system call, then runs a file.
_CHILD = """
import json, os, runpy, signal, sys

kill_at, signals_at = json.loads(sys.argv.pop(1))

def hook(event, arguments):
    paths = [str(argument) for argument in arguments if isinstance(argument, (str, os.PathLike))]
    if kill_at and event == kill_at[0] and paths[0 if event == "open" else -1].endswith(kill_at[1]):
        os.kill(os.getpid(), signal.SIGKILL)
    if signals_at and event == signals_at[0] and signals_at[1] in paths[0]:
        for number in signals_at[2]:
            os.kill(os.getpid(), number)

for name in ("SIGINT", "SIGTERM"):
    signal.signal(getattr(signal, name), signal.default_int_handler)
sys.addaudithook(hook)
sys.argv.pop(0)
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
except KeyboardInterrupt:
    os._exit(130)
"""


@pytest.fixture
def child():
    """Runs a Python file in a process of its own; returns its exit code, 130 after Ctrl-C, or minus the signal that killed it."""

    def run(file, *arguments, kill_at=None, signals_at=None):
        """Run it.

        Args:
            kill_at: an audit event and the end of the path that it opens, or that it moves something to: SIGKILL there.
            signals_at: an event, a part of its first path, and the signals.
        """
        chosen = json.dumps([kill_at, signals_at])
        command = [sys.executable, "-P", "-c", _CHILD, chosen, str(file), *map(str, arguments)]
        environment = {**os.environ, "PYTHONSAFEPATH": "1"}
        return subprocess.run(command, env=environment, timeout=300, check=False).returncode

    return run
