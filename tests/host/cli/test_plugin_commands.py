"""Sub-commands that plugins bring: listed without being imported, run like built-in ones, and one clear line if they cannot."""

import re

import pytest

COMMANDS = """
import typer
from ld3m_plugin import hookimpl
from ld3m_plugin.errors import UsageError

app = typer.Typer(help="Two greetings.")
one = typer.Typer()
empty = typer.Typer()


@app.command("hello")
def hello(name: str, loud: bool = False):
    typer.echo(f"hello {name}".upper() if loud else f"hello {name}")


@app.command("fail")
def fail():
    raise UsageError("nobody is here: call again")


@one.command()
def single(count: int = 1):
    typer.echo(count * "x")


def plain(count: int = 2):
    '''Print a row of y.'''
    typer.echo(count * "y")


def odd(task: "NeverDefined"):
    pass


@hookimpl
def register_commands(register):
    register("greet", "greetings:app", summary="Greet people.")
    register("single", one)
    register("plain", plain)
    register("missing", "nowhere_at_all:app", summary="Is not there.")
    register("broken", "broken_commands:app")
    register("gone", "greetings:nothing")
    register("number", "greetings:__name__")
    register("empty", empty)
    register("odd", odd)
"""


@pytest.fixture(autouse=True)
def greetings(site):
    modules = {"greetings": COMMANDS, "broken_commands": "raise RuntimeError('it is\\nbroken')"}
    site.add("greetings", modules, entry_points={"greetings": "greetings"})


@pytest.mark.parametrize(
    ("arguments", "printed"),
    [
        (["greet", "hello", "you"], "hello you\n"),
        (["greet", "hello", "you", "--loud"], "HELLO YOU\n"),
        (["single", "--count", "3"], "xxx\n"),
        (["plain"], "yy\n"),
    ],
)
def test_a_command_runs(ld3m, arguments, printed):
    outcome = ld3m(*arguments)
    assert (outcome.code, outcome.out, outcome.err) == (0, printed, "")


def test_its_errors_are_one_line(ld3m):
    outcome = ld3m("greet", "fail")
    assert (outcome.code, outcome.error) == (2, "error: nobody is here: call again")
    assert ld3m("greet", "hello").code == 2


@pytest.mark.parametrize("arguments", [["greet"], ["greet", "hello"], ["single"], ["plain"], ["plugins"], ["distill"]])
def test_help_is_of_the_command_alone(ld3m, arguments):
    outcome = ld3m(*arguments, "--help")
    assert outcome.code == 0, outcome.err
    assert f"ld3m {' '.join(arguments)}" in outcome.out
    assert "completion" not in outcome.out


def test_the_programs_help_lists_all_and_imports_none(ld3m):
    outcome = ld3m("--help")
    assert (outcome.code, outcome.err) == (0, "")
    for line in (r"distill  +\S", "greet  +Greet people", "missing  +Is not there", "broken", "number"):
        assert re.search(rf"^  {line}", outcome.out, re.MULTILINE)
    assert "--install-completion" in outcome.out


@pytest.mark.parametrize("arguments", [[], ["--help"], ["anything"]])
@pytest.mark.parametrize("name", ["missing", "broken", "gone", "number", "empty", "odd"])
def test_one_that_cannot_be_loaded_is_one_line(ld3m, name, arguments):
    outcome = ld3m(name, *arguments)
    assert (outcome.code, outcome.out) == (1, "")
    assert f"'{name}'" in outcome.error
    assert "greetings 1.0" in outcome.error


@pytest.mark.parametrize(("typed", "meant"), [("distil", "distill"), ("gret", "greet"), ("Compare", "compare")])
def test_a_misspelt_command_names_the_nearest(ld3m, typed, meant):
    outcome = ld3m(typed, "--steps", "3")
    assert outcome.code == 2
    assert f"'{typed}'" in outcome.error
    assert f"'{meant}'" in outcome.error


@pytest.mark.parametrize(
    ("typed", "offered"),
    [("ld3m pre", "presets"), ("ld3m greet he", "hello"), ("ld3m nowhere x", ""), ("ld3m odd x", "")],
)
def test_shells_can_complete(new_process, site, typed, offered):
    words = typed.split()
    environ = {"_LD3M_COMPLETE": "complete_bash", "COMP_WORDS": typed, "COMP_CWORD": str(len(words) - 1)}
    done = new_process("-c", "from ld3m_plugin.cli import main; main()", site=site, **environ)
    assert "Traceback" not in done.stderr
    assert (offered in done.stdout.split()) if offered else not done.stdout.strip()
