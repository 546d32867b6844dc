"""Decodes a set of pictures into the files of a cache, see `cache`; goes on where it was.

Shape letters: N items, H W of a picture, C channels.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Literal, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from vermilion.data.pictures.decoding import Pixels, Unusable, decode
from vermilion.data.pictures.faults import Faults, Kind, printable
from vermilion.data.pictures.geometry import Shape, gathered
from vermilion.data.pictures.pictures import Pictures
from vermilion.disk import require_space, sync, write_atomically
from vermilion.errors import InputError, StorageError

HEADER = "header.json"
GOOD, BAD = 1, 2  # states; 0 waits to be decoded
PROGRESS = np.dtype([("state", "u1"), ("digest", "V16")])
_PART = 64  # the most pictures that a thread decodes before it reports
_SAVE_SECONDS = 20.0

T = TypeVar("T")

OnPicture = Callable[[int, int], None]
"""Told how many pictures are done, and of how many."""


def build(
    pictures: Pictures,
    shapes: Sequence[Shape],
    least: int,
    folder: Path,
    workers: int | None = None,
    on_picture: OnPicture | None = None,
) -> None:
    """Decode all pictures.

    Args:
        pictures: what to decode.
        shapes: that may be used.
        least: see `geometry.gathered`.
        folder: of this cache; what is in it already is not done again.
        workers: threads; None: one a core.
        on_picture: told of progress.

    Raises:
        InputError: more pictures than the limit cannot be decoded.
        StorageError: there is no room.
    """
    builder = _Builder(pictures, folder, workers or os.cpu_count() or 1)
    try:
        chosen = builder.choose(shapes, least)
        builder.decode(shapes, chosen, on_picture)
    finally:
        builder.save()
    header = {"pictures": len(pictures), "shapes": shapes, "channels": pictures.how.channels}
    write_atomically(folder / HEADER, (json.dumps(header) + "\n").encode())


def rows_of(chosen: NDArray[np.int64]) -> NDArray[np.int64]:
    """The row of each picture among those of its shape, int64 (N,)."""
    rows = np.full(len(chosen), -1, np.int64)
    for place in np.unique(chosen):
        of = np.flatnonzero(chosen == place)
        rows[of] = np.arange(len(of))
    return rows


def mapped(folder: Path, shape: Shape, count: int, channels: int, write: bool = False) -> Pixels:
    """The pixels of all pictures of a shape, uint8 (count, H, W, C).

    Raises:
        StorageError: the file has not the size that it should have.
    """
    path = _path(folder, shape)
    size = path.stat().st_size if path.exists() else -1
    wanted = count * shape[0] * shape[1] * channels
    if size != wanted:
        raise StorageError(
            f"{path} has {size} bytes where {wanted} belong; remove {folder} and start again"
        )
    mode: Literal["r", "r+"] = "r+" if write else "r"
    pixels: Pixels = np.memmap(path, np.uint8, mode, shape=(count, *shape, channels))
    return pixels


def faults_in(folder: Path, limit: float, rows: int) -> Faults:
    """What could not be decoded of a set.

    Args:
        folder: of its cache.
        limit: see `Faults`.
        rows: how many pictures the set has.
    """
    faults = Faults(limit)
    faults.rows = rows
    for _, kind, name, reason in _told(folder):
        faults.add(kind, name, reason)
    return faults


def _told(folder: Path) -> Iterator[tuple[int, Kind, str, str]]:
    path = folder / "faults.jsonl"
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        told = json.loads(line)
        yield told["item"], told["kind"], told["name"], told["reason"]


def _path(folder: Path, shape: Shape) -> Path:
    return folder / f"pixels-{shape[0]}x{shape[1]}.bin"


class _Failure(NamedTuple):
    kind: Kind
    reason: str


class _Builder:
    def __init__(self, pictures: Pictures, folder: Path, workers: int) -> None:
        self.pictures, self.folder, self.workers = pictures, folder, workers
        self.faults = Faults(pictures.faults.limit)
        self.told: dict[int, _Failure] = {}
        self.states = np.zeros(len(pictures), PROGRESS)
        self.pixels: dict[int, Pixels] = {}
        progress = folder / "progress.bin"
        if progress.exists() and progress.stat().st_size == self.states.nbytes:
            self.states = np.fromfile(progress, PROGRESS)
            for item, kind, _, reason in _told(folder):
                self._leave_out(item, _Failure(kind, reason))

    def choose(self, shapes: Sequence[Shape], least: int) -> NDArray[np.int64]:
        """The place in `shapes` of each picture's shape, (N,); -1: it is damaged."""
        path = self.folder / "shapes.bin"
        if path.exists() and path.stat().st_size == 2 * len(self.pictures):
            return np.fromfile(path, "<i2").astype(np.int64)
        chosen = np.zeros(len(self.pictures), np.int64)
        if len(shapes) > 1:
            sizes = np.zeros((len(self.pictures), 2), np.int64)  # H and W; 0: damaged
            for i, size in self._each(np.arange(len(self.pictures)), self.pictures.measure):
                sizes[i] = size
            good = np.flatnonzero(sizes.min(axis=1))
            chosen[:] = -1
            chosen[good] = gathered(shapes, sizes[good], least)
        self.save()
        write_atomically(path, chosen.astype("<i2").tobytes())
        return chosen

    def decode(
        self, shapes: Sequence[Shape], chosen: NDArray[np.int64], on_picture: OnPicture | None
    ) -> None:
        """Decode what waits."""
        channels = self.pictures.how.channels
        counts = np.bincount(chosen[chosen >= 0], minlength=len(shapes)).tolist()
        used = {place: shape for place, shape in enumerate(shapes) if counts[place] > 0}
        self._make_room({s: counts[place] * s[0] * s[1] * channels for place, s in used.items()})
        self.pixels = {
            place: mapped(self.folder, shape, counts[place], channels, write=True)
            for place, shape in used.items()
        }
        rows = rows_of(chosen)

        def work(i: int) -> bytes:
            """Decode a picture to its row; gives a hash of its pixels."""
            place = int(chosen[i])
            pixels = decode(self.pictures.content(i), shapes[place], self.pictures.how)
            self.pixels[place][rows[i]] = pixels
            shape = np.asarray(pixels.shape, "<i8").tobytes()
            return hashlib.blake2b(shape + pixels.tobytes(), digest_size=16).digest()

        waiting = np.flatnonzero((self.states["state"] == 0) & (chosen >= 0))
        total, saved = len(self.pictures), time.monotonic()
        done = total - len(waiting)

        def progress(count: int) -> None:
            nonlocal done, saved
            done += count
            if on_picture is not None:
                on_picture(done, total)
            if time.monotonic() - saved > _SAVE_SECONDS:
                self.save()
                saved = time.monotonic()

        for i, digest in self._each(waiting, work, progress):
            self.states[i] = (GOOD, np.void(digest))

    def save(self) -> None:
        """Write down what is done: the pixels first, then the states that vouch for them."""
        for pixels in self.pixels.values():
            if isinstance(pixels, np.memmap):
                pixels.flush()
        lines = [
            {"item": item, "name": printable(self.pictures.name(item)), **failure._asdict()}
            for item, failure in sorted(self.told.items())
        ]
        text = "".join(f"{json.dumps(line)}\n" for line in lines)
        write_atomically(self.folder / "faults.jsonl", text.encode())
        write_atomically(self.folder / "progress.bin", self.states.tobytes())

    def _each(
        self,
        items: NDArray[np.int64],
        work: Callable[[int], T],
        progress: Callable[[int], None] = lambda count: None,
    ) -> Iterator[tuple[int, T]]:
        """What the work gives for each item, in order, from threads; failures are left out."""

        def part(some: NDArray[np.int64]) -> list[T | _Failure]:
            return [self._tried(work, i) for i in some.tolist()]

        size = min(_PART, len(items) // (4 * self.workers) + 1)
        parts = iter([items[at : at + size] for at in range(0, len(items), size)])
        with ThreadPoolExecutor(self.workers) as pool:
            running = deque(
                (some, pool.submit(part, some)) for some in islice(parts, self.workers * 2)
            )
            try:
                while running:
                    some, future = running.popleft()
                    for i, result in zip(some.tolist(), future.result(), strict=True):
                        if isinstance(result, _Failure):
                            self._leave_out(i, result)
                        else:
                            yield i, result
                    self.faults.check(len(self.pictures))
                    progress(len(some))
                    running += [(more, pool.submit(part, more)) for more in islice(parts, 1)]
            finally:
                for _, future in running:
                    future.cancel()

    def _tried(self, work: Callable[[int], T], i: int) -> T | _Failure:
        try:
            return work(i)
        except Unusable as error:
            return _Failure(error.kind, str(error))
        except InputError as error:
            return _Failure("damaged", str(error))
        except OSError as error:
            return _Failure("missing", f"cannot be read ({error.strerror or error})")

    def _leave_out(self, i: int, failure: _Failure) -> None:
        self.states[i] = (BAD, np.void(bytes(16)))
        self.told[i] = failure
        self.faults.add(failure.kind, self.pictures.name(i), failure.reason)

    def _make_room(self, sizes: Mapping[Shape, int]) -> None:
        """Files of their full sizes, whose blocks are there: a full disk would end the process."""
        missing = {
            path: size
            for shape, size in sizes.items()
            if not (path := _path(self.folder, shape)).exists() or path.stat().st_size != size
        }
        require_space(self.folder, sum(missing.values()), "the cache of decoded pictures")
        for path, size in missing.items():
            with path.open("wb") as file:
                if hasattr(os, "posix_fallocate"):
                    os.posix_fallocate(file.fileno(), 0, size)
                else:
                    file.truncate(size)
        sync(self.folder)
