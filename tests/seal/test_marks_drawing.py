"""Marks in drawings, rendered by resvg and measured."""

from __future__ import annotations

import io
from xml.etree import ElementTree

import numpy as np
import pytest
import resvg_py
from PIL import Image

from vermilion.errors import InputError
from vermilion.seal import carriers
from vermilion.seal.formats import FORMATS
from vermilion.seal.labels import Label, Statement
from vermilion.seal.marks import PLACES
from vermilion.seal.marks.drawing import CONTRAST, ID, draw
from vermilion.seal.marks.picture import luminance

NS = 'xmlns="http://www.w3.org/2000/svg"'
CIRCLE = '<circle cx="50" cy="50" r="40" fill="teal"/>'
SHAPES = {
    "box": f'<svg {NS} viewBox="0 0 100 100">{CIRCLE}</svg>',
    "box elsewhere": f'<svg {NS} viewBox="-500 -20 1000 600">{CIRCLE}</svg>',
    "letterbox": f'<svg {NS} width="400" height="400" viewBox="0 0 400 100">{CIRCLE}</svg>',
    "aligned": f'<svg {NS} width="300" height="200" viewBox="0 0 50 100"'
    f' preserveAspectRatio="xMaxYMin meet">{CIRCLE}</svg>',
    "slice": f'<svg {NS} width="300" height="300" viewBox="0 0 400 100"'
    f' preserveAspectRatio="xMidYMid slice">{CIRCLE}</svg>',
    "slice to an edge": f'<svg {NS} width="300" height="200" viewBox="0 0 100 400"'
    f' preserveAspectRatio="xMinYMax slice">{CIRCLE}</svg>',
    "stretched": f'<svg {NS} width="300" height="150" viewBox="0 0 100 100"'
    f' preserveAspectRatio="none">{CIRCLE}</svg>',
    "millimetres": f'<svg {NS} width="80mm" height="1.5in">{CIRCLE}</svg>',
    "percent": f'<svg {NS} width="100%" height="100%" viewBox="0 0 24 24">{CIRCLE}</svg>',
    "one side": f'<svg {NS} width="360" viewBox="0 0 24 12">{CIRCLE}</svg>',
    "tiny units": f'<svg {NS} width="500" height="500" viewBox="0 0 0.001 0.001">{CIRCLE}</svg>',
    "nothing in it": f'<svg {NS} width="200" height="100" data-note="a > b"/>',
}


def rendered(svg: bytes, longest: int = 1000) -> np.ndarray:
    """RGBA (H, W, 4), at least `longest` pixels on the longest side or at its own size."""

    def picture(zoom: int) -> Image.Image:
        png = resvg_py.svg_to_bytes(
            svg_string=svg.decode(), dpi=96, zoom=zoom, skip_system_fonts=True
        )
        return Image.open(io.BytesIO(bytes(png))).convert("RGBA")

    plain = picture(1)
    zoom = round(longest / max(plain.size))
    return np.asarray(picture(zoom) if zoom > 1 else plain)


def letters(pixels: np.ndarray) -> tuple[int, int, int, int]:
    """The box of what is at least half white."""
    ink = (pixels[..., :3].min(axis=-1) > 140) & (pixels[..., 3] > 200)
    rows, columns = np.flatnonzero(ink.any(axis=1)), np.flatnonzero(ink.any(axis=0))
    return columns[0], rows[0], columns[-1] + 1, rows[-1] + 1


@pytest.mark.parametrize("words", ["AI生成", "AI-generated"])
@pytest.mark.parametrize("name", SHAPES)
def test_the_drawn_letters_are_high_enough_and_not_stretched(name: str, words: str) -> None:
    svg = SHAPES[name].encode()
    marked, mark = draw(svg, words)
    pixels = rendered(marked)
    height, width = pixels.shape[:2]
    left, top, right, bottom = letters(pixels)
    assert bottom - top >= 0.05 * min(height, width)
    assert (bottom - top) / min(height, width) == pytest.approx(mark.share, abs=0.004)
    # All of it is seen, with some room to the edge.
    assert 0 < left < right < width
    assert 0 < top < bottom < height
    shape = (mark.box[2] - mark.box[0]) / (mark.box[3] - mark.box[1])
    assert (right - left) / (bottom - top) == pytest.approx(shape, rel=0.06)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", ["slice", "letterbox", "box elsewhere"])
def test_places_are_those_of_what_is_shown(name: str, place: str) -> None:
    pixels = rendered(draw(SHAPES[name].encode(), "AI生成", place=place).content)
    height, width = pixels.shape[:2]
    left, top, right, bottom = letters(pixels)
    across, down = (left + right) / 2 / width, (top + bottom) / 2 / height
    assert down > 0.75 if place.startswith("bottom") else down < 0.25
    side = place.partition("-")[2]
    assert {"left": across < 0.35, "right": across > 0.65}.get(side, abs(across - 0.5) < 0.02)


