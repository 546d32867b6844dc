"""What an asset was made from, and what was made from it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import itemgetter

from sqlalchemy import ColumnElement, Connection, RowMapping, select

from vermilion.library.db import asset, asset_parent
from vermilion.library.rows import ASSETS
from vermilion.types import Asset


@dataclass(frozen=True, slots=True, kw_only=True)
class Relative:
    """An ancestor or a descendant, with those beyond it in the same direction.

    Attributes:
        id: of the asset, also when it was removed.
        asset: None when it was removed.
        beyond: its parents in their order, or its children, the oldest first. An asset that
            is reached in several ways stands in each place, but only the one nearest to the
            start has those beyond it, so that the tree stays as small as the family.
    """

    id: str
    asset: Asset | None
    beyond: tuple[Relative, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Lineage:
    """An asset between the trees of its ancestors and of its descendants."""

    asset: Asset
    ancestors: tuple[Relative, ...]
    descendants: tuple[Relative, ...]


def trace(connection: Connection, start: Asset, to_asset: Callable[[RowMapping], Asset]) -> Lineage:
    """The lineage of an asset; `to_asset` reads a row of `ASSETS`."""
    child, parent = asset_parent.c.asset_id, asset_parent.c.parent_id
    up = sorted(_links(connection, start.id, child, parent), key=itemgetter("position"))
    down = sorted(_links(connection, start.id, parent, child), key=itemgetter("number"))
    return Lineage(
        asset=start,
        ancestors=_tree(start.id, up, to_asset),
        descendants=_tree(start.id, down, to_asset),
    )


def _links(
    connection: Connection, start: str, near: ColumnElement[str], far: ColumnElement[str]
) -> Sequence[RowMapping]:
    """Every step from `near` to `far` that can be reached, with the asset at its far end."""
    step = select(near.label("near"), far.label("far"), asset_parent.c.position)
    first = step.where(near == start).cte("link", recursive=True)
    link = first.union(step.where(near == first.c.far))
    found = ASSETS.add_columns(link.c.near, link.c.far, link.c.position).select_from(
        link.outerjoin(asset, asset.c.id == link.c.far)
    )
    return connection.execute(found).mappings().all()


def _tree(
    start: str, rows: Sequence[RowMapping], to_asset: Callable[[RowMapping], Asset]
) -> tuple[Relative, ...]:
    """Breadth first and without recursion: a lineage may be longer than Python's stack."""
    assets = {row["far"]: None if row["id"] is None else to_asset(row) for row in rows}
    # Dictionaries as ordered sets: an asset may be the same one's parent twice.
    links: dict[str, dict[str, None]] = {}
    for row in rows:
        links.setdefault(row["near"], {})[row["far"]] = None

    order = [start]
    first_at: dict[str, str] = {}
    for near in order:
        for far in links.get(near, ()):
            if far not in first_at:
                first_at[far] = near
                order.append(far)

    beyond: dict[str, tuple[Relative, ...]] = {}
    for near in reversed(order):
        beyond[near] = tuple(
            Relative(id=far, asset=assets[far], beyond=beyond[far] if first_at[far] == near else ())
            for far in links.get(near, ())
        )
    return beyond[start]
