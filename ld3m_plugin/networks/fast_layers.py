"""Convolution, instance norm and average pooling whose first and second derivatives are fast on the CPU.

Gradient and trajectory matching differentiate gradients. torch computes the second derivatives of these layers by general
formulas, and some derivatives by slow kernels. Here, values and first derivatives are torch's own, bit for bit, except the
gradient of a convolution of few channels with respect to its input; second derivatives are the same up to rounding. Everywhere
but in plain float32 or float64 on the CPU, and in forward mode, the layers are torch's own.

Each layer is a pair of functions, the layer and its gradient, so that the second derivative is the gradient's own derivative.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.autograd.function import Function
from torch.nn import functional as F

#: Below so many input channels, the input's gradient of oneDNN's convolutions costs as much as with so many.
_FEW_CHANNELS = 8

#: Values that pooling handles at a time: 2 MiB in single precision.
_IN_CACHE = 2**19


class Convolution(nn.Conv2d):
    """A convolution of stride 1."""

    def __init__(self, channels: int, outputs: int, kernel_size: int, *, padding: int) -> None:
        super().__init__(channels, outputs, kernel_size, padding=padding)

    def forward(self, maps: Tensor) -> Tensor:
        """Maps (N, outputs, h', w') of maps (N, channels, h, w)."""
        if not (_suits(maps) and torch.is_grad_enabled()):
            return super().forward(maps)
        result: Tensor = _Convolution.apply(maps, self.weight, self.bias, self.padding)
        return result


class InstanceNorm(nn.GroupNorm):
    """`GroupNorm(C, C)`."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels)

    def forward(self, maps: Tensor) -> Tensor:
        """Normalised maps (N, C, h, w) of maps (N, C, h, w)."""
        if not (_suits(maps) and torch.is_grad_enabled()):
            return super().forward(maps)
        result: Tensor = _InstanceNorm.apply(maps, self.weight, self.bias, self.eps)[0]
        return result


class AveragePooling(nn.AvgPool2d):
    """Means of 2×2 pixels; of odd sizes, the last row and column are left out."""

    def __init__(self) -> None:
        super().__init__(2)

    def forward(self, maps: Tensor) -> Tensor:
        """Maps (N, C, h//2, w//2) of maps (N, C, h, w)."""
        return means_of_squares(maps) if _suits(maps) else super().forward(maps)


def means_of_squares(maps: Tensor) -> Tensor:
    """Means (..., h//2, w//2) of the 2×2 pixels of maps (..., h, w)."""
    result: Tensor = _Halved.apply(maps)
    return result


def _suits(maps: Tensor) -> bool:
    """Whether the fast forms give what torch's own would: not with half precision, other devices, channels last or `jvp`."""
    if forward_ad._current_level >= 0:  # forward mode: the functions here have no such derivative
        return False
    plain = maps.device.type == "cpu" and maps.dtype in (torch.float32, torch.float64)
    return plain and maps.is_contiguous() and not torch.is_autocast_enabled("cpu")


def _signed(function: type[Function]) -> type[Function]:
    """Keep the signature that `Function.apply` asks for at each call: finding it costs more than a small layer."""
    function.forward.__signature__ = inspect.signature(function.forward)  # type: ignore[attr-defined]
    return function


@_signed
class _Convolution(Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(maps: Tensor, weight: Tensor, bias: Tensor, padding: Sequence[int]) -> Tensor:
        return F.conv2d(maps, weight, bias, padding=tuple(padding))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], _output: Tensor) -> None:
        maps, weight, _, ctx.padding = inputs
        ctx.save_for_backward(maps, weight)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:
        wanted = tuple(ctx.needs_input_grad[:3])
        return *_ConvolutionGradient.apply(gradient, *ctx.saved_tensors, ctx.padding, wanted), None


