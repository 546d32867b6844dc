"""Pictures in every format, still and moving, in odd modes, and damaged."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms
from skimage import data

from vermilion.errors import InputError
from vermilion.seal.formats import FORMATS
from vermilion.seal.media import pictures
from vermilion.seal.media.pictures import Picture, decode, encode

STILL = ("png", "jpg", "webp", "gif", "tiff", "avif")
MOVING = ("png", "webp", "gif", "avif")


def save(image: Image.Image, suffix: str, **options) -> bytes:
    sink = io.BytesIO()
    image.save(sink, {"jpg": "JPEG"}.get(suffix, suffix.upper()), **options)
    return sink.getvalue()


def photo(width: int = 120, height: int = 90) -> Image.Image:
    return Image.fromarray(data.astronaut()).resize((width, height))


def clear_photo() -> Image.Image:
    image = photo().convert("RGBA")
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    return image


def steps(count: int = 6) -> list[Image.Image]:
    frames = []
    for k in range(count):
        frame = Image.new("RGBA", (64, 48))
        frame.paste((255, 10 * k, 0, 255), (8 * k, 5, 8 * k + 12, 30))
        frame.paste((0, 0, 255, 255), (2, 2, 10, 10))
        frames.append(frame)
    return frames


def difference(one: np.ndarray, other: np.ndarray) -> int:
    return int(np.abs(one.astype(int) - other.astype(int)).max())


@pytest.mark.parametrize("suffix", ["png", "webp", "tiff"])
def test_what_loses_nothing_keeps_every_pixel(suffix: str) -> None:
    options = {"lossless": True, "exact": True} if suffix == "webp" else {}
    content = save(clear_photo(), suffix, **options)
    picture = decode(content, FORMATS[suffix])
    assert picture.lossless
    assert difference(picture.frames[0], np.asarray(clear_photo())) == 0
    again = decode(encode(picture, FORMATS[suffix]), FORMATS[suffix])
    assert difference(again.frames, picture.frames) == 0


def test_a_gif_of_256_colours_keeps_them() -> None:
    picture = decode(save(photo(), "gif"), FORMATS["gif"])
    assert len(np.unique(picture.frames.reshape(-1, 4), axis=0)) == 256
    again = decode(encode(picture, FORMATS["gif"]), FORMATS["gif"])
    assert difference(again.frames, picture.frames) == 0


def test_a_gif_of_a_photograph_is_near() -> None:
    picture = decode(save(photo(), "png"), FORMATS["png"])
    again = decode(encode(picture, FORMATS["gif"]), FORMATS["gif"])
    assert np.abs(again.frames.astype(int) - picture.frames).mean() < 5


@pytest.mark.parametrize(("suffix", "least"), [("jpg", 38), ("webp", 34), ("avif", 38)])
def test_what_loses_loses_little(suffix: str, least: float) -> None:
    whole = decode(save(photo(240, 180), "png"), FORMATS["png"])
    again = decode(encode(whole, FORMATS[suffix], 95), FORMATS[suffix])
    assert not again.lossless
    error = np.mean((again.frames[..., :3].astype(float) - whole.frames[..., :3]) ** 2)
    assert 10 * np.log10(255**2 / error) > least


def test_quality_makes_a_file_smaller() -> None:
    whole = decode(save(photo(), "png"), FORMATS["png"])
    for suffix in ("jpg", "webp", "avif"):
        sizes = [len(encode(whole, FORMATS[suffix], quality)) for quality in (30, 60, 95)]
        assert sizes == sorted(sizes)
        assert sizes[0] < sizes[2]
    with pytest.raises(InputError, match="quality: must be 1 to 100"):
        encode(whole, FORMATS["jpg"], 0)


@pytest.mark.parametrize("sampling", [0, 1, 2])
def test_a_jpeg_is_written_with_the_tables_that_it_had(sampling: int) -> None:
    content = save(photo(), "jpg", quality=72, subsampling=sampling)
    again = encode(decode(content, FORMATS["jpg"]), FORMATS["jpg"])
    with Image.open(io.BytesIO(content)) as old, Image.open(io.BytesIO(again)) as new:
        assert new.quantization == old.quantization
        assert new.layer == old.layer
    # The second time loses next to nothing.
    first, second = decode(content, FORMATS["jpg"]), decode(again, FORMATS["jpg"])
    assert np.abs(first.frames.astype(int) - second.frames).mean() < 1


def test_a_jpeg_from_elsewhere_has_full_colour() -> None:
    picture = decode(save(photo(), "png"), FORMATS["png"])
    with Image.open(io.BytesIO(encode(picture, FORMATS["jpg"]))) as image:
        assert [layer[1:3] for layer in image.layer] == [(1, 1)] * 3


def test_clear_parts_are_white_in_a_jpeg() -> None:
    picture = decode(save(Image.new("RGBA", (40, 30), (0, 0, 0, 0)), "png"), FORMATS["png"])
    assert decode(encode(picture, FORMATS["jpg"]), FORMATS["jpg"]).frames.min() == 255


@pytest.mark.parametrize("suffix", MOVING)
@pytest.mark.parametrize("loop", [0, 3])
def test_what_moves_keeps_its_times_and_frames(suffix: str, loop: int) -> None:
    frames, times = steps(), [100, 200, 50, 80, 90, 1000]
    options = {"lossless": True} if suffix == "webp" else {}
    options |= {"disposal": 2} if suffix == "gif" else {}
    options |= {"quality": 100, "subsampling": "4:4:4"} if suffix == "avif" else {}
    content = save(
        frames[0], suffix, save_all=True, append_images=frames[1:], duration=times, loop=loop,
        **options,
    )  # fmt: skip
    first = decode(content, FORMATS[suffix])
    second = decode(encode(first, FORMATS[suffix]), FORMATS[suffix])
    for picture in (first, second):
        assert picture.durations == tuple(times)
        assert picture.loop == (None if suffix == "avif" else loop)
        seen = np.stack([np.asarray(frame) for frame in frames])
        assert (picture.frames[..., 3] == seen[..., 3]).all()
        opaque = seen[..., 3] > 0
        limit = 20 if suffix == "avif" else 0
        assert difference(picture.frames[opaque], seen[opaque]) <= limit


def test_a_gif_that_is_shown_once_is_shown_once() -> None:
    frames = steps(3)
    content = save(frames[0], "gif", save_all=True, append_images=frames[1:], duration=100)
    picture = decode(content, FORMATS["gif"])
    assert picture.loop is None
    again = encode(picture, FORMATS["gif"])
    assert b"NETSCAPE2.0" not in again
    assert decode(again, FORMATS["gif"]).loop is None


def test_frames_that_only_say_what_changed_are_made_whole() -> None:
    ground = photo(64, 48)
    frames = []
    for k in range(4):
        frame = ground.copy()
        frame.paste((255, 0, 0), (10 * k, 4, 10 * k + 8, 12))
        frames.append(frame)
    content = save(frames[0], "png", save_all=True, append_images=frames[1:], duration=40)
    picture = decode(content, FORMATS["png"])
    for frame, seen in zip(frames, picture.frames, strict=True):
        assert difference(seen[..., :3], np.asarray(frame)) == 0


def test_the_cover_of_a_moving_png_stays_its_cover() -> None:
    frames = steps(4)
    content = save(
        frames[0], "png", save_all=True, append_images=frames[1:], default_image=True, duration=70
    )
    picture = decode(content, FORMATS["png"])
    assert picture.cover
    assert len(picture.frames) == 4
    again = decode(encode(picture, FORMATS["png"]), FORMATS["png"])
    assert again.cover
    assert again.durations[1:] == (70, 70, 70)
    assert difference(again.frames, picture.frames) == 0


def test_pages_of_a_tiff_are_kept() -> None:
    pages = steps(3)
    content = save(pages[0], "tiff", save_all=True, append_images=pages[1:])
    picture = decode(content, FORMATS["tiff"])
    assert len(picture.frames) == 3
    assert picture.durations == ()
    again = decode(encode(picture, FORMATS["tiff"]), FORMATS["tiff"])
    assert difference(again.frames, picture.frames) == 0
    with pytest.raises(InputError, match="pages need tiff"):
        encode(picture, FORMATS["gif"])
    mixed = save(pages[0], "tiff", save_all=True, append_images=[photo()])
    with pytest.raises(InputError, match="differ in size"):
        decode(mixed, FORMATS["tiff"])


def test_a_jpeg_cannot_move() -> None:
    picture = Picture(frames=np.zeros((2, 8, 8, 4), np.uint8), durations=(10, 10))
    with pytest.raises(InputError, match="holds one frame"):
        encode(picture, FORMATS["jpg"])


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tiff"])
def test_orientation_is_applied_once(suffix: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[274] = orientation
    options = {"lossless": True} if suffix == "webp" else {}
    content = save(photo(), suffix, exif=exif, **options)
    picture = decode(content, FORMATS[suffix])
    assert picture.frames.shape[1:3] == ((90, 120) if orientation < 5 else (120, 90))
    again = decode(encode(picture, FORMATS[suffix]), FORMATS[suffix])
    assert again.frames.shape == picture.frames.shape
    # Where the first pixel of the file lies, by the definition of the tag.
    corner = {1: (0, 0), 2: (0, -1), 3: (-1, -1), 4: (-1, 0)} | {
        5: (0, 0), 6: (0, -1), 7: (-1, -1), 8: (-1, 0)
    }  # fmt: skip
    stored = np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
    row, column = corner[orientation]
    if suffix == "png":
        assert (picture.frames[0, row, column, :3] == stored[0, 0]).all()


def test_colours_of_print_become_those_of_a_screen() -> None:
    content = save(photo().convert("CMYK"), "jpg", quality=95)
    picture = decode(content, FORMATS["jpg"])
    assert np.abs(picture.frames[0, ..., :3].astype(int) - np.asarray(photo())).mean() < 6
    assert picture.tables is None
    assert not picture.grey
    wrong = save(
        photo().convert("CMYK"),
        "jpg",
        icc_profile=ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes(),
    )
    with pytest.raises(InputError, match="colour profile does not fit"):
        decode(wrong, FORMATS["jpg"])


def test_sixteen_bits_become_eight() -> None:
    values = np.linspace(0, 65535, 90 * 120).reshape(90, 120).astype(np.uint16)
    for suffix in ("png", "tiff"):
        picture = decode(save(Image.fromarray(values), suffix), FORMATS[suffix])
        assert (picture.bits, picture.grey) == (16, True)
        assert difference(picture.frames[0, ..., 1], np.rint(values / 257)) == 0
    sink = io.BytesIO()
    tifffile.imwrite(sink, np.stack([values] * 3, axis=-1), photometric="rgb")
    picture = decode(sink.getvalue(), FORMATS["tiff"])
    assert (picture.bits, picture.grey) == (16, False)
    assert difference(picture.frames[0, ..., 0], np.rint(values / 257)) <= 1
    with pytest.raises(InputError, match="32 bits a channel"):
        decode(save(Image.new("F", (8, 8)), "tiff"), FORMATS["tiff"])


def test_palettes_with_clear_colours() -> None:
    image = Image.new("P", (30, 20), 1)
    image.putpalette([255, 0, 0, 0, 255, 0])
    image.paste(0, (0, 0, 10, 20))
    picture = decode(save(image, "png", transparency=0), FORMATS["png"])
    assert (picture.frames[0, 5, 5, 3], *picture.frames[0, 5, 20]) == (0, 0, 255, 0, 255)
    partly = decode(save(image, "png", transparency=bytes([0, 100])), FORMATS["png"])
    assert partly.frames[0, 5, 20, 3] == 100


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA"])
def test_every_mode_of_a_png_is_read_as_pillow_shows_it(mode: str) -> None:
    image = photo().convert(mode)
    picture = decode(save(image, "png"), FORMATS["png"])
    assert difference(picture.frames[0], np.asarray(image.convert("RGBA"))) == 0


def grey_profile() -> bytes:
    """A profile whose header says that it is of grey; nobody reads further."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    profile[16:20] = b"GRAY"
    return bytes(profile)


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tiff", "avif"])
def test_profile_and_resolution_are_kept(suffix: str) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    content = save(photo(), suffix, icc_profile=profile, dpi=(300, 150))
    again = decode(encode(decode(content, FORMATS[suffix]), FORMATS[suffix]), FORMATS[suffix])
    assert again.icc == profile
    if suffix in ("png", "jpg", "tiff"):
        assert again.dpi == pytest.approx((300, 150), abs=0.1)


