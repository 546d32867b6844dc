"""Files → documents: text files, folders, JSONL, CSV and Parquet, read as a stream.

A document is handed on in pieces, so that a file may be larger than the memory.
"""

from __future__ import annotations

import csv
import hashlib
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from vermilion.errors import InputError, MissingExtraError, NotFoundError

TEXTS = (".txt", ".md")
TABLES = (".jsonl", ".csv", ".tsv", ".parquet")
_PIECE = 1 << 20  # characters of a text file that are handed on at once
_ROLES = ("system", "user", "assistant")


@dataclass(frozen=True, slots=True)
class Piece:
    """A document, or a part of one.

    Attributes:
        text: of plain text; empty for a conversation.
        messages: of a conversation, each with "role" and "content"; empty for plain text.
        ends: whether the document ends with it.
    """

    text: str = ""
    messages: tuple[Mapping[str, str], ...] = ()
    ends: bool = True


def files_of(path: Path) -> tuple[Path, ...]:
    """The files that a path stands for: itself, or what lies in a folder, sorted.

    Raises:
        NotFoundError: there is no such path.
        InputError: a folder without files that can be read, or a file of an unknown kind.
    """
    if not path.exists():
        raise NotFoundError(f"data: {path} does not exist; name a file or a folder with texts")
    if path.is_file():
        if path.suffix.lower() not in (*TEXTS, *TABLES):
            raise InputError(
                f"data: {path} is of a kind that is not known; use {', '.join((*TEXTS, *TABLES))}"
            )
        return (path,)
    found = sorted(
        file
        for file in path.rglob("*")
        if file.is_file()
        and file.suffix.lower() in TEXTS
        and not any(part.startswith(".") for part in file.relative_to(path).parts)
    )
    if not found:
        raise InputError(
            f"data: {path} holds no {' and no '.join(TEXTS)} file; name a folder that does,"
            f" or one file ({', '.join(TABLES)})"
        )
    return tuple(found)


def sha256_of(path: Path) -> str:
    """One fingerprint of a file, or of all files of a folder with their names, hexadecimal."""
    files = files_of(path)
    digest = hashlib.sha256()
    for file in files:
        if len(files) > 1:
            digest.update(f"{file.relative_to(path).as_posix()}\0{file.stat().st_size}\0".encode())
        with file.open("rb") as stream:
            while chunk := stream.read(_PIECE):
                digest.update(chunk)
    return digest.hexdigest()


def read(path: Path, field: str | None = None) -> Iterator[Piece]:
    """Documents of a file or folder, in order.

    A text file is one document. A line of JSONL or a row of a table is one document.

    Args:
        path: a text file, a folder of such, or a .jsonl, .csv, .tsv or .parquet file.
        field: the field or column that holds the text; by default "messages" where a line of
            JSONL has it, else "text".

    Raises:
        NotFoundError: there is no such path.
        InputError: a file is empty, not UTF-8, malformed, or lacks the field.
        MissingExtraError: Parquet, and pyarrow is not installed.
    """
    for file in files_of(path):
        kind = file.suffix.lower()
        if file.stat().st_size == 0:
            raise InputError(f"data: {file} is empty; remove it or put text into it")
        if kind in TEXTS:
            if field is not None:
                raise InputError(f"field: {file} is plain text and has no {field!r}; leave it out")
            yield from _read_text(file)
        elif kind == ".jsonl":
            yield from _read_jsonl(file, field)
        elif kind == ".parquet":
            yield from _read_parquet(file, field or "text")
        else:
            yield from _read_csv(file, field or "text", "\t" if kind == ".tsv" else ",")


def _decoded(file: Path, lines: Iterator[str]) -> Iterator[str]:
    """Pass text on; what is not UTF-8 becomes a sentence."""
    try:
        yield from lines
    except UnicodeDecodeError as error:
        raise InputError(
            f"data: {file} is not UTF-8 (byte 0x{error.object[error.start]:02x});"
            " convert it, for example: iconv -f LATIN1 -t UTF-8"
        ) from None


