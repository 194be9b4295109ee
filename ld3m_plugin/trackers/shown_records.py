"""What trackers with a display share: the numbers of a record, one picture of the set, and options."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from ld3m_plugin.contracts import Tracker
from ld3m_plugin.options import Options

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor


class DisplayOptions(Options):
    """Options of trackers with a display."""

    images_every: int = Field(100, ge=0, description="steps between pictures of the set (0: none)")


class ProjectOptions(DisplayOptions):
    """Options of trackers with projects."""

    project: str = Field("ld3m", min_length=1, description="name of the project")


def scalars(record: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a record by name, without its step; the accuracies of an evaluation by their mean.

    >>> scalars({"step": 3, "loss": 0.5})
    {'loss': 0.5}
    >>> scalars({"step": 3, "images": "distilled", "network": "MLP", "accuracies": [40.0, 60.0], "protocol": "quick"})
    {'accuracy/distilled/MLP': 50.0}
    """
    if "accuracies" in record:
        values = record["accuracies"]
        return {f"accuracy/{record['images']}/{record['network']}": float(sum(values) / len(values))}
    numbers = {name: value for name, value in record.items() if name != "step" and not isinstance(value, str)}
    return {name: float(value) for name, value in numbers.items() if hasattr(value, "__float__")}


def one_picture(pictures: Tensor, labels: Tensor, class_names: Sequence[str]) -> Image.Image:
    """The pictures (N, C, H, W) in [0, 1] as one of Pillow, with the names of their classes."""
    from ld3m_plugin.artefact.pictures import class_grid
    from ld3m_plugin.images.hard_labels import hard_labels

    return class_grid(pictures, hard_labels(labels), class_names)


def run_name(folder: Path) -> str:
    """A name for the run in a folder, the same when it goes on and no other run's on this machine."""
    return f"{folder.name}-{hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:8]}"


class ProjectRuns(Tracker):
    """Base of trackers whose library has projects, runs and an `Image`; `start` sets both attributes."""

    Options = ProjectOptions
    _library: Any
    _run: Any

    def log(self, record: Mapping[str, Any]) -> None:
        self._run.log(scalars(record), step=record["step"])

    def log_images(self, step: int, pictures: Tensor, labels: Tensor, class_names: tuple[str, ...]) -> None:
        self._run.log({"set": self._library.Image(one_picture(pictures, labels, class_names))}, step=step)
