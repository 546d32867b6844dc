"""The disk: locks, files that are written whole, free space, and one word for its failures."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from vermilion.errors import StorageError

if sys.platform == "win32":
    import msvcrt

    def _try_lock(file: IO[bytes]) -> None:
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
else:
    import fcntl

    def _try_lock(file: IO[bytes]) -> None:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


_POLL_SECONDS = 0.02
_SPARE_BYTES = 32_000_000


@contextmanager
def exclusive(
    path: Path, on_wait: Callable[[], None] = lambda: None, patience: float | None = None
) -> Iterator[None]:
    """Hold a lock that every process on this machine respects; it ends with the process.

    Args:
        path: the lock file; made when missing and left behind, since deleting it would race.
        on_wait: called once when somebody else holds the lock.
        patience: seconds to wait for it; None: for ever.

    Raises:
        StorageError: somebody else held it all that time.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        until = None if patience is None else time.monotonic() + patience
        waiting = False
        while True:
            try:
                _try_lock(file)
                break
            except (BlockingIOError, PermissionError):
                if not waiting:
                    on_wait()
                waiting = True
                if until is not None and time.monotonic() > until:
                    raise StorageError(
                        f"{path.parent}: another process holds its lock; end that one, then try"
                        " again"
                    ) from None
                time.sleep(_POLL_SECONDS)
        yield


@contextmanager
def storage(folder: Path) -> Iterator[None]:
    """Turn the operating system's refusals into a StorageError that names the folder."""
    try:
        yield
    except OSError as error:
        where = error.filename or folder
        raise StorageError(
            f"{where}: {error.strerror or error}; free some space or allow access "
            "there, or set VERMILION_HOME to another folder"
        ) from error


def require_space(folder: Path, needed: int, what: str) -> None:
    """Refuse early what would fill the disk.

    Args:
        folder: where the bytes will go; it need not exist yet.
        needed: in bytes; a little is kept free on top.
        what: the model's name, for the message.

    Raises:
        StorageError: there is not enough room.
    """
    there = next(parent for parent in (folder, *folder.parents) if parent.exists())
    free = shutil.disk_usage(there).free
    if free < needed + _SPARE_BYTES:
        raise StorageError(
            f"{what} needs {human_size(needed)} in {folder} but {human_size(free)} are free; "
            "free some space or set VERMILION_HOME to a folder on another disk"
        )


def write_atomically(path: Path, content: bytes, mode: int | None = None) -> None:
    """Write a file so that a crash leaves the old one, the new one, or none.

    Args:
        path: of the file; its folder exists. One process at a time writes it.
        content: its bytes.
        mode: its rights, such as 0o600; None: the usual ones.
    """
    part = path.with_name(path.name + ".part")
    try:
        part.unlink(missing_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
        descriptor = os.open(part, flags, 0o666 if mode is None else mode)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
        sync(path.parent)
    except OSError:
        part.unlink(missing_ok=True)
        raise


def sync(path: Path) -> None:
    """Make a file, or the names in a folder, durable; of folders Windows does so by itself."""
    if os.name == "nt" and path.is_dir():
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def human_size(size: int | None) -> str:
    """Bytes for people, in decimal units: "93 MB", "1.5 GB"; None is "unknown size"."""
    if size is None:
        return "unknown size"
    if size < 1000:
        return f"{size} bytes"
    value, unit = size / 1000, "kB"
    for larger in ("MB", "GB", "TB"):
        if value < 999.5:
            break
        value, unit = value / 1000, larger
    return f"{value:.1f} {unit}" if value < 9.95 else f"{value:.0f} {unit}"
