"""AlexNet for small images: five convolutions of stride 1 and one linear layer.

Krizhevsky et al., ImageNet Classification with Deep Convolutional Neural Networks (NeurIPS 2012), in the form of Zhao
et al., Dataset Condensation with Gradient Matching (ICLR 2021). The linear layer grows with the image, as in
Cazenavette et al., Generalizing Dataset Distillation via Deep Generative Prior (CVPR 2023).
"""

from __future__ import annotations

from torch import nn

from ld3m_plugin.networks.layers import Classifier, padded_size, stem_padding


class AlexNet(Classifier):
    """Convolutions 128-192-256-192-192 with ReLU, max pooling after the first, second and last; no normalisation.
    Features (N, 192·(H/8)·(W/8)) are those of the last pooling.

    Images of 28×28 are padded to 32×32 by the first convolution.

    Args:
        channels: C.
        image_size: H = W, at least 8.
        num_classes: K.

    Raises:
        InvalidOptionError: a setting is out of range.
    """

    head = "fc"
    smallest = 8

    def __init__(self, *, channels: int, image_size: int, num_classes: int) -> None:
        super().__init__(channels=channels, image_size=image_size, num_classes=num_classes)
        self.features = nn.Sequential(
            nn.Conv2d(channels, 128, 5, padding=stem_padding(5, image_size)),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(128, 192, 5, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(192, 256, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(256, 192, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(192, 192, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
        )
        side = padded_size(image_size) // 8
        self.fc = nn.Linear(192 * side * side, num_classes)
