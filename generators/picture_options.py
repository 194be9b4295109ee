"""Options that generators share: classes of a prior, the range of pixels, and what a prior never saw. Without torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from ld3m_plugin.options import Place

#: A file, or the mapping itself: class of the task -> class of the prior.
ClassMap = Path | dict[str, str]
Clamp = Literal["straight-through", "hard", "none"]

#: A permission decides no image: as a place, it is no part of a run's identity and may be given when a run goes on.
Mismatch = Annotated[Literal["error", "allow"], Place(is_path=False)]
MISMATCH: Any = Field(
    "error",
    description="colour images with a gray prior, and images of a size that the prior was not trained at: error, or allow",
)
