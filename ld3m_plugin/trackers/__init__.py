"""The built-in trackers, which receive every record of a run. Listing them imports none of them."""

from ld3m_plugin.hookspecs import Register, hookimpl


@hookimpl
def register_trackers(register: Register) -> None:
    """Register the built-in trackers; all but the first need an extra."""
    register("jsonl", "ld3m_plugin.trackers.jsonl:JsonLines", summary="metrics.jsonl in the run folder (always on)")
    register(
        "tensorboard",
        "ld3m_plugin.trackers.tensorboard_files:TensorBoard",
        summary="event files of TensorBoard (needs the extra [tensorboard])",
    )
    register(
        "trackio",
        "ld3m_plugin.trackers.trackio_runs:Trackio",
        summary="Trackio, on this machine (needs the extra [trackio])",
    )
    register(
        "wandb",
        "ld3m_plugin.trackers.wandb_runs:WeightsAndBiases",
        summary="Weights & Biases, offline (needs the extra [wandb])",
    )
