"""Finding by words and by what pictures show.

    query ─words→ hits ┐
          ─vector→ hits ┴→ ranked together

Vectors of pictures are kept in the library under the name of the model that made them. Another
model finds none of its own there and makes them anew, the newest pictures first; a run that is
broken off goes on where it was. Without such a model words alone are looked for.

C features of a vector.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from vermilion.disk import exclusive
from vermilion.errors import InputError, MissingExtraError, StorageError
from vermilion.library import Library
from vermilion.line.brief import language_of
from vermilion.line.samples import pixels_of
from vermilion.line.sight import encoder_name, open_encoder
from vermilion.runtime.cards import Card
from vermilion.runtime.engines import PictureEncoder
from vermilion.runtime.loader import Loader
from vermilion.types import Asset, Brief, Hit

PICTURE = "picture"
AT_ONCE = 16
_SOON = 32  # pictures that are looked at within a search; more are left to `index_pictures`
# Cormack, Clarke and Büttcher 2009: a hit at place r of a list counts 1 / (60 + r).
_DAMPING = 60

OnPictures = Callable[[int, int], None]
"""Told how many pictures are looked at, and how many there are to look at."""


def vectors_name(card: Card) -> str:
    """The name under which a model's vectors are kept: other weights are another model."""
    return f"{card.name}:{card.weights_sha256[:16]}"


def find(
    library: Library, loader: Loader, query: str, kind: str | None = None, limit: int = 20
) -> tuple[list[Hit], int]:
    """Assets that fit a query by their words, and pictures that fit it by what they show.

    Args:
        library: where they are.
        loader: where models are.
        query: words in any language.
        kind: only assets of this kind.
        limit: how many at most, 1 or more.

    Returns:
        The best first, and how many pictures nobody has looked at yet.

    Raises:
        InputError: the query is empty, or limit is out of its range.
        ModelError: the model that knows pictures is broken.
    """
    by_words = library.find(query, kind=kind, limit=limit)
    if kind not in (None, PICTURE) or encoder_name(loader) is None:
        return by_words, 0
    if not library.list(kind=PICTURE, limit=1):
        return by_words, 0
    card, engine = open_encoder(loader)
    if card.languages and language_of(Brief(subject=query)) not in card.languages:
        return by_words, 0
    missing = _look_at(library, card, engine, most=_SOON)
    (vector,) = engine.embed([query])  # (C,)
    by_sight = [
        Hit(asset=asset, score=score, reason=f"looks like it ({score:.2f})")
        for asset, score in library.nearest(vectors_name(card), vector, PICTURE, limit)
    ]
    return merged([by_words, by_sight], limit), missing


def merged(lists: Sequence[Sequence[Hit]], limit: int) -> list[Hit]:
    """Several lists of hits as one, by reciprocal rank fusion; reasons are joined."""
    scores: dict[str, float] = {}
    reasons: dict[str, list[str]] = {}
    assets: dict[str, Asset] = {}
    for hits in lists:
        for place, hit in enumerate(hits, 1):
            ref = hit.asset.id
            scores[ref] = scores.get(ref, 0.0) + 1 / (_DAMPING + place)
            reasons.setdefault(ref, []).append(hit.reason)
            assets[ref] = hit.asset
    best = sorted(scores, key=lambda ref: -scores[ref])[:limit]
    return [
        Hit(asset=assets[ref], score=scores[ref], reason="; ".join(reasons[ref])) for ref in best
    ]


def index_pictures(
    library: Library, loader: Loader, on_pictures: OnPictures | None = None
) -> tuple[str, int]:
    """Look at all pictures that the model has not seen yet, and forget what others have seen.

    Another process that does the same is waited for.

    Args:
        library: where they are.
        loader: where models are.
        on_pictures: told how far it is.

    Returns:
        The model's name, and how many pictures it has looked at now.

    Raises:
        NotFoundError: no model that knows pictures is here.
        ModelError: it is broken.
    """
    card, engine = open_encoder(loader)
    folder = loader.settings.library_dir
    with exclusive(folder / "index.lock"):
        total, _ = library.without_vectors(vectors_name(card), PICTURE, limit=0)
        left = total
        while left:
            left = _look_at(library, card, engine, most=AT_ONCE)
            if on_pictures is not None:
                on_pictures(total - left, total)
        library.forget_vectors(but=vectors_name(card))
    return card.name, total


def _look_at(library: Library, card: Card, engine: PictureEncoder, most: int) -> int:
    """Make and keep vectors of some pictures; how many are left."""
    count, assets = library.without_vectors(vectors_name(card), PICTURE, limit=most)
    found: dict[str, NDArray[np.float32] | None] = {}
    for asset in assets:
        try:
            found[asset.id] = engine.embed_pictures([pixels_of(library, asset)])[0]
        except (InputError, StorageError, MissingExtraError):
            found[asset.id] = None  # whoever opens it is told; a search goes on without it
    library.put_vectors(vectors_name(card), found)
    return count - len(assets)
