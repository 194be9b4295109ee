"""Convolutions with 5×5 filters from a sixth of the products, for networks that are trained and tested on a CPU.

Winograd, Arithmetic Complexity of Computations (1980), in the form of Lavin and Gray, Fast Algorithms for Convolutional Neural
Networks (CVPR 2016): 4×4 outputs come from 8×8 products in the place of 400. Tiles of 8×8 inputs that overlap by 4, filters and
outputs are transformed by constant matrices; between them lie 64 products of matrices, each a plain one.

torch's own convolutions compute each product. They are near the processor's peak, so that fewer products are what is left to
gain. Results differ by rounding alone, some 1e-6 of their size. First derivatives only: the backward pass builds no graph.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

_FILTER, _OUTPUT = 5, 4
_TILE = _FILTER + _OUTPUT - 1
_PADDING = _FILTER // 2

#: Polynomials are evaluated at these numbers and at infinity: the usual ones of 8 points, which round least.
_POINTS = (0.0, 1.0, -1.0, 2.0, -2.0, 0.5, -0.5)

#: Channels in and out from which the products outweigh the transforms, in the benchmark of docs/speed.md.
_LEAST_CHANNELS = 64

#: Transformed inputs at once, in numbers: 16 MiB.
_AT_ONCE = 2**22


class FewerProducts(TorchFunctionMode):
    """Inside the block, convolutions that `suits` accepts are computed from fewer products; all others as always."""

    def __torch_function__(
        self, func: Callable[..., Any], _: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        settings = kwargs or {}
        if func is torch.conv2d and suits(*args, **settings):
            return _convolution(*args, **settings)
        return func(*args, **settings)


def suits(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,  # noqa: ARG001
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> bool:
    """Say whether a convolution, given as `torch.conv2d` takes it, is one that fewer products make faster."""
    return (
        groups == 1
        and tuple(weight.shape[2:]) == (_FILTER, _FILTER)
        and _pair(padding) == (_PADDING, _PADDING)
        and _pair(stride) == _pair(dilation) == (1, 1)
        and min(weight.shape[:2]) >= _LEAST_CHANNELS
        and input.ndim == 4
        and input.device.type == weight.device.type == "cpu"
        and input.dtype == weight.dtype == torch.float32
        and not torch.is_autocast_enabled("cpu")
    )


def _convolution(input: Tensor, weight: Tensor, bias: Tensor | None = None, *_: Any, **__: Any) -> Tensor:
    convolved: Tensor = _Convolution.apply(input, weight)
    return convolved if bias is None else convolved + bias.view(-1, 1, 1)


def _pair(value: Any) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, (tuple, list)) else (value, value)


class _Convolution(torch.autograd.Function):
    """Maps (N, C, H, W) and filters (K, C, 5, 5) to maps (N, K, H, W); zeros lie around the image."""

    @staticmethod
    def forward(ctx: Any, maps: Tensor, weight: Tensor) -> Tensor:
        """Convolve."""
        ctx.save_for_backward(maps, weight)
        filters = _filters(weight).transpose(1, 2)
        return torch.cat([_convolve(part, filters) for part in _parts(maps)])

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """The gradient of the maps is a convolution with turned filters; that of the filters is transposed step by step."""
        maps, weight = ctx.saved_tensors
        of_maps = of_weight = None
        if ctx.needs_input_grad[0]:
            turned = _filters(weight.flip(2, 3))
            of_maps = torch.cat([_convolve(part, turned) for part in _parts(gradient)])
        if ctx.needs_input_grad[1]:
            pairs = zip(_parts(maps), gradient.split(_images_at_once(maps)), strict=True)
            products = sum((_filter_products(*pair) for pair in pairs), torch.tensor(0.0))
            of_weight = _transform(_kron(1).t(), products).view(_FILTER, _FILTER, *weight.shape[:2]).permute(2, 3, 0, 1)
        return of_maps, of_weight


def _convolve(maps: Tensor, filters: Tensor) -> Tensor:
    """Convolve maps (N, C, H, W) with transformed filters (64, C, K): (N, K, H, W), channels last."""
    count, _, height, width = maps.shape
    products = torch.bmm(_inputs(maps), filters)
    outputs = _transform(_kron(0), products).view(_OUTPUT, _OUTPUT, count, *_tiles(maps), -1)
    # (y, x, N, row, column, K) -> (N, row, y, column, x, K)
    whole = outputs.permute(2, 3, 0, 4, 1, 5).reshape(count, _tiles(maps)[0] * _OUTPUT, _tiles(maps)[1] * _OUTPUT, -1)
    return whole[:, :height, :width].permute(0, 3, 1, 2)


def _filter_products(maps: Tensor, gradient: Tensor) -> Tensor:
    """Gradient of transformed filters, (64, K, C), from maps (N, C, H, W) and the gradient (N, K, H, W) of what they give."""
    rows, columns = _tiles(maps)
    below, right = rows * _OUTPUT - maps.shape[2], columns * _OUTPUT - maps.shape[3]
    last = F.pad(gradient.permute(0, 2, 3, 1), (0, 0, 0, right, 0, below))
    cut = last.view(len(maps), rows, _OUTPUT, columns, _OUTPUT, -1).permute(2, 4, 0, 1, 3, 5)
    outputs = cut.reshape(_OUTPUT**2, len(maps) * rows * columns, -1)
    return torch.bmm(_transform(_kron(0).t(), outputs).transpose(1, 2), _inputs(maps))


def _inputs(maps: Tensor) -> Tensor:
    """Transformed tiles (64, N·rows·columns, C) of maps (N, C, H, W)."""
    (rows, columns), (height, width) = _tiles(maps), maps.shape[2:]
    below, right = rows * _OUTPUT + _PADDING - height, columns * _OUTPUT + _PADDING - width
    framed = F.pad(maps.permute(0, 2, 3, 1), (0, 0, _PADDING, right, _PADDING, below))
    tiles = framed.unfold(1, _TILE, _OUTPUT).unfold(2, _TILE, _OUTPUT)  # (N, rows, columns, C, 8, 8)
    cut = tiles.permute(4, 5, 0, 1, 2, 3).reshape(_TILE**2, len(maps) * rows * columns, -1)
    return _transform(_kron(2), cut)


def _filters(weight: Tensor) -> Tensor:
    """Transformed filters (64, K, C) of filters (K, C, 5, 5)."""
    return _transform(_kron(1), weight.permute(2, 3, 0, 1).reshape(_FILTER**2, *weight.shape[:2]))


def _transform(matrix: Tensor, values: Tensor) -> Tensor:
    """`matrix` (a, b) times values (b, m, n): (a, m, n)."""
    return (matrix @ values.flatten(1)).view(-1, *values.shape[1:])


def _tiles(maps: Tensor) -> tuple[int, int]:
    return -(-maps.shape[2] // _OUTPUT), -(-maps.shape[3] // _OUTPUT)


def _images_at_once(maps: Tensor) -> int:
    rows, columns = _tiles(maps)
    return max(1, _AT_ONCE // (_TILE**2 * rows * columns * maps.shape[1]))


def _parts(maps: Tensor) -> tuple[Tensor, ...]:
    parts: tuple[Tensor, ...] = maps.split(_images_at_once(maps))
    return parts


@cache
def _kron(which: int) -> Tensor:
    """The transform of rows and columns at once: of outputs (16, 64), filters (64, 25) or inputs (64, 64)."""
    matrix = matrices()[which]
    return torch.kron(matrix, matrix).float()


def matrices() -> tuple[Tensor, Tensor, Tensor]:
    """Matrices A (4, 8), G (8, 5) and B (8, 8) in float64: y = A ((G w) * (B d)) correlates tiles d (8,) with filters w (5,).

    A and G evaluate polynomials at the points, the last one at infinity. B solves the 20 equations that make y the correlation.
    """
    points = torch.tensor(_POINTS, dtype=torch.float64)
    powers = torch.vander(points, _FILTER, increasing=True)
    distances = (points[:, None] - points + torch.eye(len(points), dtype=torch.float64)).prod(1)
    outputs = F.pad(torch.vander(points, _OUTPUT, increasing=True), (0, 0, 0, 1)).t().clone()
    filters = F.pad(powers / distances[:, None], (0, 0, 0, 1))
    outputs[-1, -1] = filters[-1, -1] = 1
    products = (outputs[:, None] * filters.t()).flatten(0, 1)  # (output, tap) -> point
    places = torch.arange(_OUTPUT)[:, None] + torch.arange(_FILTER)
    wanted = F.one_hot(places.flatten(), _TILE).double()
    return outputs, filters, torch.linalg.lstsq(products, wanted).solution
