"""A mark in a PDF document: dark words on a light plate at an edge of the first page.

The glyphs travel in the file as a font of Type 3 made of their outlines, with a table of what they
mean, so that the words can be read, searched and copied everywhere. What is new is appended (ISO
32000-2, 7.5.6): the file's own bytes stay.
"""

from __future__ import annotations

import io
from typing import Any

from pypdf import PageObject, PdfReader, PdfWriter
from pypdf.generic import (
    ArrayObject,
    DecodedStreamObject,
    DictionaryObject,
    FloatObject,
    NameObject,
    NumberObject,
    TextStringObject,
)

from vermilion.errors import InputError
from vermilion.seal.carriers.pdf import DAMAGED, damaged
from vermilion.seal.marks.font import UNITS, outlines, require, segments

FONT = "/VermilionMark"  # the resource that tells a marked page
_WORDS = "/VermilionWords"
_SHARE, _LEAST, _MOST = 0.022, 9.0, 48.0  # an em, of the page's shortest side, in points


def add(content: bytes, words: str, *, foot: bool = True) -> bytes:
    """Write words on a document's first page, unless it has such words.

    Args:
        content: the PDF.
        words: what they say.
        foot: at the page's foot, on the right; else at its head, on the left.

    Raises:
        InputError: it is no PDF, is encrypted or damaged, or a sign is not in the font.
    """
    words = require(words)
    if mark_of(content):
        return content
    try:
        writer = PdfWriter(io.BytesIO(content), incremental=True)
        _draw(writer, writer.pages[0], words, foot)
        sink = io.BytesIO()
        writer.write(sink)
    except DAMAGED as error:
        raise damaged(error) from None
    return sink.getvalue()


def mark_of(content: bytes) -> str:
    """What the first page's mark says, if it can be read there; else empty.

    Raises:
        InputError: it is no PDF, is encrypted or damaged.
    """
    reader = _open(content)
    try:
        page = reader.pages[0]
        font = _fonts(page).get(FONT)
        if font is None:
            return ""
        words = str(font.get_object().get(_WORDS, ""))
        return words if words in page.extract_text() else ""
    except DAMAGED as error:
        raise damaged(error) from None


def text_of(content: bytes) -> str:
    """The words on a document's pages, without the mark.

    Raises:
        InputError: it is no PDF, is encrypted or damaged.
    """
    words = mark_of(content)
    try:
        pages = [page.extract_text().strip() for page in _open(content).pages]
    except DAMAGED as error:
        raise damaged(error) from None
    # The mark is drawn last, so it is read last.
    if words:
        pages[0] = pages[0].rpartition(words)[0].strip()
    return "\n".join(pages)


def _open(content: bytes) -> PdfReader:
    try:
        reader = PdfReader(io.BytesIO(content))
        if reader.is_encrypted:
            raise InputError("PDF: the file is encrypted; save it without its password")
        if len(reader.pages) == 0:
            raise InputError("PDF: the file has no page to write a mark on")
    except DAMAGED as error:
        raise damaged(error) from None
    return reader


def _fonts(page: PageObject) -> dict[str, Any]:
    resources: Any = page.get("/Resources")
    if resources is None:
        return {}
    fonts = resources.get_object().get("/Font")
    return {} if fonts is None else dict(fonts.get_object())


def _draw(writer: PdfWriter, page: PageObject, words: str, foot: bool) -> None:
    signs = sorted(set(words))
    own: Any = page.get("/Resources")
    # A copy, for other pages may share these with the first.
    resources = DictionaryObject() if own is None else DictionaryObject(own.get_object())
    fonts = DictionaryObject(_fonts(page))
    fonts[NameObject(FONT)] = writer._add_object(_font(writer, words, signs))
    resources[NameObject("/Font")] = fonts
    page[NameObject("/Resources")] = resources
    before, after = DecodedStreamObject(), DecodedStreamObject()
    before.set_data(b"q\n")
    after.set_data(b"\nQ\n" + _content(page, words, signs, foot).encode())
    contents: Any = page.get("/Contents")
    old: list[Any] = []
    if contents is not None:
        streams = contents.get_object()
        # A single stream is pointed at, an array holds pointers.
        old = list(streams) if isinstance(streams, ArrayObject) else [page.raw_get("/Contents")]
    page[NameObject("/Contents")] = ArrayObject(
        [writer._add_object(before), *old, writer._add_object(after)]
    )


