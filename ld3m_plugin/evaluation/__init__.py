"""Evaluation: test accuracy of networks trained on a distilled set, next to networks trained on random real images.

- `protocols`: named training recipes
- `train_network`: training one network, and its accuracy
- `evaluating`: the rows of a table
- `table`: the table and its record
"""

from __future__ import annotations

from ld3m_plugin.evaluation.evaluating import ImageSet, check_evaluation, evaluate
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
    "get_protocol",
]