def test_grey_stays_grey_with_its_profile_until_a_colour_comes() -> None:
    content = save(photo().convert("L"), "png", icc_profile=grey_profile())
    picture = decode(content, FORMATS["png"])
    assert picture.grey
    with Image.open(io.BytesIO(encode(picture, FORMATS["png"]))) as image:
        assert image.mode == "L"
        assert image.info["icc_profile"] == grey_profile()
    coloured = picture.frames.copy()
    coloured[0, 0, 0] = (255, 0, 0, 255)
    with Image.open(io.BytesIO(encode(picture.with_frames(coloured), FORMATS["png"]))) as image:
        assert image.mode == "RGB"
        assert "icc_profile" not in image.info


def test_no_camera_data_is_taken_along() -> None:
    exif = Image.Exif()
    exif[0x8825] = {1: "N", 2: (48.0, 51.0, 29.0)}
    exif[0x010F] = "Acme cameras"
    content = save(photo(), "jpg", exif=exif, comment=b"private")
    again = encode(decode(content, FORMATS["jpg"]), FORMATS["jpg"])
    assert b"Acme" in content
    assert b"Acme" not in again
    assert b"Exif" not in again
    assert b"private" not in again


@pytest.mark.parametrize("suffix", STILL)
def test_a_file_that_was_cut_is_said_to_be_damaged(suffix: str) -> None:
    content = save(photo(), suffix)
    for share in (0.0, 0.02, 0.3, 0.6, 0.9):
        with pytest.raises(InputError, match="picture:"):
            decode(content[: int(share * len(content))], FORMATS[suffix])


