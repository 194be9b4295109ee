"""Which module may reach which: the layout as arrows, read from the sources, imports inside functions and by string counted."""

import ast
import sys
import tomllib
from pathlib import Path

import pytest

import ld3m_plugin
from ld3m_plugin import augmentation, contracts, evaluation

ROOT = Path(__file__).parents[2]
SOURCES = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]["package-dir"]
ROOT_FILES = 10  # beside __init__ and __main__


def module_name(path):
    """The name that a source file imports as."""
    relative = path.relative_to(ROOT).with_suffix("")
    package = next(name for name, folder in SOURCES.items() if folder == relative.parts[0])
    return ".".join([package, *relative.parts[1:]]).removesuffix(".__init__")


FILES = {module_name(path): path for folder in SOURCES.values() for path in sorted((ROOT / folder).rglob("*.py"))}


def for_type_checkers(tree):
    """Nodes under `if TYPE_CHECKING`, which no run imports."""
    blocks = [node for node in ast.walk(tree) if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)]
    return {inner for block in blocks for statement in block.body for inner in ast.walk(statement)}


def constants(tree):
    """Names that hold one text, such as `where = "ld3m_plugin.cli"` before `f"{where}.distill:distill_command"`."""
    pairs = [(n.targets[0], n.value) for n in ast.walk(tree) if isinstance(n, ast.Assign)]
    return {t.id: v.value for t, v in pairs if isinstance(t, ast.Name) and isinstance(v, ast.Constant)}


