"""A mark in a drawing (SVG): words as paths on a dark plate, in a group behind all else.

The file is edited as text, so everything in it stays as it is written. No font is needed to show
the mark. Where a drawing has one, it is replaced.

Source: SVG 2, 8.2 (the viewBox and preserveAspectRatio attributes), 7.2 (units).
"""

from __future__ import annotations

import html
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple
from xml.parsers import expat

from defusedxml import DefusedXmlException, ElementTree

from vermilion.errors import InputError
from vermilion.seal.marks import PLACES, Place, checked
from vermilion.seal.marks.font import extent, outlines, require
from vermilion.seal.marks.stamp import LEGIBLE, SHARE

ID = "vermilion-mark"
LARGEST = 32_000_000  # bytes
DEEPEST = 256  # elements within elements
_NAMESPACE = "http://www.w3.org/2000/svg"
_OPACITY = 0.72
CONTRAST = 7.7  # of the words against the plate on white, where it is lowest
# What a style sheet of the drawing must not change.
_GUARD = "display:inline;visibility:visible;opacity:1;filter:none;clip-path:none;mask:none"
_PIXELS = {
    "": 1.0, "px": 1.0, "pt": 96 / 72, "pc": 16.0, "mm": 96 / 25.4, "cm": 96 / 2.54, "in": 96.0,
    "q": 96 / 101.6, "em": 16.0, "ex": 8.0, "rem": 16.0,
}  # fmt: skip
# What shows something; what stands behind the mark is painted over it.
_PAINTED = re.compile(
    rb"<(?:[\w.-]+:)?(?:path|rect|circle|ellipse|line|polyline|polygon|text|image|use|g|svg|"
    rb"foreignObject|switch|a)[\s/>]"
)
_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"


@dataclass(frozen=True, slots=True)
class Mark:
    """What was drawn.

    Attributes:
        words: that it says.
        place: where it stands.
        box: of the letters, in pixels of the drawing at its own size: left, top, right, bottom.
        height: of the letters, likewise.
        share: that height over the shortest side.
        contrast: of the letters against the plate, where it is lowest.
    """

    words: str
    place: Place
    box: tuple[float, float, float, float]
    height: float
    share: float
    contrast: float


class Marked(NamedTuple):
    """A marked drawing, and what was drawn."""

    content: bytes
    mark: Mark


def draw(svg: bytes, words: str, *, place: Place = "bottom-right") -> Marked:
    """Write words into a drawing.

    Args:
        svg: the file, UTF-8 or an encoding that agrees with ASCII.
        words: one line that names AI and the act.
        place: an edge or corner of what is shown.

    Raises:
        InputError: it is no SVG, declares entities, is damaged, too large or has no size, or a
            sign is not in the font.
    """
    words = require(checked(words))
    if place not in PLACES:
        raise InputError(f"mark: place must be one of {', '.join(PLACES)} (found {place!r})")
    order = b"\xef\xbb\xbf" if svg.startswith(b"\xef\xbb\xbf") else b""
    text = svg.removeprefix(order)
    root = _safe_root(text)
    scan = _Scan(text)
    view = _view(root)
    group, mark = _group(view, words, place)
    if scan.own is not None:
        start, end = scan.own
        text = text[:start] + text[end:]
        scan = _Scan(text)
    if scan.closed:
        # <svg .../> holds nothing, so it is opened first.
        at = scan.end - len(b"/>")
        new = b">" + group + b"</" + scan.name + b">"
        return Marked(order + text[:at] + new + text[scan.end :], mark)
    return Marked(order + text[: scan.end] + group + text[scan.end :], mark)


def mark_of(svg: bytes) -> bytes:
    """The element of a drawing's mark; empty: it has none, or something is painted over it.

    Raises:
        InputError: as `draw`.
    """
    text = svg.removeprefix(b"\xef\xbb\xbf")
    _safe_root(text)
    scan = _Scan(text)
    if scan.own is None or _PAINTED.search(text, scan.own[1], scan.end):
        return b""
    return text[slice(*scan.own)]


def words_of(group: bytes) -> str:
    """What the element of a mark says."""
    found = re.search(rb'aria-label="([^"]*)"', group)
    return "" if found is None else html.unescape(found[1].decode("utf-8", "replace"))