@pytest.mark.parametrize("name", SHAPES)
def test_the_drawing_keeps_every_byte_and_gets_one_mark(name: str) -> None:
    svg = SHAPES[name].encode()
    marked = draw(svg, "AI生成").content
    assert draw(marked, "AI生成").content == marked
    other = draw(marked, "AI-generated", place="top").content
    assert other == draw(svg, "AI-generated", place="top").content
    root = ElementTree.fromstring(marked)
    assert root[-1].get("id") == ID
    assert sum(element.get("id") == ID for element in root.iter()) == 1
    if name != "nothing in it":
        start, end = marked.index(b"<g xmlns"), marked.rindex(b"</g>") + 4
        assert marked[:start] + marked[end:] == svg


def test_odd_files_are_kept_as_they_are() -> None:
    svg = (
        b"\xef\xbb\xbf<?xml version='1.0' encoding='iso-8859-1'?>\n<!DOCTYPE svg PUBLIC"
        b' "-//W3C//DTD SVG 1.1//EN" "http://www.w3.org/Graphics/SVG/1.1/DTD/svg11.dtd">\n'
        b'<s:svg xmlns:s="http://www.w3.org/2000/svg" viewBox="0 0 64 64"><s:style>'
        b"path,rect,g{fill:none;display:none}</s:style><!-- </s:svg> --></s:svg >\n<!-- </svg> -->"
    ).removeprefix(b"\xef\xbb\xbf")
    marked = draw(svg, "AI生成").content
    start, end = marked.index(b"<g xmlns"), marked.rindex(b"</g>") + 4
    assert marked[:start] + marked[end:] == svg
    assert ElementTree.fromstring(marked)[-1].get("aria-label") == "AI生成"
    # The drawing's own style sheet does not hide it.
    text = marked.replace(b"iso-8859-1", b"utf-8")
    assert letters(rendered(text))


@pytest.mark.parametrize("ground", ["white", "black", "#808080", "none"])
def test_contrast_on_any_ground(ground: str) -> None:
    svg = f'<svg {NS} viewBox="0 0 100 100"><rect width="100" height="100" fill="{ground}"/></svg>'
    for back in (0, 255):
        pixels = rendered(draw(svg.encode(), "AI生成").content)
        image = Image.new("RGBA", pixels.shape[1::-1], (back,) * 3 + (255,))
        image.alpha_composite(Image.fromarray(pixels))
        left, top, right, bottom = letters(pixels) if ground != "white" else (0, 0, 0, 0)
        if ground == "white":
            left, top, right, bottom = (
                round(v * 10) for v in draw(svg.encode(), "AI生成").mark.box
            )
        part = np.asarray(image)[top:bottom, left:right, :3]
        light = luminance(part)
        plate = np.median(light[light < 0.5])
        assert 1.05 / (plate + 0.05) >= CONTRAST - 0.1


@pytest.mark.parametrize(
    ("svg", "said"),
    [
        ('<!DOCTYPE svg [<!ENTITY a "aaaa">]><svg {NS} viewBox="0 0 1 1">&a;</svg>', "entities"),
        ('<!DOCTYPE svg [<!ENTITY a SYSTEM "file:///etc/passwd">]><svg {NS}>&a;</svg>', "entities"),
        ("<svg {NS} viewBox='0 0 9 9'><g></svg>", "damaged"),
        ("", "damaged"),
        ("<svg viewBox='0 0 9 9'/>", "xmlns"),
        ("<html/>", "first element"),
        ("<svg {NS}/>", "neither a viewBox nor"),
        ("<svg {NS} width='100%' height='50%'/>", "neither a viewBox nor"),
        ("<svg {NS} viewBox='0 0 0 9'/>", "viewBox must be"),
        ("<svg {NS} viewBox='0 0 9'/>", "viewBox must be"),
        ("<svg {NS} width='wide' height='9'/>", "must be lengths"),
        ("<svg {NS} width='0' height='9'/>", "above 0"),
        ("<svg {NS} width='1e999' height='9'/>", "above 0"),
        (
            "<svg {NS} viewBox='0 0 9 9'>" + "<g>" * 300 + "</g>" * 300 + "</svg>",
            "within one another",
        ),
    ],
)
def test_what_cannot_be_marked_is_said_in_a_sentence(svg: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        draw(svg.replace("{NS}", NS).encode(), "AI生成")


def test_words_too_long_are_refused() -> None:
    with pytest.raises(InputError, match="too long"):
        draw(SHAPES["box"].encode(), "AI-generated " + "and more " * 20)
    with pytest.raises(InputError, match="does not say"):
        draw(SHAPES["box"].encode(), "hello")


def test_the_label_s_carrier_keeps_the_mark() -> None:
    label = Label(content_producer="Acme", produce_id="abc23456")
    marked = draw(SHAPES["slice"].encode(), "AI生成").content
    sealed = carriers.write(marked, FORMATS["svg"], Statement(label=label))
    assert carriers.read(sealed, FORMATS["svg"]).label == label
    assert draw(sealed, "AI生成").content == sealed
    assert (rendered(sealed) == rendered(marked)).all()
