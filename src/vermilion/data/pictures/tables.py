"""Tables of pictures and captions: JSONL, CSV and TSV, as the columns of Conceptual Captions too.

A row that cannot be used is counted and passed over. Pictures are files below one folder.
"""

from __future__ import annotations

import codecs
import csv
import json
from collections.abc import Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any

from vermilion.data.pictures.decoding import SUFFIXES
from vermilion.data.pictures.fields import CAPTION, PICTURE, Fields, Found
from vermilion.data.pictures.rows import parted
from vermilion.data.pictures.taker import ADDRESS, Taker
from vermilion.errors import InputError

_SAMPLE = 100  # rows that tell the columns of a table without a header
_LONGEST_LINE = 10_000_000  # characters


def read_jsonl(file: Path, fields: Fields, taker: Taker) -> None:
    """Items of a JSONL file: an object a line.

    Raises:
        InputError: fields that are needed are not there.
    """
    found: Found | None = None
    for number, line in enumerate(_lines(file), 1):
        where = f"{file.name}, line {number}"
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            record = None
        if not isinstance(record, dict):
            taker.fault("malformed", where, "is no JSON object")
            continue
        if found is None:
            found = fields.names(list(record), where, taker.wanted, taker.classes)
        taker.take(record, found, where)


def read_csv(file: Path, fields: Fields, taker: Taker) -> None:
    """Items of a CSV or TSV file, with or without a header.

    Without one there are two columns, a caption and a path or address, in either order, as in
    Conceptual Captions (Sharma et al. 2018) and CC12M (Changpinyo et al. 2021).

    Raises:
        InputError: it has no rows, or its columns cannot be told.
    """
    csv.field_size_limit(_LONGEST_LINE)
    quoted = file.suffix.lower() == ".csv"
    delimiter = "," if quoted else "\t"
    rows = csv.reader(
        _lines(file),
        delimiter=delimiter,
        # A quotation mark in a TSV is one: Conceptual Captions quotes nothing.
        quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE,
    )
    records = _records(file, rows, taker)
    first = next(records, None)
    if first is None:
        raise InputError(f"data: {file} has no rows in it; write a row for each picture")
    header = first[1]
    if len(header) == 1 and quoted and "\t" in header[0]:
        raise InputError(f"data: {file} is parted by tabs; name it .tsv")
    usual = {*PICTURE, *CAPTION, *fields.given()}
    if any(cell.strip().lower() in usual or cell in usual for cell in header):
        header = [cell.strip() for cell in header]
    else:
        records = chain([first], records)
        sample = list(islice(records, _SAMPLE))
        records = chain(sample, records)
        header = _columns(file, [row for _, row in sample])
    found = fields.names(header, str(file), taker.wanted, taker.classes)
    for number, row in records:
        where = f"{file.name}, line {number}"
        if len(row) != len(header):
            text = f"has {len(row)} columns where the first row has {len(header)}"
            taker.fault("malformed", where, text)
            continue
        taker.take(dict(zip(header, row, strict=True)), found, where)


def _records(file: Path, rows: Any, taker: Taker) -> Iterator[tuple[int, list[str]]]:
    """Line numbers and rows that are not empty; one that is malformed is counted."""
    while True:
        try:
            row = next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            taker.fault("malformed", f"{file.name}, line {rows.line_num}", str(error))
            continue
        if any(cell.strip() for cell in row):
            yield rows.line_num, row


def _columns(file: Path, rows: Sequence[Sequence[str]]) -> list[str]:
    """Names for the two columns of a table without a header: which of them holds paths?"""
    if len(rows[0]) != 2:
        raise InputError(
            f"data: {file} has {len(rows[0])} columns and no header; write a first row with their"
            " names, such as file and caption"
        )
    counts = [sum(len(row) == 2 and _is_path(row[i]) for row in rows) for i in (0, 1)]
    if counts[0] == counts[1]:
        raise InputError(
            f"data: {file}: it cannot be told which column has the pictures; write a first row"
            " with the names file and caption"
        )
    return ["file", "caption"] if counts[0] > counts[1] else ["caption", "file"]


def _is_path(cell: str) -> bool:
    text = cell.strip().lower()
    return bool(ADDRESS.match(text)) or parted(text)[1] in SUFFIXES


def _lines(file: Path) -> Iterator[str]:
    """Lines of a text file. Bytes that are not UTF-8 become marks that no text has."""
    with file.open("rb") as stream:
        start = stream.read(4)
    wide = start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    with file.open(
        encoding="utf-16" if wide else "utf-8-sig",
        errors="replace" if wide else "surrogateescape",
        newline="",
    ) as stream:
        yield from stream
