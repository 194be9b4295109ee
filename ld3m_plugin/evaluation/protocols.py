"""Named training recipes for evaluation. Every result stores its whole recipe, so that results of different recipes are
never compared by mistake."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, PositiveFloat

from ld3m_plugin.augmentation import FULL
from ld3m_plugin.backends import conforming
from ld3m_plugin.errors import UsageError
from ld3m_plugin.options import GrownOptions, build
from ld3m_plugin.plain_yaml import read_yaml
from ld3m_plugin.registry import current_registry

#: Name of a learned learning rate in `Objective.learned` and in the artefact's metadata.
LEARNED_RATE = "synthetic_learning_rate"


class Protocol(GrownOptions):
    """A training recipe for the networks that are tested."""

    read_later = frozenset({"network_settings"})
    added = frozenset({"gradient_clip"})

    name: str
    summary: str
    source: str
    networks: tuple[str, ...] = Field(min_length=1, description="architectures, in the order of the table")
    network_settings: dict[str, dict[str, Any]] = Field(default_factory=dict, description="by architecture")
    repeats: int = Field(ge=1, description="networks trained for each row of the table")
    epochs: int = Field(ge=1)
    batch_size: int = Field(ge=1)
    learning_rate: float = Field(gt=0)
    learning_rates: dict[str, PositiveFloat] = Field(default_factory=dict, description="exceptions, by architecture")
    learned_rate: bool = Field(
        False, description="the images' own synthetic learning rate takes the place of learning_rate"
    )
    momentum: float = Field(0.9, ge=0, lt=1)
    weight_decay: float = Field(5e-4, ge=0)
    warmup_epochs: int = Field(0, ge=0, description="linear from 1e-7 of the rate, before the schedule")
    schedule: Literal["cosine", "drop"] = Field(
        "cosine", description="half a cosine to zero, or a tenth of the rate from half time on"
    )
    ema: float | None = Field(
        None, gt=0, lt=1, description="decay of a weight average updated once an epoch; it is tested"
    )
    dsa: str = Field(description="augmentation of the training images, one draw an image and step")
    optimizer: Literal["sgd"] = "sgd"
    gradient_clip: PositiveFloat | None = Field(
        None,
        description="largest L2 norm of a step's gradient; larger ones are scaled down to it (Pascanu et al., ICML 2013)",
    )

    def rate(self, network: str) -> float:
        """Return the learning rate of one architecture."""
        return self.learning_rates.get(network, self.learning_rate)

    def for_images(self, learned: Mapping[str, float]) -> Self:
        """Fill in the learned rate of images that were distilled with the values `learned`, if the protocol wants one.

        Raises:
            UsageError: the protocol wants a learned rate and `learned` has none.
        """
        if not self.learned_rate:
            return self
        check_learned(self, learned)
        return self.model_copy(update={"learning_rate": learned[LEARNED_RATE]})


def check_learned(protocol: Protocol, learned: Iterable[str]) -> None:
    """Raise `UsageError` if the protocol wants a learned rate, and it is not among the names in `learned`."""
    if protocol.learned_rate and LEARNED_RATE not in learned:
        raise UsageError(
            f"protocol {protocol.name!r} trains at a learning rate that was learned with the images, and these have none "
            "(distill with an objective that learns one): take the protocol dsa-2021 (--protocol dsa-2021), the same at a "
            "fixed rate, or another"
        )


GLAD_2023 = Protocol(
    name="glad-2023",
    summary="1000 epochs of SGD, linear warm-up then cosine, weight average, DSA, five architectures",
    source="Cazenavette et al., CVPR 2023, and the code of GLaD and LD3M",
    networks=("ConvNet", "AlexNet", "VGG11", "ResNet18", "ViT"),
    repeats=5,
    epochs=1000,
    batch_size=256,
    learning_rate=0.001,
    learning_rates={"VGG11": 0.0001},
    warmup_epochs=500,
    ema=0.995,
    dsa=FULL,
)

DSA_2021 = Protocol(
    name="dsa-2021",
    summary="1000 epochs of SGD at 0.01, a tenth of it from half time on, DSA: the evaluation of DSA and DM",
    source="Zhao and Bilen, ICML 2021 and WACV 2023 (published with 20 networks a row)",
    networks=("ConvNet",),
    repeats=5,
    epochs=1000,
    batch_size=256,
    learning_rate=0.01,
    schedule="drop",
    dsa=FULL,
)

DC_2021 = DSA_2021.model_copy(
    update={
        "name": "dc-2021",
        "summary": "as dsa-2021, for 300 epochs and without augmentation: the evaluation of DC",
        "source": "Zhao, Mopuri and Bilen, ICLR 2021, and its code (published with 20 networks a row; MNIST was augmented)",
        "epochs": 300,
        "dsa": "none",
    }
)

MTT = DSA_2021.model_copy(
    update={
        "name": "mtt",
        "summary": "as dsa-2021, at the learning rate that MTT learned with the images (for random real images as well)",
        "source": "Cazenavette et al., CVPR 2022, and its code",
        "learned_rate": True,
    }
)

QUICK = Protocol(
    name="quick",
    summary="200 epochs of SGD at 0.01 with cosine decay, DSA, two architectures: minutes on two cores",
    source="this project; for a first look, not for a paper",
    networks=("ConvNet", "AlexNet"),
    repeats=3,
    epochs=200,
    batch_size=256,
    learning_rate=0.01,
    learning_rates={"VGG11": 0.0003, "ViT": 0.001},  # at 0.01 they stay at chance on ten images
    dsa=FULL,
)

UNSEEN = Protocol(
    name="unseen",
    summary="200 epochs of SGD with cosine decay, DSA, four cheap architectures that no distillation uses by default",
    source="this project; rates: docs/networks.md",
    networks=("MLP", "SmallViT", "MaxConvNet", "ResNet8"),
    repeats=3,
    epochs=200,
    batch_size=256,
    learning_rate=0.01,
    learning_rates={"SmallViT": 0.005, "MaxConvNet": 0.005, "ResNet8": 0.03, "VGG11": 0.0003, "ViT": 0.001},
    dsa=FULL,
)

#: The built-in protocols by name; plugins register more.
PROTOCOLS = {protocol.name: protocol for protocol in (GLAD_2023, DSA_2021, DC_2021, MTT, QUICK, UNSEEN)}


def _registered(name: str) -> Protocol:
    return conforming("protocol", name, current_registry().resolve("protocol", name), Protocol)


def _like_another(fields: Mapping[str, Any], owner: str) -> Mapping[str, Any]:
    """The fields, over those of the protocol that `like` names, where there is one."""
    if "like" not in fields:
        return fields
    given = {field: value for field, value in fields.items() if field != "like"}
    if not isinstance(fields["like"], str):
        raise UsageError(
            f"{owner}: like = {fields['like']!r}: give the name of a protocol (`ld3m protocols` lists them)"
        )
    base = _registered(fields["like"]).model_dump()
    for field in ("learning_rates", "network_settings"):
        if isinstance(given.get(field), Mapping):
            given[field] = {**base[field], **given[field]}
    # The base's own words would describe another recipe.
    words = {"summary": f"as {base['name']}, with other settings", "source": f"like {base['name']}"}
    return {**{field: value for field, value in base.items() if field != "name"}, **words, **given}


def get_protocol(name: str | Mapping[str, Any] | Protocol) -> Protocol:
    """Get a protocol by its registered name, from a YAML file, or from the fields of one.

    >>> short = get_protocol({"like": "quick", "name": "short", "epochs": 3, "learning_rates": {"VGG11": 1e-4}})
    >>> short.epochs, short.batch_size, short.rate("VGG11"), short.rate("ViT")
    (3, 256, 0.0001, 0.001)

    Args:
        name: a registered name; a path that ends in `.yaml` or `.yml`, whose file has the fields of a `Protocol` (default of
            `name`: that of the file); a mapping of the fields; or a `Protocol`. What a file or mapping lacks is that of the
            registered protocol that its field `like` names; `learning_rates` and `network_settings` are put over its own, by
            architecture.

    Raises:
        UsageError: an unknown name, or a file or mapping that is not a protocol.
        PluginLoadError: a plugin registered something else under the name.
    """
    registry, owner = current_registry(), "the protocol"
    if isinstance(name, Protocol):
        return name
    if isinstance(name, str) and name.endswith((".yaml", ".yml")):
        path, owner = Path(name), f"protocol {name}"
        name = {"name": path.stem, "summary": "", "source": path.name, **read_yaml(path)}
    if isinstance(name, str):
        return _registered(name)
    made = build(Protocol, _like_another(name, owner), owner)
    if made.name in registry.names("protocol") and registry.resolve("protocol", made.name) != made:
        raise UsageError(
            f"{owner} is called {made.name!r} like a registered one with other settings: give it another name"
        )
    return made
