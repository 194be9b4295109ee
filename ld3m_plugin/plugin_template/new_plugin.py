"""Write a new plugin from the template: the distribution `ld3m-example` under another name."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

from ld3m_plugin.errors import UsageError
from ld3m_plugin.storage import complete_folder

_TEMPLATE = files("ld3m_plugin.plugin_template") / "distribution"
#: The name that the template has, everywhere, and the ending that keeps its files from being this package's modules.
_NAME, _ENDING = "example", ".txt"


def write_plugin(name: str, folder: Path | None = None) -> Path:
    """Write a distribution `ld3m-NAME` with the module `ld3m_NAME`; the names that it registers begin with `NAME-`.

    Args:
        folder: a new or empty folder; default: `ld3m-NAME` in the current one. It appears when it is complete.

    Returns:
        The folder.

    Raises:
        UsageError: a name that no module and option can have, or something is in the folder.
    """
    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name):
        raise UsageError(
            f"{name!r} cannot be the name of a plugin: use lower-case letters, digits and '-', such as 'spectral'"
        )
    folder = folder or Path(f"ld3m-{name}")
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise UsageError(f"{folder} is not empty: choose another --out")
    with complete_folder(folder) as new:
        for path, content in plugin_files(name).items():
            target = new / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(content, encoding="utf-8")
    return folder


def plugin_files(name: str) -> dict[str, str]:
    """The files of the plugin `name`: path in its folder -> text."""

    def named(text: str) -> str:
        return text.replace(f"ld3m_{_NAME}", f"ld3m_{name.replace('-', '_')}").replace(_NAME, name)

    return {
        named(path).removesuffix(_ENDING): named(part.read_text(encoding="utf-8")) for path, part in _parts(_TEMPLATE)
    }


def _parts(folder: Traversable, before: str = "") -> Iterator[tuple[str, Traversable]]:
    """All files below `folder`, each with its path."""
    for part in sorted(folder.iterdir(), key=lambda part: part.name):
        if part.is_dir():
            yield from _parts(part, f"{before}{part.name}/")
        elif part.name.endswith(_ENDING):
            yield before + part.name, part