def _font(writer: PdfWriter, words: str, signs: list[str]) -> DictionaryObject:
    """A font of Type 3 with the glyphs of `signs`, numbered from 1 in that order."""
    glyphs, names, widths = DictionaryObject(), ArrayObject([NumberObject(1)]), ArrayObject()
    for number, sign in enumerate(signs, 1):
        width = outlines()[sign][0]
        program = DecodedStreamObject()
        box = "-200 -300 1300 1100"
        program.set_data(f"{width} 0 {box} d1\n{_operators(sign)}\nf\n".encode())
        name = NameObject(f"/g{number}")
        glyphs[name] = writer._add_object(program.flate_encode())
        names.append(name)
        widths.append(NumberObject(width))
    meaning = DecodedStreamObject()
    meaning.set_data(_meanings(signs).encode())
    scale, zero = FloatObject(1 / UNITS), NumberObject(0)
    return DictionaryObject(
        {
            NameObject("/Type"): NameObject("/Font"),
            NameObject("/Subtype"): NameObject("/Type3"),
            NameObject("/Name"): NameObject(FONT),
            NameObject("/FontBBox"): ArrayObject(map(NumberObject, (-200, -300, 1300, 1100))),
            NameObject("/FontMatrix"): ArrayObject([scale, zero, zero, scale, zero, zero]),
            NameObject("/CharProcs"): glyphs,
            NameObject("/Encoding"): DictionaryObject(
                {
                    NameObject("/Type"): NameObject("/Encoding"),
                    NameObject("/Differences"): names,
                }
            ),
            NameObject("/FirstChar"): NumberObject(1),
            NameObject("/LastChar"): NumberObject(len(signs)),
            NameObject("/Widths"): widths,
            NameObject("/Resources"): DictionaryObject(),
            NameObject("/ToUnicode"): writer._add_object(meaning),
            NameObject(_WORDS): TextStringObject(words),
        }
    )


def _operators(sign: str) -> str:
    """A sign's outline as operators of PDF."""
    lines = (
        " ".join([*(f"{x} {y}" for x, y in points), "h" if operator == "z" else operator])
        for operator, points in segments(sign)
    )
    return "\n".join(lines)


def _meanings(signs: list[str]) -> str:
    """A ToUnicode CMap (ISO 32000-2, 9.10.3)."""
    rows = "".join(
        f"<{number:02x}> <{sign.encode('utf-16-be').hex()}>\n"
        for number, sign in enumerate(signs, 1)
    )
    return (
        "/CIDInit /ProcSet findresource begin\n12 dict begin\nbegincmap\n"
        "/CIDSystemInfo << /Registry (Adobe) /Ordering (UCS) /Supplement 0 >> def\n"
        "/CMapName /VermilionMark def\n/CMapType 2 def\n"
        "1 begincodespacerange\n<00> <ff>\nendcodespacerange\n"
        f"{len(signs)} beginbfchar\n{rows}endbfchar\n"
        "endcmap\nCMapName currentdict /CMap defineresource pop\nend\nend\n"
    )


def _content(page: PageObject, words: str, signs: list[str], foot: bool) -> str:
    """The operators that draw plate and words, upright as the page is shown."""
    box, turn = page.cropbox, int(page.rotation) % 360
    left, low, right, high = map(float, (box.left, box.bottom, box.right, box.top))
    width, height = (high - low, right - left) if turn in (90, 270) else (right - left, high - low)
    # From the page as it is shown, with its origin at the lower left, to the page's own axes.
    matrix = {
        0: (1, 0, 0, 1, left, low),
        90: (0, 1, -1, 0, right, low),
        180: (-1, 0, 0, -1, right, high),
        270: (0, -1, 1, 0, left, high),
    }[turn]
    length = sum(outlines()[sign][0] for sign in words) / UNITS  # in em
    em = min(max(_SHARE * min(width, height), _LEAST), _MOST, 0.9 * width / (length + 1.2))
    wide, tall, margin = (length + 1.2) * em, 1.6 * em, min(1.5 * em, 0.05 * width)
    x = width - margin - wide if foot else margin
    y = margin if foot else height - margin - tall
    codes = "".join(f"{signs.index(sign) + 1:02x}" for sign in words)
    placed = " ".join(f"{value:g}" for value in matrix)
    start = f"{x + 0.6 * em:.2f} {y + 0.46 * em:.2f}"
    return (
        f"q {placed} cm\n1 g 0.55 G 0.5 w {x:.2f} {y:.2f} {wide:.2f} {tall:.2f} re B\n"
        f"BT 0.1 g {FONT} {em:.2f} Tf {start} Td <{codes}> Tj ET\nQ\n"
    )
