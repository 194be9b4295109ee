"""One image file to one uint8 tensor, or an error that names the file.

Rules, in this order: the EXIF orientation is applied; transparency is laid over white; the image becomes grayscale or
RGB; the shorter side is resized to the wanted size (bilinear, with Pillow's antialiasing) and the middle square is cut
out. Normalisation comes later, in `Task.normalise`: the published code resizes after normalising (LD3M `utils.py:157`),
where results depend on the version of torchvision.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy
import torch
from PIL import Image, ImageOps
from torch import Tensor

from ld3m_plugin.errors import DataError

Kind = Literal["grayscale", "colour"]

_GRAYSCALE_MODES = {"1", "L", "LA", "La"}
_DEEP_MODES = ("I", "F")  # I, I;16, I;16B, F: more than 8 bits a channel
_TRANSPARENT_MODES = {"LA", "La", "PA", "RGBA", "RGBa"}


class UnreadableImageError(DataError):
    """A file that is not a whole image; `skip_unreadable` leaves such files out."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(
            f"cannot read image {path}: {reason}; replace or remove it, or leave such files out with "
            "--skip-unreadable (skip_unreadable=True)"
        )
        self.path = path


@dataclass(frozen=True)
class Header:
    """What is known of an image without decoding its pixels. `size` is (width, height), upright."""

    path: Path
    kind: Kind
    size: tuple[int, int]


@dataclass(frozen=True)
class Form:
    """What every image of a data set becomes.

    Attributes:
        size: height and width.
        channels: 1 or 3.
        like: set where the user chose neither size nor channels: every file must then agree with this one.
        same_kind, same_size: in which respect it must agree.
    """

    size: int
    channels: int
    like: Header | None = None
    same_kind: bool = False
    same_size: bool = False


def read_header(path: Path) -> Header:
    """Kind and size of an image file.

    Raises:
        UnreadableImageError: Pillow cannot identify the file.
        DataError: more than 8 bits a channel.
    """
    with _opened(path) as image:
        return _header(path, image)


def read_image(path: Path, form: Form) -> Tensor:
    """An image file as uint8 (C, size, size).

    Raises:
        UnreadableImageError: the file is missing, truncated, damaged, or too large to be an honest picture.
        DataError: more than 8 bits a channel, or a file unlike the others where nothing was chosen.
    """
    with _opened(path) as image:
        header = _header(path, image)
        check_alike(header, form)
        try:
            pixels = _square(_flat(ImageOps.exif_transpose(image), form.channels), form.size)
        except MemoryError:
            raise
        except Exception as error:  # damaged bytes make Pillow's decoders raise nearly anything
            raise UnreadableImageError(path, _reason(error)) from error
    array = numpy.array(pixels, dtype=numpy.uint8).reshape(form.size, form.size, form.channels)
    return torch.from_numpy(array).permute(2, 0, 1).contiguous()


def check_alike(header: Header, form: Form) -> None:
    """Compare a file with the one that a form was taken from.

    Raises:
        DataError: another kind or size, where it must be the same; both files are named.
    """
    if form.like is None:
        return
    if form.same_kind and header.kind != form.like.kind:
        raise DataError(
            f"mixed modes: {form.like.path} is {form.like.kind} and {header.path} is {header.kind}; "
            "choose one with grayscale=true or grayscale=false"
        )
    if form.same_size and header.size != form.like.size:
        shapes = " and ".join(f"{h.path} is {h.size[0]}x{h.size[1]}" for h in (form.like, header))
        raise DataError(f"images differ in size: {shapes}; choose one with image_size")


def _opened(path: Path) -> Image.Image:
    try:
        return Image.open(path)
    except MemoryError:
        raise
    except Exception as error:  # as above; DecompressionBombError is raised here
        raise UnreadableImageError(path, _reason(error)) from error


def _header(path: Path, image: Image.Image) -> Header:
    if image.mode.startswith(_DEEP_MODES):
        raise DataError(f"{path} has more than 8 bits a channel (mode {image.mode}): convert it to 8 bits first")
    width, height = image.size
    try:
        quarter_turn = image.getexif().get(0x0112, 1) >= 5  # orientations 5 to 8 swap width and height
    except Exception:  # damaged metadata of a good picture: taken as upright, as Pillow itself does
        quarter_turn = False
    kind: Kind = "grayscale" if image.mode in _GRAYSCALE_MODES else "colour"
    return Header(path, kind, (height, width) if quarter_turn else (width, height))


def _flat(image: Image.Image, channels: int) -> Image.Image:
    """Without transparency, in mode L or RGB."""
    if image.mode in _TRANSPARENT_MODES or "transparency" in image.info:
        # Hidden pixels hold arbitrary colours; white is what a page behind the picture would show.
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("L" if channels == 1 else "RGB")


def _square(image: Image.Image, size: int) -> Image.Image:
    """Shorter side to `size`, then the middle; sizes and offsets are rounded as torchvision's transforms do."""
    width, height = image.size
    shorter = min(width, height)
    if shorter != size:
        width, height = (size if side == shorter else int(size * side / shorter) for side in (width, height))
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    left, top = round((width - size) / 2), round((height - size) / 2)
    return image.crop((left, top, left + size, top + size))


def _reason(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
