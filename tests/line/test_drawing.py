"""Pictures traced and enlarged, held against the real rendering of what they show."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image
from skimage import data
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from vermilion.errors import InputError, MissingExtraError
from vermilion.line import drawing
from vermilion.line.pixels import resized

FACE = """<svg xmlns="http://www.w3.org/2000/svg" width="{0}" height="{0}" viewBox="0 0 32 32">
<circle cx="16" cy="16" r="13" fill="#fcc21b" stroke="#222" stroke-width="2"/>
<circle cx="11" cy="13" r="2" fill="#222"/><circle cx="21" cy="13" r="2" fill="#222"/>
<path d="M9 19 Q16 27 23 19 Z" fill="#c1272d"/>
<path d="M2 6 L8 2 L9 9 Z" fill="#2a7de1"/></svg>"""
RING = """<svg xmlns="http://www.w3.org/2000/svg" width="{0}" height="{0}" viewBox="0 0 32 32">
<circle cx="16" cy="16" r="11" fill="none" stroke="#0a0" stroke-width="5"/></svg>"""


def real(svg: str, side: int) -> np.ndarray:
    """What the drawing looks like: drawn four times as large, then reduced."""
    return resized(drawing.draw(svg.format(side * 4).encode()), (side, side))


def on_white(pixels: np.ndarray) -> np.ndarray:
    alpha = pixels[..., 3:] / 255
    return pixels[..., :3] * alpha + 255 * (1 - alpha)


@pytest.mark.parametrize("svg", [FACE, RING])
def test_an_enlarged_drawing_is_nearer_to_the_real_one_than_a_filter_brings_it(svg: str) -> None:
    small, large = real(svg, 64), on_white(real(svg, 512))
    ours, how = drawing.enlarge(small, 512)
    assert how == "drawn"
    assert ours.shape == (512, 512, 4)
    filtered = on_white(resized(small, (512, 512)))

    def error(picture: np.ndarray) -> tuple[float, float]:
        return (
            peak_signal_noise_ratio(large, picture, data_range=255),
            structural_similarity(large, picture, channel_axis=2, data_range=255),
        )

    (psnr, ssim), (plain_psnr, plain_ssim) = error(on_white(ours)), error(filtered)
    assert psnr > plain_psnr + 1
    assert ssim > plain_ssim
    assert ssim > 0.97


def test_what_is_clear_stays_clear() -> None:
    ring, _ = drawing.enlarge(real(RING, 64), 512)
    assert ring[256, 256, 3] == 0  # the hole
    assert ring[4, 4, 3] == 0
    assert ring[256, 256 - 176, 3] == 255
    assert ring[256, 256 - 176, 1] == pytest.approx(170, abs=6)


def test_a_little_that_is_clear_is_clear() -> None:
    card = np.full((64, 64, 4), 255, np.uint8)
    card[..., :3] = (40, 110, 200)
    card[:6, :6] = card[50:, 58:] = 0
    large = drawing.render(drawing.trace(card).svg, 512, 512)
    assert large[10, 10].tolist() == [0, 0, 0, 0]
    assert large[450, 500, 3] == 0
    assert large[256, 256].tolist() == [40, 110, 200, 255]
    assert large[2, 256, 3] == 255
    away = np.abs(large[..., 3].astype(int) - resized(card, (512, 512))[..., 3])
    assert away.mean() < 2


def test_a_trace_is_clean_small_and_the_same_each_time() -> None:
    first, second = (drawing.trace(real(FACE, 64)) for _ in range(2))
    assert first == second
    root = ElementTree.fromstring(first.svg)
    tags = {re.sub(r"\{.*\}", "", node.tag) for node in root.iter()}
    assert tags == {"svg", "path"}
    assert {key for node in root for key in node.attrib} == {"d", "fill", "transform"}
    assert first.colours <= 6
    assert first.paths <= 10
    assert len(first.svg) < 12_000
    assert "tracer" not in first.svg.lower()


def test_no_line_of_a_third_colour_runs_along_an_edge() -> None:
    half = np.full((64, 64, 4), 255, np.uint8)
    half[:, :32, :3] = 0
    half[:20, 48:, :3] = 128  # the grey that a mixture of both would be
    whole = drawing.render(drawing.trace(half).svg, 512, 512)
    edge = whole[400, 200:312, 0].astype(int)
    assert ((edge > 40) & (edge < 215)).sum() <= 2
    assert whole[60, 450, 0] == pytest.approx(128, abs=3)


def test_photographs_are_filtered_and_larger_ones_reduced() -> None:
    photo = np.asarray(Image.fromarray(data.astronaut()).resize((64, 64)))
    large, how = drawing.enlarge(photo, 256)
    assert (how, large.shape) == ("filtered", (256, 256, 4))
    assert bool((large[..., 3] == 255).all())
    small, how = drawing.enlarge(photo, 32)
    assert (how, small.shape) == ("reduced", (32, 32, 4))
    assert drawing.enlarge(photo, 64)[1] == "as it was"


def test_clear_parts_lend_no_colour() -> None:
    pixels = np.zeros((32, 32, 4), np.uint8)
    pixels[..., 1] = 255  # green where nothing is drawn
    pixels[8:24, 8:24] = (255, 0, 0, 255)
    large = resized(pixels, (128, 128))
    seen = large[large[..., 3] > 0]
    assert seen[:, 1].max() == 0


def test_sides_keep_their_proportion() -> None:
    wide = np.zeros((16, 64, 4), np.uint8)
    wide[4:12, 8:56] = (10, 20, 200, 255)
    assert drawing.enlarge(wide, 256)[0].shape == (64, 256, 4)
    traced = drawing.sized(drawing.trace(wide), 1024)
    assert (traced.width, traced.height) == (1024, 256)


@pytest.mark.parametrize("shape", [(1, 1, 4), (3, 200, 3), (2000, 8, 4)])
def test_odd_sizes_are_traced(shape: tuple[int, int, int]) -> None:
    pixels = np.full(shape, 200, np.uint8)
    assert drawing.trace(pixels).svg.endswith("</svg>\n")


def test_nothing_drawn_is_an_empty_drawing() -> None:
    empty = drawing.trace(np.zeros((64, 64, 4), np.uint8))
    assert empty.paths == 0
    assert drawing.render(empty.svg, 64, 64)[..., 3].max() == 0


def test_what_is_no_picture_is_said() -> None:
    with pytest.raises(InputError, match="uint8 array"):
        drawing.trace(np.zeros((8, 8), np.uint8))
    with pytest.raises(InputError, match="no SVG that can be drawn"):
        drawing.draw(b"<html></html>")
    with pytest.raises(InputError, match="too large"):
        drawing.draw(FACE.format(100_000).encode())


def test_a_missing_part_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    drawing._vtracer.cache_clear()
    monkeypatch.setitem(sys.modules, "vtracer", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'vermilion\[drawings\]'"):
        drawing.trace(real(RING, 64))
    drawing._vtracer.cache_clear()
