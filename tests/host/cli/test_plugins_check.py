"""`ld3m plugins --check`: everything is imported and built, and what is broken is told with its name and exit code 1."""

import json

import pytest

BROKEN = """
from ld3m_plugin import hookimpl
from ld3m_plugin.contracts import *
from ld3m_plugin.contracts import Options


class Abstract(Generator):
    pass


class Good(Generator):
    def initial_latents(self, task, labels, rng): ...
    def render(self, latents): ...


class NoSuper(Good):
    def __init__(self, options):
        pass


class Needs(Options):
    teacher: str


class Asks(Good):
    Options = Needs


class Raises(Tracker):
    def __init__(self, *_):
        raise OSError("no server")

    def start(self, folder, config): ...
    def log(self, record): ...


class Kind(PriorKind):
    pass


@hookimpl
def register_generators(register):
    register("b-abstract", Abstract)
    register("b-missing", "broken:Gone")
    register("b-nosuper", NoSuper)
    register("b-good", Good)
    register("b-asks", Asks)


@hookimpl
def register_objectives(register):
    register("b-generator", Good)


@hookimpl
def register_datasets(register):
    register("b-data", lambda: None)


@hookimpl
def register_networks(register):
    register("b-network", lambda **_: None)


@hookimpl
def register_augmentations(register):
    register("b-fade", dict)


@hookimpl
def register_protocols(register):
    register("b-recipe", {"epochs": 1})


@hookimpl
def register_trackers(register):
    register("b-tracker", Raises)


@hookimpl
def register_priors(register):
    register("b-prior", Kind)


@hookimpl
def register_launchers(register):
    register("b-launcher", Good)


@hookimpl
def register_commands(register):
    register("b-command", 7, summary="cannot run")
"""
WORDS = {
    "b-abstract": "initial_latents, render",
    "b-missing": "Gone",
    "b-nosuper": "super().__init__",
    "b-generator": "Objective",
    "b-data": "(argument, options)",
    "b-network": "Network",
    "b-fade": "Operation",
    "b-recipe": "Protocol",
    "b-tracker": "OSError: no server",
    "b-prior": "abstract",
    "b-launcher": "b-launcher",
    "b-command": "b-command",
}


@pytest.mark.slow
def test_what_is_broken_is_told_by_name(site, ld3m):
    site.add("ld3m-broken", {"broken": BROKEN})
    outcome = ld3m("plugins", "--check", "--json")
    assert outcome.code == 1
    status = {row["name"]: row["status"] for row in json.loads(outcome.out)}
    assert {name for name, told in status.items() if told != "ok"} == set(WORDS)
    for name, word in WORDS.items():
        assert status[name].startswith("failed: ")
        assert word in status[name]
        assert "\n" not in status[name]
    table = ld3m("plugins", "--check")
    assert table.code == 1
    (row,) = [line.split() for line in table.out.splitlines() if line.startswith("b-missing")]
    assert row[1:5] == ["generator", "ld3m-broken", "1.0", "failed"]
    assert table.out.splitlines()[-1].endswith(f"{len(WORDS)} broken")
    assert ld3m("plugins").code == 0


@pytest.mark.slow
def test_the_built_ins_are_whole(ld3m, monkeypatch):
    monkeypatch.setenv("LD3M_PLUGINS", "")
    outcome = ld3m("plugins", "--check")
    assert outcome.code == 0, outcome.out
    assert outcome.out.splitlines()[-1].endswith("none broken")
