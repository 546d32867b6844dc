"""The cache of decoded pictures."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.data.pictures.making import encoded, put, smooth
from vermilion.data.pictures import Cache, CacheSettings, Decoding, Pictures, decode, read
from vermilion.data.pictures import building as module
from vermilion.errors import InputError, StorageError

SQUARE = CacheSettings(size=16)
SHAPES = CacheSettings(size=32, buckets=True, step=8)


def folder(path: Path, count: int = 40, broken: tuple[int, ...] = ()) -> Path:
    """Pictures of three proportions."""
    for number in range(count):
        high, wide = ((20, 30), (30, 20), (24, 24))[number % 3]
        content = encoded(smooth(high, wide, number))
        put(path / f"{number:03}.png", content[:60] if number in broken else content)
    return path


@pytest.mark.parametrize("settings", [SQUARE, SHAPES, CacheSettings(size=(16, 24))])
@pytest.mark.parametrize("channels", [3, 4])
def test_it_holds_what_decoding_gives(
    tmp_path: Path, settings: CacheSettings, channels: int
) -> None:
    pictures = read(folder(tmp_path / "data"), how=Decoding(channels=channels))
    seen: list[tuple[int, int]] = []
    cache = Cache.open(
        pictures, settings, tmp_path / "cache", on_picture=lambda a, b: seen.append((a, b))
    )
    assert len(cache) == 40
    assert seen[-1] == (40, 40)
    assert len(cache.shapes) == (3 if settings.buckets else 1)
    for i in range(40):
        shape = cache.shapes[cache.shape_of[i]]
        wanted = decode(pictures.content(int(cache.items[i])), shape, pictures.how)
        assert np.array_equal(cache.pixels(i), wanted)
    same = np.flatnonzero(cache.shape_of == 0)[::-1]
    assert np.array_equal(cache.take(same), np.stack([cache.pixels(i) for i in same]))
    if settings.buckets:
        assert set(cache.shapes) == {(40, 24), (32, 32), (24, 40)}
        with pytest.raises(InputError, match="a batch needs one shape, these have 3"):
            cache.take(np.arange(3))


def test_it_decodes_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = read(folder(tmp_path / "data"))
    first = Cache.open(pictures, SQUARE, tmp_path / "cache")
    monkeypatch.setattr(module, "decode", None)
    again = Cache.open(read(tmp_path / "data"), SQUARE, tmp_path / "cache")
    assert np.array_equal(again.take(np.arange(40)), first.take(np.arange(40)))


@pytest.mark.parametrize("workers", [1, 3])
def test_the_files_are_the_same_with_any_number_of_threads(tmp_path: Path, workers: int) -> None:
    data = folder(tmp_path / "data", 200, broken=(3, 150))
    trees = []
    for place, count in (("a", 2), ("b", workers)):
        Cache.open(read(data), SHAPES, tmp_path / place, workers=count)
        trees.append({f.name: f.read_bytes() for f in (tmp_path / place).rglob("*.*")})
    assert trees[0] == trees[1]


def test_damaged_pictures_are_left_out_and_named(tmp_path: Path) -> None:
    data = folder(tmp_path / "data", broken=(7,))
    put(data / "big.png", encoded(smooth(40, 50)))
    pictures = read(data, how=Decoding(max_pixels=1000))
    for settings in (SQUARE, SHAPES):
        for _ in range(2):  # when it is built, and when it is opened
            cache = Cache.open(pictures, settings, tmp_path / "cache")
            assert len(cache) == 39
            assert cache.faults.kinds == {"damaged": 1, "too large": 1}
            assert cache.faults.sentences[0].startswith("007.png: the picture is damaged (")
            assert cache.faults.sentences[1].startswith("big.png: the picture has 50 x 40 pixels")
            assert 7 not in cache.items
            assert cache.pictures.name(int(cache.items[7])) == "008.png"


def test_too_many_damaged_pictures_stop_it(tmp_path: Path) -> None:
    data = folder(tmp_path / "data", broken=(1, 2, 3))
    with pytest.raises(InputError, match=r"3 of 40 pictures cannot be used.*001.png: the picture"):
        Cache.open(read(data), SQUARE, tmp_path / "cache")
    with pytest.raises(InputError, match=r"3 of 40"):  # also when it goes on
        Cache.open(read(data), SQUARE, tmp_path / "cache")
    assert len(Cache.open(read(data, max_faults=0.1), SQUARE, tmp_path / "cache")) == 37
    for name in ("a", "b"):
        put(tmp_path / "bad" / f"{name}.png", b"no")
    with pytest.raises(InputError, match="no picture is left that could be decoded"):
        Cache.open(read(tmp_path / "bad", max_faults=1), SQUARE, tmp_path / "cache")


def test_a_picture_that_has_gone_is_a_fault(tmp_path: Path) -> None:
    pictures = read(folder(tmp_path / "data"))
    (tmp_path / "data" / "004.png").unlink()
    cache = Cache.open(pictures, SQUARE, tmp_path / "cache")
    assert cache.faults.sentences == ["004.png: cannot be read (No such file or directory)"]


def test_copies_are_left_out(tmp_path: Path) -> None:
    pixels, other = encoded(smooth(20, 20)), encoded(smooth(20, 20), "BMP")
    for name, content, text in (
        ("a.png", pixels, "one"),
        ("b.bmp", other, "one"),  # a copy in another format
        ("c.png", pixels, "two"),  # says something else
        ("d.png", encoded(smooth(20, 20, 1)), "one"),
        ("e.png", pixels, "two"),
    ):
        put(tmp_path / "data" / name, content)
        put(tmp_path / "data" / f"{name[0]}.txt", text)
    cache = Cache.open(read(tmp_path / "data"), SQUARE, tmp_path / "cache")
    assert [cache.pictures.name(i) for i in cache.items] == ["a.png", "c.png", "d.png"]
    assert cache.faults.count == 0
    assert cache.faults.report() == "2 copies of other pictures are left out, such as b.bmp"
    both = read(tmp_path / "data")
    train = Cache.open(both.take([0, 3]), SQUARE, tmp_path / "cache")
    held = Cache.open(both.take([2, 3]), SQUARE, tmp_path / "cache")
    assert len(held) == 2
    put(tmp_path / "data" / "f.png", encoded(smooth(20, 20, 2)))
    put(tmp_path / "data" / "f.txt", "six")
    both = read(tmp_path / "data")
    apart = Cache.open(both.take([2, 5]), SQUARE, tmp_path / "cache", apart_from=train)
    assert [apart.pictures.name(i) for i in apart.items] == ["f.png"]


def test_other_files_or_settings_are_another_cache(tmp_path: Path) -> None:
    data = folder(tmp_path / "data", 6)

    def keys() -> set[str]:
        return {path.name for path in (tmp_path / "cache").iterdir() if path.is_dir()}

    def opened(pictures: Pictures, settings: CacheSettings = SQUARE) -> int:
        Cache.open(pictures, settings, tmp_path / "cache")
        return len(keys())

    assert opened(read(data)) == 1
    assert opened(read(data, captions="name")) == 1
    assert opened(read(data), CacheSettings(size=(16, 16), step=8)) == 1
    assert opened(read(data), CacheSettings(size=17)) == 2
    assert opened(read(data, how=Decoding(channels=4))) == 3
    assert opened(read(data, how=Decoding(resample="box"))) == 4
    assert opened(read(data).take([0, 1])) == 5
    os.utime(data / "000.png", ns=(0, 1))
    assert opened(read(data)) == 6


KILLED = """
import os, sys
from pathlib import Path
from vermilion.data.pictures import Cache, CacheSettings, building, read
building._SAVE_SECONDS = 0
def tell(done, total):
    if done >= 192:
        os._exit(9)
