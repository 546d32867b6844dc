"""What could not be used of a set of pictures: counted, the first ones named, limited."""

from __future__ import annotations

from collections import Counter
from typing import Literal

from vermilion.errors import InputError

LIMIT = 0.05
NAMED = 20

Kind = Literal[
    "missing",
    "damaged",
    "too large",
    "no caption",
    "no label",
    "no picture",
    "outside",
    "encoding",
    "malformed",
]

_REMEDY: dict[str, str] = {
    "missing": "give the pictures that are named, or take out the rows",
    "damaged": "export them again",
    "too large": "make them smaller",
    "no caption": "give each picture a caption, or read them with captions=none",
    "no label": "give each picture a label",
    "no picture": "give a picture to each caption",
    "outside": "copy the pictures into the folder of the data",
    "encoding": "convert the text, for example: iconv -f LATIN1 -t UTF-8",
    "malformed": "mend the rows",
}


class Faults:
    """Rows and pictures that were left out, and why. One alone never ends a run.

    Args:
        limit: the part of all that may be left out, 0 to 1.
        named: how many sentences are kept.

    Attributes:
        rows: how many rows or pictures there were, good ones included.
        count: how many were left out.
        kinds: how many of each kind.
        sentences: of the first ones, each with the file's name.
        notes: what was handled and is worth knowing, such as copies; not counted.

    Raises:
        InputError: the limit is not from 0 to 1.
    """

    def __init__(self, limit: float = LIMIT, named: int = NAMED) -> None:
        if not 0 <= limit <= 1:
            raise InputError(f"max_faults: must be from 0 to 1 (found {limit})")
        self.limit, self.named = limit, named
        self.rows = 0
        self.kinds: Counter[str] = Counter()
        self.sentences: list[str] = []
        self.notes: list[str] = []

    @property
    def count(self) -> int:
        """How many were left out."""
        return self.kinds.total()

    def add(self, kind: Kind, name: str, reason: str) -> None:
        """Leave one out.

        Args:
            kind: of fault.
            name: of the file, or of the file and its line.
            reason: what is wrong, the rest of a sentence.
        """
        self.kinds[kind] += 1
        if len(self.sentences) < self.named:
            self.sentences.append(f"{printable(name)}: {reason}")

    def check(self, rows: int | None = None) -> None:
        """Stop where too many were left out.

        Args:
            rows: of how many; None: those that were counted so far.

        Raises:
            InputError: more than the limit, and more than one.
        """
        of = self.rows if rows is None else rows
        if self.count <= 1 or self.count <= self.limit * of:
            return
        worst = self.kinds.most_common(1)[0][0]
        raise InputError(
            f"data: {self.count} of {of} pictures cannot be used, more than"
            f" {self.limit:.3g} of all ({self._kinds()}), such as {self.sentences[0]};"
            f" {_REMEDY[worst]}, or allow more with max_faults"
        )

    def report(self) -> str:
        """One line for people; empty where there is nothing to say."""
        lines = []
        if self.count > 0:
            first = "; ".join(self.sentences[:3])
            lines.append(f"{self.count} of {self.rows} left out ({self._kinds()}): {first}")
        return ". ".join(lines + self.notes)

    def _kinds(self) -> str:
        return ", ".join(f"{kind} {count}" for kind, count in self.kinds.most_common())


def printable(name: str) -> str:
    """A name that any terminal and log takes; what is not UTF-8 in it becomes a mark."""
    return name.encode("utf-8", "replace").decode("utf-8")
