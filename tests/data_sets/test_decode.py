"""Decoding of one image file: modes, orientation, geometry, and damaged files."""

import os
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import numpy
import pytest
import torch
from PIL import EpsImagePlugin, Image
from torchvision.transforms import CenterCrop, Compose, InterpolationMode, PILToTensor, Resize

from ld3m_plugin.data.decode import (
    MOST_PIXELS,
    Form,
    Header,
    UnreadableImageError,
    _Pixels,
    check_alike,
    read_header,
    read_image,
)
from ld3m_plugin.errors import DataError


def picture(width=20, height=20, mode="RGB", seed=0):
    channels = len(Image.new(mode, (1, 1)).getbands())
    rng = numpy.random.default_rng(seed)
    pixels = rng.integers(0, 256, (height, width, channels), dtype=numpy.uint8)
    return Image.fromarray(pixels.squeeze(-1) if channels == 1 else pixels, mode=None).convert(mode)


@pytest.mark.parametrize(("mode", "channels"), [("RGB", 3), ("L", 1)])
def test_a_lossless_file_comes_back_bit_for_bit(tmp_path, mode, channels):
    image = picture(mode=mode)
    image.save(tmp_path / "a.png")
    got = read_image(tmp_path / "a.png", Form(20, channels))
    assert got.dtype == torch.uint8
    assert torch.equal(got, PILToTensor()(image))


@pytest.mark.parametrize(
    ("width", "height", "size"), [(50, 31, 16), (31, 50, 16), (64, 64, 20), (20, 30, 33), (33, 48, 33)]
)
def test_geometry_equals_torchvisions_on_pillow_images(tmp_path, width, height, size):
    image = picture(width, height)
    image.save(tmp_path / "a.png")
    reference = Compose([Resize(size, InterpolationMode.BILINEAR), CenterCrop(size), PILToTensor()])
    assert torch.equal(read_image(tmp_path / "a.png", Form(size, 3)), reference(image))


def resized_whole(image, size, channels):
    """A second implementation that resizes all of the image: (C, size, size)."""
    if image.mode in ("LA", "PA", "RGBA") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    square = Compose([Resize(size, InterpolationMode.BILINEAR), CenterCrop(size), PILToTensor()])
    return square(image.convert("L" if channels == 1 else "RGB"))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "transparent P"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("width", "height", "size"),
    [(50, 31, 28), (31, 50, 64), (64, 63, 16), (28, 70, 28), (300, 9, 33), (1, 40, 8), (1000, 2, 32), (2, 1000, 32)],
)
def test_ordinary_pictures_equal_the_middle_of_the_whole_bit_for_bit(tmp_path, mode, channels, width, height, size):
    extra = {"transparency": 3} if mode == "transparent P" else {}
    picture(width, height).convert(mode.split()[-1]).save(tmp_path / "a.png", **extra)
    expected = resized_whole(Image.open(tmp_path / "a.png"), size, channels)
    assert torch.equal(read_image(tmp_path / "a.png", Form(size, channels)), expected)


@pytest.mark.parametrize(
    ("width", "height", "size", "tolerance"),
    [(2500, 1, 64, 0), (1, 2501, 64, 0), (4001, 1, 48, 0), (3001, 7, 160, 1), (7, 3001, 160, 1)],
)
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
def test_a_long_thin_picture_equals_the_middle_of_the_whole(tmp_path, mode, width, height, size, tolerance):
    picture(width, height).convert(mode).save(tmp_path / "a.png")
    got = read_image(tmp_path / "a.png", Form(size, 3)).int()
    whole = resized_whole(Image.open(tmp_path / "a.png"), size, 3).int()
    assert (got - whole).abs().max() <= tolerance


@pytest.mark.parametrize(("width", "height"), [(20_000, 1), (1, 20_000), (100_000, 3)])
@pytest.mark.parametrize("size", [8, 64, 256])
def test_a_long_thin_picture_is_not_resized_whole(tmp_path, monkeypatch, width, height, size):
    picture(width, height).save(tmp_path / "a.png")
    sizes, resize = [], Image.Image.resize

    def watched(self, size, *args, **kwargs):
        sizes.append(size)
        return resize(self, size, *args, **kwargs)

    monkeypatch.setattr(Image.Image, "resize", watched)
    assert read_image(tmp_path / "a.png", Form(size, 3)).shape == (3, size, size)
    assert sizes
    assert max(w * h for w, h in sizes) <= 2**23  # 32 MiB in Pillow


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA"])
@pytest.mark.parametrize("channels", [1, 3])
def test_every_common_mode_becomes_gray_or_colour(tmp_path, mode, channels):
    picture().convert(mode).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png", Form(8, channels)).shape == (channels, 8, 8)


