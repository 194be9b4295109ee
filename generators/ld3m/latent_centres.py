"""The initialiser `latent-centres`: centres of clusters in the latent space of a prior's autoencoder, decoded.

Source: Su et al., "D4M: Dataset Distillation via Disentangled Diffusion Model", CVPR 2024, without its diffusion: there the
prototypes are noised and denoised again before they are decoded, and are found by mini-batch k-means.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from ld3m_plugin.budgets import images_at_once
from ld3m_plugin.contracts import Initialiser, Task
from ld3m_plugin.errors import InvalidOptionError
from ld3m_plugin.generators.imaging import PictureSpace
from ld3m_plugin.generators.ld3m.codec import Codec
from ld3m_plugin.generators.ld3m.ld3m_options import PriorPlace
from ld3m_plugin.generators.ld3m.ldm_folder import digest
from ld3m_plugin.generators.ld3m.ldm_prior import find_prior, load_autoencoder
from ld3m_plugin.initialisers.kmeans import kmeans
from ld3m_plugin.initialisers.pixel_statistics import available

_BUDGET = 2.0  # GiB of encoder or decoder; at 256 pixels, all images at once would not fit
_AT_ONCE = 256


class LatentCentresOptions(PriorPlace):
    """Options of the initialiser `latent-centres`."""


class LatentCentres(Initialiser):
    """Centres of k-means over the encoded training images of a class, decoded. With one image a class, its mean latent."""

    Options = LatentCentresOptions

    #: Where the prior lies; known after `prepare`.
    folder: Path

    def prepare(self, task: Task) -> None:
        """Find the prior; raises `PriorError`."""
        self.folder = find_prior(self.options.prior, self.options.revision, task)
        self._digest = digest(self.folder)

    def images(self, task: Task, labels: Tensor, rng: torch.Generator) -> Tensor:
        """Decode the centres.

        Raises:
            PriorError: the prior's autoencoder cannot be read.
            InvalidOptionError: it does not take images of this size.
        """
        folder = find_prior(self.options.prior, self.options.revision, task)
        codec = load_autoencoder(folder, task.device).codec
        if task.image_size % codec.factor:
            raise InvalidOptionError(f"image size {task.image_size}: this prior needs a multiple of {codec.factor}")
        pictures = PictureSpace(task, codec.channels)
        with torch.no_grad():
            return decoded(codec, pictures, self.latents(codec, pictures, task, labels, rng))

    def latents(self, codec: Codec, pictures: PictureSpace, task: Task, labels: Tensor, rng: torch.Generator) -> Tensor:
        """The centres (N, L, h, w), on the task's device.

        Raises:
            DataError: a class has fewer images than centres.
        """

        def centres(k: int, count: int, stream: torch.Generator) -> Tensor:
            every = torch.arange(available(task, k, count)).split(_AT_ONCE)
            codes = [encoded(codec, pictures, task.normalise(task.train.read(k, which))).cpu() for which in every]
            return kmeans(torch.cat(codes), count, stream)[0].float()

        return task.by_class(labels, rng, centres)

    def start(self) -> str:
        return "latent centres"

    def provenance(self) -> dict[str, str]:
        return {"prior_sha256": self._digest}


@torch.no_grad()
def encoded(codec: Codec, pictures: PictureSpace, images: Tensor) -> Tensor:
    """Encode normalised images (N, C, H, W) to latents (N, L, h, w), as many at a time as fit in memory."""

    def encode(some: Tensor) -> Tensor:
        return codec.encode(pictures.pictures(some))

    size = images_at_once(encode, images[:1], _BUDGET)
    return torch.cat([encode(some) for some in images.split(size)])


@torch.no_grad()
def decoded(codec: Codec, pictures: PictureSpace, latents: Tensor) -> Tensor:
    """Decode latents (N, L, h, w) to normalised images (N, C, H, W), as many at a time as fit in memory."""

    def decode(some: Tensor) -> Tensor:
        return pictures.images(codec.decode(some))

    size = min(_AT_ONCE, images_at_once(decode, latents[:1], _BUDGET))
    return torch.cat([decode(some) for some in latents.split(size)])
