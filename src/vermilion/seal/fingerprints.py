"""Fingerprints: short marks of what a picture, a sound, a film or a text is like, not of its bytes.

A copy that was scaled, encoded anew or lightly changed has nearly the same mark. How far two
marks lie apart says how unlike the contents are.

N shingles or films, P permutations, S samples, C channels, F frames of a film.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vermilion.errors import InputError

# A picture: the lowest 8 x 8 frequencies of a picture of 32 x 32.
_SIDE, _LOW = 32, 8
_DCT = np.cos(np.pi * np.arange(_LOW)[:, None] * (2 * np.arange(_SIDE) + 1) / (2 * _SIDE))

# A sound: differences between neighbouring bands, at times that are spread over the whole.
_TIMES, _BANDS = 65, 9
_LOWEST, _HIGHEST = 150.0, 3500.0  # Hz; what MP3 at 64 kbit/s and a telephone keep
_FRAME_SECONDS = 0.064
_SILENCE = 10 ** (-28 / 20)  # of the loudest frame, so that some noise does not count

# A film: hashes of frames at fixed shares of its length.
FRAMES = 8
_PLAIN = 4.0  # grey levels of deviation; what has less, such as black, tells nothing
_LEAST_FRAMES = 3
_CHUNK = 4096  # films that are compared at once

# A text: 128 permutations give Jaccard's similarity with a standard error of at most 0.044.
_PERMUTATIONS = 128
_WORDS, _CHARACTERS = 3, 5  # of a shingle
_FEWEST = 8  # words or characters: what is shorter, strangers write alike
_CJK = r"\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff"
_UNIT = re.compile(rf"[{_CJK}]|[^\W{_CJK}]+")  # a character of those, or a word

FILMPRINT_BYTES = 8 * FRAMES
SOUNDPRINT_BYTES = (_TIMES - 1) * (_BANDS - 1) // 8
MINHASH_BYTES = 4 * _PERMUTATIONS


def phash(pixels: NDArray[np.uint8]) -> int:
    """A picture's perceptual hash of 64 bits, equal to `imagehash.phash`.

    Grey, scaled to 32 x 32; each bit says whether one of the lowest 8 x 8 coefficients of its
    discrete cosine transform lies above their median. What is transparent counts as white.

    Args:
        pixels: (H, W, 4), (H, W, 3) or (H, W), of any size.

    Raises:
        InputError: it is no such array.
    """
    deep = pixels.shape[2:]
    if (
        pixels.dtype != np.uint8
        or pixels.size == 0
        or pixels.ndim < 2
        or deep not in ((), (3,), (4,))
    ):
        raise InputError("pixels: has to be a uint8 array, (H, W), (H, W, 3) or (H, W, 4)")
    picture = Image.fromarray(pixels)
    if picture.mode == "RGBA" and pixels[..., 3].min() < 255:
        below = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(below, picture)
    small = picture.convert("L").resize((_SIDE, _SIDE), Image.Resampling.LANCZOS)
    low = _DCT @ np.asarray(small, np.float64) @ _DCT.T  # (8, 8)
    bits = np.packbits(low > np.median(low))
    return int.from_bytes(bits.tobytes(), "big")


def phash_distance(first: int, second: int) -> int:
    """In how many of their 64 bits two pictures' hashes differ; unrelated ones in about 32."""
    return (first ^ second).bit_count()


