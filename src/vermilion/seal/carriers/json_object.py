"""JSON: the label as a member AIGC of the outermost object, behind the others, and VERMILION.

The other members stay as they are written. An array or a value has no place for a member; to put
an object around it would break whoever reads it, so that is refused.
"""

from __future__ import annotations

import json
import re
from itertools import groupby
from typing import NamedTuple

from vermilion.errors import InputError
from vermilion.seal.carriers import words
from vermilion.seal.labels import Statement

_SPACE = re.compile(r"[ \t\r\n]*")


def write(content: bytes, statement: Statement) -> bytes:
    """The object with this statement as its last members, instead of any that stood there.

    Raises:
        InputError: it is no JSON object, or a part of the statement cannot be written.
    """
    mark, text = words.text_of(without(content))
    members, end = _members(text)
    # A member stands as the others do: on a line of its own with their indent, or behind them.
    indent = re.search(r"\r?\n[ \t]*\Z", text[: members[0].start]) if members else None
    between = indent[0] if indent is not None else " "
    added = [f'"{name}": {value}' for name, value in words.members(statement).items()]
    at = members[-1].end if members else end
    joined = f",{between}".join(added)
    comma = f",{between}" if members and added else ""
    return (mark + text[:at] + comma + joined + text[at:]).encode()


def read(content: bytes) -> Statement:
    """What the object says about itself.

    Raises:
        InputError: it is no JSON object, or its label is damaged.
    """
    _, text = words.text_of(content)
    found: dict[str, object] = {}
    for member in _members(text)[0]:
        if member.name in found:
            words.twice(member.name)
        if member.name in words.OURS:
            found[member.name] = words.from_json(text[member.value : member.end])
    return words.statement_of(found)


def without(content: bytes) -> bytes:
    """The object without its label.

    Raises:
        InputError: it is no JSON object, or has too many labels.
    """
    mark, text = words.text_of(content)
    members, _ = _members(text)
    words.few(sum(member.name in words.OURS for member in members))
    last = len(members) - 1
    for ours, group in reversed(
        [(k, list(g)) for k, g in groupby(range(last + 1), lambda i: members[i].name in words.OURS)]
    ):
        if ours:
            # The comma before them goes with them; of the first members, the one behind them.
            first, final = group[0], group[-1]
            start = members[first - 1].end if first > 0 else members[0].start
            behind = first == 0 and final < last
            end = members[final + 1].start if behind else members[final].end
            text = text[:start] + text[end:]
    return (mark + text).encode()


class _Member(NamedTuple):
    name: str
    start: int
    value: int
    end: int


def _members(text: str) -> tuple[list[_Member], int]:
    """The members of the outermost object, and where its closing brace stands."""
    at = _over_space(text, 0)
    if text[at : at + 1] in ("[", '"'):
        raise InputError(
            "file: the JSON is no object, so that no label fits in; put it into one,"
            ' as {"content": ...}'
        )
    try:
        return _walk(text, at)
    except (ValueError, IndexError, RecursionError):
        raise InputError("file: it is no JSON object that can be read") from None


def _walk(text: str, at: int) -> tuple[list[_Member], int]:
    decoder, members = json.JSONDecoder(), list[_Member]()
    at = _over_space(text, _over(text, at, "{"))
    while text[at] != "}":
        if members:
            at = _over_space(text, _over(text, at, ","))
        start = at
        name, at = decoder.raw_decode(text, at)
        if not isinstance(name, str):
            raise ValueError(name)
        value = _over_space(text, _over(text, _over_space(text, at), ":"))
        _, at = decoder.raw_decode(text, value)
        members.append(_Member(name, start, value, at))
        at = _over_space(text, at)
    if _over_space(text, at + 1) != len(text):
        raise ValueError(at)
    return members, at


def _over(text: str, at: int, sign: str) -> int:
    if text[at] != sign:
        raise ValueError(at)
    return at + 1


def _over_space(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    return at if found is None else found.end()
