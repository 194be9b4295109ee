"""The dataset card of a distilled set: its content, origin, use and test accuracy.

Names come from folders and files that anybody may have written: they are escaped, so that the card shows them as text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ld3m_plugin.artefact.hub_metadata import front_matter
from ld3m_plugin.artefact.reading import is_whitened
from ld3m_plugin.errors import visible

# Characters with a meaning in Markdown anywhere in a line: `|` separates cells, `$` is mathematics on hubs.
_SPECIAL = re.compile(r"[\\`*_\[\]<>#|~&$]")
# Those with a meaning only at the beginning of a line: list items ("- a", "1. a") and rules ("---").
_MARKER = re.compile(r"^(\d*)([-+.)])(?=\s|\2|$)")

_USE = """```python
import ld3m_plugin as ld3m

distilled = ld3m.DistilledSet.load("path/to/this/folder")
image, label = distilled[0]  # normalised; distilled.denormalised() gives pictures in [0, 1]

import datasets

pictures = datasets.load_dataset("path/to/this/folder", split="train")  # 8 bits, with named labels
```"""


@dataclass(frozen=True)
class CardOf:
    """The folder that a card is for.

    Attributes:
        files: pattern of its data files.
        use: how to open it, in Markdown.
        holds: its content, with places for mean and std.
    """

    files: str
    use: str
    holds: str


ARTEFACT = CardOf(
    "images/**",
    _USE,
    "`images.safetensors` holds `images` and `labels`; pixels in [0, 1] are `images * std + mean` with mean {mean} and std {std} "
    "per channel. The pictures under `images/` are clipped to 8 bits.",
)


_WHITENED = (
    " The images are ZCA-whitened after that: `whitening.safetensors` holds `mean` and `matrix`, and test images x, "
    "normalised and flattened, become `(x - mean) @ matrix`. The pictures are those before."
)


def dataset_card(metadata: Mapping[str, Any], *, soft: bool = False, of: CardOf = ARTEFACT) -> str:
    """The card as Markdown, with the front matter that 🤗 Datasets and model hubs read.

    Args:
        soft: whether the labels are probabilities.
    """
    data = metadata.get("data", {})
    parts = [
        front_matter(metadata["class_names"], of.files, soft=soft),
        f"# Distilled {plain(data.get('name', 'data set'))}, {plain(metadata.get('images_per_class', '?'))} image(s) per class",
        _how(metadata),
        "The images are a derivative of the data named above: its licence and its limits apply to them.",
        f"## Use\n\n{of.use}",
        of.holds.format(mean=metadata["mean"], std=metadata["std"])
        + (_WHITENED if of is ARTEFACT and is_whitened(metadata) else ""),
        "## Classes\n\n" + ", ".join(plain(name) for name in metadata["class_names"]),
    ]
    final = (metadata.get("results") or {}).get("final")
    if final:
        parts.append("## Test accuracy\n\n" + accuracy_table(final["rows"]) + "\n\n" + _protocol_line(final))
    return "\n\n".join(parts) + "\n"


def plain(text: object) -> str:
    r"""`text` on one line, escaped so that Markdown shows it as it is.

    >>> print(plain("a\n# x|y"))
    a \# x\|y
    """
    line = visible(" ".join(str(text).split()))
    return _MARKER.sub(r"\1\\\2", _SPECIAL.sub(r"\\\g<0>", line))


def _code(text: object) -> str:
    """`text` as a code span. A backtick would end it and cannot be escaped in it: it becomes an apostrophe."""
    return "`" + visible(" ".join(str(text).split())).replace("`", "'") + "`"


def accuracy_table(rows: Iterable[Mapping[str, Any]]) -> str:
    """Rows of an evaluation's record as a Markdown table: a line for each architecture, a column for each kind of images."""
    rows = list(rows)
    kinds = list(dict.fromkeys(row["images"] for row in rows))
    cells = {(row["network"], row["images"]): _cell(row) for row in rows}
    lines = ["| network | " + " | ".join(map(plain, kinds)) + " |", "| --- |" + " ---: |" * len(kinds)]
    for network in dict.fromkeys(row["network"] for row in rows):
        lines.append(f"| {plain(network)} | " + " | ".join(cells.get((network, kind), "") for kind in kinds) + " |")
    return "\n".join(lines)


def _cell(row: Mapping[str, Any]) -> str:
    spread = "" if row["std"] is None else f" ± {row['std']:.1f}"
    return f"{row['mean']:.1f}{spread}"


def _protocol_line(result: Mapping[str, Any]) -> str:
    count = result["rows"][0]["n"]
    return (
        f"Percent of {plain(result['test_images'])} test images, mean ± standard deviation over {count} networks, "
        f"protocol {_code(result['protocol']['name'])} ({plain(result['protocol']['summary'])})."
    )


def _how(metadata: Mapping[str, Any]) -> str:
    data = metadata.get("data", {})
    generator, objective = metadata.get("generator", {}), metadata.get("objective")
    matched = f"objective {_code(objective.get('name', '?'))}" if objective else "which no objective has matched"
    version = metadata.get("versions", {}).get("ld3m-plugin", "")
    return (
        f"Source: {plain(data.get('source', 'unknown'))}. Made with ld3m-plugin {plain(version)}, "
        f"generator {_code(generator.get('name', '?'))}, {matched}, "
        f"{plain(metadata.get('steps', '?'))} steps, seed {plain(metadata.get('seed', '?'))}; "
        "the metadata of the set has the whole configuration."
    )
