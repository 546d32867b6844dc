"""Runs a work and a named peer in turn and prints medians and ratios.

Machines are shared and drift: a figure alone says little, a ratio of figures that were taken
in turn says what it should. Nothing else heavy may run beside it.
"""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version

import psutil

Work = Callable[[], float]


@dataclass(frozen=True)
class Figure:
    """A comparison: `ours` and `peer` hold what each round gave, in `unit`."""

    name: str
    peer_name: str
    unit: str
    ours: tuple[float, ...]
    peer: tuple[float, ...]
    higher_is_better: bool = False

    @property
    def ratio(self) -> float:
        """How many times better than the peer: the median of the rounds' ratios."""
        pairs = zip(self.ours, self.peer, strict=True)
        ratios = [a / b if self.higher_is_better else b / a for a, b in pairs]
        return statistics.median(ratios)

    def row(self) -> str:
        """A line of the table."""
        ours, peer = statistics.median(self.ours), statistics.median(self.peer)
        spread = f"{min(self.ours):.2f}-{max(self.ours):.2f}"
        return (
            f"| {self.name} | {ours:.2f} {self.unit} ({spread}) | {self.peer_name} |"
            f" {peer:.2f} {self.unit} | {self.ratio:.2f}x |"
        )


def seconds(work: Callable[[], object]) -> Work:
    """A work that is measured by how long it takes."""

    def timed() -> float:
        started = time.perf_counter()
        work()
        return time.perf_counter() - started

    return timed


def compare(
    name: str,
    ours: Work,
    peer_name: str,
    peer: Work,
    *,
    unit: str = "s",
    rounds: int = 5,
    higher_is_better: bool = False,
) -> Figure:
    """Run both once to warm up, then in turn `rounds` times, and print the row.

    Args:
        name: of the work.
        ours: gives a figure in `unit` each time it is called.
        peer_name: with its version.
        peer: likewise.
        unit: of the figures.
        rounds: how many are counted.
        higher_is_better: whether the figure is a rate, not a time.
    """
    ours(), peer()
    pairs = [(ours(), peer()) for _ in range(rounds)]
    figure = Figure(
        name,
        peer_name,
        unit,
        tuple(a for a, _ in pairs),
        tuple(b for _, b in pairs),
        higher_is_better,
    )
    print(figure.row(), flush=True)
    return figure


def machine() -> str:
    """The machine and the versions, in one line."""
    memory = psutil.virtual_memory().total / 1e9
    return (
        f"{platform.machine()}, {os.cpu_count()} cores, {memory:.0f} GB,"
        f" Python {platform.python_version()}, torch {version('torch')},"
        f" vermilion {version('vermilion')}"
    )


def headline() -> None:
    """Print the machine, the versions and the table's head."""
    print(f"{machine()}\n")
    print("| work | Vermilion: median (spread) | peer | peer's median | better by |")
    print("| --- | --- | --- | --- | --- |", flush=True)
