"""Records → items or faults: what every row has to pass, whatever file it stands in."""

from __future__ import annotations

import re
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vermilion.data.pictures.faults import Faults, Kind
from vermilion.data.pictures.fields import Found
from vermilion.data.pictures.rows import Label, Place, Rows, captions_in, label_of, split_of
from vermilion.data.pictures.stores import confined

ADDRESS = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]*://")


class Taker:
    """Takes records, checks them, and keeps the items.

    Args:
        root: folder that the pictures lie in.
        faults: told of what is left out.
        wanted: whether captions are read. That an item has none is judged when all are there.
        classes: whether it needs a class.

    Attributes:
        rows: the items.
    """

    def __init__(self, root: Path, faults: Faults, wanted: bool, classes: bool) -> None:
        self.rows, self.root, self.faults = Rows(), root, faults
        self.wanted, self.classes = wanted, classes
        self._inside = confined(root)

    def take(self, record: Mapping[str, Any], found: Found, where: str) -> None:
        """A record of a table whose pictures are files.

        Args:
            record: values by field.
            found: which fields hold what.
            where: file and line, for messages.
        """
        path = record.get(found.picture)
        if isinstance(path, dict):  # as Parquet of the datasets library has it
            path = path.get("path")
        if not isinstance(path, str) or not path.strip():
            self.fault("missing", where, "the row names no picture")
            return
        values = [record.get(field) for field in found.captions]
        label = label_of(record.get(found.label)) if found.label is not None else None
        split = split_of(record.get(found.split)) if found.split is not None else ""
        self.file(path.strip(), values, label, split, where)

    def file(self, path: str, values: Sequence[Any], label: Label, split: str, where: str) -> None:
        """A picture that is a file, with what is said of it.

        Args:
            path: below the root.
            values: captions, or lists of them.
            label: its class.
            split: its split, or "".
            where: for messages.
        """
        where = f"{where} ({path})"
        if ADDRESS.match(path):
            self.fault("missing", where, "the picture is an address; only files are read")
            return
        name = self._inside(path)
        if name is None:
            self.fault("outside", where, f"the picture lies outside of {self.root}")
            return
        try:
            status = (self.root / name).stat()
        except (OSError, ValueError):
            self.fault("missing", where, "the picture is not there")
            return
        if not stat.S_ISREG(status.st_mode):
            self.fault("missing", where, "the picture is no file")
            return
        self.item(name, values, label, split, where, stamp=(status.st_size, status.st_mtime_ns))

    def item(
        self,
        name: str,
        values: Sequence[Any],
        label: Label,
        split: str,
        where: str,
        place: Place = (0, 0, 0),
        stamp: tuple[int, int] = (0, 0),
    ) -> None:
        """A picture that is there. See `file` and `Rows.add`."""
        captions: list[str] = []
        for value in values if self.wanted else ():
            if (texts := captions_in(value)) is None:
                self.fault("malformed", where, "the caption is no text")
                return
            captions += texts
        try:
            "".join([*captions, str(label)]).encode("utf-8")
        except UnicodeEncodeError:
            self.fault("encoding", where, "the caption is not UTF-8")
            return
        if self.classes and label is None:
            self.fault("no label", where, "the picture has no class")
        else:
            self.faults.rows += 1
            self.rows.add(name, captions, label, split, place, stamp)

    def fault(self, kind: Kind, where: str, reason: str) -> None:
        """Count a row that cannot be used."""
        self.faults.rows += 1
        self.faults.add(kind, where, reason)
