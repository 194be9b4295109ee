"""The rules of kinds of priors."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ld3m_plugin.contracts import PriorKind, Task, TrainingReporter
from ld3m_plugin.options import build
from ld3m_plugin.testing.tiny_task import rules, tiny_task


class _Recorder(TrainingReporter):
    """Notes what a training reports, and stops it after `most` steps."""

    def __init__(self, most: int | None = None) -> None:
        self.phases: list[str] = []
        self.steps, self._most = 0, most

    def phase(self, name: str, total: int, done: int = 0, unit: str = "step") -> None:
        assert 0 <= done <= total, f"phase {name!r} began with {done} of {total} steps"
        self.phases.append(name)

    def step(self, done: int, values: Mapping[str, float]) -> None:
        assert self.phases, "a training must begin a phase before it reports a step"
        self.steps += 1
        if self.steps == self._most:
            raise KeyboardInterrupt


def check_prior(
    factory: Callable[[], PriorKind],
    task: Task | None = None,
    training: Mapping[str, Any] | None = None,
    source: Path | None = None,
    conversion: Mapping[str, Any] | None = None,
) -> None:
    """Check a kind of prior against the contract.

    It recognises what it wrote and nothing else; describes it in texts; goes on with a training that was stopped after its first
    step; converts without changing the source; the global random stream stays untouched.

    Args:
        factory: makes the kind, without arguments.
        task: the data to train on; default: `tiny_task()`.
        training: values of its `TrainingOptions` that make a training of seconds; None: nothing is trained.
        source: a published file or folder that it converts; None: nothing is converted.
        conversion: values of its `ConversionOptions`.

    Raises:
        AssertionError: a rule is broken; the message states it.
    """
    with rules("a kind of prior"), tempfile.TemporaryDirectory() as place:
        folder, kind = Path(place), factory()
        assert isinstance(kind, PriorKind), (
            f"a {type(kind).__name__} is not an ld3m_plugin.PriorKind: derive it from there"
        )
        _check_recognises_nothing(kind, folder)
        if training is not None:
            _check_training(factory, task or tiny_task(), folder, training)
        if source is not None:
            _check_conversion(kind, source, folder / "converted", conversion or {})


def _check_recognises_nothing(kind: PriorKind, folder: Path) -> None:
    empty, text = folder / "empty", folder / "notes.txt"
    empty.mkdir()
    text.write_text("not a prior", encoding="utf-8")
    for path in (empty, text):
        assert kind.recognises(path) is False, (
            f"recognises() must give False for {'an empty folder' if path == empty else 'a text'}"
        )
    name = "no prior has this name"
    assert kind.find(name) is None, f"find() must give None for the name {name!r}"


def _check_training(factory: Callable[[], PriorKind], task: Task, folder: Path, training: Mapping[str, Any]) -> None:
    for name, most in (("straight", None), ("stopped", 1)):
        kind, out, recorder = factory(), folder / name, _Recorder(most)
        options = build(kind.TrainingOptions, training, "the training")
        try:
            kind.train(task, out, options, seed=0, reporter=recorder)
        except KeyboardInterrupt:
            factory().train(task, out, options, seed=0, reporter=_Recorder())
        assert recorder.phases, "a training must report its phases to the reporter"
        _check_prior(factory(), out)


def _check_conversion(kind: PriorKind, source: Path, out: Path, conversion: Mapping[str, Any]) -> None:
    before = _content(source)
    assert kind.recognises(source), f"recognises() must give True for {source}, which it converts"
    out.mkdir()
    kind.convert(source, out, build(kind.ConversionOptions, conversion, "the conversion"))
    assert _content(source) == before, "convert must not change its source"
    _check_prior(kind, out)


def _check_prior(kind: PriorKind, folder: Path) -> None:
    assert kind.recognises(folder), "recognises() must give True for a prior that it wrote"
    facts = kind.describe(folder)
    assert isinstance(facts, dict), f"describe() gave a {type(facts).__name__}, not a dict"
    assert all(isinstance(text, str) for item in facts.items() for text in item), "describe() must give texts by title"


def _content(source: Path) -> dict[str, bytes]:
    files = [source] if source.is_file() else sorted(path for path in source.rglob("*") if path.is_file())
    return {str(path): path.read_bytes() for path in files}
