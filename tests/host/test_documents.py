"""Documents that cannot rot: what they show of the program is what the program prints, and their commands are accepted."""

import importlib
import re
import shlex
from pathlib import Path

import pytest

from ld3m_plugin import hookspecs
from ld3m_plugin.comparison.grid import read_grid
from ld3m_plugin.comparison.points import points
from ld3m_plugin.evaluation import get_protocol

ROOT = Path(__file__).parent.parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("arguments", [["--help"], ["plugins"], ["presets"]])
def test_the_commands_page_shows_what_the_program_prints(arguments, ld3m, monkeypatch):
    monkeypatch.setenv("LD3M_PLUGINS", "")
    (shown,) = re.findall(rf"```\n\$ ld3m {' '.join(arguments)}\n((?:.*\n)*?)```", COMMANDS)
    # Words, not lines: the width at which help is wrapped is the terminal's.
    assert shown.split() == ld3m(*arguments).out.split()


DISTIL_LINES = [
    line.partition("  #")[0].replace("--config run.yaml --preset NAME", "--preset demo")
    for line in re.findall(r"^ld3m (distill .*)$", README + COMMANDS, re.MULTILINE)
    if "--resume" not in line
]


@pytest.mark.parametrize("line", DISTIL_LINES)
def test_commands_in_documents_are_accepted(line, ld3m):
    outcome = ld3m(*shlex.split(line), "--dry-run")
    assert outcome.code == 0, outcome.err
    assert "generator:" in outcome.out


def test_there_are_commands_to_check():
    assert len(DISTIL_LINES) >= 5


GRIDS = sorted((ROOT / "docs" / "study").rglob("*.yaml"))


@pytest.mark.parametrize("grid", GRIDS, ids=lambda grid: grid.stem)
def test_grids_of_the_documents_are_accepted(grid, ld3m):
    outcome = ld3m("compare", "--grid", grid, "--seeds", "6000,6001", "--dry-run")
    assert outcome.code == 0, outcome.err
    assert "that distil" in outcome.out.splitlines()[0]


def test_there_are_grids_to_check():
    assert GRIDS


@pytest.mark.parametrize(
    ("preset", "grid"), [("dc", "fourth/test"), ("dm", "sixth/dm-taken"), ("mtt", "sixth/mtt-taken")]
)
def test_presets_of_colour_drawings_have_the_settings_of_the_studies(preset, grid):
    only = {"seeds": [8300], "random_real": False, "controls": []}
    shipped = read_grid(presets=(f"emoji-{preset}",), settings=only)
    study = read_grid((ROOT / "docs" / "study" / f"{grid}.yaml",), settings=only)
    of_preset, of_study = ({point.generator: point.config for point in points(grid)} for grid in (shipped, study))
    assert len(of_study) == 4
    assert of_preset == of_study


def test_every_hook_is_documented():
    text = (ROOT / "docs" / "plugins.md").read_text(encoding="utf-8")
    hooks = [name for name in vars(hookspecs) if name.startswith("register_")]
    assert len(hooks) == 11
    for hook in hooks:
        assert f"### {hook}(register)\n" in text


PLUGINS = (ROOT / "docs" / "plugins.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_plugin_of_the_page_keeps_the_contract_and_runs(site, ld3m, small):
    blocks = re.findall(r"```python\n# (\w+)\.py\n(.*?)```", PLUGINS, re.DOTALL)
    plugin, tests = (name for name, _ in blocks)
    site.add("ld3m-spectral", dict(blocks), entry_points={"spectral": plugin})
    importlib.import_module(tests).test_contracts()
    for generator, objective in (("fourier", "means"), ("fourier", "dm"), ("pixel", "means")):
        options = ("-O", "network_settings={width: 8}") if objective == "dm" else ()
        done = ld3m("distill", *small, *options, "-g", generator, "-o", objective, "--out", f"{generator}-{objective}")
        assert done.code == 0, done.err


PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]


def _anchors(page):
    """The anchors that GitHub gives the headings of a page."""
    prose = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.*)$", prose, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    links = re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8"))
    for link in links:
        if re.match(r"https?:|mailto:", link):
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), link
        assert not anchor or anchor in _anchors(target), link


def test_the_networks_page_has_the_rates_and_epochs_of_the_protocols():
    text = (ROOT / "docs" / "networks.md").read_text(encoding="utf-8")
    heading, _, *rows = re.search(r"^\| \| `ConvNet`.*\n(?:\|.*\n)+", text, re.MULTILINE)[0].splitlines()
    networks = [re.findall(r"`(\w+)`", cell) for cell in heading.split("|")[2:-1]]
    assert sum(map(len, networks)) == 9
    for row in rows:
        name, *rates = (cell.strip() for cell in row.split("|")[1:-1])
        protocol = get_protocol(re.search(r"`(.*)`", name)[1])
        assert f"{protocol.epochs} epochs" in name
        for some, rate in zip(networks, rates, strict=True):
            assert {protocol.rate(network) for network in some} == {float(rate)}, (name, some)
    assert len(rows) == 3