def _safe_root(text: bytes) -> Mapping[str, str]:
    """The attributes of the root.

    Raises:
        InputError: see `draw`.
    """
    if len(text) > LARGEST:
        raise InputError(f"SVG: is larger than {LARGEST // 1_000_000} MB; simplify it")
    if text.startswith((b"\xff\xfe", b"\xfe\xff", b"\x1f\x8b")):
        raise InputError("SVG: is compressed or not UTF-8; save it as plain SVG")
    try:
        root = ElementTree.fromstring(text)
    except DefusedXmlException:
        raise InputError(
            "SVG: declares entities, which could fill the memory or read other files; save it as"
            " plain SVG"
        ) from None
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise InputError(f"SVG: is damaged ({error}); save it anew") from None
    if root.tag != f"{{{_NAMESPACE}}}svg":
        raise InputError(f'SVG: its first element must be svg with xmlns="{_NAMESPACE}"')
    return dict(root.attrib)


def without(svg: bytes) -> bytes:
    """The drawing without its mark.

    Raises:
        InputError: as `draw`.
    """
    order = b"\xef\xbb\xbf" if svg.startswith(b"\xef\xbb\xbf") else b""
    text = svg.removeprefix(order)
    _safe_root(text)
    own = _Scan(text).own
    return svg if own is None else order + text[: own[0]] + text[own[1] :]


class _Scan:
    """Where the root ends, and where a mark of ours stands, as offsets in bytes.

    Attributes:
        end: where the root's end tag begins; of a root without content, where it is over.
        closed: whether the root is such a one.
        name: of the root, as it is written.
        own: where our group begins and ends, or None.
    """

    def __init__(self, text: bytes) -> None:
        self._text, self._depth, self._start = text, 0, -1
        self.end, self.closed, self.name = 0, False, b"svg"
        self.own: tuple[int, int] | None = None
        self._parser = expat.ParserCreate()
        self._parser.StartElementHandler = self._opens
        self._parser.EndElementHandler = self._closes
        self._parser.Parse(text, True)

    def _opens(self, name: str, attributes: Mapping[str, str]) -> None:
        self._depth += 1
        if self._depth > DEEPEST:
            raise InputError(f"SVG: has more than {DEEPEST} elements within one another")
        if self._depth == 2 and attributes.get("id") == ID:
            self._start = self._parser.CurrentByteIndex

    def _closes(self, name: str) -> None:
        at = self._parser.CurrentByteIndex
        self._depth -= 1
        ended = self._text[at : at + 2] == b"</"
        if self._depth == 1 and self._start >= 0:
            self.own, self._start = (self._start, self._text.index(b">", at) + 1), -1
        if self._depth == 0:
            self.name = name.encode()
            self.closed = not ended
            self.end = at if ended else self._end_of_tag(at)

    def _end_of_tag(self, at: int) -> int:
        """Where the tag that begins at `at` is over; a > may stand in its values."""
        found = re.compile(rb"""<(?:[^>"']|"[^"]*"|'[^']*')*>""").match(self._text, at)
        return len(self._text) if found is None else found.end()


@dataclass(frozen=True, slots=True)
class _View:
    """What is shown: its size in pixels, and user units to pixels as x * scale + shift."""

    width: float
    height: float
    scale_x: float = 1.0
    scale_y: float = 1.0
    shift_x: float = 0.0
    shift_y: float = 0.0


def _view(root: Mapping[str, str]) -> _View:
    box = _view_box(root.get("viewBox"))
    width, height = _length(root.get("width")), _length(root.get("height"))
    if box is None:
        if width is None or height is None:
            raise InputError("SVG: has neither a viewBox nor width and height; add a viewBox")
        return _View(width, height)
    x, y, wide, high = box
    # A side that is not given follows the other one, or the box.
    if width is None:
        width = wide if height is None else height * wide / high
    if height is None:
        height = width * high / wide
    scale_x, scale_y = width / wide, height / high
    words = root.get("preserveAspectRatio", "xMidYMid meet").replace("defer", "").split()
    align = words[0] if words else "xMidYMid"
    shift_x = shift_y = 0.0
    if align != "none":
        scale_x = scale_y = (max if words[1:] == ["slice"] else min)(scale_x, scale_y)
        parts = {"Min": 0.0, "Mid": 0.5, "Max": 1.0}
        shift_x = (width - wide * scale_x) * parts.get(align[1:4], 0.5)
        shift_y = (height - high * scale_y) * parts.get(align[5:8], 0.5)
    return _View(width, height, scale_x, scale_y, shift_x - x * scale_x, shift_y - y * scale_y)


