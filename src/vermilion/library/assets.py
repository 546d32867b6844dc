"""The library itself: what is kept, what can be asked of it, what can be done to it."""

from __future__ import annotations

import builtins
import hashlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from sqlalchemy import Connection, RowMapping, delete, insert, select, update

from vermilion.errors import StorageError
from vermilion.library import lineage, search, vectors
from vermilion.library.blobs import Blobs
from vermilion.library.db import Database, asset, asset_parent
from vermilion.library.faults import LibraryBusyError, storage_errors
from vermilion.library.rows import (
    ASSETS,
    blob_of,
    is_used,
    new_id,
    new_row,
    numbered,
    parent_ids,
    resolve,
    storable,
    to_asset,
    whole,
)
from vermilion.types import Asset, Hit


class Library:
    """A folder that keeps finished assets: `library.db` and `files/`.

    Made by `Library.open`. It may be used from several threads, and several processes may
    have the same folder open. Every method raises StorageError, with one sentence on the
    remedy, when the disk or the database refuses.
    """

    def __init__(self, database: Database, blobs: Blobs) -> None:
        self._database = database
        self._blobs = blobs

    @classmethod
    def open(cls, directory: Path) -> Library:
        """Open a library, and make it if there is none.

        What a program that died left half-done is swept away.

        Args:
            directory: the library's own folder.

        Raises:
            StorageError: the folder cannot be written, its database is damaged, or a newer
                version of the program wrote it.
        """
        # Absolute, so that an asset's path stays right when the working folder changes.
        directory = directory.absolute()
        blobs = Blobs(directory / "files")
        with storage_errors(directory):
            blobs.prepare()
        library = cls(Database(directory / "library.db"), blobs)
        try:
            library._database.migrate()
            library._sweep(wait=False)
        except BaseException:
            library.close()
            raise
        return library

    def close(self) -> None:
        """Close the database. It may be called more than once."""
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def keep(
        self,
        content: bytes,
        *,
        kind: str,
        media_type: str,
        suffix: str,
        text: str,
        recipe: Mapping[str, Any],
        notes: Mapping[str, Any] | None = None,
        parents: Sequence[str] = (),
        set_id: str | None = None,
        step: str | None = None,
        index: int = 0,
        licence: str = "",
    ) -> Asset:
        """Keep a finished file. When this returns, it survives a crash and a power failure.

        Args:
            content: the file's bytes; the same bytes kept twice share one file.
            kind: "text", "speech", ...
            media_type: of the file, e.g. "audio/wav".
            suffix: of the file's name, without a dot; letters and digits.
            text: the words in it, which it is found by.
            recipe: all that is needed to make it again; recipe["prompt"]["text"] is
                searched too. JSON values only, no NaN.
            notes: what was observed while it was made. JSON values only, no NaN.
            parents: whole ids of the assets that it was made from.
            set_id: which finished set it belongs to, if any.
            step: name of the recipe's step, if any.
            index: its number among that step's results, 0 or more.
            licence: of the model that made it, as an SPDX expression.

        Raises:
            InputError: a value cannot be kept as it is.
        """
        row = new_row(
            content,
            kind=kind,
            media_type=media_type,
            suffix=suffix,
            text=text,
            recipe=recipe,
            notes={} if notes is None else notes,
            set_id=set_id,
            step=step,
            index=index,
            licence=licence,
        )
        parents = parent_ids(parents)
        try:
            with self._database.write() as connection:
                marker = self._blobs.place(blob_of(row), content)
                kept = self._insert(connection, row, parents, recipe)
        except BaseException:
            self._sweep(wait=False)
            raise
        with storage_errors(marker):
            marker.unlink(missing_ok=True)
        return kept

    def get(self, ref: str) -> Asset:
        """The asset of an id, or of any beginning of an id that no other asset shares.

        Raises:
            InputError: several ids begin so.
            NotFoundError: none does.
        """
        with self._database.read() as connection:
            return self._asset(resolve(connection, ref))

    def list(
        self,
        kind: str | None = None,
        set_id: str | None = None,
        licence: str | None = None,
        sha256: str | None = None,
        limit: int = 50,
        offset: int = 0,
    ) -> builtins.list[Asset]:
        """Assets, the newest first.

        Args:
            kind: only those of this kind.
            set_id: only those of this set.
            licence: only those of models under this licence, an SPDX expression.
            sha256: only those with these bytes, in lower-case hex.
            limit: how many at most, 1 or more.
            offset: how many to leave out at the beginning, 0 or more.

        Raises:
            InputError: limit or offset is out of its range, or a name is no valid text.
        """
        newest = ASSETS.order_by(asset.c.number.desc())
        newest = newest.limit(whole("limit", limit, low=1)).offset(whole("offset", offset, low=0))
        if kind is not None:
            newest = newest.where(asset.c.kind == storable("kind", kind))
        if set_id is not None:
            newest = newest.where(asset.c.set_id == storable("set_id", set_id))
        if licence is not None:
            newest = newest.where(asset.c.licence == storable("licence", licence))
        if sha256 is not None:
            newest = newest.where(asset.c.sha256 == storable("sha256", sha256))
        with self._database.read() as connection:
            return [self._asset(row) for row in connection.execute(newest).mappings()]

    def ids(self) -> builtins.list[str]:
        """The ids of all assets, the oldest first."""
        with self._database.read() as connection:
            return builtins.list(connection.scalars(select(asset.c.id).order_by(asset.c.number)))

    def find(self, query: str, kind: str | None = None, limit: int = 20) -> builtins.list[Hit]:
        """Assets whose text or prompt contains every word of a query, the best first.

        Args:
            query: words in any language; the last may be the beginning of a word. Signs have
                no special meaning.
            kind: only assets of this kind.
            limit: how many at most, 1 or more.

        Raises:
            InputError: the query is empty, or limit is out of its range.
        """
        limit = whole("limit", limit, low=1)
        with self._database.read() as connection:
            return [
                Hit(asset=self._asset(row), score=score, reason=reason)
                for row, score, reason in search.find(connection, query, kind, limit)
            ]

    def put_vectors(self, encoder: str, found: Mapping[str, vectors.Vector | None]) -> None:
        """Keep vectors of length 1 by asset's id, (C,); None: the asset cannot be read.

        Args:
            encoder: the name under which they belong together.
            found: those of assets that were removed meanwhile are passed over.
        """
        with self._database.write() as connection:
            vectors.put(connection, encoder, found)

    def without_vectors(
        self, encoder: str, kind: str, limit: int = 64
    ) -> tuple[int, builtins.list[Asset]]:
        """How many assets of a kind have no vector of an encoder, and the newest of them."""
        limit = whole("limit", limit, low=0)
        with self._database.read() as connection:
            count, rows = vectors.lacking(connection, encoder, kind, limit)
            return count, [self._asset(row) for row in rows]

    def forget_vectors(self, *, but: str) -> None:
        """Remove all vectors but those of one encoder."""
        with self._database.write() as connection:
            vectors.forget_others(connection, but)

    def nearest(
        self, encoder: str, vector: vectors.Vector, kind: str, limit: int = 20
    ) -> builtins.list[tuple[Asset, float]]:
        """Assets whose vectors lie closest to one, (C,) of length 1, and the cosines.

        Raises:
            InputError: the vectors of that encoder have another size, or limit is out of range.
        """
        limit = whole("limit", limit, low=1)
        with self._database.read() as connection:
            rows = vectors.nearest(connection, encoder, vector, kind, limit)
            return [(self._asset(row), score) for row, score in rows]

    def lineage(self, ref: str) -> lineage.Lineage:
        """What an asset was made from, and what was made from it.

        Raises:
            InputError, NotFoundError: as `get`.
        """
        with self._database.read() as connection:
            start = self._asset(resolve(connection, ref))
            return lineage.trace(connection, start, self._asset)

    def read(self, asset: Asset) -> bytes:
        """An asset's bytes, checked to be those that were kept.

        Raises:
            StorageError: the file is missing or was changed.
        """
        with storage_errors(asset.path):
            content = asset.path.read_bytes()
        if hashlib.sha256(content).hexdigest() != asset.sha256:
            raise StorageError(
                f"library: {asset.path}: it is not what was kept (its SHA-256 differs); "
                "restore it from a backup"
            )
        return content

    def rate(self, ref: str, rating: int | None) -> Asset:
        """Rate an asset, 1 to 5, or take its rating back with None; returns it as it is now.

        Raises:
            InputError: the rating is out of its range, or the id as in `get`.
            NotFoundError: as `get`.
        """
        if rating is not None:
            whole("rating", rating, low=1, high=5)
        with self._database.write() as connection:
            number = resolve(connection, ref)["number"]
            rated = update(asset).where(asset.c.number == number).values(rating=rating)
            connection.execute(rated)
            return self._asset(numbered(connection, number))

    def remove(self, ref: str) -> Asset:
        """Remove an asset, and its file unless another asset shares it.

        Assets that were made from it stay, and still name it as their parent.

        Returns:
            The asset as it was.

        Raises:
            InputError, NotFoundError: as `get`.
        """
        with self._database.write() as connection:
            row = resolve(connection, ref)
            self._blobs.mark(blob_of(row))
            search.forget(connection, row["number"])
            connection.execute(delete(asset).where(asset.c.number == row["number"]))
        self._sweep(wait=True)
        return self._asset(row)

    def _asset(self, row: RowMapping) -> Asset:
        return to_asset(row, self._blobs.path(blob_of(row)))

    def _insert(
        self,
        connection: Connection,
        row: dict[str, Any],
        parents: Sequence[str],
        recipe: Mapping[str, Any],
    ) -> Asset:
        row["id"] = new_id(connection)
        row["created_at"] = datetime.now(UTC).isoformat(timespec="microseconds")
        (number,) = connection.execute(insert(asset).values(row).returning(asset.c.number)).one()
        if parents:
            links = [
                {"asset_id": row["id"], "position": position, "parent_id": parent}
                for position, parent in enumerate(parents)
            ]
            connection.execute(insert(asset_parent), links)
        search.index(connection, number, row["text"], recipe)
        return self._asset(numbered(connection, number))

    def _sweep(self, *, wait: bool) -> None:
        with storage_errors(self._blobs.folder):
            if not self._blobs.has_leftovers():
                return
        try:
            with self._database.write(wait=wait) as connection:
                self._blobs.sweep(lambda blob: is_used(connection, blob))
        except LibraryBusyError:
            # Whoever holds the lock is alive, and what lies there may be theirs. Nothing is
            # lost or shown by leaving it: the next start sweeps again.
            return
