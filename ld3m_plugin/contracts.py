"""The contracts between the host and its plugins.

Shape notation, used everywhere: N = K·I synthetic images (K classes, I images per class, ordered by class), C channels,
H×W pixels, L×h×w a latent grid, F features. Images are float32 and **normalised** with the task's mean and std at every
boundary. The boundary between the two plugin kinds is the gradient with respect to the images: a generator never learns
which objective asked, an objective never learns where images come from.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ld3m_plugin import moved
from ld3m_plugin.devices.transfer import number
from ld3m_plugin.errors import ArtefactError, HostError, InvalidOptionError, WrongResultError, one_line
from ld3m_plugin.launchers.launcher import Job, Launcher
from ld3m_plugin.options import BackendOptions, Options, Place, build, takes
from ld3m_plugin.priors.contract import PriorKind, TrainingReporter
from ld3m_plugin.randomness import stream
from ld3m_plugin.storage import read_tensors, write_tensors
from ld3m_plugin.task import DataOptions, FileOptions, ImageOptions, ImagesByClass, Task

__all__ = [
    "BackendOptions",
    "DataOptions",
    "DifferentiableObjective",
    "FileOptions",
    "Generator",
    "ImageOptions",
    "ImagesByClass",
    "Initialiser",
    "Job",
    "Latents",
    "Launcher",
    "Match",
    "Network",
    "Objective",
    "Options",
    "Place",
    "PriorKind",
    "RenderPlan",
    "Task",
    "Tracker",
    "TrainingReporter",
    "takes",
]


def __getattr__(name: str) -> Any:
    return moved.renamed(__name__, name)


class Latents:
    """Named tensors that share their first dimension N, some learned and some fixed.

    A fixed tensor (a diffusion model's start noise) is stored with the others, so that a render can be repeated.
    Instances are immutable in structure; the host updates learned tensors in place through its optimiser.

    Args:
        tensors: name -> tensor (N, ...).
        learned: the names that the optimiser updates; the rest are fixed.

    Raises:
        ValueError: no tensor, unequal first dimensions, or a learned name that is not a floating-point tensor.
    """

    def __init__(self, tensors: Mapping[str, Tensor], learned: tuple[str, ...] | frozenset[str]) -> None:
        self._tensors = dict(tensors)
        self.learned = frozenset(learned)
        rows = {name: tensor.shape[0] if tensor.ndim else None for name, tensor in self._tensors.items()}
        if len(set(rows.values())) != 1 or None in rows.values():
            raise ValueError(f"latents must share their first dimension, got {rows}")
        for name in self.learned:
            if name not in self._tensors or not self._tensors[name].is_floating_point():
                raise ValueError(f"learned latent {name!r} is not a floating-point tensor of {sorted(self._tensors)}")

    def __getitem__(self, name: str) -> Tensor:
        return self._tensors[name]

    def get(self, name: str) -> Tensor | None:
        """The tensor of that name, or None."""
        return self._tensors.get(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        """N, the number of rows."""
        return next(iter(self._tensors.values())).shape[0]

    def __repr__(self) -> str:
        shapes = {name: tuple(tensor.shape) for name, tensor in self._tensors.items()}
        return f"Latents({shapes}, learned={sorted(self.learned)})"

    def rows(self, which: slice) -> Latents:
        """The rows `which` of every tensor; gradients flow back to this object's tensors."""
        return Latents({name: tensor[which] for name, tensor in self._tensors.items()}, self.learned)

    def replace(self, **tensors: Tensor) -> Latents:
        """A copy with some tensors exchanged; the others are the same objects."""
        return Latents({**self._tensors, **tensors}, self.learned)

    def detach(self, *, requires_grad: bool = False) -> Latents:
        """Leaf copies that share storage; with `requires_grad`, the learned ones ask for gradients."""
        leaves = {
            name: tensor.detach().requires_grad_(requires_grad and name in self.learned)
            for name, tensor in self._tensors.items()
        }
        return Latents(leaves, self.learned)

    def clone(self) -> Latents:
        """Detached copies with storage of their own."""
        return Latents({name: tensor.detach().clone() for name, tensor in self._tensors.items()}, self.learned)

    def to(self, device: torch.device | str) -> Latents:
        """The same latents on `device`."""
        return Latents({name: tensor.to(device) for name, tensor in self._tensors.items()}, self.learned)

    def tensors(self) -> dict[str, Tensor]:
        """name -> tensor, in the order they were given."""
        return dict(self._tensors)

    def save(self, path: Path | str) -> None:
        """Write to a safetensors file; the names of the learned tensors are in its header."""
        write_tensors(Path(path), self._tensors, {"learned": ",".join(sorted(self.learned))})

    @classmethod
    def load(cls, path: Path | str) -> Latents:
        """Read what `save` wrote.

        Raises:
            ArtefactError: the file is missing or damaged, or its tensors and the names in its header do not fit.
        """
        tensors, metadata = read_tensors(Path(path), ArtefactError)
        try:
            return cls(tensors, tuple(filter(None, metadata.get("learned", "").split(","))))
        except ValueError as error:
            raise ArtefactError(f"{path} is damaged: {one_line(str(error))}") from error


class _WithOptions:
    """Options in the constructor: a model, or keywords that make one."""

    Options: ClassVar[type[BackendOptions]] = BackendOptions

    def __init__(self, options: BackendOptions | None = None, **keywords: Any) -> None:
        if options is None:
            options = build(self.Options, keywords, type(self).__name__)
        self.options: Any = options

    def __repr__(self) -> str:
        """A line: the class, and the options that are not the default ones."""
        chosen = self.options.model_dump(exclude_defaults=True) if hasattr(self, "options") else {}
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in chosen.items())})"


