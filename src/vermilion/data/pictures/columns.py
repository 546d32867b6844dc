"""Parquet: pictures as bytes in a column, or as paths (the layout of the datasets library too)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from vermilion.data.pictures.fields import Fields
from vermilion.data.pictures.rows import label_of, split_in_name, split_of
from vermilion.data.pictures.stores import (
    FileStore,
    ParquetStore,
    Store,
    name_below,
    opened_parquet,
)
from vermilion.data.pictures.taker import Taker
from vermilion.errors import InputError


def read_columns(
    files: Sequence[Path], fields: Fields, taker: Taker
) -> tuple[Store, dict[int, str]]:
    """Items of Parquet files.

    The picture's column holds bytes, or structs with "bytes", or paths of files.

    Args:
        files: one or many of the same columns. One whose name begins with train, val or test is a
            split.
        fields: which columns hold what.
        taker: takes the items.

    Returns:
        Where pictures are fetched from, and names of classes where the files say them.

    Raises:
        InputError: a column that is needed is not there, or is of no kind that can be read.
        MissingExtraError: pyarrow is not installed.
    """
    schema = opened_parquet(files[0]).schema_arrow
    found = fields.names(schema.names, str(files[0]), taker.wanted, taker.classes)
    inline = _inline(schema.field(found.picture).type, files[0], found.picture)
    columns = [*found.captions, *(name for name in (found.label, found.split) if name is not None)]
    for number, file in enumerate(files):
        status, name = file.stat(), name_below(taker.root, file)
        stamp, split = (status.st_size, status.st_mtime_ns), split_in_name(file.name)
        read = columns if inline else [found.picture, *columns]
        for count, group, row, record in _records(file, read):
            where = f"{name}#{count}"
            if not inline:
                taker.take(record, found, where)
                continue
            label = label_of(record.get(found.label)) if found.label is not None else None
            told = split_of(record.get(found.split)) if found.split is not None else ""
            values = [record.get(column) for column in found.captions]
            taker.item(where, values, label, told or split, where, (number, group, row), stamp)
    store: Store = ParquetStore(files, found.picture) if inline else FileStore(taker.root)
    return store, _classes(schema, found.label)


def _records(file: Path, columns: Sequence[str]) -> Iterator[tuple[int, int, int, dict[str, Any]]]:
    """Number of the row in the file, its row group, its number in that, and its values."""
    table = opened_parquet(file)
    if missing := set(columns) - set(table.schema_arrow.names):
        raise InputError(f"data: {file} lacks the column {min(missing)!r}, which others have")
    count = 0
    for group in range(table.num_row_groups):
        size = table.metadata.row_group(group).num_rows
        if columns:
            records = table.read_row_group(group, columns=list(columns)).to_pylist()
        else:
            records = [{}] * size
        for row in range(size):
            yield count, group, row, records[row]
            count += 1


def _inline(kind: Any, file: Path, column: str) -> bool:
    """Whether a column of this type holds the pictures themselves; else it holds paths."""
    from pyarrow import types  # noqa: PLC0415 - an extra of its own

    def binary(of: Any) -> bool:
        return bool(types.is_binary(of) or types.is_large_binary(of))

    if binary(kind):
        return True
    if types.is_struct(kind):
        inner = {kind.field(i).name: kind.field(i).type for i in range(kind.num_fields)}
        if "bytes" in inner and binary(inner["bytes"]):
            return True
        kind = inner.get("path", kind)
    if types.is_string(kind) or types.is_large_string(kind):
        return False
    raise InputError(
        f"fields.picture: {file} has {kind} in the column {column!r}; it needs bytes or paths"
    )


def _classes(schema: Any, label: str | None) -> dict[int, str]:
    """Names of classes that the datasets library writes beside the columns."""
    try:
        told = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
        names = told["info"]["features"][label]["names"]
    except (ValueError, KeyError, TypeError):
        return {}
    return {number: str(name) for number, name in enumerate(names)}
