"""The distillation loop: render once, match once, differentiate once, update.

`distill` returns an iterator of `Step`s for progress bars, trackers and tests. Nothing here prints or writes files;
`ld3m_plugin.runs.run` does.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor

from ld3m_plugin.artefact.shown_images import MOST_SHOWN, shown_indices
from ld3m_plugin.backends import create, default_rates
from ld3m_plugin.config import RunConfig
from ld3m_plugin.contracts import Generator, Latents, Objective, Task
from ld3m_plugin.data.load import load_task
from ld3m_plugin.devices.tf32 import tf32
from ld3m_plugin.devices.transfer import number
from ld3m_plugin.distillation.finite_checks import FiniteChecks
from ld3m_plugin.distillation.first_latents import first_latents, planned, precision
from ld3m_plugin.distillation.optimizer import LatentOptimizer
from ld3m_plugin.distillation.plugin_checks import check_latents, check_match, check_records
from ld3m_plugin.distillation.rendering import render, render_with_pull_back
from ld3m_plugin.distillation.step_record import Step
from ld3m_plugin.errors import HostError, NonFiniteError, UsageError, one_line
from ld3m_plugin.options import build
from ld3m_plugin.randomness import stream
from ld3m_plugin.registry import Registry, blaming, described, use_registry
from ld3m_plugin.synthetic.own_parts import Loss, with_own_parts

_log = logging.getLogger(__name__)

#: Steps between readings of the finite checks of a device other than the CPU.
READ_EVERY = 10


def distill(
    config: RunConfig | Mapping[str, Any],
    *,
    task: Task | None = None,
    registry: Registry | None = None,
    resume: Mapping[str, Tensor] | None = None,
    generator: Generator | None = None,
    objective: Objective | Loss | None = None,
) -> Iterator[Step]:
    """Run a distillation that yields one `Step` for each update.

    >>> objective = {"name": "dm", "options": {"batch_real": 8}}
    >>> for step in distill({"steps": 1, "generator": {"name": "pixel"}, "objective": objective}):
    ...     images = step.state.images()
    >>> tuple(images.shape)
    (10, 1, 32, 32)

    Args:
        config: a `RunConfig`, or a mapping that makes one.
        task: the data; default: the one that `config.data` names.
        registry: where backends are looked up; default: that of `use_registry`, else all installed plugins.
        resume: a `Distillation.state_dict()` to go on from, bit for bit.
        generator: one of your own, in place of the one that `config` names.
        objective: one of your own, or a function `(images, labels, step) -> loss`: of normalised images (N, C, H, W), labels
            (N,) and the step (from 0), a scalar that depends differentiably on the images.

    Raises:
        UsageError: an unknown or invalid setting.
        NonFiniteError: a loss or gradient that is not finite; the latents keep the last good state. On a device other than
            the CPU, it is raised up to `READ_EVERY` steps later, names its step, and the state is that of the last reading.
    """
    state = Distillation(config, task=task, registry=registry, generator=generator, objective=objective)
    if resume is not None:
        state.load_state_dict(resume)
    for note in state.objective.notes():
        _log.info("%s", note)
    return _steps(state)


def _steps(state: Distillation) -> Iterator[Step]:
    while state.iteration < state.config.steps:
        yield state.step()


class Distillation:
    """A run between two steps: generator, objective, latents, optimiser and random streams. Arguments as for `distill`.

    Attributes:
        task: the data, with its test set (backends are given `task.for_training()`).
        labels: class indices (N,) of the synthetic images, ordered by class.
        config: the settings, with what the generator's plan chose.
        plan: what the generator chose of what the settings leave open.
        registry: where names are looked up, those of own parts too.
        iteration: updates made so far.
        start_images: up to `MOST_SHOWN` images (C, H, W) of the first step by index, normalised, on the CPU; none before it.
    """

    def __init__(
        self,
        config: RunConfig | Mapping[str, Any],
        *,
        task: Task | None = None,
        registry: Registry | None = None,
        generator: Generator | None = None,
        objective: Objective | Loss | None = None,
    ) -> None:
        config = config if isinstance(config, RunConfig) else build(RunConfig, config, "the configuration")
        self.config, registry = with_own_parts(config, registry, generator, objective)
        data, chosen, matched = self.config.data, self.config.generator, self.config.objective
        device = choose_device(self.config.device)
        with use_registry(registry) as self.registry:
            self.task = (task or load_task(data.name, **data.options)).to(device)
            self.task.check_classes()
            self.generator: Generator = create("generator", chosen.name, chosen.options)
            self.objective: Objective = create("objective", matched.name, matched.options)
            self._prepare()

    def _prepare(self) -> None:
        seed, training = self.config.seed, self.task.for_training()
        self.iteration = 0
        self.start_images: dict[int, Tensor] = {}
        self._checks = FiniteChecks()
        self._good: dict[str, Tensor] | None = None
        self.labels, self.latents = first_latents(self.generator, self.config, training)
        self.plan, self.config = planned(self.generator, self.config, self.latents, training)
        rates = default_rates(self.generator, self.config.objective.name, self.config.generator.name)
        self._optimizer = LatentOptimizer(self.config.optimizer, self.latents, rates)
        self._step_rng = stream(seed, "on_step")
        with self._blaming("objective", "prepare"):
            self.objective.prepare(training, self.labels, stream(seed, "objective"))
        check_records((self.config.generator.name, self.generator), (self.config.objective.name, self.objective))

    def step(self) -> Step:
        """Make one match and one update of the latents.

        On the CPU every check is read at once. On another device, where reading waits for it, checks are read after the first
        step, after every `READ_EVERY` steps and after the last; `read_checks` reads them at any time.
        """
        if self._good is None and self.task.device.type != "cpu":
            self._good = self.state_dict()
        try:
            step = self._step()
        except HostError:
            self._read()  # an earlier step may be to blame
            raise
        if self.iteration in (1, self.config.steps) or self.iteration % READ_EVERY == 0:
            self.read_checks()
        return step

    def read_checks(self) -> None:
        """Wait for the device and read the checks of the steps since the last reading; on the CPU there are none.

        Raises:
            NonFiniteError: one failed; the state is again that of the last reading.
        """
        self._read()
        if self.task.device.type != "cpu":
            self._good = self.state_dict()

    def last_good(self) -> dict[str, Tensor]:
        """The newest state whose checks are all read, as `state_dict` gives it."""
        return self.state_dict() if self._good is None else self._good

    @property
    def is_read(self) -> bool:
        """Whether no check waits to be read."""
        return not self._checks.waiting

    def _read(self) -> None:
        good = self._good
        try:
            self._checks.read("the state before it is kept" if good is None else _kept(good))
        except NonFiniteError:
            if good is not None:
                self.load_state_dict(good)
            raise

    def _step(self) -> Step:
        started = time.perf_counter()
        with use_registry(self.registry), tf32(self.config.tf32, self.task.device):
            with self._blaming("generator", "render"):
                rendering = render_with_pull_back(
                    self.generator, self.latents, self.config.render_batch, self._precision
                )
            shape = tuple(rendering.images.shape[1:])
            expected = (self.task.channels, self.task.image_size, self.task.image_size)
            if shape != expected:
                raise HostError(f"{self._who('generator')} renders images {shape}, the data has {expected}")
            if self.iteration == 0 and not torch.isfinite(rendering.images).all():
                raise NonFiniteError(
                    f"{self._who('generator')} renders values that are NaN or infinite before any update"
                )
            self._check_finite({f"an image that {self._who('generator')} renders": rendering.images})
            if self.iteration == 0:
                indices = shown_indices(self.labels, MOST_SHOWN)
                self.start_images = dict(zip(indices, rendering.images.detach()[indices].float().cpu(), strict=True))
            with self._blaming("objective", "match"), self._precision():
                given = self.objective.match(rendering.images, self.labels, self.iteration)
            match = check_match(given, self._who("objective"), rendering.images)
            loss = number(match.loss)
            self._check_finite({"the loss": torch.as_tensor(loss), "dloss/dimages": match.image_grad})
            with self._blaming("generator", "render (its gradient)"):
                gradients = rendering.pull_back(match.image_grad)
            self._check_finite({f"dloss/d{name}": gradient for name, gradient in gradients.items()})
            norms = {name: number(gradient.float().norm()) for name, gradient in gradients.items()}
            self._optimizer.step(gradients)
            self._check_finite({f"latent {name}": self.latents[name] for name in self.latents.learned})
            self.iteration += 1
            with self._blaming("generator", "on_step", self.iteration):
                moved = self.generator.on_step(self.latents, self.iteration, self._step_rng)
            self.latents = check_latents(moved, self._who("generator"), len(self.latents))
            self._optimizer.follow(self.latents)
        return Step(self.iteration, loss, match.metrics, time.perf_counter() - started, self, norms)

    def images(self) -> Tensor:
        """The images (N, C, H, W) of the present latents, normalised."""
        with (
            use_registry(self.registry),
            tf32(self.config.tf32, self.task.device),
            self._blaming("generator", "render"),
        ):
            return render(self.generator, self.latents, self.config.render_batch, self._precision)

    def state_dict(self) -> dict[str, Tensor]:
        """Everything that changes, as tensors with their own storage: a run that loads it goes on bit for bit."""
        with use_registry(self.registry):
            kept = {}
            for kind, backend in (("generator", self.generator), ("objective", self.objective)):
                with self._blaming(kind, "state_dict"):
                    kept[kind] = backend.state_dict()
        parts = {
            "learned": {name: self.latents[name] for name in self.latents.learned},
            "fixed": {name: self.latents[name] for name in self.latents if name not in self.latents.learned},
            "optimizer": self._optimizer.state_dict(),
            **kept,
            "host": {"iteration": torch.tensor(self.iteration), "on_step_rng": self._step_rng.get_state()},
        }
        return {
            f"{part}/{name}": value.detach().clone() for part, values in parts.items() for name, value in values.items()
        }

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Load a `state_dict()` of the same configuration."""

        def part(name: str) -> dict[str, Tensor]:
            return {key.removeprefix(f"{name}/"): value for key, value in state.items() if key.startswith(f"{name}/")}

        self._checks.forget()
        self._good = None
        # The state also says which latents are learned: the generator may have moved to another space.
        learned = part("learned")
        self.latents = Latents({**learned, **part("fixed")}, tuple(learned)).to(self.task.device).clone()
        self._optimizer.follow(self.latents)
        self._optimizer.load_state_dict(part("optimizer"))
        self.generator.load_state_dict(part("generator"))
        self.objective.load_state_dict(part("objective"))
        self.iteration = int(state["host/iteration"])
        self._step_rng.set_state(state["host/on_step_rng"].cpu())

    @property
    def _precision(self) -> Callable[[], AbstractContextManager[object]]:
        return precision(self.config, self.task.device)

    def _who(self, kind: str) -> str:
        return described(kind, getattr(self.config, kind).name)

    def _blaming(self, kind: str, method: str, step: int | None = None) -> AbstractContextManager[None]:
        if method not in ("prepare", "initial_latents", "plan"):
            method = f"{method} at step {min(self.iteration + 1, self.config.steps) if step is None else step}"
        return blaming(kind, getattr(self.config, kind).name, method)

    def _check_finite(self, tensors: Mapping[str, Tensor]) -> None:
        self._checks.check(tensors, self.iteration + 1)


def _kept(state: Mapping[str, Tensor]) -> str:
    done = int(state["host/iteration"])
    return f"the state after step {done} is kept" if done else "the first state is kept"


def choose_device(name: str) -> torch.device:
    """The device of that name; `auto` is CUDA if available, then Apple's MPS, then the CPU.

    Raises:
        UsageError: a device that torch does not know or that this machine does not have.
    """
    if name == "auto":
        return torch.device(
            "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
        )
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()  # the device `meta` exists, but nothing can be read from it
    except Exception as error:  # a device of another package may be missing in any way
        reason = one_line(str(error) or type(error).__name__)
        raise UsageError(
            f"device {name!r} cannot be used here ({reason}); try --device cpu (Python: device='cpu')"
        ) from error
    return device