Cache.open(read(sys.argv[1]), CacheSettings(size=16), Path(sys.argv[2]), workers=2, on_picture=tell)
"""


def test_a_build_that_was_killed_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = folder(tmp_path / "data", 300, broken=(5, 290))
    done = subprocess.run([sys.executable, "-c", KILLED, str(data), str(tmp_path / "cache")])
    assert done.returncode == 9
    assert not list((tmp_path / "cache").glob("*/header.json"))
    decoded: list[int] = []
    monkeypatch.setattr(module, "decode", lambda c, s, h: decoded.append(1) or decode(c, s, h))
    cache = Cache.open(read(data), SQUARE, tmp_path / "cache")
    assert 100 < len(decoded) < 300
    whole = Cache.open(read(data), SQUARE, tmp_path / "other")
    assert cache.faults.sentences == whole.faults.sentences
    assert np.array_equal(cache.take(np.arange(298)), whole.take(np.arange(298)))


def test_files_that_were_changed_are_refused(tmp_path: Path) -> None:
    cache = Cache.open(read(folder(tmp_path / "data", 6)), SQUARE, tmp_path / "cache")
    path = cache.folder / "pixels-16x16.bin"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(StorageError, match=r"has 4607 bytes where 4608 belong; remove"):
        Cache.open(read(tmp_path / "data"), SQUARE, tmp_path / "cache")


def test_a_full_disk_is_a_sentence(tmp_path: Path) -> None:
    pictures = read(folder(tmp_path / "data", 6))
    many = pictures.take(np.zeros(100_000, np.int64))
    with pytest.raises(StorageError, match="the cache of decoded pictures needs"):
        module.build(many, [(4096, 4096)], 1, tmp_path)


def test_buckets_need_one_number(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="size: with buckets it is one number"):
        CacheSettings(size=(8, 8), buckets=True).shapes()
