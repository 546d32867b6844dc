"""Markdown: the label in the front matter (YAML between lines of ---).

    ---
    AIGC:
      Label: "1"
      ContentProducer: "..."
    VERMILION: {"recipe":{...}}
    ---

A label is read in this form and as JSON on one line, which is YAML too. Other keys stay.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from vermilion.errors import InputError
from vermilion.seal.carriers import tags, words
from vermilion.seal.labels import Statement

_OPENING = re.compile(r"---[ \t]*\r?\n")
_CLOSING = re.compile(r"^(?:---|\.\.\.)[ \t]*(?:\r?\n|\Z)", re.MULTILINE)
_TOML = re.compile(r"\+\+\+[ \t]*\r?\n")
_KEY = re.compile(
    r"^(?P<name>AIGC|VERMILION)[ \t]*:(?P<value>[^\n]*\n(?:[ \t]+[^\n]*\n)*)", re.MULTILINE
)
_LINE = re.compile(r"\s+(?P<name>\w+)\s*:(?:\s+(?P<value>\S.*?))?\s*")


def write(content: bytes, statement: Statement) -> bytes:
    """The text with this statement in its front matter, instead of any that stood there.

    Raises:
        InputError: the text is not UTF-8, its front matter is TOML, or a part of the statement
            cannot be written.
    """
    mark, text = words.text_of(without(content))
    newline = words.newline_of(text)
    lines = []
    for name, value in words.members(statement).items():
        if name == tags.OWN:
            lines.append(f"{name}: {value}")
        else:
            pairs = json.loads(value).items()
            lines += [f"{name}:", *(f"  {key}: {json.dumps(entry)}" for key, entry in pairs)]
    if not lines:
        return (mark + text).encode()
    block = "".join(line + newline for line in lines)
    front = _front(text)
    if front is None:
        return f"{mark}---{newline}{block}---{newline}{text}".encode()
    return (mark + text[: front[1]] + block + text[front[1] :]).encode()


def read(content: bytes) -> Statement:
    """What the front matter says about the text.

    Raises:
        InputError: the text is not UTF-8, or its label is damaged.
    """
    _, text = words.text_of(content)
    found: dict[str, object] = {}
    for name, value, *_ in _keys(text):
        if name in found:
            words.twice(name)
        found[name] = _mapping(name, value)
    return words.statement_of(found)


def without(content: bytes) -> bytes:
    """The text without its label, and without a front matter that held nothing else.

    Raises:
        InputError: the text is not UTF-8, its front matter is TOML, or it has too many labels.
    """
    mark, text = words.text_of(content)
    found = list(_keys(text))
    words.few(len(found))
    for _, _, start, end in reversed(found):
        text = text[:start] + text[end:]
    front = _front(text)
    if found and front is not None and not text[front[0] : front[1]].strip():
        text = text[front[2] :]
    return (mark + text).encode()


def _front(text: str) -> tuple[int, int, int] | None:
    """Where the front matter's keys begin and end, and where the text begins; None: it has none."""
    opening = _OPENING.match(text)
    if opening is None:
        if _TOML.match(text):
            raise InputError("file: its front matter is TOML (+++); only YAML (---) holds a label")
        return None
    closing = _CLOSING.search(text, opening.end())
    return None if closing is None else (opening.end(), closing.start(), closing.end())


def _keys(text: str) -> Iterator[tuple[str, str, int, int]]:
    """Our keys in the front matter: name, value, and where they begin and end."""
    front = _front(text)
    if front is not None:
        for match in _KEY.finditer(text, front[0], front[1]):
            yield match["name"], match["value"], match.start(), match.end()


def _mapping(name: str, value: str) -> object:
    """A mapping, as JSON (quoted or not) or as lines of `name: value`."""
    text = value.strip()
    if text[:1] in ("{", '"', "'"):
        whole = text if text[0] == "{" else _scalar(text)
        return words.from_json(whole)
    found = dict[str, str]()
    for line in filter(str.strip, value.splitlines()):
        pair = _LINE.fullmatch(line)
        if pair is None:
            raise InputError(f"{name}: the front matter's key is no mapping of names to text")
        found[pair["name"]] = _scalar(pair["value"] or "")
    return found


def _scalar(text: str) -> str:
    """A text of YAML: in double quotes (as JSON), in single ones, or without."""
    if text.startswith('"'):
        return str(words.from_json(text))
    if len(text) > 1 and text[0] == text[-1] == "'":
        return text[1:-1].replace("''", "'")
    return text
