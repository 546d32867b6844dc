"""A mark that is read: a line of words in a text, a page, a JSON object or a PDF document.

    txt   a last line in square brackets
    md    a last line in italics
    html  a paragraph at the body's end, <p class="ai-notice">
    json  the first member of the object, "ai_notice"
    pdf   words on the first page: `document`

Instead of the end it can stand at the start. Adding it twice changes nothing, and `text_of` gives
the words back as they were, byte for byte.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Callable, Mapping
from html.parser import HTMLParser
from importlib import import_module
from typing import Any, Literal, NamedTuple

from vermilion.errors import InputError
from vermilion.seal.carriers import json_object, markdown, txt, webpage
from vermilion.seal.carriers import words as carried
from vermilion.seal.formats import Format
from vermilion.seal.marks import checked, tells

Where = Literal["end", "start"]

MEMBER = "ai_notice"
_STYLE = "margin:1em;padding:.3em .6em;font:14px/1.4 sans-serif;color:#111;background:#fff"
_FRONT = re.compile(r"---[ \t]*\r?\n(?:.*?\n)??(?:---|\.\.\.)[ \t]*(?:\r?\n|\Z)", re.DOTALL)
_PARAGRAPH = re.compile(r'<p class="ai-notice" style="[^"<>]*">([^<>]*)</p>\n')
_FIRST_MEMBER = re.compile(r'(\s*\{)(\s*"ai_notice": ("(?:[^"\\]|\\.)*"),?)')
_LINES = {"txt": r"\[([^\r\n]+)\]", "md": r"\*([^\r\n*]+)\*"}


def add(content: bytes, form: Format, words: str, *, place: Where = "end") -> bytes:
    """Write a mark into a text, unless it has one. A label that is there already stays.

    Args:
        content: the file, UTF-8 unless it is a PDF.
        form: its format.
        words: one line that names AI and the act.
        place: at the end or the start; of a PDF, the foot or the head of its first page.

    Raises:
        InputError: the file cannot be read, or its JSON is no object.
    """
    words = checked(words)
    if place not in ("end", "start"):
        raise InputError(f"mark: place must be end or start in a text (found {place!r})")
    if form.suffix == "pdf":
        marked_pages: bytes = _documents().add(content, words, foot=place == "end")
        return marked_pages
    kind = _kind(form)
    bare = kind.without(content)
    if _found(bare, kind) is not None:
        return content
    # A text's label is its last line, and the mark stands before it.
    marked = bare if form.suffix == "txt" else content
    order, text = carried.text_of(marked)
    at, line = kind.spot(text, words, place)
    return (order + text[:at] + line + text[at:]).encode() + content[len(marked) :]


def mark_of(content: bytes, form: Format) -> str:
    """What the mark in a text says; empty: it has none.

    Raises:
        InputError: the file cannot be read.
    """
    if form.suffix == "pdf":
        found_words: str = _documents().mark_of(content)
        return found_words
    kind = _kind(form)
    found = _found(kind.without(content), kind)
    return "" if found is None else found.words


def text_of(content: bytes, form: Format) -> bytes:
    """A text without its mark and without its label; of a PDF, the words on its pages in UTF-8.

    Raises:
        InputError: the file cannot be read.
    """
    if form.suffix == "pdf":
        return str(_documents().text_of(content)).encode()
    kind = _kind(form)
    bare = kind.without(content)
    found = _found(bare, kind)
    if found is None:
        return bare
    order, text = carried.text_of(bare)
    return (order + text[: found.start] + text[found.end :]).encode()


class _Mark(NamedTuple):
    """A mark that was found: where it begins and ends, what goes with it included."""

    start: int
    end: int
    words: str


class _Kind(NamedTuple):
    """What is done in a format: drop the label, find where a mark goes, find the one there is."""

    without: Callable[[bytes], bytes]
    spot: Callable[[str, str, Where], tuple[int, str]]
    find: Callable[[str], _Mark | None]


def _documents() -> Any:
    # It loads pypdf, which other texts need not wait for.
    return import_module("vermilion.seal.marks.document")


def _kind(form: Format) -> _Kind:
    if form.suffix not in _KINDS:
        raise InputError(f"mark: a .{form.suffix} is no text")
    return _KINDS[form.suffix]


def _found(bare: bytes, kind: _Kind) -> _Mark | None:
    found = kind.find(carried.text_of(bare)[1])
    return found if found is not None and tells(found.words) else None


def _line_spot(form: str) -> Callable[[str, str, Where], tuple[int, str]]:
    shape = {"txt": "[{}]", "md": "*{}*"}[form]

    def spot(text: str, words: str, place: Where) -> tuple[int, str]:
        end = carried.newline_of(text)
        line = shape.format(words) + end
        if place == "end":
            # Two line ends, whatever the text ends with, so that they can be taken off again.
            return len(text), end + end + line
        return _after_front(text) if form == "md" else 0, line + end

    return spot


def _line_find(form: str) -> Callable[[str], _Mark | None]:
    last = re.compile(rf"(?:\r\n\r\n|\n\n){_LINES[form]}\r?\n\Z")
    first = re.compile(rf"{_LINES[form]}\r?\n\r?\n")

    def find(text: str) -> _Mark | None:
        found = last.search(text, max(0, len(text) - 1000))
        if found is None or not tells(found[1]):
            found = first.match(text, _after_front(text) if form == "md" else 0)
        return None if found is None else _Mark(found.start(), found.end(), found[1])

    return find


def _after_front(text: str) -> int:
    front = _FRONT.match(text)
    return 0 if front is None else front.end()


class _Body(HTMLParser):
    """Where a page's body begins and ends."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self._lines = [0, *(match.end() for match in re.finditer("\n", text))]
        self.start, self.end, self.paragraphs = 0, len(text), list[int]()
        try:
            self.feed(webpage.ends(text))
            self.close()
        except (AssertionError, ValueError, IndexError):
            raise InputError("file: the HTML cannot be read") from None

    def _at(self) -> int:
        line, column = self.getpos()
        return self._lines[line - 1] + column

    def handle_decl(self, decl: str) -> None:
        """The document type, which has to come first."""
        self.start = self._at() + len(decl) + 3

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """An element begins."""
        if tag == "body":
            self.start = self._at() + len(self.get_starttag_text() or "")
        elif tag == "p" and ("class", "ai-notice") in attrs:
            self.paragraphs.append(self._at())

    def handle_endtag(self, tag: str) -> None:
        """An element ends; without a body's end the page's end counts."""
        if tag == "body" or (tag == "html" and self.end > self._at()):
            self.end = min(self.end, self._at())
        elif tag == "head" and self.start < self._at():
            self.start = self._at() + len("</head>")


