"""Which pictures make which batch: a pure function of the seed and the number.

Nothing about the order is kept anywhere, so that a run that is taken up again, or is spread over
several processes, sees the very same batches, to the bit.

    One shape: item after item in a permutation of its own for each epoch, as `data.windows` does.
    Several shapes (buckets): each shape has such a stream of its own and gives whole batches of
    it. An epoch of all has as many batches of a shape as its stream has gone on by, so that after
    e epochs a shape with n pictures has given e n of them, but for less than a batch.

Shape letters: B batch, H W of a picture, C channels, N items.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from vermilion.data.pictures.cache import Cache
from vermilion.data.pictures.decoding import Pixels
from vermilion.data.pictures.geometry import Shape, below, chance, margins
from vermilion.errors import InputError

_FLIP, _TOP, _LEFT, _CAPTION = 1, 2, 3, 4  # what a chance decides
_CHUNKS = 5  # of the permutations of batches


@dataclass(frozen=True, slots=True)
class Batch:
    """Pictures of one shape with what is said of them.

    Attributes:
        pixels: uint8 (B, H, W, C), straight alpha where C is 4; (B, 0, 0, C) where none are wanted.
        captions: one of each picture's, or "".
        labels: indices of classes, int64 (B,), -1: none.
        items: places in the cache, int64 (B,).
        epochs: how often each was given before, int64 (B,).
        mirrored: whether each is mirrored, bool (B,).
    """

    pixels: Pixels
    captions: tuple[str, ...]
    labels: NDArray[np.int64]
    items: NDArray[np.int64]
    epochs: NDArray[np.int64]
    mirrored: NDArray[np.bool_]


class Batches:
    """Batches of decoded pictures by number.

    Args:
        cache: the pictures.
        batch_size: items of a step of all processes together.
        seed: of order, flips, crops and choice of captions.
        flip: whether half of the pictures are mirrored, left to right.
        crop: H and W that are cut out, at random in training and from the middle in validation;
            None: whole pictures.

    Raises:
        InputError: the crop is larger than a picture, or the batch size is below 1.
    """

    def __init__(
        self,
        cache: Cache,
        batch_size: int,
        *,
        seed: int,
        flip: bool = False,
        crop: Shape | None = None,
    ) -> None:
        if batch_size < 1:
            raise InputError(f"batch_size: must be at least 1 (found {batch_size})")
        self.cache, self.batch_size, self.seed, self.flip = cache, batch_size, seed, flip
        self.crop = crop
        self.shapes = cache.shapes if crop is None else (crop,)
        for shape in cache.shapes if crop is not None else ():
            margins(shape, crop or shape)
        self._of = [np.flatnonzero(cache.shape_of == place) for place in range(len(cache.shapes))]
        self._counts = np.asarray([len(items) for items in self._of], np.int64)
        self._permutation = lru_cache(maxsize=2 * len(self._of) + 2)(self._draw)
        self._epoch = lru_cache(maxsize=2)(self._draw_epoch)
        self._labels = cache.pictures.labels[cache.items]

    def numbers(self, first: int, size: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Which items, and how often each was given before, int64 (size,) both.

        Args:
            first: number of the first item since the run began.
            size: how many.

        Raises:
            InputError: there are several shapes, and the items are not of one step.
        """
        at = np.arange(first, first + size)
        if len(self._of) == 1:
            return self._stream(0, at)
        step, within = divmod(first, self.batch_size)
        if within + size > self.batch_size:
            raise InputError(
                f"batch: items {first} to {first + size - 1} are of several steps of"
                f" {self.batch_size}, whose shapes may differ; ask for those of one step"
            )
        place, chunk = self._chunk(step)
        return self._stream(place, chunk * self.batch_size + within + np.arange(size))

    def batch(self, first: int, size: int, *, pixels: bool = True) -> Batch:
        """Items number `first` to `first + size - 1` since the run began.

        Args:
            first: likewise.
            size: how many.
            pixels: whether pixels are wanted, which else are not read.

        Raises:
            InputError: as `numbers`.
        """
        items, epochs = self.numbers(first, size)
        shape = self.cache.shapes[int(self.cache.shape_of[items[0]])]
        corners = None
        if self.crop is not None:
            high, wide = margins(shape, self.crop)
            corners = np.stack(
                [
                    below(high + 1, self._chance(epochs, items, _TOP)),
                    below(wide + 1, self._chance(epochs, items, _LEFT)),
                ],
                axis=1,
            )  # (B, 2)
        mirrored = np.zeros(size, np.bool_)
        if self.flip:
            mirrored = (self._chance(epochs, items, _FLIP) >> np.uint64(63)).astype(bool)
        found = self._pixels(items, corners, pixels)
        if self.flip and pixels:
            found = np.where(mirrored[:, None, None, None], found[:, :, ::-1], found)
        captions = self._captions(items, self._chance(epochs, items, _CAPTION))
        return Batch(found, captions, self._labels[items], items, epochs, mirrored)

    def in_order(
        self, size: int, most: int | None = None, *, pixels: bool = True
    ) -> Iterator[Batch]:
        """All pictures, shape by shape, unflipped, their middle and first captions: for validation.

        Args:
            size: the most in a batch.
            most: how many batches; None: all. Fewer are taken evenly from the whole.
            pixels: whether pixels are wanted, which else are not read.
        """
        parts = [of[at : at + size] for of in self._of for at in range(0, len(of), size)]
        if most is not None and most < len(parts):
            parts = [parts[i * len(parts) // most] for i in range(most)]
        for items in parts:
            shape = self.cache.shapes[int(self.cache.shape_of[items[0]])]
            corners = None
            if self.crop is not None:
                corners = np.tile(np.asarray(margins(shape, self.crop)) // 2, (len(items), 1))
            found = self._pixels(items, corners, pixels)
            captions, none = self._captions(items, None), np.zeros_like(items)
            yield Batch(found, captions, self._labels[items], items, none, none.astype(bool))

    def _pixels(
        self, items: NDArray[np.int64], corners: NDArray[np.int64] | None, wanted: bool
    ) -> Pixels:
        if not wanted:
            return np.zeros((len(items), 0, 0, self.cache.pictures.how.channels), np.uint8)
        return self._cut(self.cache.take(items), corners)

    def _chance(
        self, epochs: NDArray[np.int64], items: NDArray[np.int64], salt: int
    ) -> NDArray[np.uint64]:
        return chance(self.seed, epochs, items, salt)

    def _cut(self, pixels: Pixels, corners: NDArray[np.int64] | None) -> Pixels:
        if corners is None or self.crop is None:
            return pixels
        high, wide = self.crop
        return np.stack(
            [
                picture[top : top + high, left : left + wide]
                for picture, (top, left) in zip(pixels, corners.tolist(), strict=True)
            ]
        )

    def _captions(
        self, items: NDArray[np.int64], chances: NDArray[np.uint64] | None
    ) -> tuple[str, ...]:
        found = [self.cache.pictures.captions(int(self.cache.items[i])) for i in items]
        if chances is None:
            return tuple(captions[0] if captions else "" for captions in found)
        return tuple(
            captions[int(below(len(captions), chances[n : n + 1])[0])] if captions else ""
            for n, captions in enumerate(found)
        )

    def _stream(
        self, place: int, at: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Items at places of a shape's endless stream, and how often the stream went round."""
        epochs, within = np.divmod(at, self._counts[place])
        items = np.empty(len(at), np.int64)
        for epoch in np.unique(epochs):
            now = epochs == epoch
            items[now] = self._permutation(place, int(epoch))[within[now]]
        return items, epochs

    def _draw(self, place: int, epoch: int) -> NDArray[np.int64]:
        draw = np.random.default_rng((self.seed, epoch, place))
        return self._of[place][draw.permutation(len(self._of[place]))]

    def _given(self, epoch: int) -> NDArray[np.int64]:
        """Whole batches that each shape has given before an epoch, (number of shapes,)."""
        return epoch * self._counts // self.batch_size

    def _chunk(self, step: int) -> tuple[int, int]:
        """The shape of a step, and the number of the batch in that shape's stream."""
        low, high = 0, (step + len(self._of) + 1) * self.batch_size // int(self._counts.sum()) + 2
        while high - low > 1:  # the epoch that the step is in
            middle = (low + high) // 2
            low, high = (middle, high) if self._given(middle).sum() <= step else (low, middle)
        places, chunks = self._epoch(low)
        within = step - int(self._given(low).sum())
        return int(places[within]), int(chunks[within])

    def _draw_epoch(self, epoch: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        before, after = self._given(epoch), self._given(epoch + 1)
        places = np.repeat(np.arange(len(self._of)), after - before)
        chunks = np.concatenate([np.arange(a, b) for a, b in zip(before, after, strict=True)])
        order = np.random.default_rng((self.seed, epoch, _CHUNKS, 1)).permutation(len(places))
        return places[order], chunks[order]
