"""The shelf: fingerprints of all that a library keeps, whether it was ever sealed or not.

It is a SQLite file beside the library. It knows no library: whoever has one tells which assets
there are, and the shelf asks for the fingerprints of those that it does not know. What is no longer
there leaves it. It can be removed at any time, and is made anew when it is needed.
"""

from __future__ import annotations

import base64
import json
import os
import sqlite3
import threading
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vermilion.errors import StorageError
from vermilion.seal.originality import Index, Near, Prints

_VERSION = 3  # of the table and of what has fingerprints; another one is made anew
_TABLE = """
    DROP TABLE IF EXISTS kept;
    DROP TABLE IF EXISTS facts;
    CREATE TABLE kept (
        number INTEGER PRIMARY KEY AUTOINCREMENT, asset_id TEXT UNIQUE, sha256 TEXT, time TEXT,
        made_here INTEGER, parents TEXT, picture TEXT, sound TEXT, film TEXT, text TEXT
    );
    CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT);
"""
_ROW = "asset_id, sha256, time, made_here, parents, picture, sound, film, text"
_WAIT = 60.0  # seconds for another process that writes


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """An asset that a library keeps.

    Attributes:
        asset_id: its id.
        sha256: of its bytes.
        time: when it was kept, UTC, ISO 8601.
        made_here: whether a model made it here; else it was taken in.
        parents: ids of what it was made from.
    """

    asset_id: str
    sha256: str
    time: str
    made_here: bool
    parents: tuple[str, ...] = ()