@_signed
class _ConvolutionGradient(Function):
    """Gradients with respect to maps, weight and bias, those that are `wanted`."""

    generate_vmap_rule = True

    @staticmethod
    def forward(
        gradient: Tensor, maps: Tensor, weight: Tensor, padding: Sequence[int], wanted: tuple[bool, bool, bool]
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        of_maps, of_weight, of_bias = wanted
        few = weight.shape[1] < _FEW_CHANNELS
        found = _backward(gradient, maps, weight, padding, (of_maps and not few, of_weight, of_bias))
        if of_maps and few:
            found = (_towards_maps(gradient, maps, weight, padding), *found[1:])
        return found

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], _output: Any) -> None:
        *tensors, ctx.padding, _ = inputs
        ctx.save_for_backward(*tensors)
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, maps_to: Tensor | None, weight_to: Tensor | None, bias_to: Tensor | None) -> tuple[Any, ...]:
        # The gradient is linear in each of its three arguments, and the layer linear in two.
        gradient, maps, weight = ctx.saved_tensors
        towards: list[Tensor | None] = [None, None, None]
        if weight_to is not None:
            towards[0] = F.conv2d(maps, weight_to, bias_to, padding=ctx.padding)
            if ctx.needs_input_grad[1]:
                towards[1] = _towards_maps(gradient, maps, weight_to, ctx.padding)
        elif bias_to is not None:
            towards[0] = bias_to[:, None, None].expand_as(gradient)
        if maps_to is not None:
            through = F.conv2d(maps_to, weight, padding=ctx.padding)
            towards[0] = through if towards[0] is None else towards[0] + through
            towards[2] = _backward(gradient, maps_to, weight, ctx.padding, (False, True, False))[1]
        return *towards, None, None


