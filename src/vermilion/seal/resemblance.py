"""What a content resembles: what was sealed or is kept here, and what a model was trained on.

fingerprints → ledger, shelf, training set's index → the closest other thing, in words
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol

from vermilion.seal.ledger import SAME, Match
from vermilion.seal.originality import Index, Measure, Near, Prints, score
from vermilion.seal.shelf import Shelf

Where = Literal["sealed", "kept", "taken-in", "training-set"]
_MOST = 50
_WORDS: dict[Where, str] = {
    "sealed": "asset {name}, which was sealed here",
    "kept": "asset {name}, which was made here and kept",
    "taken-in": "asset {name}, which was taken in and kept",
    "training-set": "{name} of the training set of {model}",
}


class Known(Protocol):
    """What is known beside the ledger. `line.known` has it, since it needs library and models."""

    def shelf(self, but: str = "") -> Shelf | None:
        """Fingerprints of all that the library keeps, as it is now; None: there is no library.

        Args:
            but: id of an asset that need not be looked at for it.
        """

    def trained_on(self, model: str) -> Index | None:
        """Fingerprints of what a model was trained on; None: they are not known."""

    def keep(self, asset_id: str, prints: Prints) -> None:
        """Learn the fingerprints of an asset of the library, which somebody has just made."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resemblance:
    """Something that a content is close to.

    Attributes:
        name: the asset's id, or the name of a file of the training set.
        where: "sealed": it was sealed here; "kept" or "taken-in": made here or taken in, and in the
            library; "training-set": a model was trained on it.
        measure: which fingerprints were compared.
        distance: between them, as `originality.Near`.
        score: of originality, 0 to 1.
        model: whose training set it is.
        relation: how it is related, such as "which it was made from"; empty: not at all.
    """

    name: str
    where: Where
    measure: Measure
    distance: float
    score: float
    model: str = ""
    relation: str = ""

    def __str__(self) -> str:
        """In words, as a part of a sentence."""
        how = "a copy of" if self.score == 0 else "close to"
        return f"{how} {self.what} ({self.measure}, originality {self.score:.2f})"

    @property
    def what(self) -> str:
        """What it is close to, in words."""
        if self.relation:
            return f"asset {self.name}, {self.relation}"
        return _WORDS[self.where].format(name=self.name, model=self.model)

    def facts(self) -> dict[str, Any]:
        """For machines, JSON values only."""
        name = "file" if self.where == "training-set" else "asset_id"
        told: dict[str, Any] = {
            name: self.name,
            "where": self.where,
            "measure": self.measure,
            "distance": self.distance,
            "score": self.score,
        }
        more = {"model": self.model, "relation": self.relation}
        return told | {key: value for key, value in more.items() if value}


def sealed(matches: Iterable[Match], originals: Collection[str]) -> Iterator[Resemblance]:
    """What the ledger found by fingerprints.

    Args:
        matches: what it found.
        originals: SHA-256 of unsealed files whose assets do not count: one seed gives one result.
    """
    for match in matches:
        measure, distance = match.measure, match.distance
        if measure == "sha256" or measure == "asset_id":
            continue
        if match.entry.original_sha256 in originals:
            continue
        yield Resemblance(
            name=match.entry.asset_id,
            where="sealed",
            measure=measure,
            distance=distance,
            score=score(measure, distance),
        )


def kept(
    shelf: Shelf | None, prints: Prints, originals: Collection[str], before: str = ""
) -> Iterator[Resemblance]:
    """What the library keeps.

    Args:
        shelf: None: there is none.
        prints: of the content.
        originals: as `sealed`.
        before: only what was kept before this time, UTC in ISO 8601; empty: all.
    """
    for asset, near in () if shelf is None else _near(prints, shelf.nearest):
        if asset.sha256 in originals or (before and asset.time >= before):
            continue
        yield _of(near, "kept" if asset.made_here else "taken-in")


def trained_on(index: Index | None, prints: Prints, model: str) -> Iterator[Resemblance]:
    """What a model was trained on; None: it is not known."""
    if index is None:
        return
    for measure, limit in SAME.items():
        one = Prints(**{measure: getattr(prints, measure)})
        for near in index.nearest(one, 1, within=limit):
            yield _of(near, "training-set", model)


def _of(near: Near, where: Where, model: str = "") -> Resemblance:
    return Resemblance(
        name=near.name,
        where=where,
        measure=near.measure,
        distance=near.distance,
        score=near.score,
        model=model,
    )


def _near(prints: Prints, nearest: Callable[[Prints, float, int], list[Any]]) -> Iterator[Any]:
    for measure, limit in SAME.items():
        value = getattr(prints, measure)
        if value is not None:
            yield from nearest(Prints(**{measure: value}), limit, _MOST)


def closest(
    found: Sequence[Resemblance], own: Collection[str], family: dict[str, str]
) -> tuple[Resemblance | None, Resemblance | None]:
    """The closest thing that is no relative, and the closest that is.

    Args:
        found: of several places; what was sealed goes before the same thing kept.
        own: ids of the asset itself.
        family: ids of its relatives, with the words for what they are.
    """
    others: list[Resemblance] = []
    relatives: list[Resemblance] = []
    for one in found:
        is_asset = one.where != "training-set"
        if is_asset and one.name in own:
            continue
        if is_asset and one.name in family:
            relatives.append(replace(one, relation=family[one.name]))
        else:
            others.append(one)
    return _least(others), _least(relatives)


def _least(found: Sequence[Resemblance]) -> Resemblance | None:
    return min(found, key=lambda one: (one.score, one.distance), default=None)