class _Backend(_WithOptions):
    """State and provenance, which generators and objectives share."""

    def state_dict(self) -> dict[str, Tensor]:
        """Everything that changes during a run, as tensors, so that a stopped run goes on bit for bit."""
        return {}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take back what `state_dict` gave; called after `prepare`."""
        if state:
            raise ValueError(f"{type(self).__name__} keeps no state, got {sorted(state)}")

    def provenance(self) -> dict[str, str]:
        """More facts for the artefact's metadata, such as a prior and its digest."""
        return {}


@dataclass(frozen=True)
class RenderPlan:
    """What a generator chose where the settings of a run leave open how much memory a render takes.

    Attributes:
        options: its options that left a choice open, such as `memory=auto`, with the values they have now. The host records them
            in the run's settings, with which the run goes on.
        rows: latent rows that the host should render at a time; None: all of them, or as many as the run's settings say.
    """

    options: Mapping[str, Any] = field(default_factory=dict)
    rows: int | None = None


class Generator(_Backend, ABC):
    """Frozen weights and two functions: latents to start from, and latents to images.

    `render` is pure, differentiable, deterministic and row-wise independent: images of row i depend on row i alone, so that
    the host may render in chunks of any size. Options are a pydantic model in `Options`.
    """

    #: How many images one row of latents renders, of the same label and in order (multi-formation, as in IDC).
    images_per_latent: int = 1

    def prepare(self, task: Task) -> None:
        """Called once before the other methods with the task's facts (size, mean, std, device): load weights, move them."""

    @abstractmethod
    def initial_latents(self, task: Task, labels: Tensor, rng: torch.Generator) -> Latents:
        """Latents to start from.

        Args:
            task: real training images and facts; its test set cannot be reached from here.
            labels: class indices (N,), ordered by class, N a count of latent rows.
            rng: the stream to draw from, on the CPU.

        Returns:
            Latents with N rows on `task.device`.
        """

    def plan(self, latents: Latents, rows: int | None) -> RenderPlan:
        """Called once before the first render: choose what options leave open, from sizes alone, never from time or free memory.

        Args:
            latents: the start latents, all rows.
            rows: rows that the run's settings render at a time; None: they do not say.
        """
        return RenderPlan()

    @abstractmethod
    def render(self, latents: Latents) -> Tensor:
        """Images (N·images_per_latent, C, H, W), float32, normalised, of latents with N rows."""

    def recomputes(self, latents: Latents) -> bool:
        """Whether the graph of `render` keeps little, because its activations are computed again in the backward pass.

        The host then keeps the graphs of all chunks. Otherwise it renders chunks without a graph, and again with one.
        """
        return False

    def on_step(self, latents: Latents, step: int, rng: torch.Generator) -> Latents:
        """Called after update number `step` (from 1). May redraw a fixed tensor or move to another space.

        Tensors that are returned unchanged (the same objects) keep their optimiser state, others start afresh.
        """
        return latents

    def learning_rates(self) -> dict[str, float]:
        """Adam's default learning rate for each learned latent, by name."""
        return {}

    def start(self) -> str:
        """What the latents start from, for tables: `real images`, `noise`, `prior`, or words of its own; "" if it is not said."""
        return ""

    def prior_bytes(self) -> int:
        """Bytes of the frozen weights that `render` needs beside the latents, as they are in memory; called after `prepare`."""
        return 0


