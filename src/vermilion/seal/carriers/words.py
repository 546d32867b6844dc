"""What the carriers of words share. Their bytes are UTF-8, with or without a byte order mark.

`txt`, `markdown`, `webpage` and `json_object` have, beside `write` and `read`, a function
`without`: the words without the label, which is what a watermark or a search looks at.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NoReturn

from vermilion.errors import InputError
from vermilion.seal.carriers import tags
from vermilion.seal.labels import Statement

BOM = "\ufeff"
OURS = (tags.LABEL, tags.OWN)
MOST = 64  # labels that are taken out of a text, of which one is right and more are a mistake


def text_of(content: bytes) -> tuple[str, str]:
    """The byte order mark, if there is one, and the text.

    Raises:
        InputError: it is not UTF-8.
    """
    try:
        text = content.decode()
    except UnicodeDecodeError:
        raise InputError("file: its text is not UTF-8; save it as UTF-8") from None
    return (BOM, text[1:]) if text.startswith(BOM) else ("", text)


def newline_of(text: str) -> str:
    """How the text's lines end."""
    return "\r\n" if "\r\n" in text else "\n"


def members(statement: Statement) -> dict[str, str]:
    """The members AIGC (inner object) and VERMILION, each as JSON; those that are not stated lack.

    Raises:
        InputError: a part cannot be written.
    """
    found = {
        tags.LABEL: statement.label.inner() if statement.label is not None else "",
        tags.OWN: tags.own(statement, foreign=True),
    }
    return {name: text for name, text in found.items() if text}


def statement_of(found: Mapping[str, Any]) -> Statement:
    """A statement of an object that has the members AIGC and VERMILION, as JSON values.

    Raises:
        InputError: one of them is damaged.
    """
    texts = {name: json.dumps(found[name]) for name in OURS if name in found}
    return tags.statement_of(texts.get(tags.LABEL), texts.get(tags.OWN))


def from_json(text: str) -> object:
    """The JSON value of a label.

    Raises:
        InputError: it is none, or is too large.
    """
    if len(text) > tags.LARGEST:
        raise InputError(f"AIGC: the label is larger than {tags.LARGEST >> 20} MiB")
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise InputError("AIGC: the label is not JSON") from None


def few(count: int) -> None:
    """See that a text has not more labels than can be taken out in good time.

    Raises:
        InputError: it has more than `MOST`.
    """
    if count > MOST:
        raise InputError(f"AIGC: stands in the file more than {MOST} times; one is allowed")


def twice(name: str) -> NoReturn:
    """Say that only one label is allowed.

    Raises:
        InputError: always.
    """
    raise InputError(f"{name}: stands in the file more than once; one is allowed")
