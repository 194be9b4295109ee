"""ResNet18 with a 3×3 stem and instance norm.

He et al., Deep Residual Learning for Image Recognition (CVPR 2016), in the form of Zhao et al., Dataset Condensation
with Gradient Matching (ICLR 2021): no max pooling after the stem. The last feature map is averaged, of any size,
as in Cazenavette et al., Generalizing Dataset Distillation via Deep Generative Prior (CVPR 2023).
"""

from __future__ import annotations

from typing import Any

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


class ResNet18(Classifier):
    """A 3×3 stem, four stages of two blocks with 64, 128, 256 and 512 channels, the spatial mean, one linear layer.

    Args:
        channels: C.
        image_size: H = W, at least 9: the last stage of a smaller image is one pixel, whose instance norm is constant.
        num_classes: K.
        settings: the fields of `NormOptions`.

    Raises:
        InvalidOptionError: a setting is out of range.
    """

    Options = NormOptions
    smallest = 9

    def __init__(self, *, channels: int, image_size: int, num_classes: int, **settings: Any) -> None:
        super().__init__(channels=channels, image_size=image_size, num_classes=num_classes)
        norm = build(NormOptions, settings, "network 'ResNet18'").norm
        # Strides round up, so 28 pixels need no padding (28, 14, 7, 4), and published code does not pad them.
        halved = [-(-image_size // 2**stage) for stage in range(4)]
        self.conv1 = nn.Conv2d(channels, 64, 3, padding=1, bias=False)
        self.bn1 = normalisation(norm, 64, image_size)
        self.layer1 = _stage(64, 64, 1, norm, halved[0])
        self.layer2 = _stage(64, 128, 2, norm, halved[1])
        self.layer3 = _stage(128, 256, 2, norm, halved[2])
        self.layer4 = _stage(256, 512, 2, norm, halved[3])
        self.classifier = nn.Linear(512, num_classes)

    def embed(self, images: Tensor) -> Tensor:
        """Features (N, 512), the spatial mean of the last stage, of images (N, C, H, W)."""
        features = F.relu(self.bn1(self.conv1(images)))
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            features = stage(features)
        return F.adaptive_avg_pool2d(features, 1).flatten(1)


def _stage(before: int, width: int, stride: int, norm: Norm, size: int) -> nn.Sequential:
    return nn.Sequential(BasicBlock(before, width, stride, norm, size), BasicBlock(width, width, 1, norm, size))
