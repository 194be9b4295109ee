"""Base of kinds of priors whose work is done by functions of other modules, which are imported when it begins."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from ld3m_plugin.options import Options
from ld3m_plugin.priors.contract import PriorKind, TrainingReporter

if TYPE_CHECKING:
    from ld3m_plugin.task import Task


class FolderConversionOptions(Options):
    """Options of `ld3m prior convert` for published weights."""

    classes: Path | None = Field(
        None, description="class names in row order, a line or JSON entry each; default: ImageNet's for 1,000 classes"
    )
    source: str | None = Field(None, description="where the weights come from, for the record")
    licence: str | None = Field(None, description="licence of the weights, for the record")
    half: bool = Field(False, description="store the weights in half precision")


class FolderKind(PriorKind):
    """A kind that names its functions by import path, `module:function`, so that asking for it imports no model library.

    Attributes:
        shipped: folders of the priors that go by a name.
        trainer: `train(task, options, seed, out, reporter)`.
        converter: `convert(source, out, *, note, **options)`, with the option `source` as `note`.
        describer: `describe(path)`, the facts by title.
    """

    ConversionOptions = FolderConversionOptions
    shipped: ClassVar[Mapping[str, Path]] = {}
    trainer: ClassVar[str]
    converter: ClassVar[str]
    describer: ClassVar[str]

    def find(self, name: str) -> Path | None:
        return self.shipped.get(name)

    def train(self, task: Task, out: Path, options: Options, *, seed: int, reporter: TrainingReporter) -> None:
        resolve_name(self.trainer)(task, options, seed, out, reporter)

    def convert(self, source: Path, out: Path, options: Options) -> None:
        settings = dict(options)
        resolve_name(self.converter)(source, out, note=settings.pop("source"), **settings)

    def describe(self, path: Path) -> dict[str, str]:
        facts: dict[str, str] = resolve_name(self.describer)(path)
        return facts