def test_cmyk_becomes_colour(tmp_path):
    picture().convert("CMYK").save(tmp_path / "a.jpg")
    assert read_image(tmp_path / "a.jpg", Form(8, 3)).shape == (3, 8, 8)


def test_transparency_is_laid_over_white(tmp_path):
    Image.new("RGBA", (8, 8), (255, 0, 0, 0)).save(tmp_path / "clear.png")
    Image.new("RGBA", (8, 8), (255, 0, 0, 255)).save(tmp_path / "solid.png")
    assert (read_image(tmp_path / "clear.png", Form(8, 3)) == 255).all()
    assert read_image(tmp_path / "solid.png", Form(8, 3))[:, 0, 0].tolist() == [255, 0, 0]


def test_the_exif_orientation_is_applied(tmp_path):
    image = Image.new("L", (16, 8))
    image.paste(255, (0, 0, 8, 8))
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera lay on its side: turn clockwise to see it upright
    image.save(tmp_path / "turned.png", exif=exif)
    header = read_header(tmp_path / "turned.png")
    assert header.size == (8, 16)
    assert header.kind == "grayscale"
    upright = torch.zeros(16, 8, dtype=torch.uint8)
    upright[:8] = 255
    assert torch.equal(read_image(tmp_path / "turned.png", Form(8, 1))[0], upright[4:12])


@pytest.mark.parametrize("content", [b"", b"not an image", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0 garbage"])
def test_garbage_is_an_error_that_names_the_file_and_the_way_on(tmp_path, content):
    (tmp_path / "bad.png").write_bytes(content)
    for attempt in (read_header, lambda path: read_image(path, Form(8, 3))):
        with pytest.raises(UnreadableImageError, match=r"bad\.png.*--skip-unreadable"):
            attempt(tmp_path / "bad.png")


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.bmp", "a.gif", "a.webp"])
def test_truncated_files_are_errors(tmp_path, name):
    picture(64, 64).save(tmp_path / name)
    whole = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UnreadableImageError, match=name):
        read_image(tmp_path / name, Form(8, 3))


def test_damaged_bytes_never_raise_anything_else(tmp_path):
    path = tmp_path / "a.png"
    picture(16, 16).save(path)
    whole = path.read_bytes()
    for position in range(0, len(whole), 7):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 0x5A]) + whole[position + 1 :])
        try:
            assert read_image(path, Form(8, 3)).shape == (3, 8, 8)
        except DataError as error:
            assert "a.png" in str(error)  # noqa: PT017 (either outcome is right)