def _page_spot(text: str, words: str, place: Where) -> tuple[int, str]:
    # Signs outside ASCII are written as numbers, which need no word on the page's encoding.
    said = html.escape(words).encode("ascii", "xmlcharrefreplace").decode()
    body = _Body(text)
    at = body.end if place == "end" else body.start
    return at, f'<p class="ai-notice" style="{_STYLE}">{said}</p>\n'


def _page_find(text: str) -> _Mark | None:
    if 'class="ai-notice"' not in text:
        return None
    for start in _Body(text).paragraphs:
        found = _PARAGRAPH.match(text, start)
        if found is not None:
            return _Mark(start, found.end(), html.unescape(found[1]))
    return None


def _member_spot(text: str, words: str, place: Where) -> tuple[int, str]:
    # An object has no order; the first member is what people see first.
    del place
    at = text.index("{") + 1
    rest = text[at:]
    space = rest[: len(rest) - len(rest.lstrip())]
    if rest.lstrip().startswith("}"):
        return at, f'"{MEMBER}": {json.dumps(words, ensure_ascii=False)}'
    return at, f'{space}"{MEMBER}": {json.dumps(words, ensure_ascii=False)},{"" if space else " "}'


def _member_find(text: str) -> _Mark | None:
    found = _FIRST_MEMBER.match(text)
    if found is None:
        return None
    end = found.end()
    first = text[found.end(1)] == '"'
    if first and found[2].endswith(",") and text[end : end + 1] == " ":
        end += 1
    return _Mark(found.end(1), end, json.loads(found[3]))


_KINDS: Mapping[str, _Kind] = {
    "txt": _Kind(txt.without, _line_spot("txt"), _line_find("txt")),
    "md": _Kind(markdown.without, _line_spot("md"), _line_find("md")),
    "html": _Kind(webpage.without, _page_spot, _page_find),
    "json": _Kind(json_object.without, _member_spot, _member_find),
}
