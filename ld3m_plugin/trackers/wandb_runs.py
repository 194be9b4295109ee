"""Weights & Biases: `wandb/` in the run folder, without network unless asked for; `wandb sync` uploads it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from ld3m_plugin.storage import needed
from ld3m_plugin.trackers.shown_records import ProjectOptions, ProjectRuns, run_name


class WandbOptions(ProjectOptions):
    """Options of the tracker wandb."""

    mode: Literal["offline", "online"] = Field(
        "offline",
        description="`offline` keeps all in the run folder; `online` sends it to the account of `wandb login`",
    )


class WeightsAndBiases(ProjectRuns):
    """A run of Weights & Biases: numbers, settings and pictures of the set. A run that goes on is another run of its group."""

    Options = WandbOptions

    def start(self, folder: Path, config: Mapping[str, Any]) -> None:
        self._library = needed("wandb", "wandb", "the tracker wandb")
        # What it would record of this machine and of the program's output and source code is left out.
        settings = self._library.Settings(
            silent=True,
            console="off",
            disable_git=True,
            disable_code=True,
            disable_job_creation=True,
            x_disable_stats=True,
            x_disable_meta=True,
        )
        self._run = self._library.init(
            project=self.options.project,
            name=folder.name,
            group=run_name(folder),
            dir=str(folder),
            config=dict(config),
            mode=self.options.mode,
            settings=settings,
        )

    def finish(self) -> None:
        self._run.finish()
