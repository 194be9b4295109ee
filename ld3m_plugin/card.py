"""The dataset card of a distilled set: what it is, how it was made, how to use it, what it scores."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

_USE = """```python
import ld3m_plugin as ld3m

distilled = ld3m.DistilledSet.load("path/to/this/folder")
image, label = distilled[0]  # normalised; distilled.denormalised() gives pictures in [0, 1]
```"""


def dataset_card(metadata: Mapping[str, Any]) -> str:
    """Markdown with the front matter that model hubs read."""
    data = metadata.get("data", {})
    parts = [
        "---\ntags:\n- dataset-distillation\n- ld3m-plugin\n---",
        f"# Distilled {data.get('name', 'data set')}, {metadata.get('images_per_class', '?')} image(s) per class",
        _how(metadata),
        "The images are a derivative of the data named above: its licence and its limits apply to them.",
        f"## Use\n\n{_USE}",
        f"`images.safetensors` holds `images` and `labels`; pixels in [0, 1] are `images * std + mean` with "
        f"mean {metadata['mean']} and std {metadata['std']} per channel. The pictures under `images/` are clipped to 8 bits.",
        "## Classes\n\n" + ", ".join(metadata["class_names"]),
    ]
    final = metadata.get("results", {}).get("final")
    if final:
        parts.append("## Test accuracy\n\n" + accuracy_table(final["rows"]) + "\n\n" + _protocol_line(final))
    return "\n\n".join(parts) + "\n"


def accuracy_table(rows: Iterable[Mapping[str, Any]]) -> str:
    """Rows of an evaluation's record as a Markdown table: an architecture a line, a column for each kind of images."""
    rows = list(rows)
    kinds = list(dict.fromkeys(row["images"] for row in rows))
    cells = {(row["network"], row["images"]): _cell(row) for row in rows}
    lines = ["| network | " + " | ".join(kinds) + " |", "| --- |" + " ---: |" * len(kinds)]
    for network in dict.fromkeys(row["network"] for row in rows):
        lines.append(f"| {network} | " + " | ".join(cells.get((network, kind), "") for kind in kinds) + " |")
    return "\n".join(lines)


def _cell(row: Mapping[str, Any]) -> str:
    spread = "" if row["std"] is None else f" ± {row['std']:.1f}"
    return f"{row['mean']:.1f}{spread}"


def _protocol_line(result: Mapping[str, Any]) -> str:
    count = result["rows"][0]["n"]
    return (
        f"Percent of {result['test_images']} test images, mean ± standard deviation over {count} networks, "
        f"protocol `{result['protocol']['name']}` ({result['protocol']['summary']})."
    )


def _how(metadata: Mapping[str, Any]) -> str:
    data = metadata.get("data", {})
    generator, objective = metadata.get("generator", {}), metadata.get("objective", {})
    return (
        f"Source: {data.get('source', 'unknown')}. Made with ld3m-plugin {metadata.get('versions', {}).get('ld3m-plugin', '')}, "
        f"generator `{generator.get('name', '?')}`, objective `{objective.get('name', '?')}`, "
        f"{metadata.get('steps', '?')} steps, seed {metadata.get('seed', '?')}; `metadata.json` has the whole configuration."
    )
