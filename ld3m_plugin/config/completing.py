"""A configuration with all its defaults written out, as a run records it."""

from __future__ import annotations

from typing import Any

from ld3m_plugin.config.located import located
from ld3m_plugin.config.schema import RunConfig, TrackerConfig
from ld3m_plugin.options import recorded


def completed(config: RunConfig) -> RunConfig:
    """Write out all options of the backends, learning rates, networks and repeats, so that the run stays the same when a later
    version has other defaults, and make paths absolute, so that it goes on from any folder.

    Raises:
        UsageError: an unknown name, option or value.
    """
    from ld3m_plugin.backends import complete_options, rates_of
    from ld3m_plugin.data.data_settings import absolute_data
    from ld3m_plugin.evaluation.protocols import get_protocol
    from ld3m_plugin.registry import current_registry

    registry, recipe = current_registry(), config.evaluation.protocol
    with located("evaluation", "protocol"):
        protocol = get_protocol(recipe)
    trackers = tuple(map(_completed_tracker, config.trackers))
    networks = config.evaluation.networks or protocol.networks
    with located("evaluation", "networks"):
        for network in networks:
            registry.find("network", network)
    with located("data"):
        data = absolute_data(config.data.name, config.data.options)
    with located("generator"):
        generator = complete_options("generator", config.generator.name, config.generator.options)
    with located("objective"):
        objective = complete_options("objective", config.objective.name, config.objective.options)
    defaults = (
        rates_of(config.generator.name, config.generator.options, config.objective.name)
        if config.optimizer.name == "adam"
        else {}
    )
    rates = {**defaults, **config.optimizer.learning_rates}
    changes: dict[str, dict[str, Any]] = {
        "data": data,
        "generator": {"options": recorded(generator)},
        "objective": {"options": recorded(objective)},
        "optimizer": {"learning_rates": rates},
        "evaluation": {
            # A recipe that is not registered is recorded whole: its file may change.
            "protocol": recipe if recipe == protocol.name else protocol.model_dump(mode="json"),
            "networks": networks,
            "repeats": config.evaluation.repeats or protocol.repeats,
        },
    }
    parts = {part: getattr(config, part).model_copy(update=change) for part, change in changes.items()}
    return config.model_copy(update={**parts, "trackers": trackers})


def _completed_tracker(tracker: TrackerConfig) -> TrackerConfig:
    from ld3m_plugin.backends import tracker_options
    from ld3m_plugin.registry import current_registry

    current_registry().find("tracker", tracker.name)
    if not tracker.options:  # its class is left to the run: whatever is wrong with a tracker stops no run
        return tracker
    return tracker.model_copy(update={"options": recorded(tracker_options(tracker.name, tracker.options))})
