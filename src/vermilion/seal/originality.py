"""Originality: how far something lies from the closest thing that is known.

The score is 0 where the two are the same but for their encoding, and 1 where they are no more
alike than things that have nothing to do with one another. Between the two it grows evenly with
the distance. It speaks of what the index holds, and of nothing else.

N things in the index.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from vermilion.errors import InputError
from vermilion.seal.fingerprints import between

PRINTS_FILE = "prints.safetensors"  # in a model's folder: what it was trained on

Measure = Literal["picture", "sound", "film", "text", "vector"]

# Distances up to the first are those of copies, from the second on those of strangers.
LIMITS: dict[Measure, tuple[float, float]] = {
    "picture": (4, 24),  # bits of 64
    "sound": (0.1, 0.4),  # share of the bits
    "film": (4, 20),  # bits of 64
    "text": (0.05, 1.0),  # 1 minus Jaccard's similarity
    "vector": (0.05, 0.6),  # 1 minus the cosine
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Prints:
    """The fingerprints of one thing, each None where it has none.

    Attributes:
        picture: from `fingerprints.phash`.
        sound: from `fingerprints.soundprint`.
        film: from `fingerprints.filmprint`.
        text: from `fingerprints.minhash`.
        vector: from an eye that the index knows nothing of, of any length but 0, (D,).
    """

    picture: int | None = None
    sound: bytes | None = None
    film: bytes | None = None
    text: bytes | None = None
    vector: NDArray[np.float32] | None = None


@dataclass(frozen=True, slots=True)
class Near:
    """Something known that is close.

    Attributes:
        name: its id.
        measure: which fingerprints were compared.
        distance: between them; bits of 64 for pictures and films, else 0 to 1 (vectors: to 2).
        score: of originality, 0 to 1; see the top of this file.
    """

    name: str
    measure: Measure
    distance: float
    score: float

    def __str__(self) -> str:
        return f"{self.name} ({self.measure}, distance {self.distance:.3g})"


def score(measure: Measure, distance: float) -> float:
    """Originality from 0 to 1 at a distance from the closest known thing."""
    low, high = LIMITS[measure]
    return min(1.0, max(0.0, (distance - low) / (high - low)))


class Index:
    """Fingerprints of many things, searched as a whole.

    Args:
        source: what it is of, for people: "library", or a training set's name.
    """

    def __init__(self, source: str = "library") -> None:
        self.source = source
        self._columns: dict[Measure, _Column] = {}

    def __len__(self) -> int:
        """How many fingerprints there are."""
        return sum(len(column.names) for column in self._columns.values())

    def add(self, name: str, prints: Prints) -> None:
        """Learn a thing's fingerprints.

        Raises:
            InputError: one has another length than those that are there.
        """
        for measure, row in _rows(prints):
            if measure not in self._columns:
                self._columns[measure] = _Column(np.empty((0, len(row)), row.dtype))
            self._columns[measure].append(name, row)

    def nearest(
        self,
        prints: Prints,
        count: int = 1,
        *,
        within: float | None = None,
        but: Callable[[str], bool] = lambda name: False,
    ) -> list[Near]:
        """The closest known things, the closest first.

        Args:
            prints: of what is asked about.
            count: how many to find at most.
            within: nothing that is further away, as the measures count it.
            but: names to pass over, such as a thing's own and its parents'.

        Raises:
            InputError: a vector has another length than those of the index.
        """
        found: list[Near] = []
        for measure, row in _rows(prints):
            column = self._columns.get(measure)
            if column is None:
                continue
            if len(row) != column.rows.shape[1]:
                raise InputError(
                    f"prints: the {measure} has {len(row)} numbers and the index"
                    f" {column.rows.shape[1]} each; use the same eye for both"
                )
            distances = _distances(measure, column.rows, row)  # (N,)
            if within is not None:
                places = np.flatnonzero(distances <= within)
                order = places[np.argsort(distances[places], kind="stable")]
            else:
                order = np.argsort(distances, kind="stable")
            left = count
            for place in order:
                if left == 0:
                    break
                name = column.names[place]
                if not but(name):
                    distance = float(distances[place])
                    found.append(Near(name, measure, distance, score(measure, distance)))
                    left -= 1
        return sorted(found, key=lambda near: near.score)[:count]

    def write(self, path: Path) -> None:
        """Keep the index in a file, such as one that goes with a trained model.

        Args:
            path: of a safetensors file.
        """
        arrays = {str(measure): column.rows for measure, column in self._columns.items()}
        names = {str(measure): column.names for measure, column in self._columns.items()}
        told = {"source": self.source, "names": json.dumps(names)}
        partial = path.with_name(path.name + ".part")
        partial.write_bytes(save(arrays, metadata=told))
        partial.replace(path)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read an index that was written.

        Raises:
            InputError: the file is missing, or is none.
        """
        try:
            with safe_open(path, framework="np") as file:
                told = file.metadata() or {}
                arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            index, names = cls(told["source"]), json.loads(told["names"])
            for measure, rows in arrays.items():
                column = _Column(rows)
                column.names = list(map(str, names[measure]))
                if measure not in LIMITS or rows.ndim != 2 or len(rows) != len(column.names):
                    raise KeyError(measure)
                index._columns[measure] = column
        except (OSError, SafetensorError, KeyError, ValueError, TypeError, AttributeError) as error:
            raise InputError(
                f"index: {path} is no index of fingerprints ({error}); make it anew"
            ) from None
        return index


class _Column:
    """Rows that all have one kind of fingerprint, with room to grow."""

    def __init__(self, rows: NDArray[Any]) -> None:
        self.names: list[str] = []
        self._rows = rows

    @property
    def rows(self) -> NDArray[Any]:
        """(N, width)."""
        return self._rows[: len(self.names)]

    def append(self, name: str, row: NDArray[Any]) -> None:
        count, width = len(self.names), self._rows.shape[1]
        if len(row) != width:
            raise InputError(f"prints: {name} has {len(row)} numbers and the others {width}")
        if count == len(self._rows):
            grown = np.empty((max(64, 2 * count), width), self._rows.dtype)
            grown[:count] = self._rows
            self._rows = grown
        self._rows[count] = row
        self.names.append(name)


def _rows(prints: Prints) -> Iterator[tuple[Measure, NDArray[Any]]]:
    if prints.picture is not None:
        yield "picture", np.array([prints.picture], np.uint64)
    if prints.sound is not None:
        yield "sound", np.frombuffer(prints.sound, np.uint64)
    if prints.film is not None:
        yield "film", np.frombuffer(prints.film, "<u8")
    if prints.text is not None:
        yield "text", np.frombuffer(prints.text, "<u4")
    if prints.vector is not None:
        length = float(np.linalg.norm(prints.vector))
        if length > 0:
            yield "vector", np.asarray(prints.vector / length, np.float32)


def _distances(measure: Measure, rows: NDArray[Any], row: NDArray[Any]) -> NDArray[np.float64]:
    """From one row to all of them, (N,)."""
    if measure == "picture":
        distances = np.bitwise_count(rows[:, 0] ^ row[0])
    elif measure == "sound":
        distances = np.bitwise_count(rows ^ row).sum(axis=1, dtype=np.int64) / (8 * row.nbytes)
    elif measure == "film":
        distances = between(rows, row)
    elif measure == "text":
        distances = 1 - np.count_nonzero(rows == row, axis=1) / len(row)
    else:
        distances = 1 - rows @ row
    return np.asarray(distances, np.float64)
