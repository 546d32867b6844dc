"""The order of pictures: each once an epoch, the same for any number of processes."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.data.pictures.making import encoded, put, smooth
from vermilion.data.pictures import Batch, Batches, Cache, CacheSettings, read
from vermilion.errors import InputError

COUNTS = (29, 11, 3)  # pictures of three proportions


@pytest.fixture(scope="module")
def caches(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Cache]:
    """The same 43 pictures in one shape and in three."""
    folder = tmp_path_factory.mktemp("pictures")
    rows, number = ["file\tcaption\tlabel"], 0
    for (high, wide), count in zip(((24, 24), (20, 30), (30, 20)), COUNTS, strict=True):
        for _ in range(count):
            put(folder / "data" / f"{number:02}.png", encoded(smooth(high, wide, number)))
            rows += [f"{number:02}.png\t{text} {number}\t{number % 4}" for text in "abc"]
            number += 1
    pictures = read(put(folder / "data" / "all.tsv", "\n".join(rows)), validation=0)
    return {
        "one": Cache.open(pictures, CacheSettings(size=16), folder / "cache"),
        "three": Cache.open(
            pictures, CacheSettings(size=32, buckets=True, step=8), folder / "cache"
        ),
    }


def equal(a: Batch, b: Batch) -> bool:
    return (
        np.array_equal(a.pixels, b.pixels)
        and a.captions == b.captions
        and np.array_equal(a.labels, b.labels)
        and np.array_equal(a.items, b.items)
        and np.array_equal(a.epochs, b.epochs)
        and np.array_equal(a.mirrored, b.mirrored)
    )


def joined(parts: list[Batch]) -> Batch:
    return Batch(
        np.concatenate([part.pixels for part in parts]),
        tuple(text for part in parts for text in part.captions),
        np.concatenate([part.labels for part in parts]),
        np.concatenate([part.items for part in parts]),
        np.concatenate([part.epochs for part in parts]),
        np.concatenate([part.mirrored for part in parts]),
    )


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 2**40), size=st.integers(1, 60), epochs=st.integers(1, 4))
def test_each_picture_comes_once_an_epoch(
    caches: dict[str, Cache], seed: int, size: int, epochs: int
) -> None:
    batches, count = Batches(caches["one"], size, seed=seed), len(caches["one"])
    items, seen = batches.numbers(0, count * epochs)
    for epoch in range(epochs):
        part = slice(epoch * count, (epoch + 1) * count)
        assert sorted(items[part].tolist()) == list(range(count))
        assert (seen[part] == epoch).all()


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 2**40), size=st.integers(1, 20), epochs=st.integers(1, 9))
def test_buckets_give_each_picture_once_an_epoch_but_for_less_than_a_batch(
    caches: dict[str, Cache], seed: int, size: int, epochs: int
) -> None:
    cache = caches["three"]
    batches = Batches(cache, size, seed=seed)
    steps = sum(epochs * count // size for count in COUNTS)
    given_: Counter[int] = Counter()
    times: Counter[tuple[int, int]] = Counter()
    for step in range(steps):
        items, seen = batches.numbers(step * size, size)
        assert len(set(cache.shape_of[items].tolist())) == 1
        given_.update(cache.shape_of[items].tolist())
        times.update(zip(items.tolist(), seen.tolist(), strict=True))
    assert not times or max(times.values()) == 1
    for place in range(3):
        total = epochs * int((cache.shape_of == place).sum())
        assert total - size < given_[place] <= total
        counts = [
            sum(times[item, epoch] for epoch in range(epochs + 1))
            for item in np.flatnonzero(cache.shape_of == place).tolist()
        ]
        assert max(counts) - min(counts) <= 1


@settings(deadline=None, max_examples=60)
@given(
    data=st.data(),
    name=st.sampled_from(["one", "three"]),
    size=st.integers(1, 24),
    step=st.integers(0, 400),
    crop=st.booleans(),
)
def test_any_split_into_processes_gives_the_same_batch(
    caches: dict[str, Cache], data: st.DataObject, name: str, size: int, step: int, crop: bool
) -> None:
    batches = Batches(caches[name], size, seed=5, flip=True, crop=(9, 12) if crop else None)
    whole = batches.batch(step * size, size)
    cuts = sorted(data.draw(st.sets(st.integers(1, size - 1), max_size=4)) if size > 1 else [])
    edges = [0, *cuts, size]
    parts = [
        # Another process, that begins in the middle.
        Batches(caches[name], size, seed=5, flip=True, crop=(9, 12) if crop else None).batch(
            step * size + a, b - a
        )
        for a, b in pairwise(edges)
    ]
    assert equal(joined(parts), whole)


def test_orders_differ_by_seed_and_epoch(caches: dict[str, Cache]) -> None:
    for cache in caches.values():
        one = [Batches(cache, 4, seed=1).numbers(4 * s, 4)[0].tolist() for s in range(30)]
        two = [Batches(cache, 4, seed=2).numbers(4 * s, 4)[0].tolist() for s in range(30)]
        assert one != two
        assert one[:10] != one[10:20] != one[20:30]


def test_without_pixels_the_rest_is_the_same(caches: dict[str, Cache]) -> None:
    batches = Batches(caches["one"], 6, seed=5, flip=True)
    plain = Batches(caches["one"], 6, seed=5)
    whole, rest = batches.batch(6, 6), batches.batch(6, 6, pixels=False)
    assert rest.pixels.size == 0
    assert rest.captions == whole.captions
    assert np.array_equal(rest.mirrored, whole.mirrored)
    assert 0 < whole.mirrored.sum() < 6
    for number, mirrored in enumerate(whole.mirrored):
        pixels = plain.batch(6, 6).pixels[number]
        assert np.array_equal(whole.pixels[number], pixels[:, ::-1] if mirrored else pixels)
    (held,) = batches.in_order(1000, pixels=False)
    assert held.pixels.size == 0
    assert not held.mirrored.any()


def test_flips_crops_and_captions_change_from_epoch_to_epoch(caches: dict[str, Cache]) -> None:
    cache, count = caches["one"], 43
    batches = Batches(cache, count, seed=3, flip=True, crop=(10, 12))
    flipped, corners, texts = 0, Counter[tuple[int, int]](), Counter[str]()
    for epoch in range(20):
        batch = batches.batch(epoch * count, count)
        for pixels, item, text in zip(
            batch.pixels, batch.items.tolist(), batch.captions, strict=True
        ):
            whole = cache.pixels(item)
            found = [
                (mirror, top, left)
                for mirror in (False, True)
                for top in range(7)
                for left in range(5)
                if np.array_equal(
                    whole[top : top + 10, left : left + 12][:, :: -1 if mirror else 1], pixels
                )
            ]
            assert len(found) == 1
            flipped += found[0][0]
            corners[found[0][1:]] += 1
            assert text.split()[1] == cache.pictures.name(item)[:2].lstrip("0") or text[-1] == "0"
            texts[text[0]] += 1
    total = 20 * count
    assert abs(flipped / total - 0.5) < 0.08
    assert len(corners) == 35
    assert max(corners.values()) < 3 * total / 35
    assert {letter: abs(n / total - 1 / 3) < 0.08 for letter, n in texts.items()} == {
        "a": True, "b": True, "c": True,
    }  # fmt: skip


def test_without_chance_pictures_are_as_they_are(caches: dict[str, Cache]) -> None:
    batch = Batches(caches["one"], 8, seed=0).batch(16, 8)
    assert np.array_equal(batch.pixels, caches["one"].take(batch.items))
    assert batch.labels.tolist() == [i % 4 for i in batch.items.tolist()]


def test_validation_goes_through_all_in_order(caches: dict[str, Cache]) -> None:
    for cache in caches.values():
        batches = Batches(cache, 8, seed=0, flip=True)
        parts = list(batches.in_order(8))
        assert sorted(i for part in parts for i in part.items.tolist()) == list(range(43))
        for part in parts:
            assert np.array_equal(part.pixels, cache.take(part.items))
            assert part.captions == tuple(f"a {i}" for i in part.items.tolist())
        few = list(batches.in_order(8, most=3))
        assert len(few) == 3
        assert all(any(equal(part, whole) for whole in parts) for part in few)
        cut = next(iter(Batches(cache, 8, seed=0, crop=(8, 8)).in_order(8)))
        high, wide = parts[0].pixels.shape[1:3]
        top, left = (high - 8) // 2, (wide - 8) // 2
        assert np.array_equal(cut.pixels, parts[0].pixels[:, top : top + 8, left : left + 8])


def test_what_cannot_be_is_a_sentence(caches: dict[str, Cache]) -> None:
    with pytest.raises(InputError, match="batch_size: must be at least 1"):
        Batches(caches["one"], 0, seed=0)
    with pytest.raises(InputError, match="crop: 17 x 8 is larger than the pictures, 16 x 16"):
        Batches(caches["one"], 1, seed=0, crop=(17, 8))
    with pytest.raises(InputError, match="items 6 to 9 are of several steps of 8"):
        Batches(caches["three"], 8, seed=0).batch(6, 4)


def test_far_steps_cost_no_more(caches: dict[str, Cache]) -> None:
    batches = Batches(caches["three"], 4, seed=0)
    far = batches.batch(4 * 10**9, 4)
    assert far.epochs.min() > 10**7


def test_items_without_captions(tmp_path: Path) -> None:
    put(tmp_path / "data" / "a.png")
    cache = Cache.open(read(tmp_path / "data"), CacheSettings(size=8), tmp_path / "cache")
    batch = Batches(cache, 3, seed=0).batch(0, 3)
    assert batch.captions == ("", "", "")
    assert batch.labels.tolist() == [-1, -1, -1]
    assert batch.epochs.tolist() == [0, 1, 2]
