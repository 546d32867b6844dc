"""What a disk or a database refuses to do, said in one sentence that names the remedy."""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy.exc import DBAPIError, IntegrityError

from vermilion.errors import StorageError

_ELSEWHERE = "set VERMILION_HOME to a folder"

_FULL = f"the disk is full; free some room or {_ELSEWHERE} on another disk"
_READ_ONLY = f"it cannot be written; give yourself permission or {_ELSEWHERE} that can be written"
_NO_FOLDER = f"a file is where a folder has to be; move that file away or {_ELSEWHERE} elsewhere"
_MISSING = "it is missing; restore it from a backup"
_DAMAGED = (
    "it is damaged or is no database of Vermilion; restore it from a backup, or move it away "
    "to start an empty library"
)
_BUSY = "another program has kept it locked for too long; wait until that is done, or stop it"

_BY_ERRNO = {
    errno.ENOSPC: _FULL,
    errno.EDQUOT: _FULL,
    errno.EACCES: _READ_ONLY,
    errno.EPERM: _READ_ONLY,
    errno.EROFS: _READ_ONLY,
    errno.ENOTDIR: _NO_FOLDER,
    errno.EEXIST: _NO_FOLDER,
    errno.ENOENT: _MISSING,
}

_BY_SQLITE_CODE = {
    sqlite3.SQLITE_FULL: _FULL,
    sqlite3.SQLITE_READONLY: _READ_ONLY,
    sqlite3.SQLITE_PERM: _READ_ONLY,
    sqlite3.SQLITE_CANTOPEN: _READ_ONLY,
    sqlite3.SQLITE_NOTADB: _DAMAGED,
    sqlite3.SQLITE_CORRUPT: _DAMAGED,
}


class LibraryBusyError(StorageError):
    """Another program is writing and did not finish within the time that was allowed."""


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turn what the system and SQLite raise inside the block into a StorageError.

    Args:
        path: named in the message, unless the system names a file itself.

    Raises:
        LibraryBusyError: another program holds the database's lock.
        StorageError: anything else that the disk or the database refused.
    """
    try:
        yield
    except IntegrityError:
        raise  # a fault in this program, which must not be blamed on the disk
    except DBAPIError as error:
        raise _from_database(error, path) from error
    except OSError as error:
        what = _BY_ERRNO.get(error.errno or 0, f"{error.strerror or error}; check the disk")
        raise StorageError(f"library: {error.filename or path}: {what}") from error


def _from_database(error: DBAPIError, path: Path) -> StorageError:
    # The low byte is the error, the rest of the code says where it came from.
    code = getattr(error.orig, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return LibraryBusyError(f"library: {path}: {_BUSY}")
    what = _BY_SQLITE_CODE.get(code, f"{error.orig}; check the disk or restore it from a backup")
    return StorageError(f"library: {path}: {what}")
