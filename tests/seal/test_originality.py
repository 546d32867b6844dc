"""Fingerprints, against an independent implementation, and the search among them."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from datasketch import MinHash
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from vermilion.errors import InputError
from vermilion.seal.fingerprints import (
    minhash,
    minhash_distance,
    phash,
    phash_distance,
    shingles,
    soundprint,
    soundprint_distance,
)
from vermilion.seal.originality import Index, Prints

# What imagehash 4.3.2 gives for these pictures.
REFERENCE = {
    0: "9e11a9f393a46c59",
    1: "a1d6a939ec0c16f3",
    2: "95d9585613bcec61",
    3: "f853e9c1ceb91146",
    4: "ccd18386ac297bd6",
}


def picture(seed: int, side: int = 200) -> np.ndarray:
    """Soft coloured clouds, (side, side, 3), uint8."""
    small = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(small).resize((side, side), Image.Resampling.BICUBIC))


def test_phash_is_that_of_imagehash() -> None:
    assert {seed: f"{phash(picture(seed)):016x}" for seed in REFERENCE} == REFERENCE


def test_copies_of_a_picture_are_near_and_others_far() -> None:
    for seed in range(5):
        pixels = picture(seed)
        file = io.BytesIO()
        Image.fromarray(pixels).resize((90, 90)).save(file, "JPEG", quality=40)
        copy = np.asarray(Image.open(file))
        assert phash_distance(phash(pixels), phash(copy)) <= 4
        assert phash_distance(phash(pixels), phash(picture(seed + 100))) > 12


def test_what_is_transparent_counts_as_white() -> None:
    pixels = np.dstack([picture(1), np.zeros((200, 200), np.uint8)])
    assert phash(pixels) == phash(np.full((200, 200, 4), 255, np.uint8))


@pytest.mark.parametrize("shape", [(0, 5, 3), (5, 5, 2), (5,)])
def test_what_is_no_picture_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="pixels"):
        phash(np.zeros(shape, np.uint8))


def sound(seed: int, seconds: float = 3.0, rate: int = 24_000) -> np.ndarray:
    """Notes that come and go, (S,), float32."""
    rng = np.random.default_rng(seed)
    time = np.arange(int(seconds * rate)) / rate
    wave = np.zeros_like(time)
    for _ in range(25):
        start, pitch = rng.uniform(0, seconds), rng.uniform(150, 3000)
        wave += np.sin(2 * np.pi * pitch * time) * np.exp(-8 * np.abs(time - start))
    return (0.2 * wave / np.abs(wave).max() + 1e-3 * rng.normal(size=len(time))).astype(np.float32)


def test_copies_of_a_sound_are_near_and_others_far() -> None:
    rng = np.random.default_rng(0)
    for seed in range(4):
        wave = sound(seed)
        mark = soundprint(wave, 24_000)
        assert len(mark) == 64
        silence = np.zeros(12_000, np.float32)
        changed = {
            "quieter": 0.3 * wave,
            "noise": wave + rng.normal(0, 2e-3, len(wave)).astype(np.float32),
            "half the rate": wave.reshape(-1, 2).mean(axis=1),
            "two channels": np.stack([wave, wave], axis=1),
            "silence before": np.concatenate([silence, wave]),
        }
        for name, other in changed.items():
            rate = 12_000 if name == "half the rate" else 24_000
            distance = soundprint_distance(mark, soundprint(other, rate))
            assert distance < 0.3, name
        assert soundprint_distance(mark, soundprint(sound(seed + 50), 24_000)) > 0.35


def test_a_sound_that_is_too_short_has_no_print() -> None:
    with pytest.raises(InputError, match="wave"):
        soundprint(np.zeros(100, np.float32), 24_000)
    assert len(soundprint(np.zeros(24_000, np.float32), 24_000)) == 64


def test_shingles_are_words_in_english_and_characters_in_chinese() -> None:
    assert shingles("Hello, World: it is ME!") == {"hello world it", "world it is", "it is me"}
    assert shingles("今天天气好。") == {"今 天 天 气 好"}
    assert shingles("今天 天气，好的") == {"今 天 天 气 好", "天 天 气 好 的"}
    assert shingles("eel") == {"eel"}
    assert shingles("") == {""}


@given(st.text(max_size=200))
def test_any_long_text_has_a_signature_and_is_its_own_neighbour(text: str) -> None:
    long = text + " the tea is ready and nobody has come"
    signature = minhash(long)
    assert signature is not None
    assert len(signature) == 512
    assert minhash_distance(signature, signature) == 0
    assert signature == minhash(f"  {long.upper().lower()} ") or long != long.upper().lower()


@pytest.mark.parametrize("text", ["", "...", "Hi!", "the tea is ready now, come", "一杯好茶慢慢来"])
def test_what_strangers_write_alike_has_no_signature(text: str) -> None:
    assert minhash(text) is None
    assert minhash(f"{text} and here is why it matters to all of us") is not None


def test_minhash_estimates_the_share_of_shingles_as_well_as_datasketch() -> None:
    rng = np.random.default_rng(3)
    words = [f"word{i}" for i in range(400)]
    for changed in (0, 10, 40, 120, 300):
        other = words.copy()
        for place in rng.choice(400, changed, replace=False):
            other[place] = f"other{place}"
        one, two = " ".join(words), " ".join(other)
        sets = shingles(one), shingles(two)
        exact = len(sets[0] & sets[1]) / len(sets[0] | sets[1])
        reference = [MinHash(num_perm=128) for _ in sets]
        for sketch, items in zip(reference, sets, strict=True):
            sketch.update_batch([item.encode() for item in items])
        estimate = 1 - minhash_distance(minhash(one), minhash(two))
        # Four standard errors of 128 permutations; the reference has to be as near.
        assert estimate == pytest.approx(exact, abs=4 * 0.0442)
        assert reference[0].jaccard(reference[1]) == pytest.approx(exact, abs=4 * 0.0442)


def test_signatures_stay_what_they_are() -> None:
    """Ledgers keep them for years."""
    signature = minhash("the tea is ready now, and nobody has come for it")
    assert signature is not None
    assert signature[:8].hex() == KEPT


KEPT = "e8effb2156bdb101"


def test_the_closest_known_thing_is_found_with_its_score() -> None:
    index = Index()
    for seed in range(60):
        index.add(f"p{seed}", Prints(picture=phash(picture(seed))))
    index.add("t", Prints(text=minhash("the quick brown fox jumps over the lazy dog")))
    index.add("v", Prints(vector=np.array([3.0, 4.0], np.float32)))
    assert len(index) == 62
    near = index.nearest(Prints(picture=phash(picture(7))))[0]
    assert (near.name, near.distance, near.score) == ("p7", 0, 0)
    others = index.nearest(Prints(picture=phash(picture(7))), 3, but=lambda name: name == "p7")
    assert "p7" not in [other.name for other in others]
    assert [o.distance for o in others] == sorted(o.distance for o in others)
    assert index.nearest(Prints(picture=phash(picture(7)) ^ 0xFFFF), within=10) == []
    vector = index.nearest(Prints(vector=np.array([-4.0, 3.0], np.float32)))[0]
    assert (vector.distance, vector.score) == (pytest.approx(1), 1)
    text = index.nearest(Prints(text=minhash("The quick brown fox jumps over the lazy dog!")))[0]
    assert (text.name, text.distance, text.score) == ("t", 0, 0)
    assert "t (text, distance 0)" in str(text)
    assert index.nearest(Prints(sound=bytes(64))) == []


def test_the_nearest_is_that_of_a_search_through_all(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    hashes = [int(h) for h in rng.integers(0, 2**63, 500)]
    index = Index("stickers")
    for number, value in enumerate(hashes):
        index.add(str(number), Prints(picture=value))
    index.write(tmp_path / "index.safetensors")
    read = Index.read(tmp_path / "index.safetensors")
    assert read.source == "stickers"
    for value in map(int, rng.integers(0, 2**63, 20)):
        expected = min(phash_distance(value, known) for known in hashes)
        assert index.nearest(Prints(picture=value))[0].distance == expected
        assert read.nearest(Prints(picture=value)) == index.nearest(Prints(picture=value))
    read.add("new", Prints(picture=1))
    assert read.nearest(Prints(picture=1))[0].name == "new"


@pytest.mark.parametrize("content", [b"", b"nothing", b"\x02" + bytes(7) + b"{}"])
def test_what_is_no_index_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    with pytest.raises(InputError, match="index: "):
        Index.read(path)


def test_vectors_of_another_length_are_refused() -> None:
    index = Index()
    index.add("a", Prints(vector=np.ones(3, np.float32)))
    with pytest.raises(InputError, match="prints"):
        index.add("b", Prints(vector=np.ones(4, np.float32)))
    with pytest.raises(InputError, match="prints"):
        index.nearest(Prints(vector=np.ones(4, np.float32)))
