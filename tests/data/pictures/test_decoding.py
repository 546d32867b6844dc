"""Decoding against Pillow, scikit-image and tifffile."""

from __future__ import annotations

import io
import struct
import zlib
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
import skimage.transform
import tifffile
from PIL import Image, ImageCms, ImageOps

from tests.data.pictures.making import difference, encoded, smooth
from vermilion.data.pictures import decoding as module
from vermilion.data.pictures.decoding import Decoding, Unusable, decode, measure
from vermilion.errors import InputError

RGB, RGBA = Decoding(), Decoding(channels=4)


@pytest.mark.parametrize("form", ["PNG", "BMP", "TIFF", "PPM"])
def test_formats_without_loss_come_out_as_they_went_in(form: str) -> None:
    pixels = smooth(21, 34)
    assert np.array_equal(decode(encoded(pixels, form), None, RGB), pixels)


@pytest.mark.parametrize("form", ["JPEG", "WEBP", "AVIF", "GIF"])
def test_other_formats_are_as_pillow_has_them(form: str) -> None:
    content = encoded(smooth(40, 60), form)
    theirs = np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
    assert np.array_equal(decode(content, None, RGB), theirs)
    assert measure(content) == (40, 60)


@pytest.mark.parametrize(("high", "wide"), [(60, 90), (90, 60), (33, 64), (10, 200), (7, 5)])
@pytest.mark.parametrize("shape", [(32, 32), (24, 40)])
def test_the_middle_is_cut_as_pillow_does(high: int, wide: int, shape: tuple[int, int]) -> None:
    pixels = smooth(high, wide)
    ours = decode(encoded(pixels), shape, RGB)
    size = (shape[1], shape[0])
    theirs = ImageOps.fit(Image.fromarray(pixels), size, Image.Resampling.BICUBIC)
    assert np.array_equal(ours, np.asarray(theirs)), difference(ours, np.asarray(theirs))