def _view_box(text: str | None) -> tuple[float, float, float, float] | None:
    if text is None:
        return None
    found = [float(number) for number in re.findall(_NUMBER, text)]
    if len(found) != 4 or not all(map(math.isfinite, found)) or min(found[2:]) <= 0:
        raise InputError(f"SVG: viewBox must be four numbers, x y width height (found {text!r})")
    return found[0], found[1], found[2], found[3]


def _length(text: str | None) -> float | None:
    """A length in pixels; None: it depends on where the drawing is shown."""
    if text is None or text.strip() == "auto" or text.strip().endswith("%"):
        return None
    found = re.fullmatch(rf"({_NUMBER})([a-zA-Z]*)", text.strip())
    if found is None or found[2].lower() not in _PIXELS:
        raise InputError(f"SVG: width and height must be lengths, as 120 or 30mm (found {text!r})")
    value = float(found[1]) * _PIXELS[found[2].lower()]
    if not (math.isfinite(value) and value > 0):
        raise InputError(f"SVG: width and height must be above 0 (found {text!r})")
    return value


def _group(view: _View, words: str, place: Place) -> tuple[bytes, Mark]:
    """The mark as an element in ASCII, and what it is."""
    left, low, right, top = extent(words)
    shortest = min(view.width, view.height)
    # A little above the share, for what is lost in rounding.
    high = max(SHARE * 1.02 * shortest, min(LEGIBLE, 0.12 * shortest))
    high = min(high, max(SHARE * 1.02 * shortest, 0.86 * view.width * (top - low) / (right - left)))
    scale = high / (top - low)
    wide = (right - left) * scale
    pad_x, pad_y = min(0.45 * high, (view.width - wide) / 2), 0.32 * high
    if pad_x < 0:
        raise InputError(f"mark: {words!r} is too long for this drawing; choose fewer words")
    gap = min(0.5 * high, (view.width - wide) / 2 - pad_x)
    plate_x, plate_y = (view.width - wide) / 2 - pad_x, gap
    if place.endswith("left"):
        plate_x = gap
    elif place.endswith("right"):
        plate_x = view.width - gap - wide - 2 * pad_x
    if place.startswith("bottom"):
        plate_y = view.height - gap - high - 2 * pad_y
    x, y = plate_x + pad_x, plate_y + pad_y
    said = words.encode("ascii", "xmlcharrefreplace").decode()
    said = re.sub(r"&(?!#)", "&amp;", said).replace("<", "&lt;").replace('"', "&quot;")
    inverse = (
        1 / view.scale_x, 0, 0, 1 / view.scale_y,
        -view.shift_x / view.scale_x, -view.shift_y / view.scale_y,
    )  # fmt: skip
    path, at = "", 0
    for sign in words:
        path += f"M{at} 0{outlines()[sign][1]}"
        at += outlines()[sign][0]
    group = (
        f'<g xmlns="{_NAMESPACE}" id="{ID}" role="img" aria-label="{said}"'
        f' transform="matrix({" ".join(f"{value:.9g}" for value in inverse)})" style="{_GUARD}">'
        f"<title>{said}</title>"
        f'<rect x="{plate_x:.6g}" y="{plate_y:.6g}" width="{wide + 2 * pad_x:.6g}"'
        f' height="{high + 2 * pad_y:.6g}" rx="{0.46 * high:.6g}"'
        f' style="{_GUARD};fill:#101012;fill-opacity:{_OPACITY};stroke:none"/>'
        f'<path transform="matrix({scale:.9g} 0 0 {-scale:.9g} {x - left * scale:.9g}'
        f' {y + top * scale:.9g})" d="{path}"'
        f' style="{_GUARD};fill:#fff;fill-opacity:1;fill-rule:nonzero;stroke:none"/></g>'
    )
    box = (round(x, 3), round(y, 3), round(x + wide, 3), round(y + high, 3))
    mark = Mark(words, place, box, round(high, 3), round(high / shortest, 4), CONTRAST)
    return group.encode("ascii"), mark