class Shelf:
    """See the top of this file. For several threads and processes.

    Args:
        path: of the file; made when it is first written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._guard = threading.RLock()
        self._seen: tuple[int, int] | None = None
        self._forget()

    @property
    def state(self) -> str:
        """What `update` was told last; empty: it never was."""
        if not self.path.exists():
            return ""
        with self._open() as base:
            row = base.execute("SELECT value FROM facts WHERE name = 'state'").fetchone()
        return "" if row is None else str(row[0])

    @state.setter
    def state(self, state: str) -> None:
        with self._open() as base:
            base.execute("INSERT OR REPLACE INTO facts VALUES ('state', ?)", (state,))

    def ids(self) -> set[str]:
        """The ids of all assets on it."""
        self._refresh()
        return set(self._rows)

    def update(
        self,
        state: str,
        ids: Collection[str],
        describe: Callable[[str], tuple[Kept, Prints] | None],
        but: str = "",
    ) -> None:
        """Learn what is new, and forget what is gone.

        Args:
            state: of the library, told again by `state`.
            ids: of all its assets.
            describe: gives an asset and its fingerprints; None: it went meanwhile.
            but: id of an asset that is about to be put here by whoever calls.

        Raises:
            StorageError: the file cannot be written.
        """
        known = self.ids()
        gone = known.difference(ids)
        if gone:
            with self._open() as base:
                base.executemany("DELETE FROM kept WHERE asset_id = ?", [(one,) for one in gone])
        for asset_id in ids:
            if asset_id not in known and asset_id != but:
                described = describe(asset_id)
                if described is not None:
                    self.put(*described)
        self.state = state

    def put(self, kept: Kept, prints: Prints) -> None:
        """Put an asset here, with its fingerprints; all None where its kind has none.

        An asset never changes: one that is here already stays.
        """
        row = (
            kept.asset_id,
            kept.sha256,
            kept.time,
            int(kept.made_here),
            json.dumps(kept.parents),
            None if prints.picture is None else f"{prints.picture:016x}",
            None if prints.sound is None else base64.b64encode(prints.sound).decode(),
            None if prints.film is None else base64.b64encode(prints.film).decode(),
            None if prints.text is None else base64.b64encode(prints.text).decode(),
        )
        with self._open() as base:
            base.execute(
                f"INSERT OR IGNORE INTO kept ({_ROW}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608
                row,
            )

    def get(self, asset_id: str) -> Kept | None:
        """The asset of an id, if it is here."""
        self._refresh()
        return self._rows.get(asset_id)

    def same(self, sha256: str) -> list[Kept]:
        """The assets with these very bytes, the oldest first."""
        self._refresh()
        found = [self._rows[one] for one in self._by_sum.get(sha256, ())]
        return sorted(found, key=lambda kept: kept.time)

    def relatives(self, asset_id: str, parents: Iterable[str] = ()) -> dict[str, str]:
        """What an asset was made from and what was made from it, id to the words for it.

        Args:
            asset_id: of the asset.
            parents: what it was made from, where it is not here yet.
        """
        self._refresh()
        children: dict[str, list[str]] = {}
        for kept in self._rows.values():
            for parent in kept.parents:
                children.setdefault(parent, []).append(kept.asset_id)
        above = _reached(
            asset_id, lambda one: (*self._parents(one), *(parents if one == asset_id else ()))
        )
        below = _reached(asset_id, lambda one: children.get(one, ()))
        return {
            **dict.fromkeys(below, "which was made from it"),
            **dict.fromkeys(above, "which it was made from"),
        }

    def nearest(self, prints: Prints, within: float, count: int) -> list[tuple[Kept, Near]]:
        """The closest assets, the closest first.

        Args:
            prints: of what is asked about, of one kind.
            within: nothing that is further away, as the measure counts it.
            count: how many at most.
        """
        self._refresh()
        found = self._index.nearest(prints, count, within=within)
        return [(self._rows[near.name], near) for near in found]

    def _parents(self, asset_id: str) -> tuple[str, ...]:
        kept = self._rows.get(asset_id)
        return () if kept is None else kept.parents

    def _forget(self) -> None:
        self._rows: dict[str, Kept] = {}
        self._by_sum: dict[str, list[str]] = {}
        self._index, self._last = Index(), 0

    def _refresh(self) -> None:
        """Read what is new in the file, and all of it where something is gone."""
        with self._guard:
            try:
                facts = self.path.stat()
            except FileNotFoundError:
                self._forget()
                return
            seen = (facts.st_mtime_ns, facts.st_size)
            if seen == self._seen:
                return
            with self._open() as base:
                rows = self._after(base, self._last)
                (count,) = base.execute("SELECT count(*) FROM kept").fetchone()
                if len(self._rows) + len(rows) != count:
                    self._forget()
                    rows = self._after(base, 0)
            for number, *row in rows:
                self._learn(*row)
                self._last = number
            self._seen = seen

    def _after(self, base: sqlite3.Connection, number: int) -> list[Any]:
        query = f"SELECT number, {_ROW} FROM kept WHERE number > ? ORDER BY number"  # noqa: S608
        return base.execute(query, (number,)).fetchall()

    def _learn(
        self,
        asset_id: str,
        sha256: str,
        time: str,
        made_here: int,
        parents: str,
        picture: str | None,
        sound: str | None,
        film: str | None,
        text: str | None,
    ) -> None:
        self._rows[asset_id] = Kept(
            asset_id=asset_id,
            sha256=sha256,
            time=time,
            made_here=bool(made_here),
            parents=tuple(json.loads(parents)),
        )
        self._by_sum.setdefault(sha256, []).append(asset_id)
        prints = Prints(
            picture=None if picture is None else int(picture, 16),
            sound=None if sound is None else base64.b64decode(sound),
            film=None if film is None else base64.b64decode(film),
            text=None if text is None else base64.b64decode(text),
        )
        self._index.add(asset_id, prints)

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        """The file, for one piece of work that is done as a whole or not at all."""
        with self._guard:
            try:
                base = sqlite3.connect(self.path, timeout=_WAIT)
                try:
                    with base:
                        _prepare(base, self.path)
                        yield base
                finally:
                    base.close()
            except sqlite3.Error as error:
                raise StorageError(
                    f"{self.path}: the fingerprints of the library cannot be used ({error}); remove"
                    " the file, and it is made anew"
                ) from None


def _prepare(base: sqlite3.Connection, path: Path) -> None:
    (version,) = base.execute("PRAGMA user_version").fetchone()
    if version == _VERSION or not os.access(path, os.W_OK):
        return
    base.executescript(f"{_TABLE} PRAGMA user_version = {_VERSION};")


def _reached(start: str, beyond: Callable[[str], Iterable[str]]) -> set[str]:
    found, left = set[str](), [start]
    while left:
        for one in beyond(left.pop()):
            if one not in found and one != start:
                found.add(one)
                left.append(one)
    return found
