"""What a run asks of its plugins before it relies on it: each fault is one line that names the plugin."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ld3m_plugin.contracts import Generator, Latents, Match, Objective, RenderPlan
from ld3m_plugin.errors import HostError, one_line
from ld3m_plugin.registry import blaming


def check_latents(latents: object, who: str, rows: int) -> Latents:
    """Return `latents` if a run can learn and record them.

    Raises:
        HostError: they are no `Latents`, have other than `rows` rows, nothing to learn, or names that a file cannot hold.
    """
    if not isinstance(latents, Latents):
        raise HostError(f"{who} gave a {type(latents).__name__} of latents, not ld3m_plugin.Latents")
    if len(latents) != rows:
        raise HostError(f"{who} gave {len(latents)} rows of latents for {rows} labels")
    if not latents.learned:
        raise HostError(f"{who} gave no learned latent")
    for name in latents:
        # Files list the names with commas between, and safetensors keeps this one for itself.
        if not isinstance(name, str) or not name or "," in name or name == "__metadata__" or not name.isprintable():
            raise HostError(f"{who} has a latent of name {name!r}: use letters, digits, '_', '-' and '.'")
    return latents


def check_plan(plan: object, who: str, options: Mapping[str, Any]) -> RenderPlan:
    """Return `plan` if its options are the generator's own and its rows a number above 0.

    Raises:
        HostError: it is none, or says something else.
    """
    if not isinstance(plan, RenderPlan):
        raise HostError(f"{who} gave a {type(plan).__name__} as plan, not a RenderPlan")
    unknown = sorted(set(plan.options) - set(options))
    if unknown:
        raise HostError(f"{who} planned options that it does not have: {', '.join(unknown)}")
    if plan.rows is not None and not (type(plan.rows) is int and plan.rows > 0):
        raise HostError(f"{who} planned rows = {plan.rows!r}: it must be a whole number above 0, or None")
    return plan


def check_match(match: object, who: str, images: Tensor) -> Match:
    """Return `match` if it has a number for its loss and a gradient of the images.

    Raises:
        HostError: it has not.
    """
    if not isinstance(match, Match) or not isinstance(match.image_grad, Tensor):
        raise HostError(f"{who} gave {type(match).__name__}, not a Match with a tensor image_grad")
    if match.image_grad.shape != images.shape:
        raise HostError(f"{who} gave image_grad {tuple(match.image_grad.shape)} for images {tuple(images.shape)}")
    if match.image_grad.dtype != images.dtype:
        raise HostError(f"{who} gave image_grad of {match.image_grad.dtype} for images of {images.dtype}")
    if not isinstance(match.metrics, Mapping) or not all(map(_is_metric, match.metrics.items())):
        raise HostError(f"{who} gave metrics {one_line(repr(match.metrics))}: they must be numbers by name")
    scalar = isinstance(match.loss, Tensor) and match.loss.numel() == 1 and not match.loss.is_complex()
    if not scalar and (isinstance(match.loss, Tensor) or not hasattr(type(match.loss), "__float__")):
        shape = f"a tensor {tuple(match.loss.shape)}" if isinstance(match.loss, Tensor) else type(match.loss).__name__
        raise HostError(f"{who} gave {shape} as loss: it must be one number")
    return match


def check_records(generator: tuple[str, Generator], objective: tuple[str, Objective]) -> None:
    """Check before the first step what is written after the last one: facts of both plugins, and learned numbers.

    Args:
        generator: its registered name, and itself.
        objective: likewise.

    Raises:
        HostError: facts that JSON cannot hold, or a learned value that is no finite number.
    """
    for kind, (name, backend) in (("generator", generator), ("objective", objective)):
        with blaming(kind, name, "provenance"):
            facts = backend.provenance()
        _check_facts(facts, f"{kind} {name!r}")
        with blaming(kind, name, "state_dict"):
            state = backend.state_dict()
        if not isinstance(state, Mapping) or not all(
            isinstance(key, str) and isinstance(value, Tensor) for key, value in state.items()
        ):
            raise HostError(f"state_dict() of {kind} {name!r} must be a mapping of names to tensors")
    _check_start(*generator)
    name, backend = objective
    with blaming("objective", name, "networks"):
        networks = backend.networks()
    if not isinstance(networks, tuple | list) or not all(isinstance(network, str) for network in networks):
        raise HostError(f"networks() of objective {name!r} must be a tuple of names, it is {one_line(repr(networks))}")
    with blaming("objective", name, "learned"):
        learned = backend.learned()
    if not isinstance(learned, Mapping) or not all(map(_is_number, learned.items())):
        raise HostError(
            f"learned() of objective {name!r} must be a mapping of names to finite numbers, it is {one_line(repr(learned))}"
        )


def _check_start(name: str, generator: Generator) -> None:
    """Check what tables say of a generator."""
    with blaming("generator", name, "start"):
        start = generator.start()
    with blaming("generator", name, "prior_bytes"):
        count = generator.prior_bytes()
    if not isinstance(start, str):
        raise HostError(f"start() of generator {name!r} must be text, it is {one_line(repr(start))}")
    if type(count) is not int or count < 0:
        raise HostError(f"prior_bytes() of generator {name!r} must be a number of bytes, it is {one_line(repr(count))}")


def _check_facts(facts: Any, who: str) -> None:
    try:
        json.dumps(facts, allow_nan=False, ensure_ascii=False).encode()
        valid = isinstance(facts, Mapping) and all(isinstance(name, str) for name in facts)
    except (TypeError, ValueError, RecursionError):
        valid = False
    if not valid:
        raise HostError(
            f"provenance() of {who} must be a mapping of names to what JSON can hold, it is {one_line(repr(facts))}"
        )


def _is_metric(item: tuple[object, object]) -> bool:
    name, value = item
    is_scalar = isinstance(value, Tensor) and value.numel() == 1 and not value.is_complex()
    return isinstance(name, str) and (
        is_scalar or (not isinstance(value, Tensor) and hasattr(type(value), "__float__"))
    )


def _is_number(item: tuple[object, object]) -> bool:
    name, value = item
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return isinstance(name, str) and is_number and math.isfinite(value)  # type: ignore[arg-type]
