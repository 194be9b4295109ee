"""The built-in objectives: images in, gradient out. One file or folder each; listing them imports none of them."""

from ld3m_plugin.hookspecs import Register, hookimpl


@hookimpl
def register_objectives(register: Register) -> None:
    """Register the built-in objectives by import path."""
    register(
        "dc",
        "ld3m_plugin.objectives.dc.dc_objective:DC",
        summary="gradient matching (Zhao, Mopuri and Bilen, 2021)",
        options="ld3m_plugin.objectives.dc.dc_options:DCOptions",
    )
    register(
        "dm",
        "ld3m_plugin.objectives.dm:DM",
        summary="distribution matching (Zhao and Bilen, 2023)",
        options="ld3m_plugin.objectives.matching_options:MatchingOptions",
    )
    register(
        "mtt",
        "ld3m_plugin.objectives.mtt.mtt_objective:MTT",
        summary="matching training trajectories (Cazenavette et al., 2022)",
        options="ld3m_plugin.objectives.mtt.mtt_options:MTTOptions",
    )


@hookimpl
def register_commands(register: Register) -> None:
    """Register `ld3m experts`, which trains, imports and lists the experts of trajectory matching."""
    register(
        "experts",
        "ld3m_plugin.objectives.mtt.commands:app",
        summary="Expert trajectories for trajectory matching (MTT).",
    )
