"""torch.compile of the repeated blocks of frozen networks (`compile=blocks`), where they are differentiated once.

Blocks of the same sizes share their code, which takes less time to make than that of a whole network. Passes without a gradient
run as they are written: they would need code of their own. A second derivative through compiled code does not exist in torch, and
has been silently wrong (pytorch issues 91469 and 181581): `once` refuses it at the end of a render.
"""

from __future__ import annotations

import inspect
import os
import shlex
import shutil
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ld3m_plugin.errors import HostError, InvalidOptionError, UsageError, is_out_of_memory, one_line
from ld3m_plugin.generators.ld3m.compile_cache import CompileCache, cache_folder

_BLOCKS = ("ResnetBlock2D", "Transformer2DModel", "BasicTransformerBlock")
#: Sizes, precisions and kinds of gradient that one block may be compiled for. Beyond it torch raises, since graphs are whole.
_MOST_FORMS = 64
_MOST_BLOCKS = 100_000  # of all generators of a process
_LATER = "or use compile=none"


def check_can_compile(device: torch.device) -> None:
    """Reject `compile=blocks` where torch cannot compile, without importing its parts that do.

    Raises:
        InvalidOptionError: torch is too old, or the CPU needs a C++ compiler and there is none.
    """
    if "isolate_recompiles" not in inspect.signature(torch.compile).parameters:
        raise InvalidOptionError(f"compile=blocks needs a newer torch than {torch.__version__}: update it, {_LATER}")
    usual = {"darwin": "clang++", "win32": "cl"}.get(sys.platform, "g++")
    compiler = os.environ.get("CXX", usual)
    if device.type == "cpu" and not any(map(shutil.which, (compiler, *shlex.split(compiler)[:1]))):
        raise InvalidOptionError(
            f"compile=blocks needs a C++ compiler, and {compiler or 'CXX'!r} is not there: install g++, set CXX to another, "
            f"{_LATER}"
        )


class CompiledBlocks:
    """The blocks of frozen networks, with compiled forms that are made when a size is first used.

    Args:
        networks: changed in place: their blocks get other forward passes.
    """

    def __init__(self, *networks: nn.Module) -> None:
        self._cache: CompileCache | None = None
        self._paused = False
        for block in (block for network in networks for block in _blocks_of(network)):
            block.forward = _Block(self, block.forward)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Run blocks as they are written."""
        before, self._paused = self._paused, True
        try:
            yield
        finally:
            self._paused = before

    @property
    def is_used(self) -> bool:
        """Whether a pass that begins now runs compiled code."""
        return torch.is_grad_enabled() and not self._paused

    @contextmanager
    def compiling(self) -> Iterator[None]:
        """Allow code to be made, forward and backward, from the cache where it is there."""
        import torch._dynamo.config as dynamo
        import torch._functorch.config as autograd
        import torch._inductor.config as inductor

        self._cache = self._cache or CompileCache(cache_folder())
        with ExitStack() as stack:
            stack.enter_context(self._cache.opened())
            # torch's about itself, such as that it looks for `grad` where there is none.
            stack.enter_context(warnings.catch_warnings())
            warnings.simplefilter("ignore")
            # Workers would stay until the process ends. Code of the backward pass is made under the same lock.
            stack.enter_context(inductor.patch(compile_threads=1))
            stack.enter_context(autograd.patch(force_non_lazy_backward_lowering=True))
            # Blocks share a function, and torch counts all that it was ever compiled for; `_MOST_FORMS` counts for each block.
            stack.enter_context(dynamo.patch(accumulated_recompile_limit=_MOST_FORMS * _MOST_BLOCKS))
            try:
                yield
            except HostError:
                raise
            except Exception as error:  # whatever torch, the compiler and the loader of libraries raise
                if is_out_of_memory(error):
                    raise
                raise HostError(
                    f"compile=blocks failed ({one_line(str(error) or type(error).__name__)}): use compile=none"
                ) from error


def _blocks_of(module: nn.Module) -> Iterator[nn.Module]:
    """The outermost blocks: those inside of them are part of their code."""
    if type(module).__name__ in _BLOCKS:
        yield module
        return
    for child in module.children():
        yield from _blocks_of(child)


class _Block:
    """The forward pass of one block: compiled where it is differentiated, with code for each size on its own."""

    def __init__(self, blocks: CompiledBlocks, written: Callable[..., Any]) -> None:
        self._blocks, self._written = blocks, written
        self._compiled: Callable[..., Any] | None = None
        self._known: set[object] = set()

    def __call__(self, *inputs: Any, **named: Any) -> Any:
        if not self._blocks.is_used:
            return self._written(*inputs, **named)
        form = _form(*inputs, *named.items())
        if form in self._known and self._compiled is not None:
            return self._compiled(*inputs, **named)
        with self._blocks.compiling():
            whole: dict[str, Any] = {"fullgraph": True, "isolate_recompiles": True, "recompile_limit": _MOST_FORMS}
            self._compiled = self._compiled or torch.compile(self._written, dynamic=False, **whole)
            output = self._compiled(*inputs, **named)
        self._known.add(form)
        return output


def _form(*values: Any) -> tuple[object, ...]:
    """What code is made for, of the inputs of a block: sizes, and what else torch looks at."""
    kind: list[object] = [torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()]
    kind += [(torch.is_autocast_enabled(name), torch.get_autocast_dtype(name)) for name in ("cpu", "cuda")]
    return (*kind, *map(_part, values))


def _part(value: Any) -> object:
    if isinstance(value, Mapping):
        return tuple(map(_part, value.items()))
    if isinstance(value, tuple):
        return tuple(map(_part, value))
    if isinstance(value, Tensor):
        return (value.shape, value.stride(), value.dtype, value.device, value.requires_grad)
    return value


def once(images: Tensor) -> Tensor:
    """The same images, which are differentiated once.

    Raises:
        UsageError: in the backward pass, where a second derivative is asked for.
    """
    output: Tensor = _Once.apply(images)
    return output


class _Once(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, images: Tensor) -> Tensor:  # noqa: ARG004 (both are torch's)
        return images.view_as(images)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # noqa: ARG004
        if torch.is_grad_enabled():
            raise UsageError("compile=blocks is differentiated once: leave out create_graph=True, or use compile=none")
        return gradient
