"""Marks in pictures: what is drawn is measured, not what was meant."""

from __future__ import annotations

import io
import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage import color, data

from vermilion.errors import InputError
from vermilion.seal.formats import FORMATS
from vermilion.seal.marks import PLACES, WORDINGS, checked, font, tells, wording
from vermilion.seal.marks.picture import draw, luminance
from vermilion.seal.media.pictures import Picture, decode, encode

WORDS = ("AI生成", "AI-generated", "AI合成")
PHOTOS = (
    "astronaut",
    "coffee",
    "chelsea",
    "camera",
    "rocket",
    "brick",
    "grass",
    "immunohistochemistry",
)


def grey(width: int, height: int, value: int) -> np.ndarray:
    pixels = np.full((height, width, 4), value, np.uint8)
    pixels[..., 3] = 255
    return pixels


def photo(name: str) -> np.ndarray:
    return np.asarray(Image.fromarray(getattr(data, name)()).convert("RGBA"))


def noise(side: int = 256) -> np.ndarray:
    pixels = np.random.default_rng(0).integers(0, 256, (side, side, 4), dtype=np.uint8)
    pixels[..., 3] = 255
    return pixels


def inked(part: np.ndarray) -> tuple[int, int, int, int]:
    """The box around the pixels that are nearer to white letters than to the ground they are on."""
    level = part[..., :3].astype(float).mean(axis=-1)
    ink = level >= (255 + np.percentile(level, 20)) / 2
    rows, columns = np.flatnonzero(ink.any(axis=1)), np.flatnonzero(ink.any(axis=0))
    return columns[0], rows[0], columns[-1] + 1, rows[-1] + 1


SIZES = [(64, 64), (96, 128), (128, 128), (200, 137), (256, 256), (512, 512), (640, 360),
         (777, 1001), (1024, 1024), (1920, 1080), (3000, 40), (60, 3000)]  # fmt: skip


@pytest.mark.parametrize("words", WORDS)
@pytest.mark.parametrize(("width", "height"), SIZES)
@pytest.mark.parametrize("ground", [0, 128])
def test_what_is_drawn_is_high_enough(words: str, width: int, height: int, ground: int) -> None:
    pixels = grey(width, height, ground)
    marked, mark, _ = draw(pixels, words, style="plate")
    left, top, right, bottom = mark.area
    box = inked(marked[top:bottom, left:right])
    drawn = box[3] - box[1]
    assert drawn >= 0.05 * min(width, height)
    assert drawn == mark.height
    assert mark.share == pytest.approx(drawn / min(width, height))
    # Not much higher either, where the standard's height can be read.
    if min(width, height) >= 300:
        assert drawn <= 0.05 * min(width, height) + 2


@pytest.mark.parametrize("words", WORDS)
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("style", ["auto", "plate", "outline"])
def test_only_the_area_changes_and_it_lies_where_it_was_asked_for(words, place, style) -> None:
    pixels = photo("coffee")
    before = pixels.copy()
    marked, mark, _ = draw(pixels, words, place=place, style=style)
    assert (pixels == before).all()
    changed = (marked != pixels).any(axis=-1)
    left, top, right, bottom = mark.area
    assert changed[top:bottom, left:right].any()
    changed[top:bottom, left:right] = False
    assert not changed.any()
    height, width = pixels.shape[:2]
    assert mark.area[0] <= mark.box[0] < mark.box[2] <= mark.area[2]
    assert mark.area[1] <= mark.box[1] < mark.box[3] <= mark.area[3]
    middle = (left + right) / 2 / width
    across = {"left": middle < 0.3, "right": middle > 0.7}
    assert across.get(place.partition("-")[2], 0.45 < middle < 0.55)
    assert bottom < 0.3 * height if place.startswith("top") else top > 0.7 * height


