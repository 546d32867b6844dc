"""Whether a model's files are still those that its card describes."""

from __future__ import annotations

from pathlib import Path

from vermilion.errors import ModelError
from vermilion.runtime.cards import TRAINED_HERE, Card
from vermilion.runtime.sources import Progress, scheme_of
from vermilion.runtime.weights import check_file, sha256_of


def remedy(card: Card) -> str:
    """What to do when a model's files are broken, the end of a sentence."""
    if card.source == TRAINED_HERE:
        return f"train it again, or remove it: vermilion models rm {card.name}"
    again = f"vermilion models pull {card.name}"
    if scheme_of(card.source):
        return f"run: {again}"
    return f"copy it there again, or take it as it is now: {again}"


def stamp(path: Path) -> int:
    """A file's modification time, in ns."""
    return path.stat().st_mtime_ns


def check(card: Card, home: Path) -> None:
    """Look at every file; one is hashed only if it is used in place and was touched.

    Args:
        card: of the model.
        home: what its files' names are relative to.

    Raises:
        ModelError: a file is missing, broken, or not the one that was pulled.
        UnsafeModelError: a file is a pickle.
    """
    for name, facts in card.files.items():
        path = home / name
        if not path.is_file():
            raise ModelError(f"{path} is missing; {remedy(card)}")
        size = path.stat().st_size
        if size != facts.size:
            raise ModelError(f"{path} has {size} bytes instead of {facts.size}; {remedy(card)}")
        touched = stamp(path) != card.stamps.get(name, stamp(path))
        if touched and sha256_of(path) != facts.sha256:
            raise ModelError(f"{path} has changed since it was pulled; {remedy(card)}")
        check_file(path, remedy(card))


def rehash(card: Card, home: Path, progress: Progress) -> None:
    """Hash every file again.

    Raises:
        ModelError: a file is not the one that was pulled.
    """
    for name, facts in card.files.items():
        path, what = home / name, f"{card.name}: checking {name}"

        def report(done: int, what: str = what, size: int = facts.size) -> None:
            progress(what, done, size)

        if sha256_of(path, report) != facts.sha256:
            raise ModelError(f"{path} is not the file that was pulled; {remedy(card)}")
