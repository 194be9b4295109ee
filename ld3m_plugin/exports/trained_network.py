"""One network that is trained on a distilled set, as a file of weights."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ld3m_plugin.artefact.distilled_set import DistilledSet
from ld3m_plugin.contracts import Network, Task
from ld3m_plugin.data.identity import whitening_facts
from ld3m_plugin.evaluation.evaluating import check_evaluation, check_fits
from ld3m_plugin.evaluation.protocols import Protocol, get_protocol
from ld3m_plugin.evaluation.same_data import check_labels
from ld3m_plugin.evaluation.train_network import accuracy, train
from ld3m_plugin.networks.build import network_for
from ld3m_plugin.randomness import stream
from ld3m_plugin.storage import complete_file, write_tensors


@dataclass(frozen=True)
class TrainedNetwork:
    """A network, how it was made, and how well it does.

    Attributes:
        accuracy: on the test images, in percent.
        settings: of `get_network`, with which an untrained one is built.
    """

    network: Network
    name: str
    settings: dict[str, Any]
    protocol: Protocol
    seed: int
    accuracy: float
    task: Task

    def save(self, path: Path) -> None:
        """Write the weights as safetensors; the header says the network, its settings, the classes, mean, std and accuracy."""
        facts = {
            "network": self.name,
            "settings": json.dumps(self.settings),
            "class_names": json.dumps(self.task.class_names),
            "mean": json.dumps(self.task.mean),
            "std": json.dumps(self.task.std),
            **{name: json.dumps(fact) for name, fact in whitening_facts(self.task).items()},
            "protocol": self.protocol.model_dump_json(),
            "seed": str(self.seed),
            "accuracy": f"{self.accuracy:.4f}",
        }
        with complete_file(path) as temporary:
            write_tensors(temporary, self.network.state_dict(), facts)


def check_network(distilled: DistilledSet, task: Task, name: str, protocol: str | Mapping[str, Any]) -> Protocol:
    """Raise what `train_on` would raise, before its work; returns the recipe, with a rate that was learned with the images.

    Raises:
        HostError: an unknown network or protocol, or images, labels or classes that do not fit the task.
    """
    check_fits(distilled, task)
    check_labels(distilled.metadata, task)
    recipe = get_protocol(protocol).for_images(distilled.learned)
    check_evaluation(task, recipe, (name,), 0)
    return recipe


def train_on(
    distilled: DistilledSet, task: Task, name: str, *, protocol: str | Mapping[str, Any] = "quick", seed: int = 0
) -> TrainedNetwork:
    """Train one network on a distilled set and test it: the first of the networks that `evaluate` trains at this seed.

    Args:
        name: a registered architecture.
        protocol: the training recipe.

    Raises:
        HostError: as `check_network`.
    """
    recipe = check_network(distilled, task, name, protocol)
    rng, settings = stream(seed, "evaluation", name, 0), recipe.network_settings.get(name, {})
    network = network_for(task, name, settings, rng)
    images, labels = distilled.images.to(task.device), distilled.labels.to(task.device)
    trained = train(network, images, labels, recipe, recipe.rate(name), rng)
    shape = {key: getattr(task, key) for key in ("channels", "image_size", "num_classes")}
    return TrainedNetwork(trained, name, {**shape, **settings}, recipe, seed, accuracy(trained, task), task)
