"""The original networks, computed from a state_dict by the names in it: a second form of what diffusers computes.

Everything is read off the names and shapes, apart from the width of an attention head, which neither tells.
"""

import math
from itertools import count

import torch
from torch.nn import functional as F


class SecondForm:
    """`head_channels` is a number, or None for a single head."""

    def __init__(self, state, head_channels=None):
        self.state, self.head_channels = state, head_channels

    def has(self, name):
        return any(key.startswith(f"{name}.") for key in self.state)

    def conv(self, x, name, **how):
        return F.conv2d(x, self.state[f"{name}.weight"], self.state[f"{name}.bias"], **how)

    def linear(self, x, name):
        return F.linear(x, self.state[f"{name}.weight"], self.state.get(f"{name}.bias"))

    def norm(self, x, name, eps):
        return F.group_norm(x, 32, self.state[f"{name}.weight"], self.state[f"{name}.bias"], eps)

    def layer_norm(self, x, name):
        return F.layer_norm(x, x.shape[-1:], self.state[f"{name}.weight"], self.state[f"{name}.bias"])

    # The first stage

    def resnet(self, x, name):
        h = self.conv(F.silu(self.norm(x, f"{name}.norm1", 1e-6)), f"{name}.conv1", padding=1)
        h = self.conv(F.silu(self.norm(h, f"{name}.norm2", 1e-6)), f"{name}.conv2", padding=1)
        return h + (self.conv(x, f"{name}.nin_shortcut") if self.has(f"{name}.nin_shortcut") else x)

    def attention(self, x, name):
        h = self.norm(x, f"{name}.norm", 1e-6)
        q, k, v = (self.conv(h, f"{name}.{part}").flatten(2).mT for part in "qkv")
        return x + self.conv(attend(q, k, v).mT.reshape(x.shape), f"{name}.proj_out")

    def level(self, x, name):
        for index in count():
            if not self.has(f"{name}.block.{index}"):
                return x
            x = self.resnet(x, f"{name}.block.{index}")
            if self.has(f"{name}.attn.{index}"):
                x = self.attention(x, f"{name}.attn.{index}")

    def middle(self, x, name):
        x = self.attention(self.resnet(x, f"{name}.mid.block_1"), f"{name}.mid.attn_1")
        return self.resnet(x, f"{name}.mid.block_2")

    def levels(self, name):
        return [level for level in range(10) if self.has(f"{name}.{level}")]

    def encode(self, x):
        name = "first_stage_model.encoder"
        x = self.conv(x, f"{name}.conv_in", padding=1)
        for level in self.levels(f"{name}.down"):
            x = self.level(x, f"{name}.down.{level}")
            if self.has(f"{name}.down.{level}.downsample"):
                x = self.conv(F.pad(x, (0, 1, 0, 1)), f"{name}.down.{level}.downsample.conv", stride=2)
        x = F.silu(self.norm(self.middle(x, name), f"{name}.norm_out", 1e-6))
        return self.conv(self.conv(x, f"{name}.conv_out", padding=1), "first_stage_model.quant_conv")

    def quantise(self, x):
        """The nearest code of each position; its gradient is passed on as if nothing had happened."""
        codes = self.state["first_stage_model.quantize.embedding.weight"]
        distances = (x.movedim(1, -1).unsqueeze(-2) - codes).square().sum(-1)
        return x + (codes[distances.argmin(-1)].movedim(-1, 1) - x).detach()

    def decode(self, x):
        name = "first_stage_model.decoder"
        x = self.conv(self.conv(x, "first_stage_model.post_quant_conv"), f"{name}.conv_in", padding=1)
        x = self.middle(x, name)
        for level in reversed(self.levels(f"{name}.up")):
            x = self.level(x, f"{name}.up.{level}")
            if self.has(f"{name}.up.{level}.upsample"):
                x = self.conv(F.interpolate(x, scale_factor=2.0), f"{name}.up.{level}.upsample.conv", padding=1)
        return self.conv(F.silu(self.norm(x, f"{name}.norm_out", 1e-6)), f"{name}.conv_out", padding=1)

    # The U-Net

    def heads(self, x):
        """(N, length, channels) as (N, heads, length, channels of a head)."""
        width = self.head_channels or x.shape[-1]
        return x.unflatten(-1, (-1, width)).transpose(1, 2)

    def timed_resnet(self, x, name, time):
        h = self.conv(F.silu(self.norm(x, f"{name}.in_layers.0", 1e-5)), f"{name}.in_layers.2", padding=1)
        h = h + self.linear(F.silu(time), f"{name}.emb_layers.1")[..., None, None]
        h = self.conv(F.silu(self.norm(h, f"{name}.out_layers.0", 1e-5)), f"{name}.out_layers.3", padding=1)
        return h + (self.conv(x, f"{name}.skip_connection") if self.has(f"{name}.skip_connection") else x)

    def joint_attention(self, x, name):
        weight, bias = self.state[f"{name}.qkv.weight"], self.state[f"{name}.qkv.bias"]
        joint = F.conv1d(self.norm(x, f"{name}.norm", 1e-5).flatten(2), weight, bias)
        width = self.head_channels or x.shape[1]
        q, k, v = joint.unflatten(1, (-1, 3, width)).mT.unbind(2)
        out = attend(q, k, v).mT.flatten(1, 2)
        out = F.conv1d(out, self.state[f"{name}.proj_out.weight"], self.state[f"{name}.proj_out.bias"])
        return x + out.reshape(x.shape)

    def cross_attention(self, x, name, context):
        q, k, v = (
            self.heads(self.linear(source, f"{name}.to_{part}"))
            for source, part in ((x, "q"), (context, "k"), (context, "v"))
        )
        return self.linear(attend(q, k, v).transpose(1, 2).flatten(2), f"{name}.to_out.0")

    def transformer(self, x, name, context):
        h = self.conv(self.norm(x, f"{name}.norm", 1e-6), f"{name}.proj_in").flatten(2).mT
        for index in count():
            block = f"{name}.transformer_blocks.{index}"
            if not self.has(block):
                return x + self.conv(h.mT.reshape(x.shape), f"{name}.proj_out")
            own = self.layer_norm(h, f"{block}.norm1")
            h = h + self.cross_attention(own, f"{block}.attn1", own)
            h = h + self.cross_attention(self.layer_norm(h, f"{block}.norm2"), f"{block}.attn2", context)
            value, gate = self.linear(self.layer_norm(h, f"{block}.norm3"), f"{block}.ff.net.0.proj").chunk(2, dim=-1)
            h = h + self.linear(value * F.gelu(gate), f"{block}.ff.net.2")

    def apply(self, x, name, time, context):
        """One entry of a list of modules; its tensors say what it is."""
        if self.has(f"{name}.in_layers"):
            return self.timed_resnet(x, name, time)
        if self.has(f"{name}.qkv"):
            return self.joint_attention(x, name)
        if self.has(f"{name}.transformer_blocks"):
            return self.transformer(x, name, context)
        if self.has(f"{name}.op"):
            return self.conv(x, f"{name}.op", stride=2, padding=1)
        if self.has(f"{name}.conv"):
            return self.conv(F.interpolate(x, scale_factor=2.0), f"{name}.conv", padding=1)
        return self.conv(x, name, padding=1)

    def block(self, x, name, time, context):
        for index in count():
            if not self.has(f"{name}.{index}"):
                return x
            x = self.apply(x, f"{name}.{index}", time, context)

    def predict(self, x, timesteps, context=None):
        name = "model.diffusion_model"
        half = self.state[f"{name}.time_embed.0.weight"].shape[1] // 2
        # In float32 whatever the weights are, as published.
        frequencies = torch.exp(-math.log(10000) * torch.arange(half, dtype=torch.float32) / half)
        angles = torch.as_tensor(timesteps).reshape(-1, 1).float() * frequencies
        waves = torch.cat([angles.cos(), angles.sin()], dim=1).to(x.dtype)
        time = self.linear(F.silu(self.linear(waves, f"{name}.time_embed.0")), f"{name}.time_embed.2")
        skips = []
        for position in count():
            if not self.has(f"{name}.input_blocks.{position}"):
                break
            x = self.block(x, f"{name}.input_blocks.{position}", time, context)
            skips.append(x)
        x = self.block(x, f"{name}.middle_block", time, context)
        for position in range(len(skips)):
            x = self.block(torch.cat([x, skips.pop()], dim=1), f"{name}.output_blocks.{position}", time, context)
        return self.conv(F.silu(self.norm(x, f"{name}.out.0", 1e-5)), f"{name}.out.2", padding=1)


def attend(q, k, v):
    """(..., length, channels) each."""
    return torch.softmax(q @ k.mT / q.shape[-1] ** 0.5, dim=-1) @ v
