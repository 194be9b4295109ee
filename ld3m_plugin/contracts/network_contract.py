"""Networks that compare images or are tested, and trackers, which receive the records of a run."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor, nn

from ld3m_plugin.contracts.backend_bases import WithOptions
from ld3m_plugin.errors import InvalidOptionError
from ld3m_plugin.options import BackendOptions


class Network(nn.Module):
    """A classifier as objectives and evaluation use it. `forward` gives logits (N, K).

    It is built as `cls(channels=C, image_size=H, num_classes=K, **settings)`. `Options` states the settings, for help texts; None
    where the constructor's own parameters do.
    """

    Options: ClassVar[type[BackendOptions] | None] = None
    #: What messages call it: its registered name and distribution, which `get_network` fills in.
    called: str = ""

    def embed(self, images: Tensor) -> Tensor:
        """Features (N, F) that enter the last linear layer, of images (N, C, H, W)."""
        raise InvalidOptionError(
            f"{self.called or type(self).__name__} gives no features: an objective that compares features needs a network that "
            "has embed(); choose another"
        )


class Tracker(WithOptions, ABC):
    """Receives every record of a run. Errors it raises are reported once and never stop the run."""

    @abstractmethod
    def start(self, folder: Path, config: Mapping[str, Any]) -> None:
        """Called once, with the run folder and the resolved configuration."""

    @abstractmethod
    def log(self, record: Mapping[str, Any]) -> None:
        """One record: `step`, and numbers by name."""

    def images_every(self) -> int:
        """Steps between pictures of the set; 0: none. Default: the option `images_every`, if the tracker has it."""
        return int(getattr(getattr(self, "options", None), "images_every", 0))

    def log_images(self, step: int, pictures: Tensor, labels: Tensor, class_names: tuple[str, ...]) -> None:
        """Pictures of the set after `step`: some of each class, where not all can be shown.

        Args:
            pictures: (n, C, H, W) in [0, 1], on the CPU.
            labels: class indices (n,).
            class_names: K names, in label order.
        """

    def finish(self) -> None:
        """Called once after the last record, also when a run failed."""
