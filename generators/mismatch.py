"""What a prior never saw and renders only when asked to: colours with a gray prior, another image size."""

from __future__ import annotations

from ld3m_plugin.contracts import Task
from ld3m_plugin.errors import InvalidOptionError, typed
from ld3m_plugin.priors.class_matching import own_prior


def check_fits_prior(task: Task, channels: int, size: int | None, mismatch: str, kind: str = "ldm") -> None:
    """Refuse colour images with a gray prior, and another image size, unless `mismatch` is `allow`; both in one message.

    Args:
        channels: of the prior's images.
        size: height and width of the images it was trained on; None: not known, or any.
        kind: of the prior, for the advice.

    Raises:
        InvalidOptionError: the prior was trained on other images.
    """
    found, fits = [], []
    if channels == 1 and task.channels == 3:
        found.append("the prior makes gray images and the data is in colour")
        fits.append(typed("-D", "grayscale", True))
    if size is not None and size != task.image_size:
        found.append(f"the prior was trained on images of {size} pixels and the data has {task.image_size}")
        fits.append(typed("-D", "image_size", size))
    if found and mismatch == "error":
        raise InvalidOptionError(
            f"{'; '.join(found)}: {own_prior(task, kind)}, give {' and '.join(fits)}, or {typed('-G', 'mismatch', 'allow')}"
        )
