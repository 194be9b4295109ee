"""Options of the data set `emoji`, without torch."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from ld3m_plugin.options import Options


class EmojiOptions(Options):
    """Options of the data set `emoji`."""

    task: Literal["main", "nature", "people", "things", "travel", "all"] = Field(
        "main", description="which classes; all has every category, for priors"
    )
    size: Literal[32, 64, 128] = Field(
        64, description="height and width in pixels; 32 is the mean of blocks of 2x2; 128 needs root"
    )
    split: Literal["test", "validation", "equal-data"] = Field(
        "test",
        description="test; validation: test on the drawings held out for choosing settings, train without them; equal-data: "
        "test, train without them, as priors are",
    )
    grayscale: bool | None = Field(None, description="one channel instead of three; default: three")
    root: Path | None = Field(
        None,
        description="folder with larger pictures, made by scripts/make_embedded_emoji.py; default: the package's own",
    )
