"""Dataset distillation with pluggable generators and objectives.

Names are imported on first use, so that `import ld3m_plugin` costs nothing and plugin modules can take `hookimpl` from here
without importing torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ld3m_plugin import moved
from ld3m_plugin.hookspecs import hookimpl

if TYPE_CHECKING:
    from ld3m_plugin.artefact.distilled_set import DistilledSet
    from ld3m_plugin.backends import get_generator, get_objective
    from ld3m_plugin.config import RunConfig
    from ld3m_plugin.contracts import (
        DifferentiableObjective,
        Generator,
        Initialiser,
        Latents,
        Match,
        Network,
        Objective,
        PriorKind,
        Tracker,
        TrainingReporter,
    )
    from ld3m_plugin.data.load import load_task
    from ld3m_plugin.distillation.loop import distill
    from ld3m_plugin.distillation.step_record import Step
    from ld3m_plugin.evaluation import evaluate
    from ld3m_plugin.images.image_options import DataOptions
    from ld3m_plugin.networks.build import get_network
    from ld3m_plugin.synthetic.module import Synthetic
    from ld3m_plugin.synthetic.own_generator import ModuleGenerator
    from ld3m_plugin.task import ImagesByClass, Task

__version__ = "0.1.0"

_HOMES = {
    "DataOptions": "ld3m_plugin.images.image_options",
    "DifferentiableObjective": "ld3m_plugin.contracts",
    "DistilledSet": "ld3m_plugin.artefact.distilled_set",
    "Generator": "ld3m_plugin.contracts",
    "ImagesByClass": "ld3m_plugin.task",
    "Initialiser": "ld3m_plugin.contracts",
    "Latents": "ld3m_plugin.contracts",
    "Match": "ld3m_plugin.contracts",
    "ModuleGenerator": "ld3m_plugin.synthetic.own_generator",
    "Network": "ld3m_plugin.contracts",
    "Objective": "ld3m_plugin.contracts",
    "PriorKind": "ld3m_plugin.contracts",
    "RunConfig": "ld3m_plugin.config",
    "Step": "ld3m_plugin.distillation.step_record",
    "Synthetic": "ld3m_plugin.synthetic.module",
    "Task": "ld3m_plugin.task",
    "Tracker": "ld3m_plugin.contracts",
    "TrainingReporter": "ld3m_plugin.contracts",
    "distill": "ld3m_plugin.distillation.loop",
    "evaluate": "ld3m_plugin.evaluation",
    "get_generator": "ld3m_plugin.backends",
    "get_network": "ld3m_plugin.networks.build",
    "get_objective": "ld3m_plugin.backends",
    "load_task": "ld3m_plugin.data.load",
}

__all__ = [
    "DataOptions",
    "DifferentiableObjective",
    "DistilledSet",
    "Generator",
    "ImagesByClass",
    "Initialiser",
    "Latents",
    "Match",
    "ModuleGenerator",
    "Network",
    "Objective",
    "PriorKind",
    "RunConfig",
    "Step",
    "Synthetic",
    "Task",
    "Tracker",
    "TrainingReporter",
    "distill",
    "evaluate",
    "get_generator",
    "get_network",
    "get_objective",
    "hookimpl",
    "load_task",
]


moved.install()


__getattr__ = moved.lazy(__name__, _HOMES)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
