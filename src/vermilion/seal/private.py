"""Files that only their owner may read: keys. One process at a time makes them."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from vermilion.errors import InputError, StorageError

if sys.platform == "win32":
    import msvcrt

    def _try_lock(file: IO[bytes]) -> None:
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
else:
    import fcntl

    def _try_lock(file: IO[bytes]) -> None:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


_POLL_SECONDS = 0.02
_LONGEST_WAIT = 60.0  # seconds


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Make a folder that only its owner may enter, and hold its lock, which ends with the process.

    Raises:
        StorageError: it cannot be written, or another process holds its lock for a minute.
    """
    path = folder / "lock"
    with storage(folder):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        file = path.open("ab")
    with file:
        until = time.monotonic() + _LONGEST_WAIT
        while True:
            try:
                _try_lock(file)
                break
            except (BlockingIOError, PermissionError):
                if time.monotonic() > until:
                    raise StorageError(
                        f"{folder}: another process holds its lock; end that one, then try again"
                    ) from None
                time.sleep(_POLL_SECONDS)
        yield


@contextmanager
def storage(folder: Path) -> Iterator[None]:
    """Turn the operating system's refusals into a StorageError that names the folder."""
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"{error.filename or folder}: {error.strerror or error}; free some space or allow"
            " access there, or set VERMILION_HOME to another folder"
        ) from error


def write(path: Path, content: bytes) -> None:
    """Write a file (mode 0600) so that a crash leaves the old one, the new one, or none.

    The caller holds the folder's lock.

    Raises:
        StorageError: the folder cannot be written, or the disk is full.
    """
    part = path.with_name(path.name + ".part")
    with storage(path.parent):
        part.unlink(missing_ok=True)
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
        _sync(path.parent)


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


def _sync(folder: Path) -> None:
    """Make the names in a folder durable; Windows does so by itself and cannot be asked to."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