@pytest.mark.parametrize("suffix", STILL)
def test_damage_never_escapes_as_something_else(suffix: str) -> None:
    content = save(photo(40, 30), suffix)
    random, seen = np.random.default_rng(0), 0
    for _ in range(150):
        spoilt = bytearray(content)
        for place in random.integers(0, len(content), 4):
            spoilt[place] = random.integers(256)
        try:
            decode(bytes(spoilt), FORMATS[suffix])
        except InputError:
            seen += 1
    assert seen > 0


def test_a_file_of_another_format_is_refused() -> None:
    with pytest.raises(InputError, match="is no png file"):
        decode(save(photo(), "jpg"), FORMATS["png"])
    with pytest.raises(InputError, match="no picture of pixels"):
        decode(b"<svg/>", FORMATS["svg"])


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


@pytest.mark.parametrize("side", [9_500, 20_000, 2**31 - 1])
def test_size_is_limited_before_anything_is_decoded(side: int) -> None:
    header = struct.pack(">IIBBBBB", side, side, 8, 6, 0, 0, 0)
    content = (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")
    )
    with pytest.raises(InputError, match="million pixels"):
        decode(content, FORMATS["png"])


def test_frames_are_limited_together(monkeypatch: pytest.MonkeyPatch) -> None:
    frames = steps()
    content = save(frames[0], "gif", save_all=True, append_images=frames[1:], duration=50)
    monkeypatch.setattr(pictures, "LARGEST", 5 * 64 * 48)
    with pytest.raises(InputError, match="6 x 64x48"):
        decode(content, FORMATS["gif"])
    monkeypatch.setattr(pictures, "LARGEST", 6 * 64 * 48)
    assert len(decode(content, FORMATS["gif"]).frames) == 6


def test_one_picture_gives_one_file() -> None:
    picture = decode(save(photo(300, 200), "png"), FORMATS["png"])
    for suffix in STILL:
        assert encode(picture, FORMATS[suffix]) == encode(picture, FORMATS[suffix])


def test_what_a_format_cannot_hold_is_said() -> None:
    wide = Picture(frames=np.zeros((1, 1, 17_000, 4), np.uint8))
    with pytest.raises(InputError, match="cannot hold 17000x1 pixels"):
        encode(wide, FORMATS["webp"])
