"""HTML: the label as <meta name="AIGC" content="..."> in the head, and the same for VERMILION."""

from __future__ import annotations

import html
import re
from html.parser import HTMLParser
from typing import NamedTuple

from vermilion.errors import InputError
from vermilion.seal.carriers import tags, words
from vermilion.seal.labels import Statement


def write(content: bytes, statement: Statement) -> bytes:
    """The page with this statement at its head's end, instead of any that stood there.

    A fragment without a head gets it at its start, where browsers make a head of it.

    Raises:
        InputError: the page is not UTF-8, or a part of the statement cannot be written.
    """
    mark, text = words.text_of(without(content))
    lines = "".join(
        f'<meta name="{name}" content="{html.escape(value)}">\n'
        for name, value in words.members(statement).items()
    )
    at = _Head(text).place
    return (mark + text[:at] + lines + text[at:]).encode()


def read(content: bytes) -> Statement:
    """What the page's head says about it.

    Raises:
        InputError: the page is not UTF-8, or its label is damaged.
    """
    _, text = words.text_of(content)
    return tags.stated((element.name, element.value) for element in _Head(text).found)


def without(content: bytes) -> bytes:
    """The page without its label.

    Raises:
        InputError: the page is not UTF-8, or has too many labels.
    """
    mark, text = words.text_of(content)
    found = _Head(text).found
    words.few(len(found))
    for element in reversed(found):
        end = element.end + (1 if text[element.end : element.end + 1] == "\n" else 0)
        text = text[: element.start] + text[end:]
    return (mark + text).encode()


_MOST_OPEN = 64  # for each that does not end, the parser reads all that is left


def ends(text: str) -> str:
    """The page, if it can be parsed in good time.

    Raises:
        InputError: many of its tags, comments or sections do not end.
    """
    for begin, end in (("<", ">"), ("<!--", "-->"), ("<![", "]>")):
        if text.count(begin, text.rfind(end) + 1) > _MOST_OPEN:
            raise InputError(f"file: more than {_MOST_OPEN} times the HTML has {begin} and no end")
    return text


class _Element(NamedTuple):
    name: str
    value: str
    start: int
    end: int


class _HeadIsOver(Exception):
    """Nothing of ours can follow."""


class _Head(HTMLParser):
    """The meta elements of ours, and the place where a new one may stand."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self._lines = [0, *(match.end() for match in re.finditer("\n", text))]
        self.found: list[_Element] = []
        self.place = 0
        try:
            self.feed(ends(text))
            self.close()
        except _HeadIsOver:
            pass
        except (AssertionError, ValueError, IndexError):
            raise InputError("file: the HTML's head cannot be read") from None

    def _at(self) -> int:
        line, column = self.getpos()
        return self._lines[line - 1] + column

    def handle_decl(self, decl: str) -> None:
        """The document type, which has to come first."""
        self.place = self._at() + len(decl) + 3

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """An element begins."""
        start, end = self._at(), self._at() + len(self.get_starttag_text() or "")
        if tag in ("html", "head"):
            self.place = end
        elif tag == "body":
            raise _HeadIsOver
        elif tag == "meta":
            values = {name: value or "" for name, value in reversed(attrs)}
            name = values.get("name", "").upper()
            if name in words.OURS:
                self.found.append(_Element(name, values.get("content", ""), start, end))

    def handle_endtag(self, tag: str) -> None:
        """The head ends: our elements stand before it."""
        if tag == "head":
            self.place = self._at()
            raise _HeadIsOver
