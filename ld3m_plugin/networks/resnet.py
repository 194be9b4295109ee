"""ResNet18 with a 3×3 stem and instance norm.

He et al., Deep Residual Learning for Image Recognition (CVPR 2016), in the form of Zhao et al., Dataset Condensation
with Gradient Matching (ICLR 2021): no max pooling after the stem. The last feature map is averaged, of any size,
as in Cazenavette et al., Generalizing Dataset Distillation via Deep Generative Prior (CVPR 2023).
"""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor, nn
from torch.nn import functional as F

from ld3m_plugin.networks.layers import Classifier, Norm, NormOptions, normalisation
from ld3m_plugin.options import build


class BasicBlock(nn.Module):
    """Two 3×3 convolutions plus the input: (N, before, H, W) -> (N, width, H/stride, W/stride).

    Args:
        size: height and width of the output, for layer norm.
    """

    def __init__(self, before: int, width: int, stride: int, norm: Norm, size: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, width, 3, stride=stride, padding=1, bias=False)
        # Named bn for every norm, as in published checkpoints.
        self.bn1 = normalisation(norm, width, size)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = normalisation(norm, width, size)
        self.shortcut = nn.Sequential()
        if stride != 1 or before != width:
            projection = nn.Conv2d(before, width, 1, stride=stride, bias=False)
            self.shortcut = nn.Sequential(projection, normalisation(norm, width, size))

    def forward(self, features: Tensor) -> Tensor:
        """Features (N, width, H/stride, W/stride)."""
        residual = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(features)))))
        return F.relu(residual + self.shortcut(features))


class ResidualNetwork(Classifier):
    """A 3×3 stem, stages of equally many blocks, spatial mean, one linear layer. Stages but the first halve the image."""

    Options = NormOptions
    widths: ClassVar[tuple[int, ...]]
    blocks: ClassVar[int]

    def __init__(self, *, channels: int, image_size: int, num_classes: int, **settings: Any) -> None:
        super().__init__(channels=channels, image_size=image_size, num_classes=num_classes)
        norm = build(NormOptions, settings, f"network {type(self).__name__!r}").norm
        before = self.widths[0]
        self.conv1 = nn.Conv2d(channels, before, 3, padding=1, bias=False)
        self.bn1 = normalisation(norm, before, image_size)
        for stage, width in enumerate(self.widths):
            # Strides round up, so 28 pixels need no padding (28, 14, 7, 4), and published code does not pad them.
            size, stride = -(-image_size // 2**stage), 2 if stage else 1
            first = BasicBlock(before, width, stride, norm, size)
            others = [BasicBlock(width, width, 1, norm, size) for _ in range(self.blocks - 1)]
            self.add_module(f"layer{stage + 1}", nn.Sequential(first, *others))
            before = width
        self.classifier = nn.Linear(before, num_classes)

    def embed(self, images: Tensor) -> Tensor:
        """Features (N, last width), the spatial mean of the last stage, of images (N, C, H, W)."""
        features = F.relu(self.bn1(self.conv1(images)))
        for stage in range(len(self.widths)):
            features = self.get_submodule(f"layer{stage + 1}")(features)
        return F.adaptive_avg_pool2d(features, 1).flatten(1)


class ResNet18(ResidualNetwork):
    """Four stages of two blocks with 64, 128, 256 and 512 channels.

    Args:
        channels: C.
        image_size: H = W, at least 9: the last stage of a smaller image is one pixel, whose instance norm is constant.
        num_classes: K.
        settings: the fields of `NormOptions`.

    Raises:
        InvalidOptionError: a setting is out of range.
    """

    smallest, widths, blocks = 9, (64, 128, 256, 512), 2
