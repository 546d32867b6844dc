"""Files that only their owner may read: keys. One process at a time makes them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vermilion import disk
from vermilion.disk import storage
from vermilion.errors import InputError

__all__ = ["exclusive", "read", "storage", "write"]

_LONGEST_WAIT = 60.0  # seconds


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Make a folder that only its owner may enter, and hold its lock, which ends with the process.

    Raises:
        StorageError: it cannot be written, or another process holds its lock for a minute.
    """
    with storage(folder):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = folder / "lock"
        lock.open("ab").close()
    with disk.exclusive(lock, patience=_LONGEST_WAIT):
        yield


def write(path: Path, content: bytes) -> None:
    """Write a file (mode 0600) so that a crash leaves the old one, the new one, or none.

    The caller holds the folder's lock.

    Raises:
        StorageError: the folder cannot be written, or the disk is full.
    """
    with storage(path.parent):
        disk.write_atomically(path, content, mode=0o600)


def read(path: Path) -> bytes | None:
    """What such a file holds, or None where there is none.

    Raises:
        InputError: others may read it too.
        StorageError: it cannot be read.
    """
    with storage(path.parent):
        try:
            with path.open("rb") as file:
                mode = os.fstat(file.fileno()).st_mode
                content = file.read()
        except FileNotFoundError:
            return None
    if os.name != "nt" and mode & 0o077:
        raise InputError(
            f"{path}: others may read this key; take their rights away (chmod 600 {path}), and"
            " replace the key if somebody may have read it"
        )
    return content
