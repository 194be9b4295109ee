"""An official StyleGAN-XL network file becomes a prior folder; nothing in the file is executed (`pickles`)."""

from __future__ import annotations

from pathlib import Path

from ld3m_plugin.errors import PriorError
from ld3m_plugin.generators.glad.gan_folder import empty_network, fill, load_network, save_network
from ld3m_plugin.generators.glad.pickles.network import read_network
from ld3m_plugin.priors.classes import imagenet_classes, read_classes
from ld3m_plugin.priors.prior_json import PriorClass, PriorFacts, converted_from


def convert(
    source: Path,
    out: Path,
    *,
    classes: Path | None = None,
    note: str | None = None,
    licence: str | None = None,
    half: bool = False,
) -> None:
    """Write the prior folder of a network file.

    Args:
        source: a .pkl file of StyleGAN-XL; its averaged generator `G_ema` is taken.
        out: the folder to write, complete or not at all.
        classes: a file of class names (`priors.classes.read_classes`); without it 1,000 classes are ImageNet's, others numbered.
        note: where the file is from; its name and SHA-256 are always recorded.
        licence: of the weights.
        half: store weights in half precision.

    Raises:
        PriorError: the file asks for what no network needs, is damaged, or is of another kind of network.
    """
    shape, tensors = read_network(source)
    fill(empty_network(shape), tensors, str(source))
    names = _class_names(shape.classes, classes, source)
    save_network(out, shape, tensors, PriorFacts(names, None, converted_from(source, note), licence), half=half)
    load_network(out)  # what was written must be readable: anything that was not foreseen ends here, and not in a run


def _class_names(count: int, listed: Path | None, source: Path) -> tuple[PriorClass, ...]:
    if listed is None:
        return imagenet_classes() if count == 1000 else tuple(PriorClass(f"class {row}") for row in range(count))
    if count == 0:
        raise PriorError(f"{source} is unconditional, so {listed} cannot name its classes: leave it out")
    names = read_classes(listed)
    if len(names) != count:
        raise PriorError(
            f"{listed} names {len(names)} classes, and {source} has {count}: one name a line, in row order"
        )
    return names
