"""What the line gives back, and whom it tells on the way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vermilion.types import Asset, Brief


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One thing of a finished set.

    Attributes:
        asset: as it is kept in the library.
        file: its copy in the set's folder; None without one.
        seconds: of work, its share of the step's.
        failures: checks that it fails after all tries, in words; empty: it passes all.
        draws: samples that were made until it was chosen.
    """

    asset: Asset
    file: Path | None
    seconds: float
    failures: tuple[str, ...]
    draws: int

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "id": self.asset.id,
            "step": self.asset.step,
            "index": self.asset.index,
            "kind": self.asset.kind,
            "file": None if self.file is None else self.file.name,
            "path": str(self.asset.path),
            "text": self.asset.text,
            "seconds": round(self.seconds, 3),
            "draws": self.draws,
            "failures": list(self.failures),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishedSet:
    """What `Line.make` made.

    Attributes:
        id: the `set_id` of its assets.
        brief: complete, with the seed that was used.
        recipe: name of the recipe that was followed.
        folder: where copies of the files lie; None when none was asked for.
        items: in the recipe's order.
        seconds: of the whole work, opening the models included.
        left_out: a sentence for each step that could not be made and may be missing.
        page: the page that shows the set, in its folder; None without one.
    """

    id: str
    brief: Brief
    recipe: str
    folder: Path | None
    items: tuple[Item, ...]
    seconds: float
    left_out: tuple[str, ...] = ()
    page: Path | None = None

    def to_json(self) -> dict[str, Any]:
        """As JSON values, for machines and for `set.json`."""
        return {
            "id": self.id,
            "recipe": self.recipe,
            "brief": asdict(self.brief),
            "folder": None if self.folder is None else str(self.folder),
            "seconds": round(self.seconds, 3),
            "left_out": list(self.left_out),
            "page": None if self.page is None else self.page.name,
            "items": [item.to_json() for item in self.items],
        }

    def __getitem__(self, step: str) -> list[Item]:
        """The items of one of the recipe's steps."""
        return [item for item in self.items if item.asset.step == step]


class Watcher:
    """Told what happens while a set is made. This one does nothing; override what you need."""

    def planned(self, steps: Sequence[str]) -> None:
        """The brief and the recipe are good; these steps will be made."""

    def opening(self, model: str) -> None:
        """A model is being opened."""

    def step(self, name: str, kind: str, count: int) -> None:
        """A step begins that makes `count` things."""

    def round(self, attempt: int, draws: int) -> None:
        """`draws` samples are being drawn, for the first time (0) or again."""

    def piece(self, number: int, piece: Any) -> None:
        """A part of a sample came: some text, or a waveform."""

    def kept(self, item: Item) -> None:
        """An item is finished and kept."""

    def done(self, name: str) -> None:
        """A step is done; all its items are kept."""
