"""What a wheel holds and what the sources may not contain: mistakes here show in no other test."""

import ast
import doctest
import importlib
import importlib.metadata
import pkgutil
import tomllib
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath

import pytest
import torch

ROOT = Path(__file__).parents[2]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
SETUPTOOLS = PYPROJECT["tool"]["setuptools"]
#: Folder in the sources -> the name it imports as.
SOURCES = {folder: name for name, folder in SETUPTOOLS["package-dir"].items()}
MODULES = sorted(path for folder in SOURCES for path in (ROOT / folder).rglob("*.py"))


def import_name(path):
    """The dotted name of a folder below one of the source roots."""
    relative = path.relative_to(ROOT)
    return ".".join([SOURCES[relative.parts[0]], *relative.parts[1:]])


def test_the_source_folders_are_the_three():
    assert SOURCES == {
        "ld3m_plugin": "ld3m_plugin",
        "generators": "ld3m_plugin.generators",
        "objectives": "ld3m_plugin.objectives",
    }


def test_every_package_is_listed():
    # A folder that is not in the list works in an editable install, and the wheel lacks it without a word.
    folders = {import_name(path.parent) for path in MODULES if path.name == "__init__.py"}
    assert sorted(SETUPTOOLS["packages"]) == sorted(folders)


def test_every_module_is_in_a_package():
    for path in MODULES:
        assert (path.parent / "__init__.py").is_file(), f"{path.relative_to(ROOT)} is in no package"


def test_own_entry_points_import_under_the_package():
    # `generators` at the top level of site-packages would break other people's installations.
    points = PYPROJECT["project"]["entry-points"]["ld3m_plugin"]
    assert len(points) >= 5
    for target in points.values():
        assert target.startswith("ld3m_plugin.")
        importlib.import_module(target)
    assert PYPROJECT["project"]["scripts"] == {"ld3m": "ld3m_plugin.cli:main"}


def test_what_is_installed_has_the_entry_points_of_the_pyproject():
    # An editable install keeps those of the day it was made.
    installed = importlib.metadata.distribution("ld3m-plugin").entry_points.select(group="ld3m_plugin")
    found = {point.name: point.value for point in installed}
    assert found == PYPROJECT["project"]["entry-points"]["ld3m_plugin"], "install again: pip install -e ."


def data_files():
    for folder in SOURCES:
        for path in sorted((ROOT / folder).rglob("*")):
            if path.is_file() and path.suffix not in {".py", ".pyc"}:
                yield path


@pytest.mark.parametrize("path", list(data_files()), ids=lambda path: str(path.relative_to(ROOT)))
def test_every_data_file_goes_into_the_wheel(path):
    package = path.parent
    while not (package / "__init__.py").is_file():
        package = package.parent
    globs = SETUPTOOLS["package-data"].get(import_name(package), [])
    inside = PurePosixPath(path.relative_to(package))
    assert any(matches(inside, pattern) for pattern in globs), f"no package-data glob of {import_name(package)} matches"


def matches(path, pattern):
    """As setuptools does: `**/` stands for any number of folders, none as well."""
    return fnmatch(str(path), pattern) or ("**/" in pattern and fnmatch(str(path), pattern.replace("**/", "", 1)))


def test_package_data_globs_all_match_something():
    for package, patterns in SETUPTOOLS["package-data"].items():
        source, name = max(
            ((f, n) for f, n in SOURCES.items() if f"{package}.".startswith(f"{n}.")), key=lambda p: len(p[1])
        )
        folder = ROOT / source / package.removeprefix(name).replace(".", "/").lstrip("/")
        for pattern in patterns:
            assert list(folder.glob(pattern)), f"{package}: {pattern} matches nothing"


