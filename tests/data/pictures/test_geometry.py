"""Shapes and chances."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vermilion.data.pictures.geometry import (
    below,
    buckets,
    chance,
    gathered,
    margins,
    nearest,
    whole_shape,
)
from vermilion.errors import InputError


def test_buckets_of_512() -> None:
    shapes = buckets(512)
    assert (512, 512) in shapes
    assert set(shapes) == {(w, h) for h, w in shapes}
    assert shapes[0] == (704, 320) or shapes[0][0] / shapes[0][1] <= 2
    for high, wide in shapes:
        assert high % 64 == wide % 64 == 0
        assert high * wide <= 512 * 512
        assert max(high, wide) + 64 > 512 * 512 // min(high, wide) // 64 * 64
        assert max(high / wide, wide / high) <= 2
    assert shapes == ((640, 384), (576, 448), (512, 512), (448, 576), (384, 640))


@given(
    step=st.sampled_from([1, 8, 16]),
    sides=st.integers(1, 12),
    ratio=st.floats(1, 8),
    sizes=st.lists(st.tuples(st.integers(1, 9000), st.integers(1, 9000)), min_size=1, max_size=20),
)
def test_each_picture_gets_the_shape_that_is_nearest(
    step: int, sides: int, ratio: float, sizes: list[tuple[int, int]]
) -> None:
    shapes = buckets(step * sides, step=step, ratio=ratio)
    chosen = nearest(shapes, np.asarray(sizes))
    for (high, wide), place in zip(sizes, chosen.tolist(), strict=True):
        away = [abs(np.log(wide / high * h / w)) for h, w in shapes]
        assert away[place] == pytest.approx(min(away))


@given(
    least=st.integers(1, 30),
    sizes=st.lists(st.tuples(st.integers(1, 100), st.integers(1, 100)), min_size=1, max_size=60),
)
def test_no_shape_has_few_pictures(least: int, sizes: list[tuple[int, int]]) -> None:
    shapes = buckets(64, step=8, ratio=4)
    counts = np.bincount(gathered(shapes, np.asarray(sizes), least), minlength=len(shapes))
    used = counts[counts > 0]
    assert counts.sum() == len(sizes)
    assert len(used) == 1 or used.min() >= least


def test_gathering_leaves_what_is_plentiful_alone() -> None:
    shapes = ((80, 40), (64, 64), (40, 80))
    sizes = np.asarray([(80, 40)] * 9 + [(64, 64)] + [(40, 80)] * 9)
    assert gathered(shapes, sizes, 5).tolist() in ([0] * 10 + [2] * 9, [0] * 9 + [2] * 10)
    assert gathered(shapes, sizes, 1).tolist() == [0] * 9 + [1] + [2] * 9
    assert set(gathered(shapes, sizes, 50).tolist()) == {0} or set(
        gathered(shapes, sizes, 50).tolist()
    ) == {2}
    assert gathered(shapes, np.zeros((0, 2), np.int64), 5).tolist() == []


def test_chances_are_even_and_stay_what_they_are() -> None:
    items, epochs = np.arange(40_000), np.zeros(40_000, np.int64)
    drawn = chance(1, epochs, items, 2)
    counts = np.bincount(below(8, drawn), minlength=8)
    assert np.abs(counts - 5000).max() < 5 * np.sqrt(5000 * 7 / 8)
    for other in (chance(2, epochs, items, 2), chance(1, epochs + 1, items, 2),
                  chance(1, epochs, items, 3), chance(1, epochs, items + 1, 2)):  # fmt: skip
        same = (drawn >> np.uint64(63) == other >> np.uint64(63)).mean()
        assert abs(same - 0.5) < 0.02
    assert chance(0, np.zeros(1, np.int64), np.zeros(1, np.int64), 1).tolist() == [
        _splitmix_by_hand(0, 0, 0, 1)
    ]


def _splitmix_by_hand(*parts: int) -> int:
    """SplitMix64 in whole numbers of Python, as its authors wrote it in C."""
    mixed, mask = parts[0], 2**64 - 1
    for part in parts[1:]:
        z = (mixed ^ part) + 0x9E3779B97F4A7C15 & mask
        z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & mask
        z = (z ^ z >> 27) * 0x94D049BB133111EB & mask
        mixed = z ^ z >> 31
    return mixed


@given(limit=st.integers(1, 2**32), value=st.integers(0, 2**64 - 1))
def test_chances_stay_below_a_limit(limit: int, value: int) -> None:
    assert 0 <= int(below(limit, np.asarray([value], np.uint64))[0]) < limit


def test_sizes_that_cannot_be() -> None:
    assert whole_shape(8) == (8, 8)
    assert whole_shape((8, 9)) == (8, 9)
    for size in (0, (3, 5000)):
        with pytest.raises(InputError, match="size: sides must be from 1 to 4096"):
            whole_shape(size)
    with pytest.raises(InputError, match="size: 100 must be a multiple of the buckets' step, 64"):
        buckets(100)
    with pytest.raises(InputError, match="ratio: must be from 1"):
        buckets(64, ratio=0.5)
    with pytest.raises(InputError, match="crop: 9 x 8 is larger than the pictures, 8 x 8"):
        margins((8, 8), (9, 8))