def _backward(
    gradient: Tensor, maps: Tensor, weight: Tensor, padding: Sequence[int], wanted: tuple[bool, bool, bool]
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    sizes, one, none = [weight.shape[0]], [1, 1], [0, 0]
    found: tuple[Tensor | None, Tensor | None, Tensor | None] = torch.ops.aten.convolution_backward(
        gradient, maps, weight, sizes, one, list(padding), one, False, none, 1, list(wanted)
    )
    return found


def _towards_maps(gradient: Tensor, maps: Tensor, weight: Tensor, padding: Sequence[int]) -> Tensor:
    """The gradient of a convolution with respect to its input."""
    if weight.shape[1] >= _FEW_CHANNELS:
        return F.conv_transpose2d(gradient, weight, padding=tuple(padding))
    # bmm and not matmul, which may copy the gradient into another layout first
    parts = torch.bmm(weight.flatten(1).t().expand(len(gradient), -1, -1), gradient.flatten(2))
    return F.fold(parts, maps.shape[-2:], weight.shape[-2:], padding=tuple(padding))


@_signed
class _InstanceNorm(Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(maps: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
        count, channels, height, width = maps.shape
        found: tuple[Tensor, Tensor, Tensor] = torch.ops.aten.native_group_norm(
            maps, weight, bias, count, channels, height * width, channels, eps
        )
        return found

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
        maps, weight, _, ctx.eps = inputs
        _, mean, inverse_deviation = output
        ctx.mark_non_differentiable(mean, inverse_deviation)
        ctx.save_for_backward(maps, mean, inverse_deviation, weight)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, *_: Any) -> tuple[Any, ...]:
        return *_InstanceNormGradient.apply(gradient.contiguous(), *ctx.saved_tensors, ctx.eps), None


@_signed
class _InstanceNormGradient(Function):
    """Gradients with respect to maps, weight γ and bias.

    Per image and channel, with M pixels, x̂ = (x − μ)·r, and P(v) = v − mean(v) − x̂·mean(v·x̂): dx = γ·r·P(g), and summed
    over the images dγ = Σ g·x̂, dβ = Σ g.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(
        gradient: Tensor, maps: Tensor, mean: Tensor, inverse_deviation: Tensor, weight: Tensor, _eps: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        count, channels, height, width = maps.shape
        sizes = count, channels, height * width, channels
        found: tuple[Tensor, Tensor, Tensor] = torch.ops.aten.native_group_norm_backward(
            gradient, maps, mean, inverse_deviation, weight, *sizes, [True, True, True]
        )
        return found

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], _output: Any) -> None:
        *tensors, ctx.eps = inputs
        ctx.save_for_backward(*tensors)

    @staticmethod
    def backward(ctx: Any, u: Tensor, a: Tensor, b: Tensor) -> tuple[Any, ...]:
        """For s = ⟨u, dx⟩ + ⟨a, dγ⟩ + ⟨b, dβ⟩, ds/dg, ds/dx and ds/dγ: sums over pixels, then two weighted sums of g, u and x."""
        g, x, mean, inverse_deviation, weight = ctx.saved_tensors
        m, r, gamma = mean[..., None, None], inverse_deviation[..., None, None], weight[:, None, None]
        if torch.is_grad_enabled():  # for a third derivative: the saved ones count as constants
            variance, m = torch.var_mean(x, (-2, -1), correction=0, keepdim=True)
            r = (variance + ctx.eps).rsqrt()
        a, b, pixels = a[:, None, None], b[:, None, None], x.shape[-2] * x.shape[-1]
        u_sum, g_sum = _sum(u), _sum(g)
        u_hat, g_hat = r * (_sum(u * x) - m * u_sum), r * (_sum(g * x) - m * g_sum)  # ⟨u, x̂⟩, ⟨g, x̂⟩
        scale = gamma * r
        p = _sum(g * u) - (u_sum * g_sum + u_hat * g_hat) / pixels  # ⟨u, P(g)⟩
        k = a - scale * u_hat / pixels
        constant = b - scale * u_sum / pixels - k * r * m
        to_gradient = torch.addcmul(torch.addcmul(constant, u, scale), x, k * r)
        # x̂ depends on x by r·P; r by −r²·x̂ / M.
        e = -scale * g_hat / pixels
        f = -(r * r / pixels) * (k * g_hat + e * u_hat + scale * p)
        constant = -r * (k * g_sum + e * u_sum) / pixels - f * m
        to_maps = torch.addcmul(torch.addcmul(torch.addcmul(constant, g, r * k), u, r * e), x, f)
        return to_gradient, to_maps, None, None, (r * p).sum((0, 2, 3)), None


def _sum(maps: Tensor) -> Tensor:
    return maps.sum((-2, -1), keepdim=True)


@_signed
class _Halved(Function):
    @staticmethod
    def forward(maps: Tensor) -> Tensor:
        high, wide = _even(maps, -2), _even(maps, -1)
        result = maps.new_empty((*maps.shape[:-2], high // 2, wide // 2))
        for part, means in _blocks(maps, result):
            # In the order of torch's kernel, four values one after another: the same bits, in a third of the time.
            top, bottom = (part[..., row:high:2, :wide] for row in (0, 1))
            torch.add(top[..., ::2], top[..., 1::2], out=means)
            means.add_(bottom[..., ::2]).add_(bottom[..., 1::2]).mul_(0.25)
        return result

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], _output: Tensor) -> None:
        ctx.size = inputs[0].shape[-2:]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        return _Spread.apply(gradient, *ctx.size)

    @staticmethod
    def vmap(_info: Any, in_dims: tuple[int], maps: Tensor) -> tuple[Tensor, int]:
        return _Halved.apply(maps.movedim(in_dims[0], 0)), 0


@_signed
class _Spread(Function):
    """A quarter of each pixel of maps (..., h//2, w//2) for each pixel of its square: the transpose of `_Halved`."""

    @staticmethod
    def forward(maps: Tensor, height: int, width: int) -> Tensor:
        result = maps.new_empty((*maps.shape[:-2], height, width))
        high, wide = _even(result, -2), _even(result, -1)
        result[..., high:, :] = 0
        result[..., wide:] = 0
        for part, spread in _blocks(maps, result):
            quarter, top = part * 0.25, spread[..., 0:high:2, :wide]
            top[..., ::2], top[..., 1::2] = quarter, quarter
            spread[..., 1:high:2, :wide] = top
        return result

    @staticmethod
    def setup_context(_ctx: Any, _inputs: tuple[Tensor, int, int], _output: Tensor) -> None:
        pass

    @staticmethod
    def backward(_ctx: Any, gradient: Tensor) -> tuple[Any, None, None]:
        return _Halved.apply(gradient), None, None

    @staticmethod
    def vmap(_info: Any, in_dims: tuple[int, None, None], maps: Tensor, height: int, width: int) -> tuple[Tensor, int]:
        return _Spread.apply(maps.movedim(in_dims[0], 0), height, width), 0


def _even(maps: Tensor, dim: int) -> int:
    return maps.shape[dim] // 2 * 2


def _blocks(maps: Tensor, result: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Maps and their results a few images at a time, which stay in the cache from one operation to the next."""
    count = max(1, _IN_CACHE * len(maps) // max(1, maps.numel(), result.numel()))
    return zip(maps.split(count), result.split(count), strict=True)
