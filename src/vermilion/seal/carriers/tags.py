"""What stands in the tags of sound, film and words: the label, and one key of our own.

    AIGC       the label, inner or whole object
    VERMILION  one JSON object: source_type, parameters, recipe; each left out where not stated

Both are plain ASCII. The keys of other tools (ComfyUI's `prompt` and `workflow`) are tags of their
own where a format has tags, else a member `foreign` of VERMILION.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from vermilion.errors import InputError
from vermilion.seal.carriers import statements
from vermilion.seal.labels import Label, Statement

LABEL, OWN = "AIGC", "VERMILION"
COMMENT = "comment"  # where a format has a place of its own for one, that is it
LARGEST = 4 << 20  # bytes of one tag that is read; ComfyUI's workflows reach some hundred thousand
_CANONICAL = {name.lower(): name for name in (LABEL, OWN, *statements.FOREIGN_KEYS)}


def is_ours(name: str) -> bool:
    """Whether a tag of this name, in any case, is part of a Statement and gives way to another."""
    return name.lower() in _CANONICAL


def written(statement: Statement, *, whole: bool) -> dict[str, str]:
    """The tags that hold a statement, name to text.

    Args:
        statement: what to write.
        whole: the label as the whole object {"AIGC": {...}}, else the inner one.

    Raises:
        InputError: a part cannot be written.
    """
    statements.check(statement)
    values = {**statement.foreign}
    if statement.label is not None:
        values[LABEL] = statement.label.outer() if whole else statement.label.inner()
    if said := own(statement, foreign=False):
        values[OWN] = said
    return values


def stays(values: dict[str, str], comments: Sequence[str]) -> bool:
    """Whether the comments of a file stay where its format has them; else they are taken out.

    Where they stay, ours is taken from the tags that are to be written.

    Args:
        values: from `written`; changed.
        comments: what stands in the format's own places.
    """
    if not comments or values.get(COMMENT) != comments[0]:
        return False
    del values[COMMENT]
    return True


def own(statement: Statement, *, foreign: bool) -> str:
    """What stands under VERMILION, as JSON on one line, ASCII only; empty: nothing is stated.

    Args:
        statement: what to write.
        foreign: also the keys of other tools.

    Raises:
        InputError: a part cannot be written.
    """
    statements.check(statement)
    said: dict[str, Any] = {
        "source_type": statement.source_type,
        "parameters": statement.parameters,
        "recipe": dict(statement.recipe),
        "foreign": dict(statement.foreign) if foreign else {},
    }
    said = {name: value for name, value in said.items() if value}
    try:
        return json.dumps(said, allow_nan=False, separators=(",", ":")) if said else ""
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(f"recipe: cannot be written as JSON: {error}") from None


def stated(pairs: Iterable[tuple[str, str | bytes]]) -> Statement:
    """The statement that a file's tags hold; other tags are passed by.

    Args:
        pairs: name and text (or its UTF-8) of every tag.

    Raises:
        InputError: a label or our own key is damaged, stands there twice, or is too large.
    """
    found: dict[str, str] = {}
    for name, value in pairs:
        known = _CANONICAL.get(name.lower())
        if known is None:
            continue
        if len(value) > LARGEST:
            raise InputError(f"{known}: the tag is larger than {LARGEST >> 20} MiB")
        if known in found and known in (LABEL, OWN):
            raise InputError(f"{known}: stands in the file more than once; one is allowed")
        found.setdefault(known, _text(known, value))
    label, said = found.pop(LABEL, None), found.pop(OWN, None)
    return statement_of(label, said, found)


def statement_of(
    label: str | None, said: str | None, foreign: Mapping[str, str] | None = None
) -> Statement:
    """A statement of its label and of what stands under VERMILION, each None where it is absent.

    Raises:
        InputError: one of them is damaged.
    """
    own = statements.from_json(said, OWN) if said is not None else {}
    source, parameters = own.get("source_type", ""), own.get("parameters", "")
    recipe, inside = own.get("recipe", {}), own.get("foreign", {})
    texts = isinstance(source, str) and isinstance(parameters, str)
    if not (texts and isinstance(recipe, dict) and isinstance(inside, dict)):
        raise InputError(f"{OWN}: the tag is damaged; seal the file anew")
    known = {n: v for n, v in inside.items() if n in statements.FOREIGN_KEYS and isinstance(v, str)}
    return Statement(
        label=Label.parse(label) if label is not None else None,
        source_type=source,
        parameters=parameters,
        recipe=recipe,
        foreign={**known, **(foreign or {})},
    )


def _text(name: str, value: str | bytes) -> str:
    try:
        return value if isinstance(value, str) else value.decode()
    except UnicodeDecodeError:
        raise InputError(f"{name}: the tag is not UTF-8") from None
