"""One phase of training: AdamW, warm-up and cosine, a weight average, and a saved state that continues bit for bit."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, PartialState
from diffusers.training_utils import EMAModel
from torch import Tensor, nn

from ld3m_plugin.contracts import TrainingReporter
from ld3m_plugin.errors import InvalidOptionError, PriorError, one_line
from ld3m_plugin.networks.learning_rate import warmup_cosine
from ld3m_plugin.priors.training.origin import differences
from ld3m_plugin.priors.training.training_options import PriorTrainingOptions
from ld3m_plugin.storage import put_in_place, read_sealed, signals_held, write_sealed
from ld3m_plugin.task import Task

#: Loss of one update, and numbers for the record. Must draw only from the generator it is given.
Loss = Callable[[nn.Module, torch.Generator], tuple[Tensor, dict[str, float]]]


@dataclass
class Phase:
    """Model, loss and settings of one phase.

    Attributes:
        name: of the phase and of its state's file.
        model: updated in place; at the end it has the averaged weights.
        loss: of one update.
        steps: total number of updates.
        rate: peak learning rate.
        betas: of AdamW.
        clip: largest norm of the gradient of all parameters together; a larger one is scaled down. None: no clipping.
        rng: draws batches and noise.
        origin: digests of data, options and seed, by name; a state with other digests is refused.
        settings: decisive options and the seed as plain data: says what differs where a state is refused.
        pictures: called every `samples_every` updates with the averaged model and the number of updates, in the main process.
        seconds: duration of all sessions together; set by `run`.
    """

    name: str
    model: nn.Module
    loss: Loss
    steps: int
    rate: float
    rng: torch.Generator
    origin: Mapping[str, str]
    pictures: Callable[[nn.Module, int], None] | None = None
    betas: tuple[float, float] = (0.9, 0.99)
    clip: float | None = 1.0
    settings: Mapping[str, Any] = field(default_factory=dict)
    seconds: float = field(default=0.0, init=False)


@dataclass
class _State:
    """Everything that the next update depends on, and its file.

    Attributes:
        done: number of updates made.
        saved: `done` of the state in the file.
        drawn: state of `phase.rng` after `done` updates; the next update may already have drawn from `phase.rng`.
        whole: False while an update changes the weights: such a state must not be saved.
    """

    path: Path
    phase: Phase
    accelerator: Accelerator
    optimizer: Any
    average: EMAModel
    done: int = 0
    saved: int = 0
    whole: bool = True
    drawn: Tensor = field(init=False)

    def __post_init__(self) -> None:
        self.drawn = self.phase.rng.get_state()


def run(
    phase: Phase, options: PriorTrainingOptions, folder: Path, accelerator: Accelerator, reporter: TrainingReporter
) -> None:
    """Train, or continue from the state in `folder`.

    A continued training gives the same bits as one without a stop, except with `fp16`, whose loss scale starts anew. Ctrl-C
    saves the state before the update that it interrupts. Updates since the last saved state are lost if Ctrl-C comes while
    weights change, with several processes, and if the training ends in another way.

    Raises:
        PriorError: a loss or a gradient is not finite (the last saved state stays), or the state is damaged, has another
            origin, or was saved by another number of processes.
    """
    device = next(phase.model.parameters()).device
    model, optimizer = accelerator.prepare(
        phase.model,
        torch.optim.AdamW(phase.model.parameters(), phase.rate, weight_decay=options.weight_decay, betas=phase.betas),
    )
    average = EMAModel(phase.model.parameters(), decay=options.ema, use_ema_warmup=True, power=0.75)
    state = _State(folder / f"{phase.name}.safetensors", phase, accelerator, optimizer, average)
    if state.path.is_file():
        _load(state)
    average.to(device)
    reporter.phase(phase.name, phase.steps, state.done)
    model.train()
    with signals_held() as signals:  # from the one that ends the updates until the state is saved
        try:
            with signals.let_through():
                _go_on(state, model, options, reporter)
        except KeyboardInterrupt:
            # Gathering the streams of other processes would wait for processes that have stopped.
            if state.whole and state.done > state.saved and accelerator.num_processes == 1:
                _save(state)
            raise
    average.copy_to(phase.model.parameters())
    phase.model.eval().requires_grad_(False)


def make_accelerator(task: Task, options: PriorTrainingOptions) -> Accelerator:
    """Create an `Accelerator` for the task's device and the options' precision, whatever earlier trainings of this process had.

    Raises:
        InvalidOptionError: the device does not support the precision.
    """
    precision, on_cpu = options.mixed_precision, task.device.type == "cpu"
    if precision == "fp16" and on_cpu:
        raise InvalidOptionError("mixed_precision = 'fp16' needs a GPU: give 'bf16' or 'no'")
    _forget_settings()
    try:
        # Models are already on the task's device: accelerate would move them to the first GPU.
        return Accelerator(mixed_precision=precision, cpu=on_cpu, device_placement=False)
    except ValueError as error:  # the device does not have the precision
        reason = one_line(str(error))
        raise InvalidOptionError(
            f"mixed_precision = {precision!r} on {task.device} is not available: {reason}"
        ) from error


def _forget_settings() -> None:
    """Let the next `Accelerator` have another precision and device than those before it.

    accelerate shares one precision and device among all instances of a process, and its reset is private and empties the
    state of instances in use. New dictionaries leave them theirs. The process group of several processes stays.
    """
    AcceleratorState._shared_state = {}
    if PartialState._shared_state.get("num_processes", 1) == 1:
        PartialState._shared_state = {}


def _go_on(state: _State, model: nn.Module, options: PriorTrainingOptions, reporter: TrainingReporter) -> None:
    phase = state.phase
    started = time.monotonic() - phase.seconds
    while state.done < phase.steps:
        values = _update(state, model, options)
        phase.seconds = time.monotonic() - started
        reporter.step(state.done, values)
        shown = phase.pictures if options.samples_every and state.done % options.samples_every == 0 else None
        # Also before the pictures, which exchange the trained weights for a while.
        if state.done % options.save_every == 0 or state.done == phase.steps or shown is not None:
            _save(state)
        if shown is not None and state.accelerator.is_main_process:
            parameters = list(phase.model.parameters())
            state.average.store(parameters)
            state.average.copy_to(parameters)
            phase.model.eval()
            with torch.no_grad():
                shown(phase.model, state.done)
            phase.model.train()
            state.average.restore(parameters)


def _update(state: _State, model: nn.Module, options: PriorTrainingOptions) -> dict[str, float]:
    """Make one update; return its loss and numbers for the record."""
    phase, accelerator, optimizer = state.phase, state.accelerator, state.optimizer
    for group in optimizer.param_groups:
        group["lr"] = phase.rate * warmup_cosine(state.done, phase.steps, options.warmup)
    with accelerator.autocast():
        loss, values = phase.loss(model, phase.rng)
    _check_finite(state, "loss", loss.detach())
    optimizer.zero_grad(set_to_none=True)
    accelerator.backward(loss)
    norm = accelerator.clip_grad_norm_(model.parameters(), phase.clip or math.inf)
    if accelerator.scaler is None:  # a scaler skips updates whose gradient overflows, and lowers the scale
        _check_finite(state, "gradient's norm", norm)
    state.whole = False
    optimizer.step()
    state.average.step(phase.model.parameters())
    state.done += 1
    state.drawn = phase.rng.get_state()
    state.whole = True
    return {"loss": float(loss.detach()), **values}


def _check_finite(state: _State, what: str, value: Tensor) -> None:
    if not torch.isfinite(value):
        name = state.phase.name
        raise PriorError(f"the {what} of the {name} is {float(value)} at update {state.done}: lower its learning rate")


def _save(state: _State) -> None:
    """Save the state atomically; with several processes, all must call this after the same update."""
    phase, accelerator = state.phase, state.accelerator
    streams = state.drawn[None]
    if accelerator.num_processes > 1:
        streams = accelerator.gather(state.drawn.to(accelerator.device)[None]).cpu()
    if not accelerator.is_main_process:
        return
    tensors = {f"model.{name}": tensor for name, tensor in phase.model.state_dict().items()}
    for index, shadow in enumerate(state.average.shadow_params):
        tensors[f"average.{index}"] = shadow
    for index, moments in state.optimizer.state_dict()["state"].items():
        tensors.update({f"optimizer.{index}.{name}": torch.as_tensor(value) for name, value in moments.items()})
    tensors.update({_stream_name(index): stream for index, stream in enumerate(streams)})
    tensors["seconds"] = torch.tensor(phase.seconds, dtype=torch.float64)
    header = {"done": str(state.done), **{f"origin.{k}": v for k, v in phase.origin.items()}}
    header["settings"] = json.dumps(dict(phase.settings))
    temporary = state.path.with_suffix(".partial")
    with signals_held():
        write_sealed(temporary, tensors, header)
        put_in_place(temporary, state.path)
        state.saved = state.done


def _load(state: _State) -> None:
    path, phase, average = state.path, state.phase, state.average
    advice = "delete it to train that phase again"
    tensors, header = read_sealed(path, lambda message: PriorError(f"{message}: {advice}"))
    try:
        _check_origin(state, header, sum(name.split(".")[0] == "rng" for name in tensors))
        phase.model.load_state_dict({n[6:]: t for n, t in tensors.items() if n.startswith("model.")})
        average.shadow_params = [tensors[f"average.{i}"] for i in range(len(average.shadow_params))]
        average.optimization_step = int(header["done"])
        moments: dict[int, dict[str, Tensor]] = {}
        for name, tensor in tensors.items():
            if name.startswith("optimizer."):
                _, index, key = name.split(".", 2)
                moments.setdefault(int(index), {})[key] = tensor
        groups = state.optimizer.state_dict()["param_groups"]
        state.optimizer.load_state_dict({"state": moments, "param_groups": groups})
        phase.rng.set_state(tensors[_stream_name(state.accelerator.process_index)])
        phase.seconds = float(tensors["seconds"])
        state.done = state.saved = int(header["done"])
        state.drawn = phase.rng.get_state()
    except (KeyError, ValueError, RuntimeError, TypeError) as error:
        raise PriorError(f"{path} is damaged ({one_line(str(error))}): {advice}") from error


def _check_origin(state: _State, header: Mapping[str, str], processes: int) -> None:
    other = [name for name, digest in state.phase.origin.items() if header.get(f"origin.{name}", "") != digest]
    if other:
        values = differences(header.get("settings"), state.phase.settings)
        what = ["data"] * ("data" in other) + [values or ", ".join(name for name in other if name != "data")]
        raise PriorError(
            f"{state.path} was written with other settings ({', '.join(filter(None, what))}): give the same settings, choose "
            "another --out, or delete the file"
        )
    now = state.accelerator.num_processes
    if processes != now:
        raise PriorError(
            f"{state.path} was written by {processes} processes and this is {now}: start {processes} processes"
        )


def _stream_name(process: int) -> str:
    return f"rng.{process}" if process else "rng"
