"""Pictures decoded once, at the size of training, in files that are mapped and not read.

    FOLDER/KEY/header.json            what it is; there when everything is decoded
               pixels-HxW.bin         uint8 (number of pictures of this shape, H, W, C)
               shapes.bin             for each picture the place of its shape, int16; -1: damaged
               progress.bin           for each picture a state and a hash of its pixels
               faults.jsonl           what could not be decoded, and why

KEY is a hash of the names, sizes and times of change of all files, and of the settings. A build
that was broken off goes on where it was. The pixels are written before the states that vouch for
them.

Shape letters: N items, H W of a picture, C channels.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vermilion.data.pictures.building import (
    GOOD,
    PROGRESS,
    OnPicture,
    build,
    faults_in,
    mapped,
    rows_of,
)
from vermilion.data.pictures.decoding import Pixels
from vermilion.data.pictures.faults import printable
from vermilion.data.pictures.geometry import Shape, buckets, whole_shape
from vermilion.data.pictures.pictures import Pictures
from vermilion.disk import exclusive, storage
from vermilion.errors import InputError

FORMAT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheSettings:
    """Shapes of what is kept.

    Attributes:
        size: side in px, or H and W; with buckets the side of the square whose area they have.
        buckets: whether pictures keep about their proportions, see `geometry.buckets`; else the
            middle of each is cut to the one shape.
        step: of the buckets, in px.
        ratio: of the buckets: the longer side is at most so many times the shorter.
        least: a shape that fewer pictures have is not used; the batch size, so that no batch has
            to repeat a picture.
    """

    size: int | Shape
    buckets: bool = False
    step: int = 64
    ratio: float = 2.0
    least: int = 1

    def shapes(self) -> tuple[Shape, ...]:
        """All shapes that may be used.

        Raises:
            InputError: the settings do not fit together.
        """
        if not self.buckets:
            return (whole_shape(self.size),)
        if not isinstance(self.size, int):
            raise InputError("size: with buckets it is one number, the side of a square")
        return buckets(self.size, step=self.step, ratio=self.ratio)


class Cache:
    """Decoded pictures with random access. Damaged ones and copies are left out.

    A copy has the pixels, the captions and the class of a picture before it.

    Attributes:
        pictures: what was decoded; their captions, classes and names.
        items: which of `pictures` there are, int64 (N,).
        shapes: those that there are.
        shape_of: place in `shapes` of each item, int64 (N,).
        faults: what could not be decoded.
    """

    def __init__(
        self,
        pictures: Pictures,
        settings: CacheSettings,
        folder: Path,
        apart_from: Cache | None = None,
    ) -> None:
        self.pictures, self.folder = pictures, folder
        all_shapes = settings.shapes()
        chosen = np.fromfile(folder / "shapes.bin", "<i2").astype(np.int64)  # (all,)
        self.states = np.fromfile(folder / "progress.bin", PROGRESS)
        self.faults = faults_in(folder, pictures.faults.limit, len(pictures))
        self.faults.check()
        good = self.states["state"] == GOOD
        copies = good & _copies(pictures, self.states, apart_from)
        if copies.any():
            first = printable(pictures.name(int(np.flatnonzero(copies)[0])))
            self.faults.notes.append(
                f"{copies.sum()} copies of other pictures are left out, such as {first}"
            )
        self.items = np.flatnonzero(good & ~copies)
        if len(self.items) == 0:
            raise InputError("data: no picture is left that could be decoded; give others")
        used = sorted(set(chosen[self.items].tolist()))
        self.shapes: tuple[Shape, ...] = tuple(all_shapes[place] for place in used)
        self.shape_of = np.searchsorted(used, chosen[self.items]).astype(np.int64)
        self._rows = rows_of(chosen)[self.items]
        counts = np.bincount(chosen[chosen >= 0], minlength=len(all_shapes))
        channels = pictures.how.channels
        self._pixels = [
            mapped(folder, all_shapes[place], int(counts[place]), channels) for place in used
        ]

    @classmethod
    def open(
        cls,
        pictures: Pictures,
        settings: CacheSettings,
        folder: Path,
        *,
        workers: int | None = None,
        on_picture: OnPicture | None = None,
        apart_from: Cache | None = None,
    ) -> Cache:
        """Decode what is not decoded yet, and open it. Other processes wait for the one that does.

        Args:
            pictures: what to decode; their `shape` is not used.
            settings: shapes.
            folder: of all caches.
            workers: threads; None: one a core.
            on_picture: told of progress.
            apart_from: pictures whose pixels are in this one are left out: for a validation set
                beside the training set, whose copies in it would make it look better.

        Raises:
            InputError: more pictures than the limit cannot be decoded, or none can.
            StorageError: there is no room.
        """
        place = folder / _key(pictures, settings)
        with storage(folder), exclusive(folder / f"{place.name}.lock"):
            place.mkdir(parents=True, exist_ok=True)
            if not (place / "header.json").exists():
                build(pictures, settings.shapes(), settings.least, place, workers, on_picture)
            return cls(pictures, settings, place, apart_from)

    def __len__(self) -> int:
        return len(self.items)

    def pixels(self, i: int) -> Pixels:
        """An item's pixels, uint8 (H, W, C), mapped: not to be changed."""
        pixels: Pixels = self._pixels[self.shape_of[i]][self._rows[i]]
        return pixels

    def take(self, which: Sequence[int] | NDArray[np.int64]) -> Pixels:
        """Pixels of items of one shape, in this order, uint8 (n, H, W, C).

        Raises:
            InputError: they have different shapes, or there are none.
        """
        which = np.asarray(which, np.int64)
        places = np.unique(self.shape_of[which])
        if len(places) != 1:
            raise InputError(f"pictures: a batch needs one shape, these have {len(places)}")
        return np.asarray(self._pixels[int(places[0])][self._rows[which]])


def _key(pictures: Pictures, settings: CacheSettings) -> str:
    told = {"format": FORMAT, "how": asdict(pictures.how), "shapes": asdict(settings)}
    if not settings.buckets:
        told["shapes"] = {"size": whole_shape(settings.size)}
    content = json.dumps(told, sort_keys=True) + pictures.fingerprint()
    return hashlib.sha256(content.encode()).hexdigest()[:32]


def _copies(
    pictures: Pictures, states: NDArray[np.void], seen_before: Cache | None
) -> NDArray[np.bool_]:
    """Which pictures are as one before them: by pixels, captions and class, (N,)."""
    copies = np.zeros(len(states), np.bool_)
    starts = _starts(states)
    if seen_before is not None:
        others = _starts(seen_before.states[seen_before.items])
        copies |= np.isin(starts, others)
    _, places, counts = np.unique(starts, return_inverse=True, return_counts=True)
    labels = pictures.labels
    told: set[tuple[bytes, tuple[str, ...], int]] = set()
    for i in np.flatnonzero(counts[places] > 1).tolist():
        if states["state"][i] == GOOD:
            said = (states["digest"][i].tobytes(), pictures.captions(i), int(labels[i]))
            copies[i] |= said in told
            told.add(said)
    return copies


def _starts(states: NDArray[np.void]) -> NDArray[np.uint64]:
    """The first half of each hash, (N,)."""
    return np.ascontiguousarray(states["digest"]).view("<u8").reshape(-1, 2)[:, 0]
