"""Convert official StyleGAN-XL network files to prior folders; nothing in a file is executed (`pickles`)."""

from __future__ import annotations

from pathlib import Path

from ld3m_plugin.errors import PriorError
from ld3m_plugin.generators.glad.gan_folder import load_network, save_network
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
        classes: file of class names (`priors.classes.read_classes`); default: ImageNet's for 1,000 classes, else numbers.
        note: where the file is from; its name and SHA-256 are always recorded.
        licence: of the weights.
        half: store weights in half precision.

    Raises:
        PriorError: the file is damaged, contains code, or holds another kind of network; or `classes` does not fit.
    """
    shape, tensors = read_network(source)
    if classes is not None:
        names = read_classes(classes)
    elif shape.classes == 1000:
        names = imagenet_classes()
    else:
        names = tuple(PriorClass(f"class {row}") for row in range(shape.classes))
    if len(names) != shape.classes:
        raise PriorError(
            f"{classes} names {len(names)} classes, {source} has {shape.classes}: give one name a line, in row order, or "
            "leave out classes"
        )
    save_network(out, shape, tensors, PriorFacts(names, None, converted_from(source, note), licence), half=half)
    load_network(out)  # an error that nothing above caught shows here, and not in a run
