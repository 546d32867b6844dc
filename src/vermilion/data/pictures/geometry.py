"""Shapes that pictures are brought to, and which chance decides what, as pure functions.

Shape letters: H W of a picture, N items.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from vermilion.errors import InputError

Shape = tuple[int, int]
"""H and W in pixels."""

LARGEST_SIDE = 4096


def whole_shape(size: int | Shape) -> Shape:
    """H and W of a size: a number stands for a square.

    Raises:
        InputError: a side is not from 1 to 4,096.
    """
    high, wide = (size, size) if isinstance(size, int) else size
    if not (1 <= high <= LARGEST_SIDE and 1 <= wide <= LARGEST_SIDE):
        raise InputError(f"size: sides must be from 1 to {LARGEST_SIDE} (found {high} x {wide})")
    return high, wide


def buckets(size: int, *, step: int = 64, ratio: float = 2.0) -> tuple[Shape, ...]:
    """Shapes of many proportions that have about the area of a square.

    For each width in steps, the greatest height in steps that keeps within the area, and the same
    lying down (aspect ratio bucketing, NovelAI 2022).

    Args:
        size: side of the square, a multiple of `step`.
        step: sides are multiples of it: what the model divides them by.
        ratio: the longer side is at most this many times the shorter one, at least 1.

    Returns:
        Shapes from tall to wide, the square among them.

    Raises:
        InputError: the numbers do not fit together.
    """
    if step < 1 or size < step or size % step:
        raise InputError(f"size: {size} must be a multiple of the buckets' step, {step}")
    if not 1 <= ratio <= 64:
        raise InputError(f"ratio: must be from 1 to 64 (found {ratio})")
    found = {(size, size)}
    for short in range(step, size, step):
        long = size * size // short // step * step
        if long <= ratio * short and long <= LARGEST_SIDE:
            found |= {(short, long), (long, short)}
    return tuple(sorted(found, key=lambda shape: (shape[1] / shape[0], shape)))


def nearest(shapes: Sequence[Shape], sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Which shape has the proportions that are nearest to each picture's.

    Args:
        shapes: to choose from.
        sizes: H and W of pictures, (N, 2), at least 1.

    Returns:
        Places in `shapes`, int64 (N,). Proportions are compared by their logarithm.
    """
    of_shapes = np.log([wide / high for high, wide in shapes])  # (number of shapes,)
    of_pictures = np.log(sizes[:, 1] / sizes[:, 0])  # (N,)
    order = np.argsort(of_shapes, kind="stable")
    between = (of_shapes[order][1:] + of_shapes[order][:-1]) / 2
    return order[np.searchsorted(between, of_pictures)].astype(np.int64)


def gathered(shapes: Sequence[Shape], sizes: NDArray[np.int64], least: int) -> NDArray[np.int64]:
    """As `nearest`, but no shape that is chosen is chosen by fewer than `least` pictures.

    The rarest shape gives its pictures to the nearest ones that are left, again and again, so that
    batches need not repeat a few pictures of rare proportions.
    """
    left = list(range(len(shapes)))
    while True:
        chosen = nearest([shapes[i] for i in left], sizes)  # (N,), places in left
        counts = np.bincount(chosen, minlength=len(left))
        left = [i for i, count in zip(left, counts, strict=True) if count > 0]
        counts = counts[counts > 0]
        if len(left) <= 1 or counts.min() >= least:
            break
        del left[int(counts.argmin())]
    if not left:
        return np.zeros(0, np.int64)
    return np.asarray(left)[nearest([shapes[i] for i in left], sizes)].astype(np.int64)


def chance(
    seed: int, epochs: NDArray[np.int64], items: NDArray[np.int64], salt: int
) -> NDArray[np.uint64]:
    """A hash of (seed, epoch, item, salt): evenly spread bits, the same on every machine.

    SplitMix64 (Steele, Lea and Flood 2014) over the four, one after the other.

    Args:
        seed: of the run.
        epochs: how often each item was seen before, (N,).
        items: numbers of the items, (N,).
        salt: tells the uses of chance apart.

    Returns:
        uint64 (N,).
    """
    mixed = np.full(items.shape, seed % 2**64, np.uint64)
    for part in (epochs, items, np.full(items.shape, salt, np.int64)):
        mixed = _splitmix(mixed ^ part.astype(np.uint64))
    return mixed


def _splitmix(value: NDArray[np.uint64]) -> NDArray[np.uint64]:
    value = value + np.uint64(0x9E3779B97F4A7C15)
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))


def below(limit: int, chances: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Chances as whole numbers from 0 to `limit` - 1, int64 (N,); `limit` is at most 2^32."""
    return ((chances >> np.uint64(32)) * np.uint64(limit) >> np.uint64(32)).astype(np.int64)


def margins(shape: Shape, crop: Shape) -> Shape:
    """By how much H and W of a picture exceed those of its crop.

    Raises:
        InputError: the crop is larger than the picture.
    """
    if crop[0] > shape[0] or crop[1] > shape[1]:
        raise InputError(
            f"crop: {crop[0]} x {crop[1]} is larger than the pictures, {shape[0]} x {shape[1]}"
        )
    return shape[0] - crop[0], shape[1] - crop[1]


def ratio_of(shape: Shape) -> float:
    """W / H as the logarithm to base 2: 0 is a square, 1 twice as wide as high."""
    return math.log2(shape[1] / shape[0])
