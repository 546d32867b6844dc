"""The audit of a ledger: whether each line is as it was written, and all are there."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from vermilion.seal.ledger_lines import START, Head, Line, Verify, parse

Fault = Literal["broken", "edited", "removed", "reordered", "cut", "head", "damaged", "unknown"]


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that was changed.

    Attributes:
        kind: "broken" (no line of a ledger), "edited", "removed", "reordered" (or written
            twice), "cut" (the tail is missing), "head" (it is missing, unsigned or does not fit),
            "damaged" (an earlier loss that the ledger itself noted), "unknown" (an entry that
            somebody knows is not there).
        line: from 1; 0 where it is about none.
        text: a sentence for people.
    """

    kind: Fault
    line: int
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """What an audit found.

    Attributes:
        entries: how many lines hold one.
        actions: how often each action comes.
        problems: what was changed; empty: the chain is whole.
        notes: what a crash left, for people; nothing of it was ever answered for.
        head: SHA-256 of the last entry; write it down elsewhere to notice a ledger that was put
            back as a whole.
        is_signed: whether the head's signature is good; None: it was not looked at.
    """

    entries: int
    actions: dict[str, int]
    problems: tuple[Problem, ...]
    notes: tuple[str, ...]
    head: str
    is_signed: bool | None

    @property
    def ok(self) -> bool:
        """Whether nothing was changed."""
        return not self.problems


@dataclass(slots=True)
class _Found:
    """What was read so far. A link is (line, number, what it follows, its own SHA-256)."""

    links: list[tuple[int, int, str, str]] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    actions: Counter[str] = field(default_factory=Counter)


def examine(
    path: Path, size: int, head: Head | None, *, verify: Verify | None, known: str, has_head: bool
) -> Audit:
    """Check a ledger's lines, and that they end where the head says.

    Args:
        path: of the lines.
        size: how many bytes of them to read.
        head: None: it is missing or unreadable.
        verify: of its signature; None: it is not looked at.
        known: SHA-256 of an entry that has to be there; empty: none.
        has_head: whether there is a file of that name.
    """
    found = _Found()
    _read(path, size, found)
    _check_chain(found)
    sums = {number: sha256 for _, number, _, sha256 in found.links}
    _check_head(found, head, sums, has_head)
    signed = None if verify is None or head is None else head.is_signed(verify)
    if signed is False:
        found.problems.append(Problem("head", 0, "the head is not signed by this key"))
    if known and known.lower() not in sums.values():
        text = f"no entry has the SHA-256 {known[:16]}…; an older ledger was put in its place"
        found.problems.append(Problem("unknown", 0, text))
    return Audit(
        entries=len(found.links),
        actions=dict(found.actions),
        problems=tuple(sorted(found.problems, key=lambda problem: problem.line)),
        notes=tuple(found.notes),
        head=found.links[-1][3] if found.links else START,
        is_signed=signed,
    )


def _lines(path: Path, size: int) -> Iterator[bytes]:
    if size == 0:
        return
    with path.open("rb") as file:
        for line in file:
            yield line[:size]
            size -= len(line)
            if size <= 0:
                return


def _read(path: Path, size: int, found: _Found) -> None:
    for place, line in enumerate(_lines(path, size), 1):
        if not line.endswith(b"\n"):
            found.notes.append(f"line {place} is torn: the program stopped while it was written")
            return
        read = parse(line)
        if read is None:
            found.problems.append(Problem("broken", place, f"line {place} is no line of a ledger"))
            continue
        _note(place, read, found)
        found.links.append((place, read.entry.number, read.previous, read.sha256))


def _note(place: int, read: Line, found: _Found) -> None:
    entry = read.entry
    found.actions[entry.action] += 1
    if not read.is_whole:
        text = f"line {place} was edited: entry {entry.number} has not its own SHA-256"
        found.problems.append(Problem("edited", place, text))
    if entry.action == "repaired":
        found.notes.append(f"entry {entry.number}: {entry.reason}")
    if entry.action == "damaged":
        text = f"entry {entry.number} of {entry.time} notes: {entry.reason}"
        found.problems.append(Problem("damaged", place, text))


def _check_chain(found: _Found) -> None:
    """See that each entry follows the one before it."""
    numbers = sorted({number for _, number, _, _ in found.links})
    expected, last, before = 1, START, 0
    for place, number, previous, sha256 in found.links:
        broken = place - before - 1  # lines in between, each of which was an entry
        elsewhere = bisect_left(numbers, number) - bisect_left(numbers, expected)
        missing = number - expected - max(0, elsewhere) - broken
        if missing > 0:
            text = f"{missing} of the entries {expected} to {number - 1} were removed"
            found.problems.append(Problem("removed", place, f"before line {place} {text}"))
        elif number < expected:
            text = f"line {place} holds entry {number}, which belongs elsewhere or is there twice"
            found.problems.append(Problem("reordered", place, text))
        elif number == expected and previous != last and not broken:
            where = f"line {before}" if before else "what stood before line 1"
            text = f"{where} was edited: entry {number} follows something else"
            found.problems.append(Problem("edited", before, text))
        expected, last, before = number + 1, sha256, place


def _check_head(found: _Found, head: Head | None, sums: dict[int, str], has_head: bool) -> None:
    last = max(sums, default=0)
    if head is None:
        if sums or has_head:
            text = "the head is missing or unreadable; whether the end was cut off is not known"
            found.problems.append(Problem("head", 0, text))
    elif head.number > last:
        text = f"entries {last + 1} to {head.number} are missing at the end"
        found.problems.append(Problem("cut", len(found.links), text))
    elif head.number and sums.get(head.number) != head.sha256:
        text = f"entry {head.number} is not the one that the head names"
        found.problems.append(Problem("head", 0, text))
    elif head.number < last:
        text = f"entries {head.number + 1} to {last} are not in the head yet"
        found.notes.append(text + ": the program stopped before it was written")