def wcag(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Contrast by way of scikit-image's linear light (CIE Y), not by our own table."""
    light = [color.rgb2xyz(c.astype(np.uint8)[None])[0, :, 1] for c in (one, other)]
    high, low = np.maximum(*light), np.minimum(*light)
    return (high + 0.05) / (low + 0.05)


def beside(marked: np.ndarray, flat: np.ndarray, light: bool) -> np.ndarray:
    """Contrast of the letters with each pixel of their outer rim in a composed picture."""
    level = luminance(flat)
    letters = level > 0.8 if light else level < 0.02
    grown = letters.copy()
    for shift in (-2, 2):
        for axis in (0, 1):
            grown |= np.roll(letters, shift, axis)
    soft = letters.copy()
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            soft |= np.roll(letters, (dy, dx), (0, 1))
    rim = grown & ~soft
    ink = np.array([[255, 255, 255]] if light else [[16, 16, 18]])
    return wcag(np.repeat(ink, rim.sum(), axis=0), flat[rim])


def flat_on(pixels: np.ndarray, ground: int) -> np.ndarray:
    image = Image.new("RGBA", pixels.shape[1::-1], (ground,) * 3 + (255,))
    image.alpha_composite(Image.fromarray(pixels))
    return np.asarray(image)[..., :3]


@pytest.mark.parametrize("words", WORDS[:2])
@pytest.mark.parametrize("ground", range(0, 256, 15))
@pytest.mark.parametrize("style", ["auto", "plate", "outline"])
def test_contrast_on_every_grey(words: str, ground: int, style: str) -> None:
    marked, mark, _ = draw(grey(400, 400, ground), words, style=style)
    assert mark.contrast >= 4.5
    left, top, right, bottom = mark.area
    part = marked[top:bottom, left:right, :3]
    # The letters' colour against the darkest or lightest of what is not letter, by the reference.
    ink = 255 if part[..., 0].max() == 255 and (mark.style == "plate" or ground < 128) else 16
    others = part[np.abs(part.astype(int) - ink).max(axis=-1) > 60]
    ratios = wcag(np.full_like(others, ink), others)
    # A line around the letters covers less than half of what is beside them.
    assert np.percentile(ratios, 90 if style == "outline" else 50) >= 4.5


@pytest.mark.parametrize("name", [*PHOTOS, "noise"])
@pytest.mark.parametrize("place", ["bottom-right", "top-left"])
@pytest.mark.parametrize("style", ["auto", "plate", "outline"])
def test_contrast_on_photographs_and_noise(name: str, place: str, style: str) -> None:
    pixels = noise() if name == "noise" else photo(name)
    marked, mark, _ = draw(pixels, "AI生成", place=place, style=style)
    assert mark.contrast >= 4.5
    if mark.style == "plate":
        left, top, right, bottom = mark.area
        part = marked[top:bottom, left:right]
        ratios = beside(part, flat_on(part, 0), light=True)
        assert ratios.size > 50
        assert np.percentile(ratios, 5) >= 4.5


@pytest.mark.parametrize("ground", [0, 255])
def test_a_sticker_s_mark_is_seen_on_white_and_on_black(ground: int) -> None:
    clear = np.zeros((128, 128, 4), np.uint8)
    marked, mark, _ = draw(clear, "AI生成")
    assert mark.style == "plate"
    flat = flat_on(marked, ground)
    left, top, right, bottom = mark.area
    part = flat[top:bottom, left:right]
    plate = part[3:-3, 3:-3].reshape(-1, 3)
    darkest = np.percentile(plate.astype(int).sum(axis=-1), 10) / 3
    assert wcag(np.array([[255] * 3]), np.array([[int(darkest)] * 3]))[0] >= 4.5
    inner = part[3:-3, 3:-3]
    assert np.percentile(beside(inner, inner, light=True), 25) >= 4.5
    assert marked[: top - 1].max() == 0


def test_laying_over_agrees_with_pillow() -> None:
    """The same stamp by Pillow's alpha composition, on a picture with every alpha."""
    pixels = photo("coffee").copy()
    pixels[..., 3] = np.linspace(0, 255, pixels.shape[1]).astype(np.uint8)
    blank = np.zeros_like(pixels)
    stamp, mark, _ = draw(blank, "AI生成", style="plate")
    marked, same, _ = draw(pixels, "AI生成", style="plate")
    assert mark.area == same.area
    image = Image.fromarray(pixels)
    image.alpha_composite(Image.fromarray(stamp))
    reference = np.asarray(image).astype(int)
    seen = reference[..., 3] > 40
    assert np.abs(reference - marked)[seen].max() <= 3


def test_frames_get_one_mark() -> None:
    frames = np.stack([grey(120, 90, value) for value in (0, 90, 180, 255)])
    marked, mark, _ = draw(frames, "AI生成")
    assert marked.shape == frames.shape
    left, top, right, bottom = mark.area
    for before, after in zip(frames, marked, strict=True):
        changed = (before != after).any(axis=-1)
        assert changed[top:bottom, left:right].sum() > 100
        changed[top:bottom, left:right] = False
        assert not changed.any()
    # Dark to light: only a plate is seen on all of them.
    assert mark.style == "plate"
    assert mark.contrast >= 4.5


@pytest.mark.parametrize("suffix", ["png", "webp", "gif", "avif"])
def test_frames_are_marked_through_a_file(suffix: str) -> None:
    frames = np.stack([photo("chelsea")[:200, :300]] * 3)
    frames[1, :50], frames[2, 50:100] = 0, 255
    frames[..., 3] = 255
    marked, mark, _ = draw(frames, "AI-generated")
    picture = Picture(frames=marked, durations=(100, 100, 100), loop=0)
    again = decode(encode(picture, FORMATS[suffix]), FORMATS[suffix])
    left, top, right, bottom = mark.box
    for frame in again.frames:
        box = inked(frame[top:bottom, left:right])
        assert box[3] - box[1] >= mark.height - 1


@pytest.mark.parametrize("quality", [95, 75, 50])
def test_contrast_outlives_a_jpeg(quality: int) -> None:
    for name in PHOTOS:
        marked, mark, _ = draw(photo(name), "AI生成")
        sink = io.BytesIO()
        Image.fromarray(marked).convert("RGB").save(sink, "JPEG", quality=quality)
        again = np.asarray(Image.open(sink).convert("RGB"))
        left, top, right, bottom = mark.box
        before, after = (luminance(p[top:bottom, left:right, :3]) for p in (marked, again))
        letters, ground = before > 0.85, before < 0.2
        if mark.style == "plate":
            high, low = np.median(after[letters]), np.median(after[ground])
            assert (high + 0.05) / (low + 0.05) >= 4.5


@pytest.mark.parametrize("side", [16, 20, 24, 32, 48, 64])
def test_small_pictures_are_marked_as_large_as_they_allow(side: int) -> None:
    marked, mark, _ = draw(grey(side, side, 128), "AI生成")
    assert (marked != grey(side, side, 128)).any()
    assert mark.height >= 4
    assert mark.height >= 0.05 * side
    assert 0 <= mark.area[0] < mark.area[2] <= side
    assert 0 <= mark.area[1] < mark.area[3] <= side
    if side >= 40:
        assert mark.height == 11


@pytest.mark.parametrize(("width", "height"), [(1, 1), (8, 8), (10, 1000), (1000, 4)])
def test_where_nothing_fits_it_is_said(width: int, height: int) -> None:
    with pytest.raises(InputError, match=f"{width}x{height} pixels has no room"):
        draw(grey(width, height, 0), "AI-generated")


def test_long_words_are_made_smaller_then_refused() -> None:
    words = "AI-generated picture: this is no photograph of anything"
    _, wide, _ = draw(grey(2000, 500, 0), words)
    assert wide.height >= 25
    with pytest.raises(InputError, match="no room"):
        draw(grey(500, 500, 0), words * 2)


def test_signs_that_the_font_lacks_are_named() -> None:
    with pytest.raises(InputError, match="has no 龘"):
        draw(grey(200, 200, 0), "AI生成龘")
    with pytest.raises(InputError, match="no words"):
        font.require("   ")


@pytest.mark.parametrize(
    "words", ["", "hello", "AI", "generated", "AI生成\nof mine", "PAID generated"]
)
def test_a_mark_names_ai_and_the_act(words: str) -> None:
    with pytest.raises(InputError, match="does not say in one line that AI made it"):
        draw(grey(200, 200, 0), words)


def test_wrong_choices_are_named() -> None:
    with pytest.raises(InputError, match="place must be one of"):
        draw(grey(200, 200, 0), "AI生成", place="middle")
    with pytest.raises(InputError, match="style must be"):
        draw(grey(200, 200, 0), "AI生成", style="bold")


def test_wordings() -> None:
    assert {wording(code) for code in ("zh", "zh-CN", "zh_Hant", "ZH")} == {"AI生成"}
    assert {wording(code) for code in ("en", "en-GB", "de", "xx", "")} == {"AI-generated"}
    for words in WORDINGS.values():
        assert checked(words) == words
        assert font.require(words) == words
    assert tells("本图由人工智能合成")
    assert tells("Generated with AI")
    assert not tells("Made in Taiwan")


def test_the_font_is_the_subset_that_is_named_in_its_licence() -> None:
    from fontTools.ttLib import TTFont

    folder = Path(font.__path__[0])
    read = TTFont(folder / "marks.otf")
    assert read["name"].getDebugName(1) == "Vermilion Marks"
    assert "Open Font License" in read["name"].getDebugName(13)
    assert "Adobe" in read["name"].getDebugName(0)
    # Both files have the same signs, with the same widths.
    signs = font.outlines()
    assert {chr(code) for code in read.getBestCmap()} == signs.keys()
    widths = {chr(code): read["hmtx"][name][0] for code, name in read.getBestCmap().items()}
    assert {sign: width for sign, (width, _) in signs.items()} == widths
    assert set("AI生成合成-generated人工智能") <= signs.keys()
    assert (folder / "marks.otf").stat().st_size < 60_000
    assert "SIL OPEN FONT LICENSE Version 1.1" in (folder / "OFL.txt").read_text(encoding="utf-8")


def test_outlines_are_those_of_the_font() -> None:
    """A sign's path, drawn by fontTools from the font, has the box that ours has."""
    from fontTools.pens.boundsPen import ControlBoundsPen
    from fontTools.ttLib import TTFont

    read = TTFont(Path(font.__path__[0]) / "marks.otf")
    glyphs, names = read.getGlyphSet(), read.getBestCmap()
    for sign in "AI生成合g@Ü":
        pen = ControlBoundsPen(glyphs)
        glyphs[names[ord(sign)]].draw(pen)
        assert font.extent(sign) == tuple(math.floor(v) for v in pen.bounds)