#: The unpickler that allows numpy arrays and plain containers and nothing else.
UNPICKLER = ROOT / "ld3m_plugin" / "data" / "safe_pickle.py"
FORBIDDEN = {
    "eval": "runs text as a program",
    "exec": "runs text as a program",
    "pickle.load": "runs what a file says",
    "pickle.loads": "runs what a file says",
    "pickle.Unpickler": "runs what a file says",
    "marshal.load": "runs what a file says",
    "marshal.loads": "runs what a file says",
    "yaml.load": "runs what a file says; yaml.safe_load does not",
    "yaml.load_all": "runs what a file says",
    "yaml.unsafe_load": "runs what a file says",
    "yaml.full_load": "makes objects a file names",
    "torch.manual_seed": "moves the global stream",
    "torch.seed": "moves the global stream",
    "torch.random.manual_seed": "moves the global stream",
    "torch.cuda.manual_seed": "moves the global stream",
    "torch.cuda.manual_seed_all": "moves the global stream",
    "numpy.random.seed": "moves the global stream",
    "random.seed": "moves the global stream",
    "os.system": "runs a shell",
}


def imported_as(tree):
    """Local name -> full name, for what a module imports at any depth."""
    names = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                local = alias.asname or alias.name.partition(".")[0]
                names[local] = alias.name if alias.asname else local
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    return names


def dotted(node, names):
    """`np.random.seed` as `numpy.random.seed`; None where it is not a plain chain of names."""
    if isinstance(node, ast.Name):
        return names.get(node.id, node.id)
    if isinstance(node, ast.Attribute):
        base = dotted(node.value, names)
        return None if base is None else f"{base}.{node.attr}"
    return None


def offences(source):
    """What a module's source uses that it must not: (line, why)."""
    tree = ast.parse(source)
    names = imported_as(tree)
    for node in ast.walk(tree):
        name = dotted(node, names) if isinstance(node, ast.Attribute | ast.Name) else None
        if name in FORBIDDEN:
            yield node.lineno, f"{name}: {FORBIDDEN[name]}"
        if isinstance(node, ast.Call) and dotted(node.func, names) == "torch.load":
            safe = any(k.arg == "weights_only" and getattr(k.value, "value", None) is True for k in node.keywords)
            if not safe:
                yield node.lineno, "torch.load without weights_only=True: runs what a file says"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_module_runs_what_a_file_says_or_moves_a_global_stream(path):
    found = [why for _, why in offences(path.read_text(encoding="utf-8"))]
    if path == UNPICKLER:
        found = [why for why in found if not why.startswith("pickle.Unpickler")]
    assert found == []


@pytest.mark.parametrize(
    "source",
    [
        "import torch; torch.load(path)",
        "from torch import load; load(path, weights_only=False)",
        "import torch as t; t.load(path, weights_only=flag)",
        "import pickle; pickle.load(file)",
        "from pickle import loads as read; read(data)",
        "def f():\n    import pickle\n    return map(pickle.loads, parts)",
        "import yaml; yaml.load(text, Loader=yaml.Loader)",
        "eval('1')",
        "exec(text)",
        "import torch; torch.manual_seed(0)",
        "import numpy as np; np.random.seed(0)",
        "import random; random.seed(0)",
    ],
)
def test_the_guard_catches(source):
    assert len(list(offences(source))) == 1


@pytest.mark.parametrize(
    "source",
    [
        "import torch; torch.load(path, weights_only=True)",
        "import torch; torch.Generator().manual_seed(0)",
        "import yaml; yaml.safe_load(text)",
        "network.eval()",
        "import json; json.load(file)",
    ],
)
def test_the_guard_lets_pass(source):
    assert list(offences(source)) == []


def modules_by_name():
    for root in SOURCES.values():
        package = importlib.import_module(root)
        yield root
        for module in pkgutil.walk_packages(package.__path__, f"{root}."):
            # The mapped folders are walked by their own path: editable installs do not show them below the host's.
            if module.name.startswith(tuple(f"{other}." for other in SOURCES.values() if len(other) > len(root))):
                continue
            if not module.name.endswith(".__main__"):
                yield module.name


@pytest.mark.slow
def test_examples_in_docstrings_are_true():
    tried = 0
    for name in sorted(set(modules_by_name())):
        module = importlib.import_module(name)
        result = doctest.testmod(module, extraglobs={"torch": torch})
        assert result.failed == 0, f"a docstring of {name} does not hold: run python -m doctest for it"
        tried += result.attempted
    assert tried > 10
