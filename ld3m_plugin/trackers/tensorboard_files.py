"""TensorBoard: `tensorboard/` in the run folder, opened with `tensorboard --logdir runs`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ld3m_plugin.contracts import Tracker
from ld3m_plugin.plain_yaml import dump_yaml
from ld3m_plugin.storage import needed
from ld3m_plugin.trackers.shown_records import DisplayOptions, one_picture, scalars

if TYPE_CHECKING:
    from torch import Tensor
    from torch.utils.tensorboard import SummaryWriter

FOLDER = "tensorboard"


class TensorBoard(Tracker):
    """Writes event files: numbers, the settings as text, and pictures of the set."""

    Options = DisplayOptions

    def start(self, folder: Path, config: Mapping[str, Any]) -> None:
        needed("tensorboard", "tensorboard", "the tracker tensorboard")
        self._folder, self._config = folder / FOLDER, config
        self._opened: SummaryWriter | None = None

    def _writer(self, step: int) -> SummaryWriter:
        if self._opened is None:
            from torch.utils.tensorboard import SummaryWriter

            # A run that goes on makes steps again that a killed one had logged.
            self._opened = SummaryWriter(str(self._folder), purge_step=step)
            self._opened.add_text("settings", f"```yaml\n{dump_yaml(self._config)}```", step)
        return self._opened

    def log(self, record: Mapping[str, Any]) -> None:
        writer = self._writer(record["step"])
        for name, value in scalars(record).items():
            writer.add_scalar(name, value, record["step"])

    def log_images(self, step: int, pictures: Tensor, labels: Tensor, class_names: tuple[str, ...]) -> None:
        import numpy as np

        picture = np.asarray(one_picture(pictures, labels, class_names))
        self._writer(step).add_image("set", picture, step, dataformats="HWC" if picture.ndim == 3 else "HW")

    def finish(self) -> None:
        if self._opened is not None:
            self._opened.close()
