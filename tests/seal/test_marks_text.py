"""Marks in texts: seen by a reader, taken off again byte for byte."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
from html.parser import HTMLParser

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pypdf import PdfReader, PdfWriter
from reportlab.pdfgen import canvas

from vermilion.errors import InputError
from vermilion.seal import carriers
from vermilion.seal.formats import FORMATS, Format
from vermilion.seal.labels import Label, Statement
from vermilion.seal.marks import text

PAGE = """<!DOCTYPE html>
<html lang="en"><head><title>Tea</title><meta charset="gbk"></head>
<body class="a>b"><!-- </body> --><script>var s = "</body>";</script>
<p>Tea &amp; more</p>
</body></html>
"""
TEXTS = {
    "txt": [
        "", "One line", "Two\nlines\n", "Three\r\nlines\r\n", "\ufeffMarked order\n\n\n", "[x]",
        "a\n\n", "a\n\n[note]\n",
    ],
    "md": [
        "# Tea\n\nHot.\n", "no end", "---\ntitle: Tea\n---\n\n# Tea\n", "* a\n* b", "\r\nx\r\n",
        "A rule\n\n---\n\nnot a front matter\n---\n",
    ],
    "html": [
        PAGE, "<p>fragment</p>", "", "<html><body>a</BODY></HTML>", "<body>\n<p>x</p>\n",
        PAGE.replace("\n", "\r\n"),
    ],
    "json": [
        "{}", "{ }", '{"a":1}', '{"a": 1, "b": [1, {"c": 2}]}', '{\n  "a": 1\n}\n',
        ' {\r\n\t"a": "{"\r\n}', "{\n}",
    ],
}  # fmt: skip
CASES = [(suffix, body) for suffix, bodies in TEXTS.items() for body in bodies]
LABEL = Statement(
    label=Label(content_producer="Acme", produce_id="abc23456"), recipe={"model": "verse"}
)


@pytest.mark.parametrize("words", ["AI生成", "AI-generated", 'AI & <made> "so"'])
@pytest.mark.parametrize("place", ["end", "start"])
@pytest.mark.parametrize(("suffix", "body"), CASES)
def test_what_is_added_is_found_and_taken_off(suffix, body, place, words) -> None:
    form, content = FORMATS[suffix], body.encode()
    marked = text.add(content, form, words, place=place)
    assert marked != content
    assert text.mark_of(marked, form) == words
    assert text.text_of(marked, form) == content
    assert text.mark_of(content, form) == ""
    assert text.text_of(content, form) == content
    # Twice, and with other words, changes nothing.
    assert text.add(marked, form, words) == marked
    assert text.add(marked, form, "AI合成", place="start") == marked


def _labelled(content: bytes, form: Format, said: Statement) -> bytes:
    """A text with the last line that its label was at first, and is read still."""
    gap = b"" if content[-1:] in (b"", b"\n", b"\r") else b"\n"
    return content + gap + said.label.outer().encode() + b"\n"


@pytest.mark.parametrize("place", ["end", "start"])
@pytest.mark.parametrize(("suffix", "body"), CASES)
def test_mark_and_label_stand_beside_one_another(suffix, body, place) -> None:
    form, content = FORMATS[suffix], body.encode()
    labelled = _labelled if suffix == "txt" else carriers.write
    sealed = labelled(text.add(content, form, "AI生成", place=place), form, LABEL)
    assert carriers.read(sealed, form).label == LABEL.label
    assert text.mark_of(sealed, form) == "AI生成"
    # A label in plain text ends the last line, where nothing else did.
    again = text.text_of(sealed, form)
    assert again == content or (suffix == "txt" and again == content + b"\n")
    assert text.add(sealed, form, "AI生成", place=place) == sealed
    # The other way round too: a mark in a text that has a label keeps the label.
    late = text.add(labelled(content, form, LABEL), form, "AI生成", place=place)
    assert carriers.read(late, form) == carriers.read(sealed, form)
    assert text.mark_of(late, form) == "AI生成"


@given(
    body=st.text(max_size=60), start=st.booleans(), suffix=st.sampled_from(["txt", "md", "html"])
)
def test_any_text_comes_back(body: str, start: bool, suffix: str) -> None:
    form, content = FORMATS[suffix], body.encode()
    marked = text.add(content, form, "AI-generated", place="start" if start else "end")
    assert text.text_of(marked, form) == content


@given(
    value=st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=5) | st.none()),
    indent=st.sampled_from([None, 0, 2]),
)
def test_any_object_comes_back_and_still_says_the_same(value, indent) -> None:
    form, content = FORMATS["json"], json.dumps(value, indent=indent).encode()
    marked = text.add(content, form, "AI生成")
    assert json.loads(marked) == {"ai_notice": "AI生成", **value}
    assert next(iter(json.loads(marked))) == "ai_notice"
    assert text.text_of(marked, form) == content


def test_an_array_is_refused_as_its_label_is() -> None:
    for body in (b"[1, 2]", b'"words"', b"{broken", b""):
        with pytest.raises(InputError, match="JSON"):
            text.add(body, FORMATS["json"], "AI生成")


class Seen(HTMLParser):
    """What a reader of a page sees."""

    def __init__(self) -> None:
        super().__init__()
        self.open, self.words = [], []

    def handle_starttag(self, tag, attrs) -> None:
        if tag not in ("meta", "br", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag) -> None:
        self.open.remove(tag)

    def handle_data(self, data) -> None:
        if data.strip() and not {"script", "style", "head"} & set(self.open):
            self.words.append((tuple(self.open), data.strip()))


@pytest.mark.parametrize(("place", "order"), [("end", -1), ("start", 0)])
def test_a_page_shows_the_mark_inside_its_body(place: str, order: int) -> None:
    marked = text.add(PAGE.encode(), FORMATS["html"], "AI生成", place=place)
    reader = Seen()
    # The page's head names an encoding that is not the file's: the mark needs none.
    reader.feed(marked.decode("ascii"))
    assert reader.words[order] == (("html", "body", "p"), "AI生成")


def test_a_front_matter_stays_in_front() -> None:
    body = b"---\ntitle: Tea\n---\n\n# Tea\n"
    marked = text.add(body, FORMATS["md"], "AI-generated", place="start")
    assert marked == b"---\ntitle: Tea\n---\n*AI-generated*\n\n\n# Tea\n"


def test_what_is_no_text_is_named() -> None:
    with pytest.raises(InputError, match="UTF-8"):
        text.add("café".encode("latin-1"), FORMATS["txt"], "AI生成")
    with pytest.raises(InputError, match=".png is no text"):
        text.add(b"", FORMATS["png"], "AI生成")
    with pytest.raises(InputError, match="place must be end or start"):
        text.add(b"", FORMATS["txt"], "AI生成", place="middle")
    with pytest.raises(InputError, match="does not say"):
        text.add(b"", FORMATS["txt"], "hello")


PDF = FORMATS["pdf"]


def document(turn: int = 0, pages: int = 2, **options) -> bytes:
    sink = io.BytesIO()
    drawing = canvas.Canvas(sink, pagesize=(595, 842), **options)
    for number in range(pages):
        drawing.setFillGray(0.9)
        drawing.rect(0, 0, 595, 842, fill=1)
        drawing.setFillGray(0)
        drawing.scale(2, 2)
        drawing.drawString(36, 350, f"Tea is served on page {number + 1}.")
        drawing.showPage()
    drawing.save()
    if turn == 0:
        return sink.getvalue()
    writer = PdfWriter(clone_from=sink)
    for page in writer.pages:
        page.rotate(turn)
    turned = io.BytesIO()
    writer.write(turned)
    return turned.getvalue()


@pytest.mark.parametrize("turn", [0, 90, 180, 270])
@pytest.mark.parametrize("words", ["AI生成", "AI-generated"])
def test_a_document_is_marked_and_read(turn: int, words: str) -> None:
    content = document(turn)
    marked = text.add(content, PDF, words)
    assert marked.startswith(content)  # appended, nothing rewritten
    assert text.mark_of(marked, PDF) == words
    assert text.add(marked, PDF, "AI合成") == marked
    assert text.text_of(marked, PDF) == text.text_of(content, PDF)
    assert b"Tea is served on page 2." in text.text_of(marked, PDF)
    pages = PdfReader(io.BytesIO(marked)).pages
    assert words in pages[0].extract_text()
    assert words not in pages[1].extract_text()
    sealed = carriers.write(marked, PDF, LABEL)
    assert text.mark_of(sealed, PDF) == words


@pytest.mark.skipif(shutil.which("pdftoppm") is None, reason="poppler-utils are not installed")
@pytest.mark.parametrize("turn", [0, 90, 180, 270])
@pytest.mark.parametrize("place", ["end", "start"])
def test_another_reader_shows_it_upright(tmp_path, turn: int, place: str) -> None:
    content = document(turn)
    pictures = []
    for name, body in (
        ("plain", content),
        ("marked", text.add(content, PDF, "AI生成", place=place)),
    ):
        (tmp_path / f"{name}.pdf").write_bytes(body)
        command = ["pdftoppm", "-r", "144", "-png", "-f", "1", "-l", "1", "-singlefile"]
        subprocess.run([*command, f"{name}.pdf", name], cwd=tmp_path, check=True)
        pictures.append(np.asarray(Image.open(tmp_path / f"{name}.png").convert("L")).astype(int))
    plain, marked = pictures
    assert plain.shape == marked.shape
    rows, columns = np.nonzero(np.abs(plain - marked) > 30)
    top, bottom, left, right = rows.min(), rows.max(), columns.min(), columns.max()
    height, width = plain.shape
    # Upright: wider than high, in the corner that was asked for.
    assert right - left > 1.5 * (bottom - top)
    if place == "end":
        assert left > 0.7 * width
        assert top > 0.85 * height
    else:
        assert right < 0.3 * width
        assert bottom < 0.15 * height
    ink = marked[top : bottom + 1, left : right + 1] < 100
    assert (np.flatnonzero(ink[3:-3, 3:-3].any(axis=1)).size) / 144 * 72 > 8  # points
    found = subprocess.run(
        ["pdftotext", "marked.pdf", "-"], cwd=tmp_path, check=True, capture_output=True
    )
    assert "AI生成" in found.stdout.decode()


def test_documents_that_cannot_be_marked_say_so() -> None:
    with pytest.raises(InputError, match="damaged"):
        text.add(b"no document", PDF, "AI生成")
    writer = PdfWriter(clone_from=io.BytesIO(document()))
    writer.encrypt("secret", algorithm="AES-256")
    sink = io.BytesIO()
    writer.write(sink)
    with pytest.raises(InputError, match="encrypted"):
        text.add(sink.getvalue(), PDF, "AI生成")
    empty = io.BytesIO()
    PdfWriter().write(empty)
    with pytest.raises(InputError, match="no page"):
        text.add(empty.getvalue(), PDF, "AI生成")


def test_a_mark_that_was_painted_out_of_a_document_is_not_found() -> None:
    writer = PdfWriter(clone_from=io.BytesIO(text.add(document(), PDF, "AI生成")))
    contents = writer.pages[0]["/Contents"]
    del contents[-1]
    sink = io.BytesIO()
    writer.write(sink)
    assert text.mark_of(sink.getvalue(), PDF) == ""
