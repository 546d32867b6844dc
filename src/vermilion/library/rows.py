"""Between an asset and its row: how one is found, read and checked before it is written."""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, RowMapping, exists, func, or_, select

from vermilion.errors import InputError, NotFoundError
from vermilion.library.db import asset, asset_parent
from vermilion.types import Asset

# Crockford's base 32: no i, l, o or u, which are misread or make words.
_ID_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_ID_LENGTH = 8
_MOST_NAMED = 5
_LARGEST = 2**63 - 1

_ID = re.compile(f"[{_ID_ALPHABET}]{{{_ID_LENGTH}}}")
_KIND = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_MEDIA_TYPE = re.compile(r"[a-z0-9.+-]+/[a-z0-9.+-]+(; ?[a-z0-9-]+=[A-Za-z0-9.-]+)*")
_SUFFIX = re.compile(r"[A-Za-z0-9]{1,16}")

# Keyed by position, because SQLite promises no order among what it aggregates.
_PARENTS = (
    select(func.json_group_object(asset_parent.c.position, asset_parent.c.parent_id))
    .where(asset_parent.c.asset_id == asset.c.id)
    .scalar_subquery()
)

ASSETS = select(asset, _PARENTS.label("parents"))
"""Every asset with its parents; `to_asset` reads its rows."""


def to_asset(row: RowMapping, path: Path) -> Asset:
    """The asset of a row of `ASSETS`, whose file lies at `path`."""
    parents: dict[str, str] = json.loads(row["parents"])
    return Asset(
        id=row["id"],
        kind=row["kind"],
        media_type=row["media_type"],
        sha256=row["sha256"],
        size=row["size"],
        path=path,
        created_at=datetime.fromisoformat(row["created_at"]),
        text=row["text"],
        recipe=json.loads(row["recipe"]),
        notes=json.loads(row["notes"]),
        parents=tuple(parents[position] for position in sorted(parents, key=int)),
        set_id=row["set_id"],
        step=row["step"],
        index=row["index"],
        licence=row["licence"],
        rating=row["rating"],
    )


def blob_of(row: Mapping[str, Any] | RowMapping) -> str:
    """The name of a row's file."""
    return f"{row['sha256']}.{row['suffix']}"


def resolve(connection: Connection, ref: str) -> RowMapping:
    """The row of `ASSETS` whose id begins with ref, in either case.

    Raises:
        InputError: several ids begin so, or ref is empty.
        NotFoundError: none does.
    """
    # As Crockford reads it: letters that look like digits are taken for them.
    start = ref.strip().lower().translate(str.maketrans("oil", "011"))
    if not start:
        raise InputError("id: is empty; give an id or the beginning of one")
    if not set(start) <= set(_ID_ALPHABET):
        raise _not_found(ref)
    begins_so = asset.c.id.between(start, start + "~")  # "~" comes after every letter
    rows = connection.execute(ASSETS.where(begins_so).limit(_MOST_NAMED + 1)).mappings().all()
    if not rows:
        raise _not_found(ref)
    if len(rows) > 1:
        names = ", ".join(row["id"] for row in rows[:_MOST_NAMED])
        more = ", ..." if len(rows) > _MOST_NAMED else ""
        raise InputError(
            f"id: {ref!r} is the beginning of several ids ({names}{more}); give more of it"
        )
    return rows[0]


def _not_found(ref: str) -> NotFoundError:
    return NotFoundError(
        f"id: no asset's id begins with {ref!r}; see what there is with: vermilion library list"
    )


def numbered(connection: Connection, number: int) -> RowMapping:
    """The row of `ASSETS` with that number, which has to exist."""
    return connection.execute(ASSETS.where(asset.c.number == number)).mappings().one()


def is_used(connection: Connection, blob: str) -> bool:
    """Whether a row names that file."""
    sha256, _, suffix = blob.partition(".")
    named = exists().where(asset.c.sha256 == sha256, asset.c.suffix == suffix)
    return connection.execute(select(named)).scalar_one()