def test_a_missing_file_and_a_decompression_bomb_are_errors(tmp_path, monkeypatch):
    with pytest.raises(UnreadableImageError, match=r"absent\.png"):
        read_image(tmp_path / "absent.png", Form(8, 3))
    picture(64, 64).save(tmp_path / "bomb.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(UnreadableImageError, match=r"bomb\.png"):
        read_image(tmp_path / "bomb.png", Form(8, 3))


def test_sixteen_bits_are_refused_and_not_clipped(tmp_path):
    Image.fromarray(numpy.full((8, 8), 40_000, dtype=numpy.uint16)).save(tmp_path / "deep.png")
    for attempt in (read_header, lambda path: read_image(path, Form(8, 1))):
        with pytest.raises(DataError, match=r"deep\.png") as caught:
            attempt(tmp_path / "deep.png")
        assert not isinstance(caught.value, UnreadableImageError)


def test_a_file_unlike_the_first_is_an_error_only_where_nothing_was_chosen(tmp_path):
    first = Header(tmp_path / "first.png", "colour", (8, 8))
    gray, large = Header(tmp_path / "gray.png", "grayscale", (8, 8)), Header(tmp_path / "large.png", "colour", (9, 8))
    strict = Form(8, 3, like=first, same_kind=True, same_size=True)
    with pytest.raises(DataError, match=r"first\.png.*gray\.png.*grayscale="):
        check_alike(gray, strict)
    with pytest.raises(DataError, match=r"first\.png.*8x8.*large\.png.*9x8.*image_size"):
        check_alike(large, strict)
    check_alike(gray, Form(8, 3, like=first, same_size=True))
    check_alike(large, Form(8, 3, like=first, same_kind=True))
    check_alike(gray, Form(8, 3))


POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n%%EOF\n"


def test_a_postscript_file_with_the_ending_of_a_picture_starts_no_program(tmp_path, monkeypatch):
    started = tmp_path / "started"
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "gs"
    program.write_text(f'#!/bin/sh\necho "$@" >> "{started}"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    monkeypatch.setattr(EpsImagePlugin, "gs_binary", None, raising=False)  # Pillow 10.0 does not remember it
    (tmp_path / "x.png").write_bytes(POSTSCRIPT)
    for attempt in (read_header, lambda path: read_image(path, Form(8, 3))):
        with pytest.raises(UnreadableImageError, match=r"x\.png"):
            attempt(tmp_path / "x.png")
    assert not started.exists()
    # That the file is one that Pillow by itself hands to the program:
    with Image.open(tmp_path / "x.png") as image, suppress(Exception):
        image.load()
    assert started.exists()


def test_a_picture_with_another_ending_than_its_format_is_read(tmp_path):
    picture().save(tmp_path / "a.jpg", format="PNG")
    assert torch.equal(read_image(tmp_path / "a.jpg", Form(20, 3)), PILToTensor()(picture()))


def blank_png(path, width, height):
    """A picture of one bit a pixel whose file is small; Pillow's own limits do not hold for writing."""
    Image.new("1", (width, height)).save(path)


@pytest.mark.parametrize(("width", "height"), [(8193, 8192), (13_000, 13_100), (2**26 + 1, 1), (20_000, 20_000)])
def test_pictures_over_the_limit_of_pixels_are_refused_before_they_are_decoded(tmp_path, width, height):
    rows = zlib.compress(b"")
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", head), (b"IDAT", rows), (b"IEND", b""))
    body = b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )
    (tmp_path / "huge.png").write_bytes(b"\x89PNG\r\n\x1a\n" + body)
    for attempt in (read_header, lambda path: read_image(path, Form(8, 3))):
        with pytest.raises(UnreadableImageError, match=r"huge\.png"):
            attempt(tmp_path / "huge.png")


@pytest.mark.slow
def test_a_strip_of_many_pixels_is_read(tmp_path):
    blank_png(tmp_path / "strip.png", 12_500_000, 1)
    assert not read_image(tmp_path / "strip.png", Form(64, 3)).any()


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(UnreadableImageError, match=r"pipe\.png"):
        read_header(tmp_path / "pipe.png")


def test_pictures_decoded_at_once_stay_under_the_limit_together():
    gate, most, inside = _Pixels(), [], []

    def decode(pixels):
        with gate.of(pixels):
            inside.append(pixels)
            most.append(sum(inside))
            inside.remove(pixels)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(decode, [MOST_PIXELS // 3] * 50 + [MOST_PIXELS] * 5 + [1] * 50))
    assert len(most) == 105
    assert max(most) <= MOST_PIXELS


@pytest.mark.slow
def test_the_end_of_memory_is_one_line_that_names_the_picture(tmp_path, new_process):
    blank_png(tmp_path / "large.png", 8000, 8000)
    script = """
import resource, sys
from pathlib import Path
from ld3m_plugin.data.decode import Form, UnreadableImageError, read_image
from ld3m_plugin.errors import DataError
pages = int(Path("/proc/self/statm").read_text().split()[0])
resource.setrlimit(resource.RLIMIT_AS, (pages * 4096 + 2**26,) * 2)
try:
    read_image(Path(sys.argv[1]), Form(8, 3))
except DataError as error:
    print(type(error).__name__, error)
"""
    done = new_process("-c", script, tmp_path / "large.png", OMP_NUM_THREADS="1")
    assert done.stdout.startswith("DataError "), done.stderr
    assert str(tmp_path / "large.png") in done.stdout


def test_a_huge_file_is_refused_by_its_size(tmp_path):
    path = tmp_path / "large.png"
    Image.new("L", (4, 4)).save(path)
    os.truncate(path, 2**42)  # no block of it is on the disk
    for read in (read_header, lambda file: read_image(file, Form(4, 1))):
        with pytest.raises(UnreadableImageError, match=r"large\.png"):
            read(path)
