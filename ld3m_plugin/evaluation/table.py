"""Tables of test accuracies, and their records in JSON."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Self

from pydantic import ConfigDict, Field, TypeAdapter
from torch import Tensor

from ld3m_plugin.evaluation.protocols import Protocol

#: `Row.images` of a row that was trained on random real images.
RANDOM_REAL = "random real"


@dataclass(frozen=True)
class Row:
    """Test accuracies of one architecture trained on one kind of images.

    Attributes:
        images: name of the training images, such as `distilled` or `random real`.
        network: the architecture.
        accuracies: in percent, one a trained network.
        predicted: class of each test image, (networks, test images) int64; None in a table that was read from its record.
        diverged: which of the networks diverged (`divergence.has_diverged`), from 0: their accuracies are of no training.
        together: most networks that were trained at once; 1: one by one.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(arbitrary_types_allowed=True)

    images: str
    network: str
    accuracies: Annotated[tuple[float, ...], Field(min_length=1)]
    predicted: Tensor | None = field(default=None, compare=False, repr=False)
    diverged: tuple[int, ...] = ()
    together: int = 1

    @property
    def n(self) -> int:
        """Number of trained networks."""
        return len(self.accuracies)

    @property
    def mean(self) -> float:
        """Mean accuracy, percent."""
        return statistics.fmean(self.accuracies)

    @property
    def std(self) -> float | None:
        """Sample standard deviation (divisor n − 1), percentage points; None for n = 1."""
        return statistics.stdev(self.accuracies) if self.n > 1 else None

    def __str__(self) -> str:
        spread = "" if self.std is None else f" +- {self.std:.1f}"
        failed = f", {len(self.diverged)} diverged" if self.diverged else ""
        return f"{self.mean:.1f}{spread} (n={self.n}{failed})"


@dataclass(frozen=True)
class Evaluation:
    """A table of accuracies with everything needed to repeat it.

    Attributes:
        test_images: number of test images that each network was tested on.
        test_per_class: number of test images of each class that was asked for; None: all.
        test_labels, test_groups: class and group of each test image, (test images,) int64, in the order of `Row.predicted`; None
            in a table that was read from its record. The groups are None where the task has none.
        data_digest: of class names, training and test images (`data.identity.task_digest`); "" in older records.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(arbitrary_types_allowed=True)

    protocol: Protocol
    rows: Annotated[tuple[Row, ...], Field(min_length=1)]
    test_images: int
    seed: int
    seconds: float
    data: str = ""
    test_per_class: int | None = None
    test_labels: Tensor | None = field(default=None, compare=False, repr=False)
    test_groups: Tensor | None = field(default=None, compare=False, repr=False)
    data_digest: str = ""

    def mean(self, images: str) -> float:
        """Mean accuracy over architectures, percent."""
        return statistics.fmean(row.mean for row in self.rows if row.images == images)

    def record(self) -> dict[str, Any]:
        """Return the table as plain data, for JSON. What was predicted has a file of its own (`predictions.save_predictions`)."""
        rows = [
            {
                **{name: getattr(row, name) for name in ("images", "network", "accuracies")},
                **{"mean": row.mean, "std": row.std, "n": row.n, "diverged": row.diverged},
                "together": row.together,
            }
            for row in self.rows
        ]
        return {
            "protocol": self.protocol.model_dump(mode="json"),
            "ran": {"networks": list(dict.fromkeys(row.network for row in self.rows)), "repeats": self.rows[0].n},
            "rows": rows,
            "data": self.data,
            "data_digest": self.data_digest,
            "test_images": self.test_images,
            "test_per_class": self.test_per_class,
            "seed": self.seed,
            "seconds": round(self.seconds, 1),
        }

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Self:
        """Read what `record` gave.

        Raises:
            KeyError, TypeError, ValueError: it is something else.
        """
        return TypeAdapter(cls).validate_python({**record, "data": record["data"]})
