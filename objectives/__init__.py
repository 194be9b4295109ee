"""The built-in objectives: images in, gradient out. One file or folder each; listing them imports none of them."""

from ld3m_plugin.hookspecs import hookimpl
from ld3m_plugin.plugins import Register


@hookimpl
def register_objectives(register: Register) -> None:
    """Register the built-in objectives by import path."""
    register("dc", "ld3m_plugin.objectives.dc.objective:DC", summary="gradient matching (Zhao, Mopuri and Bilen, 2021)")
    register("dm", "ld3m_plugin.objectives.dm:DM", summary="distribution matching (Zhao and Bilen, 2023)")
    register(
        "mtt",
        "ld3m_plugin.objectives.mtt.objective:MTT",
        summary="matching training trajectories (Cazenavette et al., 2022)",
    )
