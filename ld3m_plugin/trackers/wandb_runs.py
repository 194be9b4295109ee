"""Weights & Biases: `wandb/` in the run folder, without network unless asked for; `wandb sync` uploads it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from ld3m_plugin.contracts import Tracker
from ld3m_plugin.storage import needed
from ld3m_plugin.trackers.shown_records import ProjectOptions, one_picture, run_name, scalars

if TYPE_CHECKING:
    from torch import Tensor


class WandbOptions(ProjectOptions):
    """Options of the tracker wandb."""

    mode: Literal["offline", "online"] = Field(
        "offline",
        description="`offline` keeps all in the run folder; `online` sends it to the account of `wandb login`",
    )


class WeightsAndBiases(Tracker):
    """A run of Weights & Biases: numbers, settings and pictures of the set. A run that goes on is another run of its group."""

    Options = WandbOptions

    def start(self, folder: Path, config: Mapping[str, Any]) -> None:
        self._wandb: Any = needed("wandb", "wandb", "the tracker wandb")
        # What it would record of this machine and of the program's output and source code is left out.
        settings = self._wandb.Settings(
            silent=True,
            console="off",
            disable_git=True,
            disable_code=True,
            disable_job_creation=True,
            x_disable_stats=True,
            x_disable_meta=True,
        )
        self._run = self._wandb.init(
            project=self.options.project,
            name=folder.name,
            group=run_name(folder),
            dir=str(folder),
            config=dict(config),
            mode=self.options.mode,
            settings=settings,
        )

    def log(self, record: Mapping[str, Any]) -> None:
        self._run.log(scalars(record), step=record["step"])

    def log_images(self, step: int, pictures: Tensor, labels: Tensor, class_names: tuple[str, ...]) -> None:
        self._run.log({"set": self._wandb.Image(one_picture(pictures, labels, class_names))}, step=step)

    def finish(self) -> None:
        self._run.finish()
