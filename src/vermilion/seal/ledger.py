"""The ledger: what was sealed, exported and left unmarked, in a chain that shows every change.

It is a file of lines, so that anything can read it, copy it and check it, today and in ten years:

    {"entry":{... ,"number":7,"previous":"<sha256 of entry 6>"},"sha256":"<of the entry's bytes>"}

A line is written at once and flushed to the disk, under a lock that all processes of the machine
respect. Then `head.json` is replaced: how many entries there are, how many bytes, the last one's
SHA-256, and a signature where a signer is given. So a tail that was cut off is noticed. Of a
crash nothing but whole lines remain: a torn one was never answered for, and is cut away by the
next that writes, who notes it in the ledger.
"""

from __future__ import annotations

import base64
import json
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, replace
from io import FileIO
from pathlib import Path
from typing import Literal, Self

from vermilion.errors import StorageError
from vermilion.seal.ledger_audit import Audit, Problem, examine
from vermilion.seal.ledger_lines import (
    Action,
    Entry,
    Head,
    Sign,
    Verify,
    follow,
    parse,
    prints_of,
    values_of,
)
from vermilion.seal.originality import Index, Measure, Near, Prints
from vermilion.seal.private import exclusive, storage

__all__ = ["SAME", "Action", "Audit", "Entry", "Head", "Ledger", "Match", "Problem"]

FILE, HEAD = "ledger.jsonl", "head.json"

# Within these distances two things are taken for one; see `originality.LIMITS`.
SAME: Mapping[Measure, float] = {"picture": 10.0, "sound": 0.3, "film": 10.0, "text": 0.6}


@dataclass(frozen=True, slots=True)
class Match:
    """An entry that was found, by what, and how far away it is (0: equal)."""

    entry: Entry
    measure: Measure | Literal["sha256", "asset_id"]
    distance: float


