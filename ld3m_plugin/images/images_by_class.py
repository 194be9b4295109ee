"""Images of K classes: the contract, and images in memory (channels first: RGB, or one grey channel)."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from ld3m_plugin.devices.transfer import to_device
from ld3m_plugin.errors import DataError

#: Images in memory of at most that many bytes are kept on a CUDA device too, from their first use there.
RESIDENT_BYTES = 2**30
#: Images of a class that its digest reads at most, and at once.
_DIGESTED = 1024
_READ_AT_ONCE = 256


class ImagesByClass(ABC):
    """Images of K classes, held in memory or read from disk on use.

    Attributes:
        origin: path or name of the source, for error messages.
        normalised: whether images are float32 and normalised already, as a caller's tensors may be; else they are uint8.
    """

    origin: str
    normalised: bool = False

    @abstractmethod
    def counts(self) -> tuple[int, ...]:
        """How many images each of the K classes has."""

    @abstractmethod
    def read(self, class_index: int, which: Tensor) -> Tensor:
        """Images `which` (n,) of one class as uint8 (n, C, H, W), or float32 where they are normalised, on the CPU."""

    def read_to(self, class_index: int, which: Tensor, device: torch.device) -> Tensor:
        """The same on `device`; the host does not wait for a copy to CUDA. Images that lie there are not copied."""
        return to_device(self.read(class_index, which), device)

    def digest(self, class_index: int) -> str:
        """What identifies the images of one class and their order, wherever they lie: `METHOD:SHA-256`.

        Here, of the pixels of all images, or of 1,024 evenly spaced ones of a larger class. Images that are read on use may
        have a cheaper method, under another name: only digests of one method are compared.
        """
        count = self.counts()[class_index]
        used = min(count, _DIGESTED)
        digest = hashlib.sha256()
        for which in (torch.arange(used) * count // max(used, 1)).split(_READ_AT_ONCE):
            digest.update(self.read(class_index, which).cpu().contiguous().numpy().data)
        return f"{'pixels' if used == count else 'sample'}:{digest.hexdigest()}"


class InMemoryImages(ImagesByClass):
    """Images of K classes in memory.

    Args:
        images: one tensor (n_k, C, H, W) per class, with the same C, H and W; C is RGB or one grey channel.
        origin: path or name of the source, for error messages.
        normalised: whether they are float32 and normalised already, in place of uint8.

    Raises:
        ValueError: there is no class, the dtype is another one, or shapes differ.
    """

    def __init__(self, images: Sequence[Tensor], origin: str, *, normalised: bool = False) -> None:
        self.origin, self.normalised = origin, normalised
        self._images = list(images)
        shapes = {tuple(tensor.shape[1:]) for tensor in self._images}
        if len(shapes) != 1 or len(next(iter(shapes))) != 3:
            raise ValueError(f"images of all classes need one shape (n, C, H, W), got {shapes or 'no class'}")
        if any(tensor.dtype != (torch.float32 if normalised else torch.uint8) for tensor in self._images):
            raise ValueError(f"images in memory must be {'normalised float32' if normalised else 'uint8'}")
        self._resident: dict[tuple[torch.device, int], Tensor] = {}

    def counts(self) -> tuple[int, ...]:
        return tuple(len(tensor) for tensor in self._images)

    def read(self, class_index: int, which: Tensor) -> Tensor:
        return self._images[class_index].index_select(0, which)

    def read_to(self, class_index: int, which: Tensor, device: torch.device) -> Tensor:
        """Images `which` (n,) of one class on `device`: on CUDA, of a copy that stays there if it fits."""
        if device.type != "cuda" or sum(tensor.nbytes for tensor in self._images) > RESIDENT_BYTES:
            return super().read_to(class_index, which, device)
        if (device, class_index) not in self._resident:
            self._resident[device, class_index] = to_device(self._images[class_index], device)
        return self._resident[device, class_index].index_select(0, to_device(which, device))

    def digest(self, class_index: int) -> str:
        """SHA-256 of the pixels, or of the normalised numbers, of all images of a class."""
        method = "normalised" if self.normalised else "pixels"
        return f"{method}:{hashlib.sha256(self._images[class_index].contiguous().numpy().data).hexdigest()}"


def by_class(
    images: Tensor, labels: Tensor, class_names: Sequence[str], origin: str, *, normalised: bool = False
) -> InMemoryImages:
    """Sort images (n, C, H, W) by label (n,): uint8, or `normalised` float32.

    Raises:
        DataError: images and labels differ in number, a label is out of range, or a class has no image.
    """
    if len(images) != len(labels):
        raise DataError(f"{origin} has {len(images)} images and {len(labels)} labels")
    labels = labels.long()
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < len(class_names):
        raise DataError(
            f"{origin} has labels {int(labels.min())} to {int(labels.max())} for {len(class_names)} classes"
        )
    counts = torch.bincount(labels, minlength=len(class_names)).tolist()
    if 0 in counts:
        raise DataError(f"class {class_names[counts.index(0)]!r} has no image in {origin}")
    order = torch.argsort(labels, stable=True)
    return InMemoryImages(torch.split(images[order], counts), origin, normalised=normalised)
