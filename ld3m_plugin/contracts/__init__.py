"""The contracts between the host and its plugins.

Shape notation, used everywhere: N = K·I synthetic images (K classes, I images per class, ordered by class), C channels,
H×W pixels, L×h×w a latent grid, F features. Images are float32 and **normalised** with the task's mean and std at every
boundary. The boundary between the two plugin kinds is the gradient with respect to the images: a generator never learns
which objective asked, an objective never learns where images come from.

Names are imported on first use: a module of options that takes `Options` from here imports no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ld3m_plugin import moved

if TYPE_CHECKING:
    from ld3m_plugin.contracts.generator_contract import Generator, Initialiser, RenderPlan
    from ld3m_plugin.contracts.latent_tensors import Latents
    from ld3m_plugin.contracts.network_contract import Network, Tracker
    from ld3m_plugin.contracts.objective_contract import DifferentiableObjective, Match, Objective
    from ld3m_plugin.images.image_options import DataOptions, FileOptions, ImageOptions
    from ld3m_plugin.launchers.launcher import Job, Launcher
    from ld3m_plugin.options import BackendOptions, Options, Place, RatedOptions, takes
    from ld3m_plugin.priors.contract import PriorKind, TrainingReporter
    from ld3m_plugin.task import ImagesByClass, Task

_HERE = "ld3m_plugin.contracts"
_HOMES = {
    **dict.fromkeys(("Generator", "Initialiser", "RenderPlan"), f"{_HERE}.generator_contract"),
    "Latents": f"{_HERE}.latent_tensors",
    **dict.fromkeys(("Network", "Tracker"), f"{_HERE}.network_contract"),
    **dict.fromkeys(("DifferentiableObjective", "Match", "Objective"), f"{_HERE}.objective_contract"),
    **dict.fromkeys(("DataOptions", "FileOptions", "ImageOptions"), "ld3m_plugin.images.image_options"),
    **dict.fromkeys(("Job", "Launcher"), "ld3m_plugin.launchers.launcher"),
    **dict.fromkeys(("BackendOptions", "Options", "Place", "RatedOptions", "takes"), "ld3m_plugin.options"),
    **dict.fromkeys(("PriorKind", "TrainingReporter"), "ld3m_plugin.priors.contract"),
    **dict.fromkeys(("ImagesByClass", "Task"), "ld3m_plugin.task"),
}

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
    "RatedOptions",
    "RenderPlan",
    "Task",
    "Tracker",
    "TrainingReporter",
    "takes",
]

__getattr__ = moved.lazy(__name__, _HOMES)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
