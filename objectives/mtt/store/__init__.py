"""The expert store: trajectories of networks trained on real images, written once and read row by row."""

from ld3m_plugin.objectives.mtt.store.expert_settings import ExpertSettings
from ld3m_plugin.objectives.mtt.store.stored_experts import StoredExperts, open_experts

__all__ = ["ExpertSettings", "StoredExperts", "open_experts"]