def _read_text(file: Path) -> Iterator[Piece]:
    """Pieces that end before a line that begins with no space: tokens do not cross such a place."""
    held = ""
    with file.open(encoding="utf-8-sig", newline=None) as stream:
        for chunk in _decoded(file, iter(lambda: stream.read(_PIECE), "")):
            held += chunk
            at = _last_break(held)
            if at > 0 and len(held) >= _PIECE:
                yield Piece(held[:at], ends=False)
                held = held[at:]
    if not held.strip():
        raise InputError(f"data: {file} has no text in it; remove it or put text into it")
    yield Piece(held)


def _last_break(text: str) -> int:
    """Where the last line begins that may stand for itself; 0: nowhere."""
    at = len(text)
    while (at := text.rfind("\n", 0, at)) > 0:
        if at + 1 < len(text) and not text[at + 1].isspace() and not text[at - 1].isspace():
            return at + 1
    return 0


def _read_jsonl(file: Path, field: str | None) -> Iterator[Piece]:
    count = 0
    with file.open(encoding="utf-8-sig") as stream:
        for number, line in enumerate(_decoded(file, stream), 1):
            if not line.strip():
                continue
            where = f"data: {file}, line {number}"
            try:
                record = json.loads(line)
            except (ValueError, RecursionError):
                raise InputError(f"{where}: this is not JSON; write one object a line") from None
            if not isinstance(record, dict):
                raise InputError(f"{where}: this is not a JSON object; write one object a line")
            name = field or ("messages" if "messages" in record else "text")
            value = _field(record, name, where)
            count += 1
            if isinstance(value, list):
                yield Piece(messages=_messages(value, f"{where}: {name}"))
            elif value is not None and str(value).strip():
                yield Piece(str(value))
    if count == 0:
        raise InputError(f"data: {file} has no records in it; write one JSON object a line")


def _field(record: Mapping[str, Any], name: str, where: str) -> Any:
    if name not in record:
        raise _unknown(name, list(record), where)
    return record[name]


def _unknown(name: str, there: Sequence[str], where: str) -> InputError:
    near = get_close_matches(name, there, 1)
    hint = f"did you mean --field {near[0]}?" if near else "name one of them with --field"
    return InputError(f"{where}: there is no field {name!r} among {', '.join(there)}; {hint}")


def _messages(value: list[Any], where: str) -> tuple[Mapping[str, str], ...]:
    messages = []
    for message in value:
        good = isinstance(message, dict) and isinstance(message.get("content"), str)
        if not good or message.get("role") not in _ROLES:
            raise InputError(
                f"{where}: each message needs a role ({', '.join(_ROLES)}) and a content of text"
            )
        messages.append({"role": message["role"], "content": message["content"]})
    if not any(message["role"] == "assistant" for message in messages):
        raise InputError(f"{where}: no message is the assistant's, so there is nothing to learn")
    return tuple(messages)


def _read_csv(file: Path, field: str, delimiter: str) -> Iterator[Piece]:
    csv.field_size_limit(sys.maxsize)
    with file.open(encoding="utf-8-sig", newline="") as stream:
        rows = csv.DictReader(_decoded(file, stream), delimiter=delimiter, strict=True)
        try:
            if rows.fieldnames is None or field not in rows.fieldnames:
                raise _unknown(field, list(rows.fieldnames or ()), f"data: {file}")
            for row in rows:
                if (row[field] or "").strip():
                    yield Piece(row[field])
        except csv.Error as error:
            raise InputError(f"data: {file}, line {rows.line_num}: {error}; mend it") from None


def _read_parquet(file: Path, field: str) -> Iterator[Piece]:
    try:
        from pyarrow import ArrowInvalid, parquet  # noqa: PLC0415 - an extra of its own
    except ImportError:
        raise MissingExtraError("reading Parquet", "train") from None
    try:
        table = parquet.ParquetFile(file)
    except ArrowInvalid as error:
        raise InputError(f"data: {file} is not Parquet ({error}); write it anew") from None
    if field not in table.schema_arrow.names:
        raise _unknown(field, table.schema_arrow.names, f"data: {file}")
    for batch in table.iter_batches(columns=[field], batch_size=1024):
        for value in batch.column(0).to_pylist():
            if isinstance(value, list):
                yield Piece(messages=_messages(value, f"data: {file}: {field}"))
            elif value is not None and str(value).strip():
                yield Piece(str(value))


Read = Callable[[], Iterator[Piece]]
"""Reads the same documents from the start, each time that it is called."""