def new_id(connection: Connection) -> str:
    """An id that no asset has, and that no child of a removed asset still names."""
    while True:
        name = "".join(secrets.choice(_ID_ALPHABET) for _ in range(_ID_LENGTH))
        taken = or_(
            exists().where(asset.c.id == name), exists().where(asset_parent.c.parent_id == name)
        )
        if not connection.execute(select(taken)).scalar_one():
            return name


def new_row(
    content: bytes,
    *,
    kind: str,
    media_type: str,
    suffix: str,
    text: str,
    recipe: Mapping[str, Any],
    notes: Mapping[str, Any],
    set_id: str | None,
    step: str | None,
    index: int,
    licence: str,
) -> dict[str, Any]:
    """The columns of a new asset, checked; the id and the time are given when it is written.

    Raises:
        InputError: a value cannot be kept as it is.
    """
    if not isinstance(content, bytes):
        raise InputError(f"content: has to be bytes, not {type(content).__name__}")
    _match("kind", kind, _KIND, 'use small letters, digits and . _ -, like "text"')
    _match("media_type", media_type, _MEDIA_TYPE, 'write it like "audio/wav"')
    _match("suffix", suffix, _SUFFIX, 'use up to 16 letters and digits without a dot, like "wav"')
    for field, name in (("set_id", set_id), ("step", step)):
        if name is not None and not storable(field, name):
            raise InputError(f"{field}: is empty; give a name, or None when there is none")
    return {
        "kind": kind,
        "media_type": media_type,
        "sha256": hashlib.sha256(content).hexdigest(),
        # Some disks take WAV and wav for one name.
        "suffix": suffix.lower(),
        "size": len(content),
        "text": storable("text", text),
        "recipe": _json("recipe", recipe),
        "notes": _json("notes", notes),
        "set_id": set_id,
        "step": step,
        "index": whole("index", index, low=0),
        "licence": storable("licence", licence),
        "rating": None,
    }


def parent_ids(parents: Sequence[str]) -> tuple[str, ...]:
    """Parents, checked to be ids.

    They need not exist: one may have been removed while its child was being made.

    Raises:
        InputError: one of them is no id.
    """
    if isinstance(parents, str):
        raise InputError("parents: has to be a list of ids, not one string")
    for parent in parents:
        _match("parents", parent, _ID, f"give the asset's whole id of {_ID_LENGTH} characters")
    return tuple(parents)


def whole(field: str, value: int, *, low: int, high: int = _LARGEST) -> int:
    """A whole number, checked to be within low and high.

    Raises:
        InputError: it is not.
    """
    if type(value) is not int or not low <= value <= high:
        limits = f"{low} or more" if high == _LARGEST else f"{low} to {high}"
        raise InputError(f"{field}: has to be a whole number, {limits} (found {value!r})")
    return value


def storable(field: str, value: str) -> str:
    """Text, checked to be such as a database can take.

    Raises:
        InputError: it is no text, or holds half of a surrogate pair.
    """
    if not isinstance(value, str):
        raise InputError(f"{field}: has to be text, not {type(value).__name__}")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise InputError(
            f"{field}: character {error.start} is half of a pair and cannot be stored; "
            "decode the text as UTF-8 with errors='replace'"
        ) from error
    return value


def _match(field: str, value: str, pattern: re.Pattern[str], remedy: str) -> None:
    if not isinstance(value, str) or pattern.fullmatch(value) is None:
        raise InputError(f"{field}: {value!r} cannot be used; {remedy}")


def _json(field: str, value: Mapping[str, Any]) -> str:
    if not isinstance(value, Mapping):
        raise InputError(f"{field}: has to be a mapping, not {type(value).__name__}")
    try:
        written = json.dumps(dict(value), allow_nan=False, ensure_ascii=False, sort_keys=True)
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(
            f"{field}: cannot be written as JSON ({error}); use JSON values"
        ) from error
    return storable(field, written)
