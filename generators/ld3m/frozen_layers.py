"""Shorter forms of the layers of a frozen network: the same numbers up to rounding, with fewer operations.

A prior's network never learns, all rows of a pass share one timestep, and its text is one token. So:

- softmax over one key is 1: cross-attention is to_out(to_v(token)), the same for every position. Queries, keys, scores and the
  normalisation before them change nothing, and their gradient is 0.
- the projected time is one vector, which joins the bias of the convolution before it.
- doubling by nearest neighbours and a 3x3 convolution are one transposed convolution: 16 taps for four pixels instead of 36.
- 1x1 convolutions beside a transformer are matrix products of its tokens.
- a division by 1 is left out.

Modules keep their classes, names and tensors. Where a layer has another form, or is called in another way, diffusers' own forward
pass runs. These forms are for first derivatives with respect to activations; see `GatedGELU`.
"""

from __future__ import annotations

from collections.abc import Callable
from types import MethodType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ld3m_plugin.errors import UsageError


def shorten(model: Any) -> None:
    """Give the layers of a frozen diffusers model in evaluation mode their shorter forms, in place.

    Derived weights become buffers that are not part of the state dict.
    """
    from diffusers.models.resnet import ResnetBlock2D
    from diffusers.models.transformers.transformer_2d import Transformer2DModel
    from diffusers.models.upsampling import Upsample2D

    forms: dict[Any, tuple[Callable[[Any], bool], Callable[..., Any]]] = {
        ResnetBlock2D: (_is_plain_resnet, _resnet),
        Transformer2DModel: (_is_plain_transformer, _transformer),
        Upsample2D: (_doubles, _doubled),
    }
    for module in model.modules():
        if type(module) in forms:
            fits, form = forms[type(module)]
            if fits(module):
                module.forward = MethodType(form, module)


def _is_plain_resnet(block: Any) -> bool:
    plain = block.time_emb_proj is None or (block.time_embedding_norm == "default" and not block.skip_time_act)
    return bool(plain and block.upsample is None and block.downsample is None)


def _resnet(block: Any, states: Tensor, temb: Tensor | None = None) -> Any:
    """`ResnetBlock2D` whose time (1, d) is one for all rows (n, C, h, w)."""
    if block.training or (temb is not None and len(temb) != 1):
        return own_pass(block)(states, temb)
    first, act = block.conv1, block.nonlinearity
    bias = first.bias if temb is None else first.bias + block.time_emb_proj(act(temb))[0]
    hidden = F.conv2d(act(block.norm1(states)), first.weight, bias, padding=1)
    hidden = block.conv2(act(block.norm2(hidden)))
    shortcut = states if block.conv_shortcut is None else block.conv_shortcut(states)
    return _divided(shortcut + hidden, block.output_scale_factor)


def is_short(module: Any) -> bool:
    """Whether a module has another forward pass than that of its class."""
    return "forward" in vars(module)


def own_pass(module: Any) -> Any:
    """diffusers' forward pass of a module."""
    return MethodType(type(module).forward, module)


def _divided(states: Tensor, factor: float) -> Tensor:
    return states if factor == 1 else states / factor


def _doubles(layer: Any) -> bool:
    conv: Any = layer.conv if layer.name == "conv" else None
    plain = layer.norm is None and layer.interpolate and not layer.use_conv_transpose and isinstance(conv, nn.Conv2d)
    if plain and conv.kernel_size == (3, 3) and conv.padding == (1, 1):
        layer.register_buffer("doubling", None, persistent=False)
        return True
    return False


def _doubled(layer: Any, states: Tensor, output_size: Any = None) -> Any:
    """`Upsample2D` of (n, C, h, w) to (n, D, 2h, 2w)."""
    if output_size is not None:
        return own_pass(layer)(states, output_size)
    weight = layer.conv.weight
    # After a change of precision, sums that were rounded before are not the sums of the weights.
    if layer.doubling is None or layer.doubling_of != (weight.dtype, weight._version):
        layer.doubling, layer.doubling_of = _doubling(weight), (weight.dtype, weight._version)
    return F.conv_transpose2d(states, layer.doubling, layer.conv.bias, stride=2, padding=1)