class Ledger:
    """What was sealed and exported; see the top of this file. For several threads and processes.

    Args:
        folder: where it lies; made when it is first written.
        sign: signs the head, such as with the authority's key; None: it is not signed.
        verify: whether a signature is good; None: signatures are not looked at.

    Attributes:
        folder: the same.
    """

    def __init__(
        self, folder: Path, *, sign: Sign | None = None, verify: Verify | None = None
    ) -> None:
        self.folder = folder
        self._sign, self._verify = sign, verify
        self._guard = threading.RLock()
        self._forget()

    @classmethod
    def open(cls, folder: Path, *, sign: Sign | None = None, verify: Verify | None = None) -> Self:
        """The ledger of a folder; nothing is read or written yet."""
        return cls(folder, sign=sign, verify=verify)

    def append(self, *entries: Entry) -> int:
        """Write entries; they are on the disk when it returns.

        Returns:
            The last one's number.

        Raises:
            StorageError: the disk is full or read-only, or another process does not let go;
                then nothing was written.
        """
        path = self.folder / FILE
        with exclusive(self.folder), storage(self.folder):
            is_new = not path.exists()
            with FileIO(path, "a+", opener=_private) as file:
                head, found = self._settle(file)
                head, lines = follow(head, [*found, *entries])
                before = os.fstat(file.fileno()).st_size
                try:
                    _write(file, lines)
                    os.fsync(file.fileno())
                    if is_new:
                        _flush_folder(self.folder)
                    self._write_head(head)
                except OSError:
                    file.truncate(before)
                    raise
            return head.number

    def audit(self, *, known: str = "") -> Audit:
        """Check every line, and that they end where the head says.

        Args:
            known: SHA-256 of an entry that was written down elsewhere and has to be there, such
                as an earlier audit's `head`; it shows a ledger that was put back as a whole.

        Raises:
            StorageError: the file cannot be read.
        """
        path = self.folder / FILE
        # A copy on a disk that is read-only can be checked too: nobody writes there meanwhile.
        free = os.access(self.folder, os.W_OK)
        alone: AbstractContextManager[None] = exclusive(self.folder) if free else nullcontext()
        with alone, storage(self.folder):
            size = path.stat().st_size if path.exists() else 0
            head, exists = self._read_head(), (self.folder / HEAD).exists()
        with storage(self.folder):
            return examine(path, size, head, verify=self._verify, known=known, has_head=exists)

    def find(
        self,
        *,
        sha256: str = "",
        asset_id: str = "",
        prints: Prints | None = None,
        within: float | None = None,
        count: int = 10,
    ) -> list[Match]:
        """Entries about a file or its likeness; equal ones first, then the closest.

        Args:
            sha256: of a file that was released, or that one was made from.
            asset_id: of the library.
            prints: fingerprints of a file that may be a stripped or changed copy.
            within: the furthest distance; None: `SAME`, by what is compared.
            count: how many to give at most.

        Raises:
            StorageError: the file cannot be read.
        """
        with self._guard:
            self._refresh()
            wanted: list[tuple[Literal["sha256", "asset_id"], str]] = [
                ("sha256", sha256.lower()),
                ("asset_id", asset_id.lower()),
            ]
            found = [
                Match(self._entry(number), measure, 0.0)
                for measure, value in wanted
                for number in reversed(self._numbers.get((measure, value), ()))
            ]
            for near in self._nearest(prints, within, count) if prints is not None else ():
                found.append(Match(self._entry(int(near.name)), near.measure, near.distance))
            return found[:count]

    def __len__(self) -> int:
        """How many entries there are."""
        with self._guard:
            self._refresh()
            return len(self._places)

    def _nearest(self, prints: Prints, within: float | None, count: int) -> Iterator[Near]:
        for measure, limit in SAME.items():
            value = getattr(prints, measure)
            if value is not None:
                most = limit if within is None else within
                yield from self._index.nearest(Prints(**{measure: value}), count, within=most)

    # Writing. All of it happens under the lock.

    def _settle(self, file: FileIO) -> tuple[Head, list[Entry]]:
        """Where the lines really end, and what has to be noted about how they end."""
        size, head = os.fstat(file.fileno()).st_size, self._read_head()
        signed = head is None or self._verify is None or head.is_signed(self._verify)
        if head is not None and signed and head.size == size:
            return head, []
        notes: list[Entry] = []
        if head is None and size > 0:
            notes.append(Entry(action="damaged", reason="the head was missing or unreadable"))
        if not signed:
            notes.append(Entry(action="damaged", reason="the head was not signed by this key"))
        past = head if head is not None and head.size <= size else Head()
        file.seek(past.size)
        tip = _tip(file.read(), past)
        if head is not None and tip.number < head.number:
            lost = f"entries {tip.number + 1} to {head.number} were missing at the end"
            notes.append(Entry(action="damaged", reason=lost))
        if tip.size < size:
            file.truncate(tip.size)
            torn = f"a torn line of {size - tip.size} bytes was cut away at the end"
            notes.append(Entry(action="repaired", reason=torn))
        return tip, notes

    def _read_head(self) -> Head | None:
        try:
            values = json.loads((self.folder / HEAD).read_bytes())
        except (FileNotFoundError, ValueError, RecursionError):
            return None
        kinds = {"number": int, "sha256": str, "size": int, "signature": str}
        is_head = isinstance(values, dict) and kinds == {k: type(v) for k, v in values.items()}
        return Head(**values) if is_head else None

    def _write_head(self, head: Head) -> None:
        if self._sign is not None:
            head = replace(head, signature=base64.b64encode(self._sign(head.message)).decode())
        partial = self.folder / f"{HEAD}.part"  # of one name, so that none is left by a crash
        with FileIO(partial, "w", opener=_private) as file:
            # Not flushed: a head that is behind the lines is caught up with.
            _write(file, json.dumps(asdict(head)).encode())
        partial.replace(self.folder / HEAD)

    # Reading. The index holds what stands in the file up to `_known` bytes, where `_last` ends.

    def _forget(self) -> None:
        self._known, self._last = 0, b""
        self._index = Index()
        self._places: list[tuple[int, int]] = []  # of each line, its first byte and length
        self._numbers: dict[tuple[str, str], list[int]] = {}

    def _refresh(self) -> None:
        path = self.folder / FILE
        if not path.exists():
            self._forget()
            return
        with storage(self.folder), path.open("rb") as file:
            # Where another line stands than the one that was read last, it is another ledger.
            file.seek(self._known - len(self._last))
            if file.read(len(self._last)) != self._last:
                self._forget()
                file.seek(0)
            for line in file:
                if not line.endswith(b"\n"):
                    break
                self._learn(line)
                self._known, self._last = self._known + len(line), line

    def _learn(self, line: bytes) -> None:
        values, place = values_of(line), len(self._places)
        try:
            prints = prints_of(values or {})
        except ValueError:
            values = None
        if values is None:
            return  # the audit tells of it
        self._places.append((self._known, len(line)))
        self._index.add(str(place), prints)
        sums = {str(values.get(key, "")) for key in ("sha256", "original_sha256")}
        keys = [
            *(("sha256", value) for value in sums),
            ("asset_id", str(values.get("asset_id", ""))),
        ]
        for key in keys:
            if key[1]:
                self._numbers.setdefault(key, []).append(place)

    def _entry(self, place: int) -> Entry:
        start, length = self._places[place]
        with storage(self.folder), (self.folder / FILE).open("rb") as file:
            file.seek(start)
            read = parse(file.read(length))
        if read is None:
            raise StorageError(f"ledger: {self.folder / FILE} was changed while it was read")
        return read.entry


def _tip(content: bytes, head: Head) -> Head:
    """The head after the whole lines that follow it."""
    for line in content.splitlines(keepends=True):
        if not line.endswith(b"\n"):
            break
        read, end = parse(line), head.size + len(line)
        if read is None:
            head = replace(head, size=end)
        else:
            head = Head(read.entry.number, read.sha256, end)
    return head


def _write(file: FileIO, content: bytes) -> None:
    """All of it, since one call may write a part."""
    left = memoryview(content)
    while left:
        left = left[file.write(left) or 0 :]


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _flush_folder(folder: Path) -> None:
    """See that a new file's name is on the disk too; Windows cannot and need not."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
