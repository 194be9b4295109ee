"""`ld3m plugins`: what is installed, listed quickly and whole, and what each backend takes."""

import json
import re
import subprocess
import sys

import pytest

from ld3m_plugin.registry import default_registry

#: What a run needs and a list does not. (pydantic is not here: typer itself imports it.)
HEAVY = {"torch", "torchvision", "kornia", "numpy", "PIL", "safetensors", "yaml", "ld3m_plugin.options"}


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["plugins"], ["plugins", "--json"], ["distill", "--help"], ["compare", "--help"], ["--version"]],
    ids=" ".join,
)
def test_listing_imports_nothing_heavy(new_process, arguments):
    program = f"""
import sys
sys.argv = ["ld3m", *{arguments!r}]
from ld3m_plugin.cli import main
try:
    main()
except SystemExit as left:
    assert not left.code, left.code
print("IMPORTED", sorted({HEAVY!r} & set(sys.modules)))
"""
    done = new_process("-c", program)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "IMPORTED []"


def test_plugins_lists_every_kind_with_its_owner(ld3m):
    outcome = ld3m("plugins", "--json")
    assert (outcome.code, outcome.err) == (0, "")
    rows = json.loads(outcome.out)
    registered = {backend.kind for backend in default_registry().backends()}
    assert registered >= {"generator", "objective", "dataset", "network", "tracker", "prior", "command"}
    assert {row["kind"] for row in rows} == registered
    for row in rows:
        assert set(row) == {"name", "kind", "distribution", "version", "status", "summary"}
    (pixel,) = [row for row in rows if row["name"] == "pixel"]
    assert pixel["kind"] == "generator"
    assert pixel["distribution"] == "ld3m-plugin"
    assert re.fullmatch(r"\d+\.\d+.*", pixel["version"])
    assert pixel["status"] == "ok"


def test_plugins_list_is_the_same_as_plugins(ld3m):
    assert ld3m("plugins").out == ld3m("plugins", "list").out
    assert ld3m("plugins", "--json").out == ld3m("plugins", "list", "--json").out


def test_the_table_has_a_heading_and_aligned_columns(ld3m):
    heading, *rows = ld3m("plugins").out.splitlines()
    assert heading.split() == ["name", "kind", "distribution", "version", "status", "summary"]
    for row in rows:
        for column in ("kind", "distribution", "version", "status"):
            at = heading.index(column)
            assert row[at - 1] == " "
            assert row[at] != " "


def test_show_prints_types_ranges_defaults_and_units(ld3m):
    text = ld3m("plugins", "show", "dm").out
    assert "dm (objective, plugin 'objectives' of ld3m-plugin" in text
    assert "batch_real: int, >= 1 = 256\n" in text
    assert "memory_budget: float, > 0 = 4.0\n      GiB" in ld3m("plugins", "show", "ld3m").out
    (entry,) = json.loads(ld3m("plugins", "show", "dm", "--json").out)
    (batch,) = [option for option in entry["options"] if option["name"] == "batch_real"]
    assert (batch["type"], batch["default"], batch["range"]) == ("int", "256", ">= 1")


@pytest.mark.slow
def test_every_backend_that_is_listed_can_be_shown(ld3m):
    for row in json.loads(ld3m("plugins", "--json").out):
        if row["kind"] == "plugin":
            continue
        shown = ld3m("plugins", "show", row["name"], "--kind", row["kind"], "--json")
        assert shown.code == 0, shown.err
        (entry,) = json.loads(shown.out)
        assert entry["summary"]
        for option in entry["options"]:
            assert option["type"]
            assert option["default"]


def test_every_option_of_a_generator_or_objective_is_described(ld3m):
    for row in json.loads(ld3m("plugins", "--json").out):
        if row["kind"] in ("generator", "objective") and row["distribution"] == "ld3m-plugin":
            (entry,) = json.loads(ld3m("plugins", "show", row["name"], "--kind", row["kind"], "--json").out)
            assert [option["name"] for option in entry["options"] if not option["description"]] == [], row["name"]


@pytest.mark.slow
def test_plugins_closes_quietly_when_nobody_reads_on(tmp_path, environment_of):
    # As `ld3m plugins | head -1`: the reader is gone before the table is written.
    program = subprocess.Popen(
        [sys.executable, "-P", "-m", "ld3m_plugin", "plugins"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=tmp_path,
        env=environment_of(None, {}),
    )
    with program:
        program.stdout.close()
        assert program.stderr.read() == b""


def test_a_long_reason_of_a_plugin_that_failed_is_not_cut(site, ld3m):
    reason = "no such thing as " + 30 * "a very long name of something "
    site.add("broken-one", {"broken": f"raise ValueError({reason!r})"})
    (row,) = [line for line in ld3m("plugins").out.splitlines() if line.startswith("broken ")]
    assert row.split()[1:5] == ["plugin", "broken-one", "1.0", "failed"]
    assert row.endswith(reason.strip())
    (shown,) = [row for row in json.loads(ld3m("plugins", "--json").out) if row["name"] == "broken"]
    assert shown["status"].startswith("failed: ")


@pytest.mark.parametrize("name", ["plugins", "distill"])
def test_a_command_is_shown_by_its_summary(ld3m, name):
    (entry,) = json.loads(ld3m("plugins", "show", name, "--kind", "command", "--json").out)
    (backend,) = [backend for backend in default_registry().backends("command") if backend.name == name]
    assert (entry["summary"], entry["options"]) == (backend.summary, [])
    assert f"ld3m {name} --help" in ld3m("plugins", "show", name, "--kind", "command").out


PROTOCOL = """
from ld3m_plugin import hookimpl
from ld3m_plugin.evaluation import get_protocol


@hookimpl
def register_protocols(register):
    register("brief", get_protocol("quick").model_copy(update={"name": "brief", "epochs": 7}), summary="seven epochs")
"""


@pytest.mark.slow
def test_a_protocol_is_shown_with_its_settings(site, ld3m):
    site.add("protocols", {"brief_protocol": PROTOCOL})
    (entry,) = json.loads(ld3m("plugins", "show", "brief", "--json").out)
    assert entry["summary"] == "seven epochs"
    assert {option["name"]: option["default"] for option in entry["options"]}["epochs"] == "7"


BARE = """
from ld3m_plugin import hookimpl
from ld3m_plugin.contracts import Network


class Bare(Network):
    def __init__(self, channels, image_size, num_classes, wide=3):
        super().__init__()


@hookimpl
def register_networks(register):
    register("bare", Bare, summary="nothing in it")
"""


@pytest.mark.slow
def test_a_network_without_docstring_and_types_is_shown_by_its_own_words(site, ld3m):
    site.add("bare", {"bare_network": BARE})
    (entry,) = json.loads(ld3m("plugins", "show", "bare", "--json").out)
    assert entry["summary"] == "nothing in it"
    assert {option["name"]: (option["type"], option["default"]) for option in entry["options"]} == {
        **dict.fromkeys(("channels", "image_size", "num_classes"), ("any", "from the task")),
        "wide": ("any", "3"),
    }
