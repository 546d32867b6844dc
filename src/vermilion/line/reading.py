"""Reading what people write: files of limited size, TOML or JSON, checked field by field."""

from __future__ import annotations

import difflib
import json
import tomllib
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from vermilion.errors import InputError, NotFoundError, StorageError

T = TypeVar("T")


def read_text(path: Path, limit: int, what: str) -> str:
    """A file's text; at most `limit` bytes are read.

    Raises:
        NotFoundError: there is no such file.
        InputError: it is a folder, too large, or not UTF-8 text.
        StorageError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except FileNotFoundError:
        raise NotFoundError(f"{what}: there is no file {path}; check the path") from None
    except IsADirectoryError:
        raise InputError(f"{what}: {path} is a folder; name a file") from None
    except OSError as error:
        raise StorageError(f"{what}: {path} cannot be read: {error.strerror}") from None
    return decode(data, limit, f"{what}: {path}")


def decode(data: bytes, limit: int, what: str) -> str:
    """UTF-8 text of at most `limit` bytes, without a byte order mark.

    Raises:
        InputError: it is longer, or is not text.
    """
    if len(data) > limit:
        raise InputError(f"{what} is larger than {limit:,} bytes; shorten it")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InputError(f"{what} is not UTF-8 text; save it as UTF-8") from None
    if "\x00" in text:
        raise InputError(f"{what} is not text but a binary file; name a text file")
    return text


def parse(text: str, ending: str, what: str) -> dict[str, Any]:
    """A table of TOML (".toml") or an object of JSON (".json").

    Raises:
        InputError: it cannot be read, with the line where.
    """
    try:
        value = json.loads(text) if ending == ".json" else tomllib.loads(text)
    except (json.JSONDecodeError, tomllib.TOMLDecodeError) as error:
        kind = ending.removeprefix(".").upper()
        raise InputError(f"{what}: this is not {kind}: {error}") from None
    except RecursionError:
        raise InputError(f"{what}: it is nested too deep; flatten it") from None
    if not isinstance(value, dict):
        raise InputError(f"{what}: it has to be an object with fields such as subject")
    return value


def checked(cls: type[T], value: Any, what: str) -> T:
    """A dataclass from a table that a person wrote, or one sentence about what is wrong in it.

    Raises:
        InputError: a field is missing, unknown, or of the wrong type.
    """
    known = [field.name for field in fields(cls)]  # type: ignore[arg-type]
    for name in value:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"there is: {', '.join(known)}"
            raise InputError(f"{what}: {name} is not a field that is known here; {hint}")
    try:
        # By way of JSON, where strict means what people mean by it: lists become tuples, but
        # neither "7" nor true becomes a number.
        adapter: TypeAdapter[T] = _adapter(cls)  # type: ignore[arg-type]
        return adapter.validate_json(json.dumps(value, default=str), strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
    place = f"{what}: {'.'.join(str(part) for part in first['loc'])}"
    if first["type"] == "missing":
        raise InputError(f"{place} is missing; add it")
    message = first["msg"].removeprefix("Input ").replace("array", "list")
    raise InputError(f"{place} {message[0].lower()}{message[1:]} (found {_short(first['input'])})")


@cache
def _adapter(cls: Any) -> TypeAdapter[Any]:
    return TypeAdapter(cls)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
