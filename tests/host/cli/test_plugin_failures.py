"""A plugin that fails, through the command line: one line with its name, and the traceback with --debug."""

import pytest

BROKEN = """
from ld3m_plugin import hookimpl
from ld3m_plugin.contracts import DifferentiableObjective


class Raises(DifferentiableObjective):
    def loss(self, images, labels, step):
        if step == 1:
            return self.nothing
        return images.square().sum()


def command():
    \"\"\"Fail.\"\"\"
    raise KeyError("mine")


def told():
    \"\"\"Fail on purpose.\"\"\"
    from ld3m_plugin.errors import UsageError

    raise UsageError("choose another")


@hookimpl
def register_objectives(register):
    register("raises", Raises)


@hookimpl
def register_commands(register):
    register("fail", command, summary="fails")
    register("refuse", told, summary="refuses")
"""


@pytest.fixture
def broken(site, monkeypatch):
    monkeypatch.setenv("LD3M_DEBUG", "")
    return site.add("ld3m-broken", {"broken": BROKEN}, version="0.3")


def test_a_failure_is_one_line_with_name_step_and_place(broken, ld3m, small, tmp_path):
    outcome = ld3m("distill", *small, "-o", "raises", "--set", "objective.options={}", "--out", "run")
    assert outcome.code == 1
    assert "objective 'raises' of ld3m-broken 0.3 failed in match at step 2: AttributeError: " in outcome.error
    assert "(broken.py:9)" in outcome.error
    assert "--debug" in outcome.error
    assert (tmp_path / "run" / "checkpoints").is_dir()  # the first step is kept


def test_debug_shows_the_frames_of_the_plugin(broken, ld3m, small, monkeypatch):
    outcome = ld3m("distill", *small, "-o", "raises", "--set", "objective.options={}", "--out", "run", "--debug")
    assert outcome.code == 1
    assert "Traceback" in outcome.err
    assert "return self.nothing" in outcome.err
    assert "loop.py" not in outcome.err
    assert outcome.err.splitlines()[-1].startswith("error: objective 'raises' of ld3m-broken 0.3")


def test_debug_shows_where_any_error_comes_from(broken, ld3m):
    outcome = ld3m("plugins", "show", "pixle", "--debug")
    assert outcome.code == 2
    assert "plugins.py" in outcome.err
    assert outcome.err.splitlines()[-1].startswith("error: unknown backend 'pixle'")


def test_a_command_of_a_plugin_that_fails_is_named(broken, ld3m):
    outcome = ld3m("fail")
    assert outcome.code == 1
    assert "command 'fail' of ld3m-broken 0.3 failed in its run: KeyError: 'mine' (broken.py:15)" in outcome.error
    refused = ld3m("refuse")
    assert (refused.code, refused.error) == (2, "error: choose another")


def test_a_plugin_that_lacks_a_name_is_not_called_failed(site, ld3m):
    taken = "from ld3m_plugin import hookimpl\n@hookimpl\ndef register_commands(register):\n"
    site.add("ld3m-partly", {"partly": taken + "    register('distill', print)\n    register('mine', print)\n"})
    listed = ld3m("plugins")
    (row,) = [line.split() for line in listed.out.splitlines() if line.startswith("partly")]
    assert row[4] == "incomplete"
    assert "mine" in listed.out
