"""The built-in trackers, which receive every record of a run. Listing them imports none of them."""

from ld3m_plugin.hookspecs import Register, hookimpl


@hookimpl
def register_trackers(register: Register) -> None:
    """Register the built-in tracker."""
    register("jsonl", "ld3m_plugin.trackers.jsonl:JsonLines", summary="metrics.jsonl in the run folder (always on)")
