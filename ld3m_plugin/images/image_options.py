"""Options of data sets of images, without torch: settings are read and checked before any data is."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from pydantic import Field

from ld3m_plugin.options import Options, Place


class ImageOptions(Options):
    """Options that every data set of images has."""

    image_size: int | None = Field(None, ge=4, description="height and width in pixels; default: the data set's own")
    grayscale: bool | None = Field(None, description="one channel instead of three; default: the data set's own")
    root: Path | None = Field(
        None, description="folder that holds the data; default: the usual places of that data set"
    )


class FileOptions(ImageOptions):
    """Options of data sets that are folders of image files."""

    skip_unreadable: bool = Field(False, description="leave out files that cannot be read instead of stopping")


class DataOptions(FileOptions):
    """Options of a folder of images without a split of its own, and of data sets that state no options."""

    test_fraction: float = Field(
        0.2,
        gt=0,
        lt=1,
        description="share of each class held out when a folder has no val/ or test/, train/ alone included",
    )
    split_seed: int = Field(0, ge=0, description="seed of that split")


class FolderOptions(DataOptions):
    """Options of `imagefolder:PATH`; `argument` marks the argument of the data set as a place."""

    argument: ClassVar[Place] = Place()
