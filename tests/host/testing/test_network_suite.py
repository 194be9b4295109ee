"""`check_network`: sound networks pass, and each clause catches a network that breaks it."""

import pytest
import torch
from torch import nn

from ld3m_plugin.contracts import Network
from ld3m_plugin.registry import default_registry
from ld3m_plugin.testing import check_network


class Sound(Network):
    def __init__(self, *, channels, image_size, num_classes, hidden=8):
        super().__init__()
        self.hidden = nn.Linear(channels * image_size**2, hidden)
        self.last = nn.Linear(hidden, num_classes)

    def embed(self, images):
        return self.hidden(images.flatten(1)).relu()

    def forward(self, images):
        return self.last(self.embed(images))


def test_sound_networks_pass():
    check_network(Sound)
    check_network(Sound, image_size=9, hidden=4)


@pytest.mark.slow
@pytest.mark.parametrize("name", default_registry().names("network"))
def test_built_in_networks_pass(name):
    check_network(default_registry().resolve("network", name), image_size=64)


class AnySetting(Sound):
    def __init__(self, *, channels, image_size, num_classes, **settings):
        super().__init__(channels=channels, image_size=image_size, num_classes=num_classes)


class OwnSeed(Sound):
    def __init__(self, **settings):
        super().__init__(**settings)
        nn.init.normal_(self.last.weight, generator=torch.Generator().manual_seed(0))
        nn.init.normal_(self.hidden.weight, generator=torch.Generator().manual_seed(0))
        nn.init.zeros_(self.last.bias)
        nn.init.zeros_(self.hidden.bias)


class MixesImages(Sound):
    def forward(self, images):
        return super().forward(images - images.mean(0))


class Draws(Sound):
    def forward(self, images):
        return super().forward(images + 0 * torch.rand(1))


class Unused(Sound):
    def __init__(self, **settings):
        super().__init__(**settings)
        self.spare = nn.Linear(1, 1)


class Detached(Sound):
    def forward(self, images):
        return super().forward(images.detach())


class MoreLogits(Sound):
    def __init__(self, *, num_classes, channels, image_size):
        super().__init__(num_classes=num_classes + 1, channels=channels, image_size=image_size)


class GrayAlone(Sound):
    def forward(self, images):
        return super().forward(images) if images.shape[1] == 1 else super().forward(images).double()


class NeedsALayout(Sound):
    def __init__(self, *, channels, image_size, num_classes):
        super().__init__(channels=channels, image_size=image_size, num_classes=num_classes)
        self.first = nn.Conv2d(channels, channels, 3, padding=1)

    def embed(self, images):
        return super().embed(self.first(images).view(len(images), -1))


@pytest.mark.parametrize(
    ("broken", "clause"),
    [
        (AnySetting, "unknown setting"),
        (OwnSeed, "another stream"),
        (MixesImages, "other images"),
        (Draws, "global random stream"),
        (Unused, "'spare"),
        (Detached, "reach the images"),
        (MoreLogits, r"\(2, 4\)"),
        (GrayAlone, "float64"),
        (NeedsALayout, "channels last: use flatten"),
    ],
)
def test_each_clause_catches(broken, clause):
    with pytest.raises(AssertionError, match=clause):
        check_network(broken)
