"""Launchers: where the rows of a comparison run. `launcher.py` has the contract, `local.py` runs them on this machine,
`slurm.py` on a cluster."""

from __future__ import annotations

from ld3m_plugin.hookspecs import Register, hookimpl


@hookimpl
def register_launchers(register: Register) -> None:
    """Register the built-in launchers."""
    where = "ld3m_plugin.launchers"
    register("local", f"{where}.local:LocalLauncher", summary="processes on this machine, some at a time")
    register("slurm", f"{where}.slurm:SlurmLauncher", summary="array jobs of a SLURM cluster (needs the extra [slurm])")
