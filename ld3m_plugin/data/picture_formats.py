"""Which of Pillow's formats are read, and the file endings that belong to them."""

from __future__ import annotations

from functools import cache

from PIL import Image

#: Formats of one picture that Pillow decodes by itself, common ones first. A format that is not here is never tried, whatever
#: the ending says: EPS and PostScript start Ghostscript, IPTC opens any format inside it, WMF needs Windows, MPEG, FLI and PDF
#: are no pictures, BUFR, GRIB and HDF5 have no decoder, FITS and SPIDER hold measurements.
_FORMATS = (
    *("BMP", "GIF", "JPEG", "PPM", "PNG"),
    *(
        "AVIF",
        "BLP",
        "CUR",
        "DCX",
        "DDS",
        "DIB",
        "FTEX",
        "GBR",
        "ICNS",
        "ICO",
        "IM",
        "JPEG2000",
        "MSP",
        "PCD",
        "PCX",
        "PIXAR",
    ),
    *("PSD", "QOI", "SGI", "SUN", "TGA", "TIFF", "WEBP", "XBM", "XPM"),
)
#: Endings of these formats whose files hold no pictures of 8 bits: floating-point maps.
_NO_PICTURES = {".pfm"}


@cache
def formats() -> tuple[str, ...]:
    """Those of `_FORMATS` that the installed Pillow has."""
    Image.init()
    return tuple(name for name in _FORMATS if name in Image.OPEN)


@cache
def endings() -> frozenset[str]:
    """Endings of files of these formats, in lower case, such as `.jpg`."""
    known = set(formats())
    return frozenset(ending for ending, name in Image.registered_extensions().items() if name in known) - _NO_PICTURES
