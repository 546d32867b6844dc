"""Files named by what is in them: files/ab/<sha256>.<suffix>.

A file and its row in the database have to appear together, and no system offers one commit for
both. What makes it safe is the database's write lock: every function here that changes
something is called under it, in the transaction that changes the row.

    keep:    lock, write pending/….part, create a marker in pending/, rename the file to its
             place, insert the row, commit; then delete the marker.
    remove:  lock, create a marker, delete the row, commit; then sweep.
    sweep:   lock, and for each name in pending/: if no row names that file, delete the file;
             then delete the name.

Whatever moment the program dies at, the database rolls back to before or has committed, and
a name in pending/ remains for the sweep that follows at the next start. Its cost grows with
what was left over, not with the library. The lock also tells the living from the dead: whoever
holds it sees in pending/ only what the dead left, or markers that are past their commit. So a
sweep needs no lock files of its own, and works wherever SQLite does. The price is that the
next writer waits while a file is written, which is short beside the making of it.

Markers end in a random token, so that each is deleted only by its owner or by a sweep, even
when two programs handle the same content at once. Files and folders are flushed to the disk in
that same order, so a power failure is no different from a crash.
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

from vermilion.disk import sync

_LEFTOVER = re.compile(r"(?P<blob>[0-9a-f]{64}\.[a-z0-9]{1,16})\.[0-9a-f]{8}(\.part)?")


class Blobs:
    """The folder of files. `blob` is always a name: SHA-256, a full stop and a suffix.

    Args:
        folder: where they lie; made by `prepare`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        # Inside the folder, so that both are on one disk and a rename is possible.
        self._pending = folder / "pending"

    def prepare(self) -> None:
        """Make the folders where they are missing."""
        _make_folder(self._pending)

    def path(self, blob: str) -> Path:
        """Where a file lies, whether or not it exists."""
        return self.folder / blob[:2] / blob

    def mark(self, blob: str) -> Path:
        """Note durably that a file may be without a row; returns the marker, to be deleted."""
        marker = self._pending / f"{blob}.{secrets.token_hex(4)}"
        marker.touch(exist_ok=False)
        sync(self._pending)
        return marker

    def place(self, blob: str, content: bytes) -> Path:
        """Write a file whole and durably; returns its marker, to be deleted after the commit.

        A file that is there already is replaced by the same bytes, which mends a damaged one.
        """
        part = self._pending / f"{blob}.{secrets.token_hex(4)}.part"
        with part.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        marker = self.mark(blob)
        path = self.path(blob)
        _make_folder(path.parent)
        part.replace(path)
        sync(path.parent)
        return marker

    def has_leftovers(self) -> bool:
        """Whether a sweep has anything to look at; the lock is not needed to ask."""
        return any(True for _ in self._leftovers())

    def sweep(self, is_used: Callable[[str], bool]) -> None:
        """Delete what a dead writer left, and the files that no row names any more.

        Args:
            is_used: tells whether a row names that blob.
        """
        for leftover, blob in list(self._leftovers()):
            path = self.path(blob)
            if not is_used(blob) and path.exists():
                path.unlink()
                sync(path.parent)
            # Its owner may be past its commit and delete it at this moment.
            leftover.unlink(missing_ok=True)

    def _leftovers(self) -> Iterator[tuple[Path, str]]:
        for path in self._pending.iterdir():
            match = _LEFTOVER.fullmatch(path.name)
            if match is not None:
                yield path, match["blob"]


def _make_folder(folder: Path) -> None:
    if not folder.is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        sync(folder.parent)