class Initialiser(_WithOptions, ABC):
    """Makes pictures that a generator starts from, out of training images and frozen models: nothing is learned.

    It is a baseline as well: what networks learn from its pictures is what distillation adds to. Options are a pydantic model in
    `Options`; those that a generator has under the same name, such as its prior, are lent by it.
    """

    def prepare(self, task: Task) -> None:
        """Called once before the other methods: check what `images` needs. Loading it may wait until then."""

    @abstractmethod
    def images(self, task: Task, labels: Tensor, rng: torch.Generator) -> Tensor:
        """Images to start from: (N, C, H, W), float32, normalised, on `task.device`.

        Args:
            task: real training images and facts; its test set cannot be reached from here.
            labels: class indices (N,), ordered by class. `task.by_class` gives each class a stream of its own.
            rng: the stream to draw from, on the CPU.

        Raises:
            DataError: a class has too few images.
        """

    def start(self) -> str:
        """What the images are, for tables, such as `class means`; "" if it is not said."""
        return ""

    def provenance(self) -> dict[str, str]:
        """Facts that decide the images beside the options, such as the digest of a prior; called after `prepare`."""
        return {}


@dataclass(frozen=True)
class Match:
    """The result of an objective for a batch of images.

    Attributes:
        loss: the value, for the record: a number, or a tensor of one. A tensor on a device is read later, with those of other
            steps; `float()` of it waits for the device in every step.
        image_grad: dloss/dimages (N, C, H, W).
        metrics: more numbers for the record, likewise.
    """

    loss: float | Tensor
    image_grad: Tensor
    metrics: Mapping[str, float | Tensor] = field(default_factory=dict)


