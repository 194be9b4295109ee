"""`ld3m plugins new`: the written distribution is installed, checked, tested and run as a newcomer would do it."""

import ast
import importlib.util
import json
import subprocess
import sys
import sysconfig
import tomllib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest

from ld3m_plugin.errors import UsageError
from ld3m_plugin.plugin_template.new_plugin import plugin_files, write_plugin

ROOT = Path(__file__).parents[3]


def test_a_distribution_is_written_under_its_name(ld3m, tmp_path):
    outcome = ld3m("plugins", "new", "fine-dots")
    assert outcome.code == 0, outcome.err
    folder = tmp_path / "ld3m-fine-dots"
    files = {str(path.relative_to(folder)): path.read_text("utf-8") for path in folder.rglob("*") if path.is_file()}
    assert files == plugin_files("fine-dots")
    assert {"pyproject.toml", "README.md", "ld3m_fine_dots/__init__.py", "tests/test_ld3m_fine_dots.py"} <= set(files)
    for path, text in files.items():
        assert "example" not in text.lower(), path
        if path.endswith(".py"):
            ast.parse(text)
    project = tomllib.loads(files["pyproject.toml"])["project"]
    assert project["name"] == "ld3m-fine-dots"
    assert project["entry-points"]["ld3m_plugin"] == {"fine-dots": "ld3m_fine_dots"}
    assert [line.split(":")[0] for line in outcome.out.splitlines()] == ["written", "install", "check", "run"]
    assert "-g fine-dots-upsample" in outcome.out


@pytest.mark.parametrize("name", ["", "Dots", "two words", "a_b", "-a", "../a", "1a", "a-"])
def test_a_name_that_no_module_can_have_is_refused(name, ld3m, tmp_path):
    outcome = ld3m("plugins", "new", "--", name)
    assert outcome.code == 2
    assert repr(name) in outcome.error
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_written_over(ld3m, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("all of it")
    outcome = ld3m("plugins", "new", "dots", "--out", "mine")
    assert (outcome.code, "mine" in outcome.error) == (2, True)
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.txt"]
    with pytest.raises(UsageError):
        write_plugin("dots", tmp_path / "mine" / "thesis.txt")


def test_an_empty_folder_is_taken(tmp_path):
    (tmp_path / "empty").mkdir()
    assert (write_plugin("dots", tmp_path / "empty") / "pyproject.toml").is_file()


@pytest.mark.skipif(importlib.util.find_spec("ruff") is None, reason="needs ruff")
def test_the_written_code_is_clean(tmp_path):
    folder = write_plugin("dots", tmp_path / "dots")
    for words in (
        ["check", "--config", str(ROOT / "pyproject.toml"), "--ignore", "S101,S603"],
        ["format", "--check", "--line-length", "120"],
    ):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *words, "--no-cache", str(folder)], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout


def _can_build():
    try:
        return tuple(map(int, version("setuptools").split(".")[:2])) >= (70, 1)
    except PackageNotFoundError:
        return False


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder with an environment in which pip installed a new plugin, beside everything that is installed here."""
    place = tmp_path_factory.mktemp("newcomer")
    write_plugin("dots", place / "ld3m-dots")
    # Without pip, which would come with a setuptools of its own before the one that is checked here.
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(place / "env")], check=True)
    python = place / "env" / "bin" / "python"
    where = "import sysconfig; print(sysconfig.get_path('purelib'))"
    site = Path(subprocess.run([python, "-c", where], check=True, capture_output=True, text=True).stdout.strip())
    # As `addsitedir` finds them: also what this environment has as editable installs and paths of its own.
    shared = sysconfig.get_path("purelib")
    (site / "shared.pth").write_text(f"import site; site.addsitedir({shared!r})\n")
    # Older ones need a package more to build a wheel; then pip fetches what the pyproject names.
    isolation = ["--no-build-isolation"] if _can_build() else []
    quiet = ["--quiet", "--disable-pip-version-check", "--no-deps", *isolation]
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", *quiet]
    subprocess.run([*pip, str(place / "ld3m-dots")], check=True, cwd=place)
    return place, python


def run(installed, *words):
    place, python = installed
    return subprocess.run([python, "-m", *words], cwd=place, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_a_new_plugin_is_installed_checked_and_tested(installed):
    checked = run(installed, "ld3m_plugin", "plugins", "--check", "--json")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    mine = [row for row in json.loads(checked.stdout) if row["distribution"] == "ld3m-dots"]
    assert len(mine) == 10
    assert {row["status"] for row in mine} == {"ok"}
    tested = run(installed, "pytest", "-q", "-p", "no:cacheprovider", "ld3m-dots")
    assert tested.returncode == 0, tested.stdout
    assert "9 passed" in tested.stdout


@pytest.mark.slow
def test_a_new_generator_and_objective_run(installed):
    words = ("--data", "fashion-mnist:embedded", "--steps", "2", "--no-evaluate", "--out", "run")
    done = run(installed, "ld3m_plugin", "distill", "-g", "dots-upsample", "-o", "dots-moments", *words)
    assert done.returncode == 0, done.stderr
    record = json.loads((installed[0] / "run" / "distilled" / "metadata.json").read_text("utf-8"))
    assert record["generator"]["distribution"] == "plugin 'dots' of ld3m-dots 0.1.0"
    assert record["objective"]["distribution"] == "plugin 'dots' of ld3m-dots 0.1.0"


@pytest.mark.slow
def test_a_new_plugins_dry_run_imports_no_torch(installed):
    words = ["distill", "-g", "dots-upsample", "-o", "dots-moments", "--data", "dots-stripes", "--dry-run"]
    code = f"import sys; from ld3m_plugin.cli import app; app({words!r}, standalone_mode=False); print('torch' in sys.modules)"
    done = subprocess.run([installed[1], "-c", code], cwd=installed[0], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "False"
    assert "small: 0.05" in done.stdout
