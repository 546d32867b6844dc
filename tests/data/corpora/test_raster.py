"""Drawings made into pictures, against another rasteriser."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import resvg_py
from PIL import Image

from tests.data.corpora.test_drawings import clip
from vermilion.data.alpha import straight
from vermilion.data.corpora.drawings.raster import Picture, picture

pytest.importorskip("svg2png_py", reason="the extra 'drawings' is not installed")

SHAPES = (
    '<svg xmlns="http://www.w3.org/2000/svg" width="64" height="64" viewBox="0 0 16 16">'
    '<rect width="9" height="9" fill="#ff8000" fill-opacity=".4"/>'
    '<path d="M3 15L15 3v12z" fill="#0040ff"/></svg>'
)


def pixels_of(content: str, size: int, **more: bool) -> np.ndarray[Any, Any]:
    made = picture(content.encode(), size, **more)
    assert isinstance(made, Picture)
    return np.asarray(Image.open(io.BytesIO(made.png)), np.float64)


def test_pictures_are_those_of_the_reference_and_alpha_is_straight() -> None:
    ours = pixels_of(SHAPES, 64)
    png = bytes(resvg_py.svg_to_bytes(svg_string=SHAPES, width=64, height=64))
    other = np.asarray(Image.open(io.BytesIO(png)).convert("RGBA"), np.float64)
    inside = np.s_[4:20, 4:20]
    assert np.abs(ours[inside] - [255, 128, 0, 102]).max() <= 2
    assert np.abs(other[inside] - ours[inside]).max() <= 2
    shown = [image[..., :3] * image[..., 3:] / 255 for image in (ours, other)]
    assert np.abs(shown[0] - shown[1]).mean() < 1
    assert (ours[ours[..., 3] == 0] == 0).all()


def test_unmultiplying_is_the_inverse_of_multiplying() -> None:
    alpha = np.arange(1, 256, dtype=np.float32)
    colour = np.full((255, 3), 200, np.float32)
    mixed = np.concatenate([colour * alpha[:, None] / 255, alpha[:, None]], 1)[None]
    assert (straight(mixed)[0, :, :3] == 200).all()


def test_clip_art_fills_its_picture_and_keeps_its_form() -> None:
    alpha = pixels_of(clip("Bar", "bar").decode(), 64, trimmed=True)[..., 3] > 128
    rows, columns = np.flatnonzero(alpha.any(1)), np.flatnonzero(alpha.any(0))
    assert 58 <= len(rows) <= 62
    assert len(columns) == pytest.approx(len(rows) / 2, abs=1)
    assert abs(int(columns[0]) + int(columns[-1]) - 63) <= 1


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no drawing",
        b"RIFFxxxx",
        b"\xff<svg/>",
        b'<svg viewBox="a b c d"/>',
        b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>',
    ],
)
def test_what_cannot_be_drawn_is_said_in_a_few_words(content: bytes) -> None:
    said = picture(content, 32)
    assert isinstance(said, str)
    assert said
    assert "\n" not in said
