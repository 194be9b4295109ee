"""The configuration of a run: its parts, how files, presets and flags compose, and what of it decides the images."""

from __future__ import annotations

from ld3m_plugin.config.completing import completed
from ld3m_plugin.config.composing import assign, merge, parse_assignment, read_layer, resolve
from ld3m_plugin.config.decisive_settings import decisive, digest, former_digest
from ld3m_plugin.config.schema import (
    DataConfig,
    EvaluationConfig,
    GeneratorConfig,
    ObjectiveConfig,
    OptimizerConfig,
    Rate,
    RunConfig,
    TrackerConfig,
    changed,
    dump,
)

__all__ = [
    "DataConfig",
    "EvaluationConfig",
    "GeneratorConfig",
    "ObjectiveConfig",
    "OptimizerConfig",
    "Rate",
    "RunConfig",
    "TrackerConfig",
    "assign",
    "changed",
    "completed",
    "decisive",
    "digest",
    "dump",
    "former_digest",
    "merge",
    "parse_assignment",
    "read_layer",
    "resolve",
]
