"""Vectors of assets, by which they are found that no word names.

The library knows no model: whoever makes vectors says under which name they belong together. Only
those of one name can be compared. An asset whose vector is empty could not be read.

N assets, C features of a vector.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, RowMapping, and_, delete, func, select
from sqlalchemy.dialects.sqlite import insert

from vermilion.errors import InputError
from vermilion.library.db import asset, asset_vector
from vermilion.library.rows import ASSETS, storable

Vector = NDArray[np.float32]
_STORED = np.dtype("<f2")


def put(connection: Connection, encoder: str, vectors: Mapping[str, Vector | None]) -> None:
    """Keep vectors by asset's id; None: it cannot be read. What was removed meanwhile is passed
    over.
    """
    if not vectors:
        return
    there = set(connection.scalars(select(asset.c.id).where(asset.c.id.in_(list(vectors)))))
    rows = [
        {"encoder": encoder, "asset_id": ref, "vector": b"" if v is None else _bytes(v)}
        for ref, v in vectors.items()
        if ref in there
    ]
    if rows:
        statement = insert(asset_vector)
        update = {"vector": statement.excluded.vector}
        connection.execute(statement.on_conflict_do_update(set_=update), rows)


def lacking(
    connection: Connection, encoder: str, kind: str, limit: int
) -> tuple[int, Sequence[RowMapping]]:
    """How many assets of a kind have no vector yet, and rows of `ASSETS` of the newest of them."""
    has = and_(asset_vector.c.asset_id == asset.c.id, asset_vector.c.encoder == encoder)
    without = select(asset_vector.c.asset_id).where(has).exists()
    wanted = and_(asset.c.kind == storable("kind", kind), ~without)
    count = connection.scalar(select(func.count()).select_from(asset).where(wanted)) or 0
    newest = ASSETS.where(wanted).order_by(asset.c.number.desc()).limit(limit)
    return count, connection.execute(newest).mappings().all()


def forget_others(connection: Connection, encoder: str) -> None:
    """Remove all vectors but those of one name."""
    connection.execute(delete(asset_vector).where(asset_vector.c.encoder != encoder))


def nearest(
    connection: Connection, encoder: str, vector: Vector, kind: str, limit: int
) -> Iterator[tuple[RowMapping, float]]:
    """Assets whose vectors have the highest cosines with one, and these.

    Args:
        connection: to the library.
        encoder: under whose name the vectors were kept.
        vector: (C,), of length 1.
        kind: of the assets.
        limit: how many at most.

    Raises:
        InputError: the kept vectors are of another size.
    """
    kept = connection.execute(
        select(asset_vector.c.asset_id, asset_vector.c.vector)
        .join(asset, asset.c.id == asset_vector.c.asset_id)
        .where(asset_vector.c.encoder == encoder, asset_vector.c.vector != b"")
        .where(asset.c.kind == storable("kind", kind))
        .order_by(asset.c.number.desc())
    ).all()
    if not kept:
        return
    if any(len(row.vector) != len(vector) * _STORED.itemsize for row in kept):
        raise InputError(f"encoder: the vectors of {encoder} have another size; index them again")
    everyone = np.frombuffer(b"".join(row.vector for row in kept), _STORED)
    scores = everyone.reshape(len(kept), -1).astype(np.float32) @ vector  # (N,)
    best = np.argsort(-scores, kind="stable")[:limit]
    found = {kept[n].asset_id: float(scores[n]) for n in best.tolist()}
    rows = connection.execute(ASSETS.where(asset.c.id.in_(list(found)))).mappings()
    by_id = {row["id"]: row for row in rows}
    for ref, score in found.items():
        yield by_id[ref], score


def _bytes(vector: Vector) -> bytes:
    if vector.ndim != 1 or not np.isfinite(vector).all():
        raise InputError("vector: must be a row of finite numbers")
    return np.ascontiguousarray(vector, _STORED).tobytes()
