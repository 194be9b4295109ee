"""The expert store: trajectories of networks trained on real images, written once and read row by row."""

from ld3m_plugin.objectives.mtt.store.experts import StoredExperts, open_experts
from ld3m_plugin.objectives.mtt.store.settings import ExpertSettings

__all__ = ["ExpertSettings", "StoredExperts", "open_experts"]
