"""Open the network that a generator renders with: shipped, from a folder, or with random weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ld3m_plugin.errors import InvalidOptionError, PriorError, nearest
from ld3m_plugin.generators.glad.gan_files import SHAPE
from ld3m_plugin.generators.glad.gan_files import SHIPPED as SHIPPED
from ld3m_plugin.generators.glad.gan_folder import digest, load_network, read_facts, read_shape
from ld3m_plugin.generators.glad.glad_options import GLaDOptions
from ld3m_plugin.generators.glad.stylegan_network import GeneratorNetwork
from ld3m_plugin.generators.glad.stylegan_shape import NetworkShape, make_shape
from ld3m_plugin.priors.classes import imagenet_classes
from ld3m_plugin.priors.prior_json import PriorFacts
from ld3m_plugin.priors.shipped import find_shipped
from ld3m_plugin.randomness import lent_to_global, stream
from ld3m_plugin.task import Task

#: Resolutions of the official ImageNet networks, whose shape is known without a file.
IMAGENET = {"imagenet-128": 128, "imagenet-256": 256}
_STEM = 16  # pixels
_MEAN_OF = 200  # random vectors for the mean style of each class


def imagenet_shape(resolution: int) -> NetworkShape:
    """Derive the shape of StyleGAN-XL for ImageNet at 128 or 256 pixels.

    Source: Sauer et al., section 3.2: a stem of 11 layers at 16 pixels; every doubling replaces the last
    3 by 8 new ones, the last one to RGB. Widths are 65,536 over twice the cutoff, at most 1,024, as in the layer names of
    networks that the official code trains.

    >>> [len(imagenet_shape(size).layers) for size in (16, 32, 128, 256)]
    [11, 16, 26, 31]
    """
    doublings = tuple(_STEM * 2**index for index in range((resolution // _STEM).bit_length()))
    return make_shape(
        resolutions=doublings, stem_layers=10, head_layers=7, classes=1000, channel_base=65536, channel_max=1024
    )


def open_network(options: GLaDOptions, task: Task) -> tuple[GeneratorNetwork, PriorFacts, dict[str, str]]:
    """Load or initialise a network on the task's device.

    Returns:
        The frozen network, the facts about its classes, and its provenance for the run's record.

    Raises:
        PriorError: there is no such network, or it is damaged.
        InvalidOptionError: an official network without weights, unless `weights=random`.
    """
    if options.weights == "random":
        return _random(options, task)
    folder = find_network(options.network, task)
    network, facts = load_network(folder, task.device)
    provenance = {"prior": options.network, "prior_sha256": digest(folder), "prior_source": facts.source}
    return network.freeze(), facts, provenance | ({"prior_licence": facts.licence} if facts.licence else {})


def _random(options: GLaDOptions, task: Task) -> tuple[GeneratorNetwork, PriorFacts, dict[str, str]]:
    digests = {}
    if options.network in IMAGENET:
        shape, facts = imagenet_shape(IMAGENET[options.network]), PriorFacts(imagenet_classes())
    else:
        folder = find_network(options.network, task)
        shape = read_shape(folder)
        facts, digests = read_facts(folder, shape), {"network_sha256": digest(folder)}
    if options.unconditional:
        shape, facts = replace(shape, classes=0, embed_dim=0), PriorFacts()
    with lent_to_global(stream(options.weights_seed, "random network")):
        network = GeneratorNetwork(shape)
    network.mapping.set_mean_styles(stream(options.weights_seed, "mean styles"), _MEAN_OF)
    provenance = {"prior": options.network, "prior_source": f"random weights, seed {options.weights_seed}"}
    return network.to(task.device).freeze(), facts, provenance | digests


def find_network(name: str, task: Task | None = None) -> Path:
    """Find the folder of a network.

    Args:
        task: `embedded` is the shipped network that was trained on its data set, else that of Fashion-MNIST.

    Raises:
        PriorError: there is no such folder, or it is not one of a GAN.
        InvalidOptionError: the name of an official network, whose weights are not shipped.
    """
    if shipped := find_shipped(name, task, SHIPPED):
        return shipped
    if name in IMAGENET:
        raise InvalidOptionError(
            f"network {name!r} is shipped without weights: give weights=random, or convert the official file with `ld3m prior "
            "convert NETWORK.pkl FOLDER` and give network=FOLDER"
        )
    path = Path(name).expanduser()
    if path.is_file():
        raise PriorError(f"{path} is a file, not a prior folder: type `ld3m prior convert {path} FOLDER` to make one")
    if not path.is_dir():
        raise PriorError(f"there is no prior folder {name}; {nearest(name, [*SHIPPED, *IMAGENET])}")
    if not (path / SHAPE).is_file():
        raise PriorError(f"{path} is not a GAN prior: it has no {SHAPE}")
    return path
