"""Images of a distilled set as a report embeds them: a bounded number, scaled down, as data URIs with a text for each."""

from __future__ import annotations

import base64
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from ld3m_plugin.artefact.distilled_set import DistilledSet
from ld3m_plugin.artefact.pictures import png
from ld3m_plugin.artefact.shown_images import per_class, shown_indices
from ld3m_plugin.report.plain_text import short
from ld3m_plugin.runs.start_pictures import read_start

#: Longest side of an embedded image, pixels.
_SIDE = 96


@dataclass(frozen=True)
class Picture:
    """An image in a page.

    Attributes:
        uri: its PNG as a data URI.
        alt: what it shows.
        side: width and height in pixels of the PNG.
    """

    uri: str
    alt: str
    side: int


@dataclass(frozen=True)
class Pair:
    """An image as it is now, and as it started, where that was kept."""

    now: Picture
    start: Picture | None


@dataclass(frozen=True)
class Gallery:
    """Images by class.

    Attributes:
        classes: name of each shown class -> its images, in label order.
        shown, total: numbers of images.
        scaled_from: side of the images in pixels where they are scaled down, else None.
    """

    classes: tuple[tuple[str, tuple[Pair, ...]], ...]
    shown: int
    total: int
    all_classes: int
    scaled_from: int | None

    @property
    def has_start(self) -> bool:
        """Whether any image is shown as it started."""
        return any(pair.start for _, pairs in self.classes for pair in pairs)

    @property
    def said(self) -> str:
        """How many of all images are shown, and at which size."""
        parts = [f"{self.shown:,} of {self.total:,} images shown"]
        if len(self.classes) < self.all_classes:
            parts.append(f"{len(self.classes):,} of {self.all_classes:,} classes")
        if self.scaled_from:
            parts.append(f"scaled down from {self.scaled_from} to {_SIDE} pixels")
        return ", ".join(parts)


def gallery(distilled: DistilledSet, run: Path, most: int, what: str = "distilled") -> Gallery:
    """Choose and embed up to `most` images of a set, with those that its run started from.

    Args:
        run: the run folder.
        what: begins the text of each image.

    Raises:
        ArtefactError: the file of the images it started from is damaged.
    """
    indices, start, names = shown_indices(distilled.labels, most), read_start(run), distilled.class_names
    pictures = dict(zip(indices, _denormalised(distilled, indices), strict=True))
    classes = []
    for label, members in per_class(distilled.labels, indices).items():
        name, pairs = short(names[label], 80), []
        for place, index in enumerate(members, start=1):
            alt = f"{name}, {what} image" + (f" {place}" if len(members) > 1 else "")
            first = start.get(index)
            pairs.append(
                Pair(_picture(pictures[index], alt), None if first is None else _picture(first, f"{alt}, at the start"))
            )
        classes.append((name, tuple(pairs)))
    side = int(distilled.images.shape[-1])
    return Gallery(tuple(classes), len(indices), len(distilled), len(names), side if side > _SIDE else None)


def _denormalised(distilled: DistilledSet, indices: list[int]) -> Tensor:
    chosen = replace(distilled, images=distilled.images[indices], labels=distilled.labels[indices], latents=None)
    return chosen.denormalised().nan_to_num()


def _picture(picture: Tensor, alt: str) -> Picture:
    """Embed one picture (C, H, W) in [0, 1]; channels that are not three are shown as grey."""
    if max(picture.shape[1:]) > _SIDE:
        picture = interpolate(picture[None], (_SIDE, _SIDE), mode="area")[0].clamp(0, 1)
    if picture.shape[0] not in (1, 3):
        picture = picture.mean(0, keepdim=True)
    content = base64.b64encode(png(picture.to(torch.float32))).decode("ascii")
    return Picture(f"data:image/png;base64,{content}", alt, int(picture.shape[-1]))
