"""Every kind of input: how a valid one is made, and how it is read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fuzzing import artefact_inputs, data_inputs, pickle_inputs, prior_inputs, setting_inputs


@dataclass(frozen=True)
class Kind:
    """One kind of input.

    Attributes:
        make: write a valid input into the folder `input` of an empty folder; what lies beside `input` is never damaged.
        read: read the input at a path as a user's command would, and use what was read.
        leave: names of files that stay as they are: to change them asks for another run, which may be long.
    """

    make: Callable[[Path], None]
    read: Callable[[Path], None]
    leave: frozenset[str] = frozenset()


KINDS = {
    "config": Kind(setting_inputs.make_config, setting_inputs.read_config),
    "options": Kind(setting_inputs.make_options, setting_inputs.read_options),
    "protocol": Kind(setting_inputs.make_protocol, setting_inputs.read_protocol),
    "class-map": Kind(setting_inputs.make_class_map, setting_inputs.read_class_map),
    "class-list": Kind(setting_inputs.make_class_list, setting_inputs.read_class_list),
    "distilled": Kind(artefact_inputs.make_distilled, artefact_inputs.read_distilled),
    "latents": Kind(artefact_inputs.make_latents, artefact_inputs.read_latents),
    "published-set": Kind(artefact_inputs.make_published_set, artefact_inputs.read_published_set),
    "run": Kind(artefact_inputs.make_run, artefact_inputs.read_run, frozenset({"config.yaml"})),
    "experts": Kind(artefact_inputs.make_experts, artefact_inputs.read_experts),
    "buffer": Kind(artefact_inputs.make_buffer, artefact_inputs.read_buffer),
    "ldm": Kind(prior_inputs.make_ldm, prior_inputs.read_ldm),
    "gan": Kind(prior_inputs.make_gan, prior_inputs.read_gan),
    "stylegan": Kind(pickle_inputs.make_stylegan, pickle_inputs.read_conversion),
    "compvis": Kind(pickle_inputs.make_compvis, pickle_inputs.read_conversion),
    "cifar": Kind(pickle_inputs.make_cifar, pickle_inputs.read_cifar),
    "idx": Kind(data_inputs.make_idx, data_inputs.read_idx),
    "some-pictures": Kind(data_inputs.make_pictures, data_inputs.read_some_pictures),
    "pictures": Kind(data_inputs.make_pictures, data_inputs.read_pictures),
}
