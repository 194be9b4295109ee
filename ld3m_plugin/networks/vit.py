"""Vision transformer without layer norm, as the dataset distillation literature evaluates it.

Dosovitskiy et al., An Image is Worth 16x16 Words (ICLR 2021), in the form of Cazenavette et al., Generalizing Dataset
Distillation via Deep Generative Prior (CVPR 2023), whose published code leaves every LayerNorm out.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from ld3m_plugin.networks.layers import Classifier, Count
from ld3m_plugin.options import Options, build


class Patches(nn.Module):
    """Cuts images into patches, row by row: (N, C, H, W) -> (N, patches, size·size·C), channels innermost.

    Images that patches do not tile are padded with zeros on all sides (28×28 to 32×32 for patches of 16).
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def forward(self, images: Tensor) -> Tensor:
        """Patches (N, patches, size·size·C), row by row."""
        size = self.size
        missing_rows, missing_columns = -images.shape[2] % size, -images.shape[3] % size
        left, top = missing_columns // 2, missing_rows // 2
        images = F.pad(images, (left, missing_columns - left, top, missing_rows - top))
        count, channels, height, width = images.shape
        tiles = images.reshape(count, channels, height // size, size, width // size, size)
        # (N, C, row, y, column, x) -> (N, row, column, y, x, C)
        return tiles.permute(0, 2, 4, 3, 5, 1).reshape(count, -1, size * size * channels)


class Residual(nn.Module):
    """Adds the output of `fn` to its input."""

    def __init__(self, fn: nn.Module) -> None:
        super().__init__()
        self.fn = fn

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens (N, T, dim)."""
        added: Tensor = tokens + self.fn(tokens)
        return added


class Attention(nn.Module):
    """Multi-head self-attention on tokens (N, T, dim)."""

    def __init__(self, dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.to_qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.to_out = nn.Sequential(nn.Linear(dim, dim), nn.Dropout(dropout))

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens (N, T, dim)."""
        count, length, dim = tokens.shape
        qkv = self.to_qkv(tokens).reshape(count, length, 3, self.heads, dim // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)  # (N, heads, T, dim/heads) each
        # No fused attention kernel: it has no second derivative, which gradient matching needs.
        weights = (query @ key.transpose(-1, -2) * (dim // self.heads) ** -0.5).softmax(-1)
        mixed: Tensor = self.to_out((weights @ value).transpose(1, 2).reshape(count, length, dim))
        return mixed


def feed_forward(dim: int, hidden: int, dropout: float) -> nn.Sequential:
    """Make two linear layers on each token of (N, T, dim)."""
    layers = (nn.Linear(dim, hidden), nn.GELU(), nn.Dropout(dropout), nn.Linear(hidden, dim), nn.Dropout(dropout))
    return nn.Sequential(OrderedDict(net=nn.Sequential(*layers)))


def transformer(dim: int, depth: int, heads: int, hidden: int, dropout: float) -> nn.Sequential:
    """Make `depth` pairs of an attention and a feed-forward layer on tokens (N, T, dim), each added to its input."""
    pairs = (
        nn.Sequential(Residual(Attention(dim, heads, dropout)), Residual(feed_forward(dim, hidden, dropout)))
        for _ in range(depth)
    )
    return nn.Sequential(OrderedDict(layers=nn.Sequential(*pairs)))


class ViTOptions(Options):
    """Settings of a vision transformer."""

    patch_size: Count = Field(16, description="height and width of a patch, in pixels")
    dim: Count = Field(512, description="features of a token, a multiple of heads")
    depth: Count = Field(10, description="attention layers")
    heads: Count = Field(8, description="attention heads")
    mlp_dim: Count = Field(512, description="hidden features of the feed-forward layers")
    dropout: float = Field(0.1, ge=0, lt=1, description="share of features set to zero in training")

    @model_validator(mode="after")
    def _heads_divide_dim(self) -> Self:
        if self.dim % self.heads:
            raise ValueError(f"dim = {self.dim}: must be a multiple of heads = {self.heads}")
        return self


class ViT(Classifier):
    """Patches as tokens, a class token, learned positions and a transformer; a linear layer classifies the class token.

    Args:
        channels: C.
        image_size: H = W; padded with zeros to a multiple of `patch_size`.
        num_classes: K.
        settings: the fields of `ViTOptions`.

    Raises:
        InvalidOptionError: a setting is out of range.
    """

    Options = ViTOptions
    head = "mlp_head"

    def __init__(self, *, channels: int, image_size: int, num_classes: int, **settings: Any) -> None:
        super().__init__(channels=channels, image_size=image_size, num_classes=num_classes)
        options = build(ViTOptions, settings, "network 'ViT'")
        patch_size, dim = options.patch_size, options.dim
        patches = (-(-image_size // patch_size)) ** 2
        self.pos_embedding = nn.Parameter(torch.randn(1, patches + 1, dim))
        self.cls_token = nn.Parameter(torch.randn(1, 1, dim))
        self.to_patch_embedding = nn.Sequential(Patches(patch_size), nn.Linear(patch_size**2 * channels, dim))
        self.dropout = nn.Dropout(options.dropout)
        self.transformer = transformer(dim, options.depth, options.heads, options.mlp_dim, options.dropout)
        self.mlp_head = nn.Sequential(nn.Linear(dim, num_classes))

    def embed(self, images: Tensor) -> Tensor:
        """Features (N, dim) of the class token, of images (N, C, H, W)."""
        patches = self.to_patch_embedding(images)  # (N, patches, dim)
        tokens = torch.cat((self.cls_token.expand(len(patches), -1, -1), patches), dim=1)
        features: Tensor = self.transformer(self.dropout(tokens + self.pos_embedding))[:, 0]
        return features
