"""Evaluation: test accuracy of networks trained on a distilled set, next to networks trained on random real images.

- `protocols`: named training recipes
- `test_images`: the test images, normalised once for all networks
- `train_network`: training one network, and its accuracy
- `group_sizes`, `stacked_networks`, `train_together`: training several networks of one architecture at once
- `evaluating`: the rows of a table
- `table`: the table and its record
- `divergence`: whether a training has failed
- `predictions`: what each network predicted, in a file beside the results

Listing plugins imports this module, so it imports no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ld3m_plugin import moved
from ld3m_plugin.hookspecs import Register, hookimpl

if TYPE_CHECKING:
    from ld3m_plugin.evaluation.evaluating import ImageSet, check_evaluation, evaluate, evaluate_random_real
    from ld3m_plugin.evaluation.protocols import PROTOCOLS, Protocol, get_protocol
    from ld3m_plugin.evaluation.table import RANDOM_REAL, Evaluation, Row

__all__ = [
    "PROTOCOLS",
    "RANDOM_REAL",
    "Evaluation",
    "ImageSet",
    "Protocol",
    "Row",
    "check_evaluation",
    "evaluate",
    "evaluate_random_real",
    "get_protocol",
]

_HERE = "ld3m_plugin.evaluation"

__getattr__ = moved.lazy(
    __name__,
    {
        **dict.fromkeys(("ImageSet", "check_evaluation", "evaluate", "evaluate_random_real"), f"{_HERE}.evaluating"),
        **dict.fromkeys(("PROTOCOLS", "Protocol", "get_protocol"), f"{_HERE}.protocols"),
        **dict.fromkeys(("RANDOM_REAL", "Evaluation", "Row"), f"{_HERE}.table"),
    },
)


@hookimpl
def register_protocols(register: Register) -> None:
    """Register the built-in training recipes."""
    where = f"{_HERE}.protocols"
    register("quick", f"{where}:QUICK", summary="minutes on two cores: 200 epochs, ConvNet and AlexNet")
    register("unseen", f"{where}:UNSEEN", summary="four cheap architectures at rates of their own, 200 epochs")
    register("dc-2021", f"{where}:DC_2021", summary="the evaluation of DC: 300 epochs, not augmented")
    register("dsa-2021", f"{where}:DSA_2021", summary="the evaluation of DSA and DM: 1000 epochs")
    register("mtt", f"{where}:MTT", summary="as dsa-2021, at the learning rate learned with the images")
    register(
        "glad-2023", f"{where}:GLAD_2023", summary="the evaluation of GLaD and LD3M: five architectures, 1000 epochs"
    )
