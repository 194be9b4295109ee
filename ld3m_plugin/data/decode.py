"""Read one image file as one uint8 tensor (C, H, W): RGB, or one grey channel.

Steps, in this order: apply the EXIF orientation; lay transparency over white; convert to grayscale or RGB; resize the
shorter side (bilinear, with Pillow's antialiasing); cut out the middle square. Normalisation comes later, in
`Task.normalise`: the published code resizes after normalising (LD3M `utils.py:157`), which makes results depend on the
version of torchvision.
"""

from __future__ import annotations

import math
import stat
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Condition
from typing import Literal

import numpy
import torch
from PIL import Image, ImageOps
from torch import Tensor

from ld3m_plugin.data.picture_formats import formats
from ld3m_plugin.errors import DataError

Kind = Literal["grayscale", "colour"]

_GRAYSCALE_MODES = {"1", "L", "LA", "La"}
_DEEP_MODES = ("I", "F")  # I, I;16, I;16B, F: more than 8 bits a channel
_TRANSPARENT_MODES = {"LA", "La", "PA", "RGBA", "RGBa"}
#: A picture that would be longer than this many squares and have more pixels than this when resized (a line of 20,000
#: pixels at size 64 has 82 million) is resized in its middle alone.
_LONG, _LARGE = 16, 2**23
#: Most pixels of a picture, 67 million. Pillow takes 4 bytes for each, and transparency needs four such buffers: 1 GiB.
MOST_PIXELS = 2**26
#: Bytes of a picture file: `MOST_PIXELS` of 8 bytes take half of it.
LARGEST_PICTURE = 2**30
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)  # the limit here is lower, and an error


