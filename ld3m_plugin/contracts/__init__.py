"""The contracts between the host and its plugins.

Shape notation, used everywhere: N = K·I synthetic images (K classes, I images per class, ordered by class), C channels,
H×W pixels, L×h×w a latent grid, F features. Images are float32 and **normalised** with the task's mean and std at every
boundary. The boundary between the two plugin kinds is the gradient with respect to the images: a generator never learns
which objective asked, an objective never learns where images come from.
"""

from __future__ import annotations

from typing import Any

from ld3m_plugin import moved
from ld3m_plugin.contracts.generator_contract import Generator, Initialiser, RenderPlan
from ld3m_plugin.contracts.latent_tensors import Latents
from ld3m_plugin.contracts.network_contract import Network, Tracker
from ld3m_plugin.contracts.objective_contract import DifferentiableObjective, Match, Objective
from ld3m_plugin.launchers.launcher import Job, Launcher
from ld3m_plugin.options import BackendOptions, Options, Place, takes
from ld3m_plugin.priors.contract import PriorKind, TrainingReporter
from ld3m_plugin.task import DataOptions, FileOptions, ImageOptions, ImagesByClass, Task

__all__ = [
    "BackendOptions",
    "DataOptions",
    "DifferentiableObjective",
    "FileOptions",
    "Generator",
    "ImageOptions",
    "ImagesByClass",
    "Initialiser",
    "Job",
    "Latents",
    "Launcher",
    "Match",
    "Network",
    "Objective",
    "Options",
    "Place",
    "PriorKind",
    "RenderPlan",
    "Task",
    "Tracker",
    "TrainingReporter",
    "takes",
]


def __getattr__(name: str) -> Any:
    return moved.renamed(__name__, name)
