"""The packages that the pictures are drawn from: pinned, checked, read without unpacking them to disk."""

from __future__ import annotations

import hashlib
import json
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

#: Archive of each package -> SHA-256. Names and versions are those of the npm registry.
LABELS = ("emojibase-data", "17.0.0", "d01d0e2ca4e22cb402679532155342c71e2e871f25c32223c013b8b166ebdf5a")
#: Styles in the order of the data set: package, version, SHA-256, SPDX id of the licence that its `info.json` must state.
STYLES = {
    "noto": ("1.2.9", "3e918d88fc945c0bb3d468dbace6f88caef67f01c9f0e7bcae0915a042e8f1ad", "Apache-2.0"),
    "noto-v1": ("1.2.5", "2bf62c26c2c2884aa99e90aec942cdaee17a5921f05690694f4978ad4b017c37", "Apache-2.0"),
    "fluent-emoji": ("1.2.7", "8044210dbf11e016d4de85f15d01a243423bd832457e7e2491df1b751c0e272b", "MIT"),
    "fluent-emoji-flat": ("1.2.6", "7d064769dee690815f823bc5bcc511d957198caf9f5edd8dd9c1aa48a6aeb175", "MIT"),
    "twemoji": ("1.2.5", "19046dff7d8707ce96212ec86468b36ac5f8e60409629dd13f809265c6d0ebb7", "CC-BY-4.0"),
    "emojione": ("1.2.3", "26a14f44284407e8bcde91799388dca2bfd91dbcd55a97f425524a1c5b73610e", "CC-BY-4.0"),
}
#: Styles whose package lists no code points; their pictures have the names that these packages give to code points.
NAMED_BY = {
    "noto-v1": ("noto", "twemoji"),
    "fluent-emoji": ("fluent-emoji-flat",),
    "emojione": ("twemoji", "noto"),
}
#: Names that mean another thing in an older package: the insect here, the game there.
NOT_TRUSTED = {"noto-v1": {"cricket"}, "emojione": {"cricket"}}
#: Names of code points before they were renamed, where a package without code points has them.
FORMER_NAMES = {
    "1f43b": "bear-face",
    "1f438": "frog-face",
    "1f439": "hamster-face",
    "1f981": "lion-face",
    "1f43c": "panda-face",
    "1f916": "robot-face",
    "1f984": "unicorn-face",
    "1f63a": "grinning-cat-face",
    "1f638": "grinning-cat-face-with-smiling-eyes",
    "1f639": "cat-face-with-tears-of-joy",
    "1f63b": "smiling-cat-face-with-heart-eyes",
    "1f63c": "cat-face-with-wry-smile",
    "1f63d": "kissing-cat-face",
    "1f640": "weary-cat-face",
    "1f63f": "crying-cat-face",
    "1f63e": "pouting-cat-face",
    "1f621": "pouting-face",
    "1f635": "dizzy-face",
    "1f917": "hugging-face",
    "1f3af": "direct-hit",
    "1f4bb": "laptop-computer",
    "1f471": "blond-haired-person",
}
_IGNORED = {"fe0f", "fe0e"}


def archive(folder: Path, name: str, version: str, digest: str) -> Path:
    """The archive of a package in `folder`, fetched with npm where it is missing.

    Raises:
        SystemExit: its content is not the pinned one.
    """
    path = folder / f"{name.removeprefix('@').replace('/', '-')}-{version}.tgz"
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        subprocess.run(["npm", "pack", "--silent", f"{name}@{version}"], cwd=folder, check=True)  # noqa: S603, S607
    if hashlib.sha256(path.read_bytes()).hexdigest() != digest:
        raise SystemExit(f"{path} is not the {name} {version} that this script was written for: remove it")
    return path


def read_json(path: Path, *names: str) -> list[Any]:
    """JSON files `package/NAME` of an archive, in the order of `names`; None where it lacks one."""
    found: list[Any] = []
    with tarfile.open(path) as tar:
        present = set(tar.getnames())
        for name in names:
            member = tar.extractfile(f"package/{name}") if f"package/{name}" in present else None
            found.append(None if member is None else json.load(member))
    return found


def plain_code(code: str) -> str:
    """Code points in lower case, joined by -, without variation selectors."""
    return "-".join(part for part in code.lower().split("-") if part not in _IGNORED)


@dataclass(frozen=True)
class Style:
    """The drawings of one package as SVG.

    Attributes:
        names: code points -> name of a drawing.
    """

    name: str
    info: dict[str, Any]
    icons: dict[str, Any]
    names: dict[str, str]

    def svg(self, code: str) -> str | None:
        """The drawing of code points as an SVG document; None where the style lacks it."""
        name = self.names.get(code)
        if name in self.icons.get("aliases", {}):
            alias = self.icons["aliases"][name]
            if alias.keys() != {"parent"}:  # mirrored or turned: no drawing of its own
                return None
            name = alias["parent"]
        icon = self.icons["icons"].get(name)
        if icon is None:
            return None
        width, height = (icon.get(side, self.icons.get(side, 16)) for side in ("width", "height"))
        box = f"{icon.get('left', 0)} {icon.get('top', 0)} {width} {height}"
        namespaces = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
        return f'<svg {namespaces} viewBox="{box}" width="{width}" height="{height}">{icon["body"]}</svg>'


def read_styles(folder: Path) -> list[Style]:
    """Read the packages of all styles.

    Raises:
        SystemExit: a package is another one, or states another licence.
    """
    read: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, str]]] = {}
    for name, (version, digest, licence) in STYLES.items():
        path = archive(folder, f"@iconify-json/{name}", version, digest)
        info, icons, chars = read_json(path, "info.json", "icons.json", "chars.json")
        if info["license"]["spdx"] != licence:
            raise SystemExit(f"{path} states the licence {info['license']['spdx']}, expected {licence}")
        read[name] = info, icons, {plain_code(code): icon for code, icon in (chars or {}).items()}
    names = {name: chars for name, (_, _, chars) in read.items()}
    for name, sources in NAMED_BY.items():
        known = names_from([names[source] for source in sources], NOT_TRUSTED.get(name, set()))
        icons = read[name][1]["icons"]
        former = {code: old for code, old in FORMER_NAMES.items() if known.get(code) not in icons and old in icons}
        names[name] = known | former
    return [Style(name, info, icons, names[name]) for name, (info, icons, _) in read.items()]


def names_from(sources: list[dict[str, str]], not_trusted: set[str]) -> dict[str, str]:
    """Names by code points, of the first of `sources` that has them; without names that two code points have."""
    owners: dict[str, set[str]] = {}
    for chars in sources:
        for code, name in chars.items():
            owners.setdefault(name, set()).add(code)
    found: dict[str, str] = {}
    for chars in sources:
        for code, name in chars.items():
            if len(owners[name]) == 1 and name not in not_trusted:
                found.setdefault(code, name)
    return found


def read_labels(folder: Path) -> list[tuple[str, str, str]]:
    """(code points, English label in lower case, Unicode subgroup) of every emoji in Unicode's order."""
    path = archive(folder, *LABELS)
    entries, groups = read_json(path, "en/data.json", "meta/groups.json")
    return [
        (plain_code(entry["hexcode"]), entry["label"].lower(), groups["subgroups"].get(str(entry.get("subgroup")), ""))
        for entry in entries
    ]
