"""Settings: configuration files, options of the command line, protocols, class maps, lists of classes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from fuzzing.damage import OPTIONS, as_json
from fuzzing.in_process import command
from ld3m_plugin.config import RunConfig, completed, dump, resolve
from ld3m_plugin.evaluation.protocols import PROTOCOLS, get_protocol
from ld3m_plugin.priors.class_matching import rows_of_classes
from ld3m_plugin.priors.classes import read_classes
from ld3m_plugin.priors.prior_json import PriorClass, PriorFacts
from ld3m_plugin.runs.folder import read_config as read_run_config
from ld3m_plugin.testing import tiny_task

_CLASSES = ("tench", "goldfish", "C++", "t-shirt/top")
_PATHS = (
    *("steps", "seed", "images_per_class", "render_batch", "autocast", "checkpoint_every", "trackers", "data.name"),
    *(
        "generator.name",
        "objective.name",
        "optimizer.name",
        "optimizer.learning_rates",
        "optimizer.learning_rates.pixels",
    ),
    *("generator.options.init", "generator.options.prior", "generator.options.class_map", "generator.options.steps"),
    *("objective.options.batch_real", "objective.options.network", "objective.options.network_settings", "evaluation"),
    *("objective.options.dsa", "data.options.image_size", "data.options.root", "data.options.grayscale", "generator"),
    *("evaluation.networks", "evaluation.repeats", "evaluation.protocol", "evaluation.every", "device", "data.options"),
)


def make_config(folder: Path) -> None:
    """All settings of a run, as its folder holds them."""
    (folder / "input").mkdir()
    content = completed(RunConfig()).model_dump(mode="json")
    (folder / "input" / "config.yaml").write_text(json.dumps(content, indent=1), encoding="utf-8")


def read_config(path: Path) -> None:
    """Compose the file, as `--config` does and as a run folder's, and write it again."""
    dump(completed(resolve([path / "config.yaml"])))
    dump(completed(read_run_config(path)))


def make_options(folder: Path) -> None:
    """No options yet: `damage` adds them."""
    (folder / "input").mkdir()
    (folder / "input" / OPTIONS).write_text("[]", encoding="utf-8")


def read_options(path: Path) -> None:
    """Type the options after `ld3m distill --dry-run`."""
    options = json.loads((path / OPTIONS).read_text(encoding="utf-8"))
    command(path, "distill", "--dry-run", *(word for flag, *rest in options for word in (flag, _option(flag, *rest))))


def _option(flag: str, index: int, value: Any, form: str) -> str:
    value = (
        as_json(value)[1:-1].replace("\\u0000", "") if len(value) > 4 and value[0] == "<" else value.replace("\x00", "")
    )
    value = value.encode("utf-8", "surrogateescape" if value.isascii() else "replace").decode(
        "utf-8", "surrogateescape"
    )
    if flag.startswith("--") and flag != "--set":
        return value
    if len(flag) == 2 and flag in "-g-o":
        return value
    name = _PATHS[index % len(_PATHS)]
    name = name if flag == "--set" else name.rpartition(".")[2]
    shown = {"list": f"[{value}, 1]", "quoted": f'"{value}"', "nested": f"{{a: {{b: [{value}]}}}}"}.get(form, value)
    return name if form == "no equals" else f"{name}.x={shown}" if form == "deeper" else f"{name}={shown}"


def make_protocol(folder: Path) -> None:
    """A protocol of one's own."""
    (folder / "input").mkdir()
    recipe = {
        **PROTOCOLS["quick"].model_dump(mode="json"),
        "name": "mine",
        "network_settings": {"ConvNet": {"width": 8}},
    }
    (folder / "input" / "mine.yaml").write_text(json.dumps(recipe, indent=1), encoding="utf-8")


def read_protocol(path: Path) -> None:
    """Read it alone, and as the protocol of a run."""
    name = str(path / "mine.yaml")
    get_protocol(name)
    dump(completed(resolve(settings=[("evaluation.protocol", name)])))


def make_class_map(folder: Path) -> None:
    """A map of four classes."""
    (folder / "input").mkdir()
    content = {"class 0": "tench", "class 1": "C++", "class 2": "unconditional"}
    (folder / "input" / "map.yaml").write_text(json.dumps(content, indent=1), encoding="utf-8")


def read_class_map(path: Path) -> None:
    """Find the rows of a task's classes."""
    facts = PriorFacts(tuple(map(PriorClass, _CLASSES)), len(_CLASSES))
    rows = rows_of_classes(tiny_task(), facts, path / "map.yaml", "error")
    if not all(0 <= row <= len(_CLASSES) for row in rows):
        raise IndexError(f"rows {rows} of {len(_CLASSES) + 1}")


def make_class_list(folder: Path) -> None:
    """Names of classes as lines and as JSON."""
    (folder / "input").mkdir()
    content = [*_CLASSES, {"name": "dog", "wordnet_id": "n02084071"}]
    (folder / "input" / "names.json").write_text(json.dumps(content), encoding="utf-8")
    (folder / "input" / "names.txt").write_text("n01440764 tench\ngoldfish\n", encoding="utf-8")


def read_class_list(path: Path) -> None:
    """Read both."""
    read_classes(path / "names.json")
    read_classes(path / "names.txt")
