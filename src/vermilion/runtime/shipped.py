"""Models that come with this package: `package:NAME`, the folder `weights/NAME` in it."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from vermilion.errors import ModelError
from vermilion.runtime.cards import Card
from vermilion.runtime.sources import Fetched, Plan, Progress
from vermilion.runtime.weights import sha256_of

WEIGHTS = Path(str(files("vermilion"))) / "weights"


def find(card: Card) -> Fetched | None:
    """The package's own files, if they are what the card says."""
    folder = WEIGHTS / card.source.partition(":")[2]
    for name, facts in card.files.items():
        path = folder / name
        if not path.is_file() or path.stat().st_size != facts.size:
            return None
        if sha256_of(path) != facts.sha256:
            return None
    return Fetched(folder=folder, files=card.files, in_place=True)


def plan(card: Card) -> Plan:
    """Nothing is ever fetched."""
    _here(card)
    return Plan(
        name=card.name,
        source=card.source,
        download_bytes=0,
        disk_bytes=card.size,
        note="comes with this package",
    )


def fetch(card: Card, incoming: Path, progress: Progress) -> Fetched:
    """The files where they are."""
    return _here(card)


def _here(card: Card) -> Fetched:
    found = find(card)
    if found is None:
        raise ModelError(
            f"{card.name}: its files in this package are missing or changed; install it anew"
        )
    return found
