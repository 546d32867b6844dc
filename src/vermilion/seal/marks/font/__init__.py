"""The font that marks are written in: "Vermilion Marks", made by `build.py`, under OFL.txt."""

from __future__ import annotations

import io
import json
import re
from functools import lru_cache
from importlib import resources

from PIL import ImageFont

from vermilion.errors import InputError

UNITS = 1000  # font units of one em


@lru_cache(maxsize=64)
def typeface(size: float) -> ImageFont.FreeTypeFont:
    """The font at `size` pixels an em."""
    file = io.BytesIO(resources.files(__name__).joinpath("marks.otf").read_bytes())
    return ImageFont.truetype(file, size, layout_engine=ImageFont.Layout.BASIC)


@lru_cache(maxsize=1)
def outlines() -> dict[str, tuple[int, str]]:
    """Every sign's advance width and its path.

    A path is SVG's, of m, l, c and z with relative coordinates, y upward, 1000 units an em.
    """
    text = resources.files(__name__).joinpath("outlines.json").read_text(encoding="utf-8")
    return {sign: (width, path) for sign, (width, path) in json.loads(text).items()}


Points = list[tuple[int, int]]


@lru_cache(maxsize=256)
def segments(sign: str) -> tuple[tuple[str, Points], ...]:
    """A sign's outline: m, l, c or z, each with the points it goes to, absolute, y upward."""
    found: list[tuple[str, Points]] = []
    x, y, start = 0, 0, (0, 0)
    for operator, numbers in re.findall(r"([mlcz])([^mlcz]*)", outlines()[sign][1]):
        steps = [int(number) for number in re.findall(r"-?\d+", numbers)]
        points = [(x + dx, y + dy) for dx, dy in zip(steps[::2], steps[1::2], strict=True)]
        x, y = points[-1] if points else start
        start = (x, y) if operator == "m" else start
        found.append((operator, points))
    return tuple(found)


def extent(words: str) -> tuple[int, int, int, int]:
    """What words drawn from the origin cover: left, bottom, right, top in font units."""
    xs, ys, at = list[int](), list[int](), 0
    for sign in words:
        for _, points in segments(sign):
            xs += [at + x for x, _ in points]
            ys += [y for _, y in points]
        at += outlines()[sign][0]
    return min(xs), min(ys), max(xs), max(ys)


def require(words: str) -> str:
    """The words without space around them, if the font can write them all.

    Raises:
        InputError: there are no words, or a sign is not in the font.
    """
    stripped = words.strip()
    if not stripped:
        raise InputError("mark: has no words; write for example AI-generated")
    missing = sorted(set(stripped) - outlines().keys())
    if missing:
        shown = " ".join(repr(sign)[1:-1] for sign in missing[:8])
        raise InputError(
            f"mark: the font that marks are written in has no {shown}; use other words, such as"
            " AI生成 or AI-generated"
        )
    return stripped