def soundprint(wave: NDArray[np.float32], sample_rate: int) -> bytes:
    """A sound's fingerprint of 512 bits.

    After Haitsma and Kalker (2002), "A Highly Robust Audio Fingerprinting System", equation 1:
    each bit says whether the difference between two neighbouring bands has grown since the time
    before. Theirs has a row every 11.6 ms; here 64 rows are spread over what is not silent at
    the ends, so that a whole sound has one mark, whatever its length.

    Args:
        wave: (S,) or (S, C).
        sample_rate: in Hz, at least 8000.

    Raises:
        InputError: it is no sound, or shorter than a fifth of a second.
    """
    mono = wave.mean(axis=1) if wave.ndim == 2 else wave
    size = int(_FRAME_SECONDS * sample_rate)
    if sample_rate < 8000 or len(mono) < 0.2 * sample_rate:
        raise InputError("wave: has to be at least 0.2 s long, at 8000 Hz or more")
    power = _band_powers(_loud(np.asarray(mono, np.float64), size // 4), sample_rate, size)
    slope = np.diff(np.log(power + 1e-5 * power.max() + 1e-30), axis=1)  # (times, bands - 1)
    return np.packbits(np.diff(slope, axis=0) > 0).tobytes()


def soundprint_distance(first: bytes, second: bytes) -> float:
    """Which share of their bits differs, 0 to 1; in unrelated sounds about a half."""
    one, two = np.frombuffer(first, np.uint64), np.frombuffer(second, np.uint64)
    return int(np.bitwise_count(one ^ two).sum()) / (8 * SOUNDPRINT_BYTES)


def _loud(mono: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    """A sound without the silence at its ends."""
    count = len(mono) // size
    levels = np.sqrt((mono[: count * size].reshape(count, size) ** 2).mean(axis=1))  # (count,)
    loud = np.flatnonzero(levels > _SILENCE * levels.max(initial=0.0))
    if len(loud) == 0:
        return mono
    # The last frame that is not whole belongs to the sound where the one before it is loud.
    end = len(mono) if loud[-1] == count - 1 else (loud[-1] + 1) * size
    return mono[loud[0] * size : end]


def _band_powers(mono: NDArray[np.float64], sample_rate: int, size: int) -> NDArray[np.float64]:
    """Power in each band about each time, (times, bands)."""
    frequency = np.fft.rfftfreq(2 * size, 1 / sample_rate)
    limits = np.searchsorted(frequency, np.geomspace(_LOWEST, _HIGHEST, _BANDS + 1))
    # Frames overlap, and what lies between two times is averaged: a small shift changes little.
    # Of a long sound, twelve frames a time are enough.
    step = max(1, min(size // 2, len(mono) // (2 * _TIMES)), len(mono) // (12 * _TIMES))
    padded = np.pad(mono, size)
    frames = np.lib.stride_tricks.sliding_window_view(padded, 2 * size)[::step]
    place = np.minimum(np.arange(len(frames)) * _TIMES // len(frames), _TIMES - 1)
    power = np.zeros((_TIMES, _BANDS))
    window = np.hanning(2 * size)
    for first in range(0, len(frames), 256):
        spectrum = np.abs(np.fft.rfft(frames[first : first + 256] * window)) ** 2
        bands = np.add.reduceat(spectrum, limits, axis=1)[:, :-1]  # (frames, bands)
        np.add.at(power, place[first : first + 256], bands)
    return power / np.bincount(place, minlength=_TIMES)[:, None]


def filmprint(frames: Sequence[NDArray[np.uint8] | None]) -> bytes | None:
    """A film's fingerprint: the perceptual hashes of 8 of its frames, little-endian, 64 bytes.

    None: less than three of them show anything. A frame that is missing, or all of one colour as
    in a fade, has the hash 0.

    Args:
        frames: `FRAMES` of them, as `phash`; None: it could not be decoded.
    """
    hashes = [0 if frame is None or frame.std() < _PLAIN else phash(frame) for frame in frames]
    if np.count_nonzero(hashes) < _LEAST_FRAMES:
        return None
    return np.array(hashes, "<u8").tobytes()


def filmprint_distance(first: bytes, second: bytes) -> float:
    """In how many of 64 bits two films' frames differ; see `between`."""
    return float(between(np.frombuffer(first, "<u8")[None], np.frombuffer(second, "<u8"))[0])


def between(rows: NDArray[np.uint64], row: NDArray[np.uint64]) -> NDArray[np.float64]:
    """The distances from one film's hashes to those of others.

    The modified Hausdorff distance of Dubuisson and Jain (1994), "A Modified Hausdorff Distance
    for Object Matching", d22 there: each frame is held against the closest of the other film, and
    the average is taken; of the two directions the larger. So the order of scenes does not count,
    nor does a little that was cut off.

    Args:
        rows: of the others, (N, F).
        row: of the one, (F,).

    Returns:
        Bits of 64, (N,).
    """
    own = row[row != 0]  # (f,)
    found = [_hausdorff(rows[i : i + _CHUNK], own) for i in range(0, len(rows), _CHUNK)]
    return np.concatenate(found) if found else np.empty(0)


def _hausdorff(rows: NDArray[np.uint64], own: NDArray[np.uint64]) -> NDArray[np.float64]:
    bits = np.bitwise_count(rows[:, :, None] ^ own)  # (N, F, f)
    shown = rows != 0  # (N, F)
    bits[~shown] = 64
    there = np.where(shown, bits.min(axis=2), 0).sum(axis=1) / np.maximum(1, shown.sum(axis=1))
    back = bits.min(axis=1).mean(axis=1)  # (N,)
    larger: NDArray[np.float64] = np.maximum(there, back)
    return larger


def _units(text: str) -> list[str]:
    return _UNIT.findall(unicodedata.normalize("NFKC", text).casefold())


def shingles(text: str) -> set[str]:
    """The runs of three words, or of five characters in Chinese, Japanese and Korean, of a text.

    Width, case, punctuation and spaces do not count. A text that is shorter is one shingle.
    """
    units = _units(text)
    characters = sum(unit >= "\u3040" for unit in units)
    size = _CHARACTERS if 2 * characters > len(units) else _WORDS
    if len(units) <= size:
        return {" ".join(units)}
    return {" ".join(units[i : i + size]) for i in range(len(units) - size + 1)}


def _constants() -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    drawn = b"".join(
        hashlib.blake2b(bytes([i]), person=b"vermilion.mh", digest_size=16).digest()
        for i in range(_PERMUTATIONS)
    )
    pairs = np.frombuffer(drawn, "<u8").reshape(_PERMUTATIONS, 2)
    return pairs[:, 0] | np.uint64(1), pairs[:, 1].copy()


_FACTORS, _TERMS = _constants()


def minhash(text: str) -> bytes | None:
    """A text's MinHash signature: 128 numbers of 32 bits, little-endian, 512 bytes.

    None: it has less than 8 words (or Chinese characters), so that a text of somebody else may
    well be the same.

    Broder (1997), "On the resemblance and containment of documents". The permutations are
    multiply-shift hashes (Dietzfelbinger 1996) of each shingle's BLAKE2b. Signatures lie in
    ledgers for years, so nothing of this may change; packages that offer MinHash have changed
    theirs between versions.
    """
    if len(_units(text)) < _FEWEST:
        return None
    hashed = b"".join(
        hashlib.blake2b(shingle.encode(errors="replace"), digest_size=8).digest()
        for shingle in shingles(text)
    )
    values = np.frombuffer(hashed, "<u8")  # (N,)
    lowest = np.full(_PERMUTATIONS, 2**32 - 1, np.uint64)
    for first in range(0, len(values), 4096):
        part = values[first : first + 4096, None]
        mixed = (part * _FACTORS + _TERMS) >> np.uint64(32)  # (N, P)
        lowest = np.minimum(lowest, mixed.min(axis=0))
    return lowest.astype("<u4").tobytes()


def minhash_distance(first: bytes, second: bytes) -> float:
    """1 minus Jaccard's similarity of two texts' shingles, estimated; 0 to 1."""
    return float(np.mean(np.frombuffer(first, "<u4") != np.frombuffer(second, "<u4")))
