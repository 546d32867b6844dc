"""A Statement as XMP properties, and back; the keys of other tools that are known."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from vermilion.errors import InputError
from vermilion.seal.carriers import xmp
from vermilion.seal.labels import Label, Statement

FOREIGN_KEYS = (
    "prompt",  # ComfyUI: the graph that ran
    "workflow",  # ComfyUI: the graph as it was drawn
    "invokeai_metadata",
    "invokeai_graph",
    "invokeai_workflow",
    "sd-metadata",  # InvokeAI 1.15 to 2
    "Dream",  # InvokeAI before
    "fooocus_scheme",
    "comment",  # of films and sound, where tools for ComfyUI put both graphs
)
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def to_json(value: Mapping[str, Any]) -> str:
    """JSON that XML and PNG can hold: what they cannot is escaped.

    Raises:
        InputError: the value is no JSON.
    """
    try:
        words = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(f"recipe: cannot be written as JSON: {error}") from None
    return _NOT_XML.sub(_escaped, words)


def _escaped(match: re.Match[str]) -> str:
    return f"\\u{ord(match[0]):04x}"


def from_json(words: str, what: str) -> dict[str, Any]:
    """A JSON object.

    Raises:
        InputError: it is none.
    """
    try:
        value = json.loads(words)
    except (ValueError, RecursionError):
        raise InputError(f"{what}: is not JSON; seal the file anew") from None
    if not isinstance(value, dict):
        raise InputError(f"{what}: is no JSON object; seal the file anew")
    return value


def check(statement: Statement) -> None:
    """Look whether a statement can be written.

    Raises:
        InputError: a foreign key is not one that is known, so it would not be read back; or a
            text has half a surrogate pair, which is no character.
    """
    texts = {"source_type": statement.source_type, "parameters": statement.parameters}
    for name, words in (texts | dict(statement.foreign)).items():
        try:
            words.encode()
        except UnicodeEncodeError:
            raise InputError(f"{name}: has half a surrogate pair; remove that character") from None
    for name in statement.foreign:
        if name not in FOREIGN_KEYS:
            raise InputError(f"foreign: {name!r} is not known; known are {', '.join(FOREIGN_KEYS)}")


def properties_of(statement: Statement) -> dict[str, str]:
    """The XMP properties that say what a statement says, name to text.

    Raises:
        InputError: a part cannot be written.
    """
    check(statement)
    properties = {
        xmp.LABEL: statement.label.inner() if statement.label is not None else "",
        xmp.SOURCE_TYPE: statement.source_type,
        xmp.PARAMETERS: statement.parameters,
        xmp.RECIPE: to_json(statement.recipe) if statement.recipe else "",
        xmp.FOREIGN: to_json(statement.foreign) if statement.foreign else "",
    }
    return {name: words for name, words in properties.items() if words}


def statement_of(properties: Mapping[str, str]) -> Statement:
    """What XMP properties say; unknown foreign keys are left out.

    Raises:
        InputError: a part is damaged.
    """
    label = properties.get(xmp.LABEL, "").strip()
    recipe = properties.get(xmp.RECIPE, "")
    foreign = from_json(properties.get(xmp.FOREIGN) or "{}", "foreign")
    return Statement(
        label=Label.parse(label) if label else None,
        source_type=properties.get(xmp.SOURCE_TYPE, "").strip(),
        parameters=properties.get(xmp.PARAMETERS, ""),
        recipe=from_json(recipe, "recipe") if recipe else {},
        foreign={
            name: words
            for name, words in foreign.items()
            if name in FOREIGN_KEYS and isinstance(words, str)
        },
    )
