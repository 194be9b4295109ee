"""Picture files that are not what their name says, have huge sizes, or come in forms that readers forget."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

from PIL import Image, PngImagePlugin

_POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n(%pipe%true) (w) file\nshowpage\n%%EOF\n"


def write(path: Path, which: str) -> None:
    """Put a picture in the place of a file, whatever its ending says."""
    path.write_bytes(_PLAIN[which] if which in _PLAIN else _saved(which))


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def _png(width: int, height: int, *chunks: bytes) -> bytes:
    header = _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return (
        b"\x89PNG\r\n\x1a\n"
        + header
        + b"".join(chunks)
        + _chunk(b"IDAT", zlib.compress(bytes(4096)))
        + _chunk(b"IEND", b"")
    )


_ZEROS = zlib.compress(bytes(2**26))
_PLAIN = {
    "postscript": _POSTSCRIPT,
    "huge": _png(60_000, 60_000),
    "long": _png(200_000, 1),
    "ztxt": _png(8, 8, _chunk(b"zTXt", b"Comment\x00\x00" + _ZEROS)),
    "iccp": _png(8, 8, _chunk(b"iCCP", b"x\x00\x00" + _ZEROS)),
    "ppm_huge": b"P6 99999 99999 255\n" + bytes(64),
    "svg": b'<svg xmlns="http://www.w3.org/2000/svg" width="8" height="8"><script>x</script></svg>',
    "fits": b"SIMPLE  =                    T" + b" " * 2850,
    "tiff_bad": b"II*\x00\x08\x00\x00\x00\x01\x00\x00\x01\x04\x00\xff\xff\xff\xff\x08\x00\x00\x00" + bytes(64),
    "tga_bomb": bytes([0, 0, 10])
    + bytes(9)
    + struct.pack("<HH", 65535, 65535)
    + bytes([24, 0])
    + b"\xff\x00\x00\x00" * 64,
    "text": b"a picture of a dog\n",
}


def _saved(which: str) -> bytes:
    """A picture of 8 x 8 that Pillow writes."""
    grey, rgb = Image.new("L", (8, 8), 9), Image.new("RGB", (8, 8), (9, 80, 200))
    made: dict[str, tuple[Image.Image, str, dict[str, Any]]] = {
        "sixteen": (Image.new("I;16", (8, 8), 900), "png", {}),
        "float": (Image.new("F", (8, 8), 0.5), "tiff", {}),
        "animated": (grey, "gif", {"save_all": True, "append_images": [Image.new("L", (8, 8), n) for n in range(5)]}),
        "palette": (rgb.convert("P"), "png", {"transparency": 0}),
        "cmyk": (rgb.convert("CMYK"), "jpeg", {}),
        "exif": (rgb.resize((8, 4)), "jpeg", {"exif": _orientation(6)}),
        "exif_bad": (rgb, "jpeg", {"exif": b"Exif\x00\x00" + b"\xff" * 40}),
        "bmp": (rgb, "bmp", {}),
        "gif": (rgb, "gif", {}),
        "webp": (rgb, "webp", {}),
        "tiff": (rgb, "tiff", {}),
        "ico": (rgb, "ico", {}),
        "dib": (rgb, "dib", {}),
        "jpeg_cut": (rgb, "jpeg", {}),
        "apng": (rgb, "png", {"save_all": True, "append_images": [rgb.rotate(90)]}),
        "one_pixel": (Image.new("1", (1, 1)), "png", {"pnginfo": _text("\x1b[31m" * 100)}),
    }
    picture, form, settings = made[which]
    file = io.BytesIO()
    picture.save(file, form, **settings)
    return file.getvalue()[:-40] if which == "jpeg_cut" else file.getvalue()


def _orientation(value: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = value
    return exif


def _text(content: str) -> PngImagePlugin.PngInfo:
    made = PngImagePlugin.PngInfo()
    made.add_text("comment", content)
    return made