def text_of(node, known):
    """The text of a string or of an f-string of constants; "" where it is anything else."""
    if isinstance(node, ast.JoinedStr):
        return "".join(text_of(part, known) for part in node.values)
    if isinstance(node, ast.FormattedValue):
        return str(known.get(getattr(node.value, "id", ""), ""))
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def reached(path):
    """The project's modules that a file imports: at the top, in functions, or by a string such as "package.module:Class"."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    skipped, known = for_type_checkers(tree), constants(tree)
    for node in ast.walk(tree):
        if node in skipped:
            continue
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path} imports relatively"
            # `from package import module` reaches the module; `from module import name` the module that has the name.
            full = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [name if name in FILES else LAZY.get(name, str(node.module)) for name in full]
        elif isinstance(node, ast.Constant | ast.JoinedStr):
            text = text_of(node, known)
            names = [text.partition(":")[0]] if "." in text else []
        else:
            continue
        for name in names:
            if name in FILES:
                yield name


#: Names that a package imports on first use, such as `from ld3m_plugin import distill` -> the module that has it.
LAZY = {
    f"{package.__name__}.{name}": sys.modules[getattr(package, name).__module__].__name__
    for package in (ld3m_plugin, augmentation, contracts, evaluation)
    for name in package.__all__
    if hasattr(getattr(package, name), "__module__")
}

#: Files that list module names as text: old names, and what the benchmark's worker, a script that nothing imports, measures.
LISTS = {"ld3m_plugin.moved", "ld3m_plugin.bench.bench_worker"}
ARROWS = {name: set(reached(path)) - {name} for name, path in FILES.items() if name not in LISTS}


def below(*packages):
    """Whether a module is one of `packages` or inside of one."""
    return lambda name: any(name == package or name.startswith(f"{package}.") for package in packages)


def test_the_hosts_root_stays_small():
    files = {path.name for path in (ROOT / "ld3m_plugin").glob("*.py")} - {"__init__.py", "__main__.py"}
    assert len(files) <= ROOT_FILES, sorted(files)


def cycles(arrows):
    """Groups of modules that reach each other (Tarjan's strongly connected components of more than one)."""
    index, low, stack, found = {}, {}, [], []

    def visit(node):
        index[node] = low[node] = len(index)
        stack.append(node)
        for target in arrows.get(node, ()):
            if target not in index:
                visit(target)
                low[node] = min(low[node], low[target])
            elif target in stack:
                low[node] = min(low[node], index[target])
        if low[node] == index[node]:
            group = stack[stack.index(node) :]
            del stack[stack.index(node) :]
            if len(group) > 1:
                found.append(sorted(group))

    for node in arrows:
        if node not in index:
            visit(node)
    return found


def test_there_is_no_circle_of_imports():
    assert cycles(ARROWS) == []


def test_a_circle_would_be_found():
    assert cycles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a"}}) == [["b", "c"]]


HOST = below("ld3m_plugin")
BACKENDS = below("ld3m_plugin.generators", "ld3m_plugin.objectives")
GENERATORS, OBJECTIVES = below("ld3m_plugin.generators"), below("ld3m_plugin.objectives")
#: What any module may reach: it reaches nothing above itself.
CONTRACTS = below(
    *(
        f"ld3m_plugin.{name}"
        for name in (
            "contracts",
            "task",
            "images",
            "options",
            "plain_yaml",
            "errors",
            "storage",
            "randomness",
            "moved",
            "devices",
        )
    ),
    "ld3m_plugin.hookspecs",
    "ld3m_plugin.launchers.launcher",
    "ld3m_plugin.priors.contract",
    "ld3m_plugin.priors",  # the package itself, a docstring; its modules are services
)
#: What backends may reach beside contracts.
SERVICES = below(
    *(f"ld3m_plugin.{name}" for name in ("registry", "budgets", "data", "networks", "augmentation", "priors")),
    "ld3m_plugin.initialisers",
    "ld3m_plugin.artefact.pictures",
)
#: The flow of the host, which backends never reach.
FLOW = below(
    *(
        f"ld3m_plugin.{name}"
        for name in ("distillation", "runs", "comparison", "exports", "report", "bench", "cli", "synthetic")
    )
)


@pytest.mark.parametrize(
    "name", [n for n in FILES if CONTRACTS(n) and (not n.startswith("ld3m_plugin.priors.") or n.endswith(".contract"))]
)
def test_contracts_reach_contracts_alone(name):
    assert [target for target in ARROWS.get(name, ()) if not CONTRACTS(target) and target != "ld3m_plugin"] == []


@pytest.mark.parametrize("name", [n for n in FILES if BACKENDS(n)])
def test_backends_reach_contracts_services_and_their_own_kind(name):
    own = GENERATORS if GENERATORS(name) else OBJECTIVES
    allowed = [CONTRACTS, SERVICES, own, lambda target: target == "ld3m_plugin"]
    if name.endswith(".commands"):  # a sub-command is made with the command line's helpers
        allowed.append(below("ld3m_plugin.cli", "ld3m_plugin.allocator", "ld3m_plugin.distillation.loop"))
    assert [target for target in ARROWS[name] if not any(is_allowed(target) for is_allowed in allowed)] == []


@pytest.mark.parametrize("name", [n for n in FILES if HOST(n) and not BACKENDS(n) and n not in LISTS])
def test_the_host_reaches_no_backend(name):
    assert [target for target in ARROWS[name] if BACKENDS(target)] == []


@pytest.mark.parametrize(
    "name", [n for n in FILES if not FLOW(n) and n not in LISTS and n not in ("ld3m_plugin", "ld3m_plugin.__main__")]
)
def test_only_the_flow_reaches_the_flow(name):
    if below("ld3m_plugin.testing")(name) or name.endswith(".commands"):
        return
    assert [target for target in ARROWS[name] if FLOW(target)] == []


def names_of_backends():
    """Registered names of generators and objectives."""
    from ld3m_plugin.registry import build_registry

    registry = build_registry(environ={"LD3M_PLUGINS": ""})
    return {*registry.names("generator"), *registry.names("objective")}


def comparisons(tree):
    """Text that a module compares something with, or looks up in a table of its own: `if name == "pixel"`."""
    for node in ast.walk(tree):
        parts = []
        if isinstance(node, ast.Compare):
            parts = [node.left, *node.comparators]
        elif isinstance(node, ast.MatchValue):
            parts = [node.value]
        elif isinstance(node, ast.Dict):
            parts = [key for key in node.keys if key is not None]
        for part in parts:
            for inner in ast.walk(part):
                if isinstance(inner, ast.Constant) and isinstance(inner.value, str):
                    yield inner.value


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n in FILES if HOST(n) and not BACKENDS(n) and n not in LISTS])
def test_the_host_branches_on_no_backends_name(name):
    found = set(comparisons(ast.parse(FILES[name].read_text(encoding="utf-8"))))
    assert not found & names_of_backends()


def test_file_names_tell_their_rooms_apart():
    named: dict[str, list[str]] = {}
    for name, path in FILES.items():
        if path.name not in ("__init__.py", "__main__.py"):
            named.setdefault(path.name, []).append(name)
    assert {file: names for file, names in named.items() if len(names) > 1} == {}
