"""Trackers of a run: their options, those of older plugins, and what happens when one raises."""

import pytest

from ld3m_plugin.config import completed, resolve
from ld3m_plugin.contracts import Tracker
from ld3m_plugin.errors import UnknownOptionError
from ld3m_plugin.options import Options
from ld3m_plugin.plain_yaml import parse_value
from ld3m_plugin.registry import Backend, Owner, build_registry, use_registry
from ld3m_plugin.runs.run_trackers import RunTrackers


class Named(Tracker):
    class Options(Options):
        project: str = "none"

    seen = None

    def start(self, folder, config):
        Named.seen = [self.options.project, config["trackers"]]

    def log(self, record):
        Named.seen.append(record)

    def finish(self):
        Named.seen.append("end")


class Old:
    """As plugins wrote trackers before these took options: a constructor without arguments, and no base class."""

    def __init__(self):
        self.records = []

    def start(self, folder, config):
        pass

    def log(self, record):
        raise OSError("no connection")

    def finish(self):
        raise AssertionError("turned off, so not finished")


@pytest.fixture(autouse=True)
def registry():
    registry = build_registry()
    for name, factory in (("named", Named), ("old", Old)):
        registry.add(Backend("tracker", name, factory, "", Owner("tests", "tests", "0")))
    with use_registry(registry):
        yield


def trackers(text):
    return completed(resolve(settings=[("generator.name", "pixel"), ("trackers", parse_value(text))]))


def test_a_tracker_gets_its_options_and_every_record(tmp_path):
    config = trackers("[{name: named, options: {project: 007}}]")
    with RunTrackers(config, tmp_path, pytest.fail) as running:
        running.log({"step": 1})
    assert Named.seen == ["007", [{"name": "named", "options": {"project": "007"}}], {"step": 1}, "end"]
    assert (tmp_path / "metrics.jsonl").read_text() == '{"step": 1}\n'


def test_a_tracker_without_options_has_their_defaults(tmp_path):
    with RunTrackers(trackers("[named]"), tmp_path, pytest.fail):
        assert Named.seen == ["none", ["named"]]


def test_a_tracker_that_raises_is_turned_off_with_one_warning(tmp_path):
    warnings = []
    with RunTrackers(trackers("[old, named]"), tmp_path, warnings.append) as running:
        running.log({"step": 1})
        running.log({"step": 2})
    (warning,) = warnings
    assert "'old'" in warning
    assert Named.seen[2:] == [{"step": 1}, {"step": 2}, "end"]


@pytest.mark.parametrize("name", ["named", "old", "jsonl"])
def test_an_option_that_a_tracker_does_not_have_is_refused_before_the_run(name):
    with pytest.raises(UnknownOptionError, match=rf"'{name}'.*'projct'"):
        trackers(f"[{{name: {name}, options: {{projct: x}}}}]")