class Objective(_Backend, ABC):
    """Compares synthetic images with real data and says in which direction the images should move.

    One host step is one `match` and one update of the latents. Learned scalars (a synthetic learning rate) and networks
    that are trained along the way are the objective's own state.
    """

    task: Task
    rng: torch.Generator

    def prepare(self, task: Task, labels: Tensor, rng: torch.Generator) -> None:
        """Called once before the first step.

        Args:
            task: real training images and facts; its test set cannot be reached from here.
            labels: class indices (N,) or probabilities (N, K) of the synthetic images, ordered by class.
            rng: the stream to draw from during the whole run, on the CPU.
        """
        self.task = task
        self.rng = rng
        self._seed = rng.initial_seed() % 2**63  # an int64 of the checkpoint holds it

    def draws(self, step: int, *name: str | int) -> torch.Generator:
        """A random stream for one purpose at one step, such as `draws(step, "real", k)` for the real images of class k.

        It depends on the run's seed and the arguments alone: neither the number of classes handled together nor what was drawn
        before changes it.
        """
        return stream(self._seed, step, *name)

    @abstractmethod
    def match(self, images: Tensor, labels: Tensor, step: int) -> Match:
        """Loss and dloss/dimages for `images` (N, C, H, W), a leaf, at host step `step` (from 0).

        In a loop of one's own, `images.backward(match.image_grad)` goes on from there.
        """

    def given(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """What `match` was given, checked: images as a leaf that requires gradients, whatever they were, and labels on the CPU.

        Raises:
            HostError: the objective is not prepared, or the tensors fit neither its task nor each other.
        """
        name, task = type(self).__name__, getattr(self, "task", None)
        if task is None:
            raise HostError(f"{name} is not prepared: call prepare(task, labels, rng) once, with a torch.Generator")
        expected = (task.channels, task.image_size, task.image_size)
        if not isinstance(images, Tensor) or images.ndim != 4 or tuple(images.shape[1:]) != expected:
            what = tuple(images.shape) if isinstance(images, Tensor) else type(images).__name__
            raise HostError(f"{name}.match: images are {what}: give a tensor (N, {', '.join(map(str, expected))})")
        if not images.is_floating_point() or images.device.type != task.device.type:
            raise HostError(
                f"{name}.match: images are {images.dtype} on {images.device}: give normalised floats on {task.device}, where "
                "the task has its images"
            )
        _check_labels(name, labels, len(images), task.num_classes)
        leaf = images if images.is_leaf and images.requires_grad else images.detach().requires_grad_()
        return leaf, labels.cpu()

    def learned(self) -> dict[str, float]:
        """Numbers that were learned with the images and belong to them, such as `synthetic_learning_rate`; in the artefact's
        metadata as `learned`. The names are the same from `prepare` on."""
        return {}

    def notes(self) -> tuple[str, ...]:
        """Lines worth showing before the first step, such as what small data changes; called after `prepare`."""
        return ()

    def networks(self) -> tuple[str, ...]:
        """Registered architectures that the images are matched with, which tables call seen; default: the option `network`."""
        named = getattr(self.options, "network", None) or ()
        return (named,) if isinstance(named, str) else tuple(named)

    def state_dict(self) -> dict[str, Tensor]:
        """The random streams; subclasses add what else changes."""
        return {"rng": self.rng.get_state(), "seed": torch.tensor(self._seed)}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        self.rng.set_state(state["rng"].cpu())
        self._seed = int(state.get("seed", self._seed))  # checkpoints of version 0.1 have none


def _check_labels(name: str, labels: Tensor, count: int, classes: int) -> None:
    shape = tuple(labels.shape) if isinstance(labels, Tensor) else None
    if shape is None or shape not in {(count,), (count, classes)}:
        raise HostError(
            f"{name}.match: labels are {shape or type(labels).__name__}: give class indices ({count},), or probabilities "
            f"({count}, {classes})"
        )
    is_index = not labels.is_floating_point()
    if is_index == (labels.ndim == 2) or (is_index and not 0 <= int(labels.min()) <= int(labels.max()) < classes):
        raise HostError(f"{name}.match: labels must be class indices 0 to {classes - 1}, or probabilities as floats")


class DifferentiableObjective(Objective):
    """The short way: write the loss, the base class differentiates it once."""

    @abstractmethod
    def loss(self, images: Tensor, labels: Tensor, step: int) -> Tensor | tuple[Tensor, dict[str, float]]:
        """A scalar that depends differentiably on `images` (N, C, H, W); optionally with metrics for the record."""

    def match(self, images: Tensor, labels: Tensor, step: int) -> Match:
        images, labels = self.given(images, labels)
        with torch.enable_grad():
            result = self.loss(images, labels, step)
        value, metrics = result if isinstance(result, tuple) else (result, {})
        if not isinstance(value, Tensor) or value.ndim or not value.requires_grad:
            what = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise WrongResultError(
                f"{type(self).__name__}.loss gave {what if what != () else 'a number without a gradient'}: it must be a scalar "
                "tensor that depends differentiably on the images"
            )
        (image_grad,) = torch.autograd.grad(value, images, allow_unused=True)
        if image_grad is None:
            raise HostError(f"{type(self).__name__}.loss does not depend differentiably on the images")
        return Match(number(value), image_grad, metrics)


class Network(nn.Module):
    """A classifier as objectives and evaluation use it. `forward` gives logits (N, K).

    It is built as `cls(channels=C, image_size=H, num_classes=K, **settings)`. `Options` states the settings, for help texts; None
    where the constructor's own parameters do.
    """

    Options: ClassVar[type[BackendOptions] | None] = None
    #: What messages call it: its registered name and distribution, which `get_network` fills in.
    called: str = ""

    def embed(self, images: Tensor) -> Tensor:
        """Features (N, F) that enter the last linear layer, of images (N, C, H, W)."""
        raise InvalidOptionError(
            f"{self.called or type(self).__name__} gives no features: an objective that compares features needs a network that "
            "has embed(); choose another"
        )


class Tracker(_WithOptions, ABC):
    """Receives every record of a run. Errors it raises are reported once and never stop the run."""

    @abstractmethod
    def start(self, folder: Path, config: Mapping[str, Any]) -> None:
        """Called once, with the run folder and the resolved configuration."""

    @abstractmethod
    def log(self, record: Mapping[str, Any]) -> None:
        """One record: `step`, and numbers by name."""

    def images_every(self) -> int:
        """Steps between pictures of the set; 0: none. Default: the option `images_every`, if the tracker has it."""
        return int(getattr(getattr(self, "options", None), "images_every", 0))

    def log_images(self, step: int, pictures: Tensor, labels: Tensor, class_names: tuple[str, ...]) -> None:
        """Pictures of the set after `step`: some of each class, where not all can be shown.

        Args:
            pictures: (n, C, H, W) in [0, 1], on the CPU.
            labels: class indices (n,).
            class_names: K names, in label order.
        """

    def finish(self) -> None:
        """Called once after the last record, also when a run failed."""
