"""The plan of a benchmark."""

import importlib
import json

import pytest

from ld3m_plugin.backends import create
from ld3m_plugin.bench.bench_cases import plan
from ld3m_plugin.bench.bench_worker import HOMES, KINDS, PRIORS
from ld3m_plugin.config import resolve
from ld3m_plugin.errors import UsageError
from ld3m_plugin.registry import use_registry

NAMED = {
    *("ld3m/graph", "ld3m/checkpoint", "pixel/dm-256", "pixel/dc", "pixel/mtt", "experts/update"),
    *("evaluation/ConvNet", "evaluation/AlexNet", "evaluation/ViT", "stylegan-xl/32", "stylegan-xl/64"),
}
PLANS = [(32, False), (128, False), (128, True)]


@pytest.mark.parametrize(("size", "full_size"), PLANS)
def test_every_case_is_one_that_the_worker_knows(size, full_size):
    cases = plan(size, full_size)
    assert len({case.name for case in cases}) == len(cases)
    for case in cases:
        assert case.work["kind"] in KINDS
        assert case.prior in {None, *PRIORS}
        asked = {name for name in PRIORS if f"{{{name}}}" in str(case.work)}
        assert asked == ({case.prior} if case.prior else set())
        json.dumps(case.work)  # as the worker is told


def test_the_named_cases_are_there():
    assert {case.name for case in plan()} >= NAMED
    assert not {case.name for case in plan(128)} & NAMED


@pytest.mark.parametrize(("size", "full_size"), PLANS)
def test_settings_are_those_of_a_run(size, full_size):
    for case in plan(size, full_size):
        if "settings" in case.work:
            config = resolve(settings=case.work["settings"].items())
            for kind in ("generator", "objective"):
                choice = getattr(config, kind)
                create(kind, choice.name, choice.options)  # refuses an option that is not there
            if case.name.startswith("pairs/"):
                assert case.name.partition("@")[0] == f"pairs/{config.generator.name}+{config.objective.name}"


def test_every_installed_pair_is_measured(load, site):
    site.add("another", {"another": OTHER})
    with use_registry(load()):
        names = {case.name for case in plan(only=["pairs/*"])}
    generators, objectives = ("pixel", "autoencoder", "ld3m", "glad", "still"), ("dm", "dc", "mtt")
    assert names == {f"pairs/{generator}+{objective}" for generator in generators for objective in objectives}


OTHER = """
from ld3m_plugin import hookimpl

@hookimpl
def register_generators(register):
    register("still", "nowhere:Still", summary="never imported by the plan")
"""


@pytest.mark.parametrize("name", HOMES)
def test_what_the_worker_needs_has_its_newest_home_first(name):
    assert hasattr(importlib.import_module(HOMES[name][0]), name)


def test_growth_goes_over_steps_and_images():
    names = {case.name for case in plan(only=["growth/*"])}
    assert {f"growth/checkpoint-T{steps}-N10" for steps in (5, 10, 20, 40)} <= names
    assert "growth/checkpoint-by-10-T5-N100" in names
    (case,) = plan(only=["growth/checkpoint-by-10-T5-N100"])
    settings = resolve(settings=case.work["settings"].items())
    assert (settings.images_per_class, settings.render_batch) == (10, 10)
    assert settings.generator.options["steps"] == 5


def test_full_size_takes_the_published_layouts():
    cases = {case.name: case for case in plan(128, full_size=True)}
    options = cases["pairs/ld3m+dm@128"].work["settings"]["generator.options"]
    assert options["prior"] == "{cin256}"
    assert cases["pairs/glad+dm@128"].work["settings"]["generator.options"]["network"] == "imagenet-128"
    assert cases["pairs/pixel+dm@128"].prior is None


def test_patterns_choose():
    assert [case.name for case in plan(only=["pixel/d*"])] == ["pixel/dm-256", "pixel/dc"]


@pytest.mark.parametrize(
    ("asked", "named"),
    [({"size": 64}, "64"), ({"full_size": True}, "--size 128"), ({"only": ["pixle/dc"]}, "pixel/dc")],
)
def test_what_is_not_there_is_refused(asked, named):
    with pytest.raises(UsageError, match=named):
        plan(**asked)
