"""Where the bytes of pictures are fetched from: files, tar archives, Parquet; none is unpacked."""

from __future__ import annotations

import os
import re
import stat
from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Any, Protocol

from vermilion.data.pictures.rows import Place
from vermilion.errors import InputError, MissingExtraError

LARGEST_FILE = 500_000_000  # bytes of one picture
# A path below a folder, without a way up and without drives.
_ORDINARY = re.compile(r"(?!/)(?:(?!\.{1,2}(?:/|$))[^/\\:]+(?:/(?=[^/])|$))+")
_GROUPS = 2  # row groups of Parquet that are held


class Store(Protocol):
    """Gives the bytes of a picture, from any thread."""

    def read(self, name: str, place: Place) -> bytes:
        """All bytes of a picture.

        Raises:
            OSError: they cannot be read.
            InputError: there are none, or too many.
        """

    def head(self, name: str, place: Place, size: int) -> bytes:
        """At least the first `size` bytes, or all where there are fewer."""


class FileStore:
    """Pictures that are files, named by their paths below a folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def read(self, name: str, place: Place) -> bytes:
        """All bytes of a picture; `place` is not used."""
        return self.head(name, place, LARGEST_FILE + 1)

    def head(self, name: str, place: Place, size: int) -> bytes:
        """The first bytes of a picture."""
        with (self.root / name).open("rb") as file:
            return _limited(file.read(size))


class TarStore:
    """Pictures within tar archives: (number of the archive, offset, length)."""

    def __init__(self, shards: Sequence[Path]) -> None:
        self.shards = tuple(shards)

    def read(self, name: str, place: Place) -> bytes:
        """All bytes of a picture."""
        return self.head(name, place, place[2])

    def head(self, name: str, place: Place, size: int) -> bytes:
        """The first bytes of a picture."""
        shard, offset, length = place
        with self.shards[shard].open("rb") as file:
            file.seek(offset)
            return _limited(file.read(min(size, length)))


class ParquetStore:
    """Pictures in a column of Parquet: (number of the file, row group, row within it).

    A row group is read whole and the last ones are held, so that reading in order is cheap.
    """

    def __init__(self, files: Sequence[Path], column: str) -> None:
        self.files, self.column = tuple(files), column
        self._held: OrderedDict[tuple[int, int], Any] = OrderedDict()
        self._lock = Lock()

    def read(self, name: str, place: Place) -> bytes:
        """All bytes of a picture."""
        file, group, row = place
        with self._lock:
            rows = self._held.get((file, group))
            if rows is None:
                rows = opened_parquet(self.files[file]).read_row_group(
                    group, columns=[self.column]
                )[self.column]
                self._held[file, group] = rows
            self._held.move_to_end((file, group))
            while len(self._held) > _GROUPS:
                self._held.popitem(last=False)
        value = rows[row].as_py()
        content = value.get("bytes") if isinstance(value, dict) else value
        if not isinstance(content, bytes) or not content:
            raise InputError("the row has no picture in it")
        return _limited(content)

    def head(self, name: str, place: Place, size: int) -> bytes:
        """All bytes of a picture: parts of a row cannot be read."""
        return self.read(name, place)


def opened_parquet(file: Path) -> Any:
    """A pyarrow.parquet.ParquetFile.

    Raises:
        MissingExtraError: pyarrow is not installed.
        InputError: the file is not Parquet.
    """
    try:
        from pyarrow import ArrowInvalid, parquet  # noqa: PLC0415 - an extra of its own
    except ImportError:
        raise MissingExtraError("reading Parquet", "train") from None
    try:
        return parquet.ParquetFile(file)
    except ArrowInvalid as error:
        raise InputError(f"data: {file} is not Parquet ({error}); write it anew") from None


def _limited(content: bytes) -> bytes:
    if len(content) > LARGEST_FILE:
        raise InputError(f"the file has more than {LARGEST_FILE // 1_000_000} MB")
    return content


def confined(root: Path) -> Callable[[str], str | None]:
    """A function that gives a path's name below a folder, or None where it leads out of it.

    Links are followed. The function says nothing of whether the file is there.

    Args:
        root: the folder.
    """
    base = Path(os.path.realpath(root))

    @lru_cache(maxsize=4096)
    def real(folder: Path) -> Path:
        return Path(os.path.realpath(folder))

    @lru_cache(maxsize=4096)
    def plain(folder: str) -> bool:
        return real(base / folder).is_relative_to(base)

    def name(path: str) -> str | None:
        if "\0" in path:
            return None
        if "/" not in path:  # as it is written on Windows
            path = path.replace("\\", "/")
        # Nearly all paths are such, and this is five times faster.
        if _ORDINARY.fullmatch(path) and plain(path.rpartition("/")[0]) and not _link(base, path):
            return path
        normal = Path(os.path.normpath(base / path))
        target = real(normal.parent) / normal.name
        if target.is_symlink():
            target = Path(os.path.realpath(target))
        if not target.is_relative_to(base) or target == base:
            return None
        # Not what a link leads to: the name is what people see, and what splits go by.
        named = normal if normal.is_relative_to(base) else target
        return named.relative_to(base).as_posix()

    return name


def _link(base: Path, path: str) -> bool:
    try:
        return stat.S_ISLNK(os.lstat(f"{base}/{path}").st_mode)
    except (OSError, ValueError):
        return False


def name_below(root: Path, file: Path) -> str:
    """A file's path below a folder, or its name where it lies elsewhere."""
    return file.relative_to(root).as_posix() if file.is_relative_to(root) else file.name