def test_resizing_agrees_with_scikit_image() -> None:
    pixels = smooth(120, 120)
    ours = decode(encoded(pixels), (30, 30), Decoding(resample="box"))
    theirs = skimage.transform.downscale_local_mean(pixels, (4, 4, 1))
    assert np.abs(ours - theirs).max() <= 1


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_pictures_stand_upright(form: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if form == "WEBP" else {}
    content = encoded(smooth(40, 64), form, exif=exif.tobytes(), **options)
    with Image.open(io.BytesIO(content)) as image:
        upright = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    assert np.array_equal(decode(content, None, RGB), upright)
    assert measure(content) == upright.shape[:2]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("size", [(1601, 1207), (1200, 1600)])
def test_a_large_jpeg_is_decoded_reduced_and_looks_the_same(
    size: tuple[int, int], orientation: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = encoded(smooth(*size), "JPEG", quality=95, exif=exif.tobytes())
    with Image.open(io.BytesIO(content)) as image:
        upright = ImageOps.exif_transpose(image)
        theirs = np.asarray(ImageOps.fit(upright, (96, 64), Image.Resampling.BICUBIC))
    loaded: list[Any] = []
    turned = module._turned
    monkeypatch.setattr(
        module, "_turned", lambda image, box: loaded.append(image.size) or turned(image, box)
    )
    ours = decode(content, (64, 96), RGB)
    assert max(loaded[0]) < max(size) / 3
    assert difference(ours, theirs) < 0.5
    assert np.abs(ours.astype(int) - theirs.astype(int)).max() <= 4


def test_alpha_is_kept_or_laid_on_a_colour() -> None:
    pixels = smooth(24, 24, channels=4)
    assert np.array_equal(decode(encoded(pixels), None, RGBA), pixels)
    ours = decode(encoded(pixels), None, Decoding(background=(10, 200, 30)))
    alpha = pixels[..., 3:] / 255
    theirs = pixels[..., :3] * alpha + np.array([10, 200, 30]) * (1 - alpha)
    assert np.abs(ours - theirs).max() <= 1


def test_colour_that_is_hidden_does_not_shine_through_when_resized() -> None:
    pixels = np.zeros((32, 32, 4), np.uint8)
    pixels[..., 0] = 255  # red where it is clear
    pixels[:, 15:] = (0, 0, 255, 255)
    for how, colours in ((RGBA, slice(0, 3)), (Decoding(background=(0, 0, 255)), slice(0, 3))):
        seen = decode(encoded(pixels), (8, 8), how)
        shown = seen[..., 3] > 0 if how is RGBA else np.ones((8, 8), bool)
        assert (seen[..., colours][shown][:, 0] <= 1).all()


def test_opaque_pictures_get_a_full_alpha() -> None:
    seen = decode(encoded(smooth(8, 8)), None, RGBA)
    assert seen.shape == (8, 8, 4)
    assert (seen[..., 3] == 255).all()


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA"])
def test_modes_of_png(mode: str) -> None:
    image = Image.fromarray(smooth(20, 20, channels=4)).convert(mode)
    assert np.array_equal(decode(encoded(image), None, RGBA), np.asarray(image.convert("RGBA")))


def test_a_palette_with_transparency() -> None:
    image = Image.fromarray(smooth(20, 20)).quantize(16)
    one = encoded(image, transparency=3)
    many = encoded(image, transparency=bytes(range(0, 160, 10)))
    places = np.asarray(image)
    assert np.array_equal(decode(one, None, RGBA)[..., 3], np.where(places == 3, 0, 255))
    assert np.array_equal(decode(many, None, RGBA)[..., 3], places * 10)
    moving = encoded(image, "GIF", transparency=3)
    assert (decode(moving, None, RGBA)[..., 3] == 0).any()


def chunk(name: bytes, content: bytes) -> bytes:
    return (
        struct.pack(">I", len(content))
        + name
        + content
        + struct.pack(">I", zlib.crc32(name + content))
    )


def png(values: Any, kind: int, clear: bytes = b"") -> bytes:
    """A PNG of 16 bits, written by hand: (H, W, C) uint16."""
    high, wide = values.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", wide, high, 16, kind, 0, 0, 0))
        + (chunk(b"tRNS", clear) if clear else b"")
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(("kind", "channels"), [(0, 1), (2, 3), (4, 2), (6, 4)])
def test_sixteen_bits_of_png(kind: int, channels: int) -> None:
    values = np.random.default_rng(0).integers(0, 65536, (12, 17, channels)).astype(np.uint16)
    seen = decode(png(values, kind), None, RGBA)
    if channels <= 2:
        wanted = np.repeat(values[..., :1], 3, axis=-1)
        alpha = values[..., 1:] if channels == 2 else np.full((12, 17, 1), 65535)
        wanted = np.concatenate([wanted, alpha], axis=-1)
    else:
        alpha = values[..., 3:] if channels == 4 else np.full((12, 17, 1), 65535)
        wanted = np.concatenate([values[..., :3], alpha], axis=-1)
    assert np.abs(seen - wanted / 257).max() <= 1


def test_sixteen_bits_of_png_with_a_clear_colour() -> None:
    values = np.full((4, 4, 3), 40_000, np.uint16)
    values[0, 0] = (513, 65535, 3)
    seen = decode(png(values, 2, struct.pack(">HHH", 513, 65535, 3)), None, RGBA)
    assert seen[0, 0, 3] == 0
    assert (seen[1:, :, 3] == 255).all()
    grey = values[..., :1]
    seen = decode(png(grey, 0, struct.pack(">H", 513)), None, RGBA)
    assert seen[..., 3].ravel().tolist() == [0] + [255] * 15


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_sixteen_bits_of_tiff(channels: int) -> None:
    values = np.random.default_rng(0).integers(0, 65536, (12, 17, channels)).astype(np.uint16)
    sink = io.BytesIO()
    colours = "minisblack" if channels == 1 else "rgb"
    more = {"extrasamples": ["unassalpha"]} if channels == 4 else {}
    tifffile.imwrite(sink, values.squeeze(), photometric=colours, **more)
    seen = decode(sink.getvalue(), None, RGBA)
    wanted = np.broadcast_to(values, (12, 17, 3)) if channels == 1 else values
    assert np.abs(seen[..., : wanted.shape[2]] - wanted / 257).max() <= 1


def test_pages_of_tiff_and_frames_of_what_moves() -> None:
    first, second = Image.fromarray(smooth(20, 20, 1)), Image.fromarray(smooth(20, 20, 2))
    for form, most in (("TIFF", 0.0), ("GIF", 12.0), ("PNG", 0.0), ("WEBP", 8.0)):
        content = encoded(first, form, save_all=True, append_images=[second])
        assert Image.open(io.BytesIO(content)).n_frames == 2
        assert difference(decode(content, None, RGB), np.asarray(first)) <= most


def test_colours_of_print() -> None:
    image = Image.fromarray(smooth(40, 40)).convert("CMYK")
    for form in ("JPEG", "TIFF"):
        content = encoded(image, form, **({"quality": 98} if form == "JPEG" else {}))
        theirs = np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
        assert np.array_equal(decode(content, None, RGB), theirs)
    lab = encoded(
        ImageCms.profileToProfile(
            Image.fromarray(smooth(40, 40)),
            ImageCms.createProfile("sRGB"),
            ImageCms.createProfile("LAB"),
            outputMode="LAB",
        ),
        "TIFF",
    )
    assert difference(decode(lab, None, RGB), smooth(40, 40)) < 3


def test_a_profile_that_does_not_fit_is_a_sentence() -> None:
    image = Image.fromarray(smooth(8, 8)).convert("CMYK")
    wrong = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    with pytest.raises(Unusable, match="colour profile does not fit the picture's CMYK"):
        decode(encoded(image, "JPEG", icc_profile=wrong), None, RGB)


def test_damaged_files_are_sentences() -> None:
    whole = {form: encoded(smooth(64, 64), form) for form in ("PNG", "JPEG", "WEBP", "GIF", "AVIF")}
    for form, content in whole.items():
        for cut in (0, 5, 20, len(content) // 2):
            with pytest.raises(Unusable) as caught:
                decode(content[:cut], (16, 16), RGB)
            assert caught.value.kind == "damaged", form
            assert "\n" not in str(caught.value)
    with pytest.raises(Unusable, match="no picture"):
        decode(b"<html>not found</html>", None, RGB)
    with pytest.raises(Unusable, match="is empty"):
        measure(b"")


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP", "AVIF"])
def test_broken_bytes_raise_nothing_else(form: str) -> None:
    content, draw = encoded(smooth(40, 40), form), np.random.default_rng(0)
    for _ in range(60):
        broken = bytearray(content)
        for at in draw.integers(0, len(content), 6):
            broken[at] = draw.integers(256)
        with suppress(Unusable):
            assert decode(bytes(broken), (16, 16), RGB).shape == (16, 16, 3)


def test_a_file_of_30_000_pixels_is_refused_before_it_is_decoded() -> None:
    header = b"\x89PNG\r\n\x1a\n" + chunk(
        b"IHDR", struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
    )
    content = header + chunk(b"IDAT", b"") + chunk(b"IEND", b"")
    with pytest.raises(Unusable, match="30000 x 30000 pixels, more than 80 million") as caught:
        decode(content, (64, 64), RGB)
    assert caught.value.kind == "too large"
    webp = b"RIFF\x16\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0" + b"\xff\x3f\0" * 2
    with pytest.raises(Unusable, match="16384 x 16384 pixels"):
        decode(webp, (64, 64), RGB)
    with pytest.raises(Unusable, match="more than 0.0001 million"):
        decode(encoded(smooth(20, 20)), None, Decoding(max_pixels=100))


def test_a_jpeg_of_30_000_pixels_is_decoded_reduced() -> None:
    content = encoded(Image.new("L", (30_000, 3_000), 90), "JPEG")
    assert measure(content) == (3_000, 30_000)
    assert (decode(content, (32, 32), RGB) == 90).all()
    with pytest.raises(Unusable, match="30000 x 3000"):
        decode(content, None, RGB)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"channels": 2}, "channels: must be 3"),
        ({"background": (0, 0, 256)}, "background: must be three numbers"),
        ({"resample": "sharp"}, "resample: 'sharp' is none of lanczos"),
        ({"max_pixels": 0}, "max_pixels: must be from 1"),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        Decoding(**settings)