class UnreadableImageError(DataError):
    """An image file that is damaged, missing or no image; `skip_unreadable` leaves such files out."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(
            f"cannot read image {path}: {reason}; replace or remove it, or skip such files with "
            "--skip-unreadable (skip_unreadable=True)"
        )
        self.path = path


@dataclass(frozen=True)
class Header:
    """Facts of an image file that need no decoding. `size` is (width, height) after the EXIF orientation."""

    path: Path
    kind: Kind
    size: tuple[int, int]


@dataclass(frozen=True)
class Form:
    """Size and channels to which every image of a data set is converted.

    Attributes:
        size: height and width.
        channels: 3 (RGB) or 1 (grey).
        like: header of the file from which `size` or `channels` was taken because the user chose none.
        same_kind, same_size: whether every file must have the kind or the size of `like`.
    """

    size: int
    channels: int
    like: Header | None = None
    same_kind: bool = False
    same_size: bool = False


def read_header(path: Path) -> Header:
    """Read the kind and size of an image file.

    Raises:
        UnreadableImageError: Pillow cannot identify the file, or the picture has more than `MOST_PIXELS`.
        DataError: the image has more than 8 bits a channel.
    """
    with _opened(path) as image:
        return _header(path, image)


def read_image(path: Path, form: Form) -> Tensor:
    """Read an image file as uint8 (C, size, size), RGB or grey.

    Raises:
        UnreadableImageError: the file is missing, truncated or damaged, or the picture has more than `MOST_PIXELS`.
        DataError: the image has more than 8 bits a channel, or differs from `form.like` where it must not, or the memory does
            not suffice.
    """
    with _opened(path) as image:
        check_alike(_header(path, image), form)
        with _IN_MEMORY.of(image.width * image.height):
            pixels = _square(ImageOps.exif_transpose(image), form)
    array = numpy.array(pixels, dtype=numpy.uint8).reshape(form.size, form.size, form.channels)
    return torch.from_numpy(array).permute(2, 0, 1).contiguous()


def check_alike(header: Header, form: Form) -> None:
    """Compare a file with `form.like`.

    Raises:
        DataError: the kind or size differs where it must be the same; the message names both files.
    """
    if form.like is None:
        return
    if form.same_kind and header.kind != form.like.kind:
        raise DataError(
            f"images differ in kind: {form.like.path} is {form.like.kind} and {header.path} is {header.kind}; "
            "choose one with grayscale=true or grayscale=false"
        )
    if form.same_size and header.size != form.like.size:
        shapes = " and ".join(f"{h.path} is {h.size[0]}x{h.size[1]}" for h in (form.like, header))
        raise DataError(f"images differ in size: {shapes}; choose one with image_size")


class _Pixels:
    """Pictures that threads decode at once; together they have at most `MOST_PIXELS`."""

    def __init__(self) -> None:
        self._free = Condition()
        self._taken = 0

    @contextmanager
    def of(self, pixels: int) -> Iterator[None]:
        """Wait until a picture of that many pixels may be decoded."""
        with self._free:
            self._free.wait_for(lambda: not self._taken or self._taken + pixels <= MOST_PIXELS)
            self._taken += pixels
        try:
            yield
        finally:
            with self._free:
                self._taken -= pixels
                self._free.notify_all()


_IN_MEMORY = _Pixels()


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """Open an image of the known formats, and turn Pillow's errors into ones that name the file.

    Damaged bytes can make its decoders raise nearly anything.
    """
    try:
        facts = path.stat()
        if not stat.S_ISREG(facts.st_mode):  # opening a pipe would wait for its writer
            raise UnreadableImageError(path, "not a regular file")
        if facts.st_size > LARGEST_PICTURE:
            raise UnreadableImageError(path, f"the file has {facts.st_size} bytes, more than {LARGEST_PICTURE}")
        with Image.open(path, formats=formats()) as image:
            width, height = image.size
            if width * height > MOST_PIXELS:
                limit = f"more than {MOST_PIXELS // 10**6} million: shrink it"
                raise UnreadableImageError(path, f"it has {width}x{height} pixels, {limit}")
            yield image
    except DataError:
        raise
    except MemoryError as error:  # not the file's fault alone: leaving it out would make the data depend on the machine
        raise DataError(f"image {path} needs more memory than there is: shrink it, or remove it") from error
    except Exception as error:
        raise UnreadableImageError(path, " ".join(str(error).split()) or type(error).__name__) from error


def _header(path: Path, image: Image.Image) -> Header:
    if image.mode.startswith(_DEEP_MODES):
        raise DataError(f"{path} has more than 8 bits a channel (mode {image.mode}): convert it to 8 bits first")
    width, height = image.size
    try:
        quarter_turn = image.getexif().get(0x0112, 1) >= 5  # orientations 5 to 8 swap width and height
    except Exception:  # damaged metadata of a good picture: upright, as Pillow itself takes it
        quarter_turn = False
    kind: Kind = "grayscale" if image.mode in _GRAYSCALE_MODES else "colour"
    return Header(path, kind, (height, width) if quarter_turn else (width, height))


def _flat(image: Image.Image, channels: int) -> Image.Image:
    """The image without transparency, in mode L or RGB."""
    if image.mode in _TRANSPARENT_MODES or "transparency" in image.info:
        # Transparent pixels hold arbitrary colours; white is the usual background.
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("L" if channels == 1 else "RGB")


def _square(image: Image.Image, form: Form) -> Image.Image:
    """Resize the shorter side to `form.size` and cut out the middle, with the rounding of torchvision's Resize and CenterCrop."""
    size, shorter = form.size, min(image.size)
    if shorter == size:
        width, height = image.size
    else:
        width, height = (size if side == shorter else int(size * side / shorter) for side in image.size)
    left, top = round((width - size) / 2), round((height - size) / 2)
    if shorter != size and max(width, height) > _LONG * size and width * height > _LARGE:
        return _resized_middle(image, form, (width, height), (left, top))
    image = _flat(image, form.channels)
    if shorter != size:
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    return image.crop((left, top, left + size, top + size))


def _resized_middle(image: Image.Image, form: Form, resized: tuple[int, int], corner: tuple[int, int]) -> Image.Image:
    """The square at `corner` of the image as `resized` would be, without the rest of it.

    Pillow holds a box in float32, so it is counted from the edge of a piece: a value may differ by 1 from that of the
    whole image.
    """
    piece, box = [], []  # first and last edge of each axis, in pixels of `image` and of the piece
    for side, new, first in zip(image.size, resized, corner, strict=True):
        scale = side / new
        low, high = first * scale, (first + form.size) * scale
        reach = math.ceil(max(scale, 1)) + 1  # the filter reads so many pixels beyond the box
        edge = max(math.floor(low) - reach, 0)
        piece.append((edge, min(math.ceil(high) + reach, side)))
        box.append((low - edge, min(high, side) - edge))
    (left, right), (top, bottom) = piece
    flat = _flat(image.crop((left, top, right, bottom)), form.channels)
    (x0, x1), (y0, y1) = box
    return flat.resize((form.size, form.size), Image.Resampling.BILINEAR, box=(x0, y0, x1, y1))