@torch.no_grad()
def _doubling(weight: Tensor) -> Tensor:
    """The transposed kernel (C, D, 4, 4) of weights (D, C, 3, 3): what the 2x2 copies of a pixel give to 4x4 pixels around."""
    kernel = F.conv2d(weight.flip(2, 3).flatten(0, 1)[:, None], weight.new_ones(1, 1, 2, 2), padding=1)
    return kernel.view(*weight.shape[:2], 4, 4).transpose(0, 1).contiguous()


def _is_plain_transformer(model: Any) -> bool:
    return bool(model.is_input_continuous) and all(map(_is_plain_block, model.transformer_blocks))


def _is_plain_block(block: Any) -> bool:
    from diffusers.models.activations import GEGLU

    return (
        block.norm_type == "layer_norm"
        and not block.only_cross_attention
        and block.pos_embed is None
        and block._chunk_size is None
        and block.attn2 is not None
        and all(map(_is_plain_attention, (block.attn1, block.attn2)))
        and type(block.ff.net[0]) is GEGLU
        and block.ff.net[0].proj.bias is not None
    )


def _is_plain_attention(attention: Any) -> bool:
    others = (attention.spatial_norm, attention.group_norm, attention.norm_q, attention.norm_k, attention.norm_cross)
    return type(attention.processor).__name__ == "AttnProcessor2_0" and not any(others)


def _transformer(model: Any, states: Tensor, encoder_hidden_states: Tensor | None = None, **others: Any) -> Any:
    """`Transformer2DModel` of states (n, C, h, w) and one token (k·n, 1, d); gives k·n states."""
    token = encoder_hidden_states
    meant = {name: value for name, value in others.items() if name != "return_dict" and value is not None}
    if model.training or meant or token is None or token.shape[1] != 1:
        return own_pass(model)(states, token, **others)
    tokens = _linear(model.proj_in, model.norm(states).flatten(2).mT.contiguous())
    for block in model.transformer_blocks:
        tokens = _block(block, tokens, token)
    change = _linear(model.proj_out, tokens).mT.unflatten(2, states.shape[2:])
    return (copied(states, len(change)) + change,)


def copied(states: Tensor, rows: int) -> Tensor:
    """`rows` states: all of them (n, ...) again and again."""
    return states if len(states) == rows else states.repeat(rows // len(states), *[1] * (states.ndim - 1))


def _linear(layer: Any, tokens: Tensor) -> Tensor:
    """A linear layer, or a 1x1 convolution as one."""
    return F.linear(tokens, layer.weight.flatten(1), layer.bias)


def _block(block: Any, tokens: Tensor, token: Tensor) -> Tensor:
    """`BasicTransformerBlock` of tokens (n, S, C) and one token (k·n, 1, d) of text; from the text on, there are k·n rows."""
    tokens = tokens + _attend(block.attn1, block.norm1(tokens))
    tokens = copied(tokens, len(token)) + _value(block.attn2, token)
    gate, _, out = block.ff.net[:3]
    hidden, weight, bias = block.norm3(tokens), gate.proj.weight.chunk(2), gate.proj.bias.chunk(2)
    value, gates = (F.linear(hidden, w, b) for w, b in zip(weight, bias, strict=True))
    activated: Tensor = GatedGELU.apply(value, gates)
    changed: Tensor = tokens + out(activated)
    return changed


def _attend(attention: Any, tokens: Tensor) -> Tensor:
    q, k, v = (
        layer(tokens).unflatten(2, (attention.heads, -1)).transpose(1, 2)
        for layer in (attention.to_q, attention.to_k, attention.to_v)
    )
    mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
    return _divided(attention.to_out[0](mixed), attention.rescale_output_factor)


def _value(attention: Any, token: Tensor) -> Tensor:
    """Cross-attention to one token (n, 1, d): the same vector (n, 1, C) at every position."""
    return _divided(attention.to_out[0](attention.to_v(token)), attention.rescale_output_factor)


class GatedGELU(torch.autograd.Function):
    """value · gelu(gate) that keeps its two inputs alone, and is differentiated once.

    Raises:
        UsageError: a second derivative is asked for: one formula would be missing in it, silently.
    """

    @staticmethod
    def forward(ctx: Any, value: Tensor, gate: Tensor) -> Tensor:
        ctx.save_for_backward(value, gate)
        return value * F.gelu(gate)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        if torch.is_grad_enabled():
            raise UsageError("the network of a prior is differentiated once: leave out create_graph=True")
        value, gate = ctx.saved_tensors
        return grad * F.gelu(gate), torch.ops.aten.gelu_backward(grad * value, gate)
