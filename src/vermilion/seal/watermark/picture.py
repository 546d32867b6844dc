"""A keyed watermark of pictures: 64 bits that outlive JPEG, resizing and cropping.

A pattern of 128x128 points is repeated over the picture, 4, 2 or 1 times along the geometric mean
of its sides. It is a sum of waves ("chips"), each with a sign. A third of them have signs that
only the key gives: they tell where the pattern lies. The others carry the payload's code.

    luminance → canonical size → detail / mask → fold all repeats onto one tile → its waves

A resized picture has the same canonical size. After a crop the scale is unknown: it is searched,
and for each scale one correlation by FFT tries all positions. The mask (how much a place can hide)
is found again from the marked picture. A bit for which the host speaks already gets less of the
energy than one against which it speaks: informed embedding, in the manner of Malvar and Florencio
(2003), one level for each bit.

H, W are rows and columns; T = 128 is the tile's side; N chips.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import fft

from vermilion.errors import InputError
from vermilion.seal.watermark import payload as code
from vermilion.seal.watermark.payload import Found
from vermilion.seal.watermark.tile import (
    TILE,
    Pixels,
    Plane,
    Waves,
    analyse,
    canonical,
    fold,
    pattern_of,
    spectrum_of,
    usual_sizes,
    waves_of,
)

SMALLEST = 16  # pixels of the shorter side: below, nothing is hidden
_CLIP = 2.0  # times the usual size above which a wave's evidence does not grow
_REPEATS = ((448.0, 4), (192.0, 2), (0.0, 1))  # from this geometric mean of the sides on
_SEEN_AT = {4: (150.0, np.inf), 2: (90.0, 900.0), 1: (0.0, 400.0)}  # after resizing by 0.5 to 2
_SMALLEST_PART = 0.70  # of the original's geometric mean of the sides that a crop may leave
_CANDIDATES = 4  # places that are refined and read
_STEPS = 4  # halvings of the step by which a place is refined


def embed(pixels: Pixels, payload: int, key: bytes, strength: float = 1.0) -> Pixels:
    """Hide a payload in a picture.

    Args:
        pixels: (H, W, 4) RGBA. Alpha stays as it is, and so does what is wholly transparent.
        payload: 64 bits, made by `payload.pack`.
        key: 32 bytes.
        strength: 0.25 to 4; 1 is meant not to be seen.

    Raises:
        InputError: the pixels are no picture of at least 16x16, the payload was not packed, or
            the strength is out of range.
    """
    _check(pixels)
    if not 0.25 <= strength <= 4:
        raise InputError(f"strength: must be 0.25 to 4 (found {strength})")
    waves = waves_of(key)
    sent = waves.carrying(payload)
    height, width = pixels.shape[:2]
    repeats = _repeats(math.sqrt(height * width))
    light, scale = canonical(pixels, repeats)
    detail, mask, weight = analyse(light)
    spectrum = spectrum_of(fold(detail, 1.0), waves, float(weight.mean()))
    amounts = _amounts(spectrum, sent, waves)
    rows, columns = (math.ceil(side * scale) + 1 for side in (height, width))
    pattern = pattern_of(amounts, waves)
    canvas = np.pad(mask, ((0, rows - len(mask)), (0, columns - mask.shape[1])), mode="edge")
    canvas *= np.tile(pattern, (-(-rows // TILE), -(-columns // TILE)))[:rows, :columns]
    change = _resize(canvas * np.float32(strength), width, height, width * scale, height * scale)
    marked = pixels.copy()
    seen = pixels[..., 3] > 0
    steps = np.rint(change * seen).astype(np.int16)
    for channel in range(3):  # one at a time: a large picture is held once, not in float32
        marked[..., channel] = np.clip(steps + pixels[..., channel], 0, 255)
    return marked


def _check(pixels: Pixels) -> None:
    if pixels.ndim != 3 or pixels.shape[2] != 4 or pixels.dtype != np.uint8:
        raise InputError(
            f"pixels: must be RGBA bytes of shape (H, W, 4) (found {pixels.dtype} of shape"
            f" {pixels.shape})"
        )
    if min(pixels.shape[:2]) < SMALLEST:
        raise InputError(
            f"pixels: a watermark needs at least {SMALLEST}x{SMALLEST} (found"
            f" {pixels.shape[1]}x{pixels.shape[0]})"
        )


def _resize(plane: Plane, width: int, height: int, of_width: float, of_height: float) -> Plane:
    box = (0.0, 0.0, of_width, of_height)
    image = Image.fromarray(plane).resize((width, height), Image.Resampling.BICUBIC, box=box)
    return np.asarray(image)


def _amounts(
    spectrum: NDArray[np.complex128], sent: NDArray[np.complex128], waves: Waves
) -> NDArray[np.complex128]:
    """How much of each wave to add, of mean square 1 in sum: more where the host disagrees.

    The chips of one bit of the code, and those of the sync, are summed by the detector. Each such
    sum shall reach one level in usual sizes; what it lacks is spread evenly over its chips. The
    level follows by bisection from the energy there is.
    """
    usual = np.repeat(usual_sizes(spectrum, waves), 2)
    wanted = sent.view(np.float64)
    count = np.bincount(waves.group)
    have = np.bincount(waves.group, spectrum.view(np.float64) * wanted / usual)
    reach = np.bincount(waves.group, 1 / usual)
    low, high = 0.0, 20.0
    for _ in range(30):
        level = (low + high) / 2
        lacking = np.maximum((level * count - have) / reach, 0.0)
        if float(np.sum(lacking**2 * count)) < 1.0:
            low = level
        else:
            high = level
    lacking = np.maximum((high * count - have) / reach, 0.0)[waves.group]
    lacking /= max(math.sqrt(float(np.sum(lacking**2))), 1e-9)
    return (lacking * wanted).view(np.complex128)


def _repeats(size: float) -> int:
    """How often the tile is repeated in a picture of this geometric mean of the sides."""
    return next(n for least, n in _REPEATS if size >= least)


def detect(pixels: Pixels, key: bytes, *, search: bool = True) -> Found:
    """Look for a watermark of this key.

    First where an uncropped picture has it, at any size and turned or mirrored in any way; then
    at all offsets and the scales that a crop leaves.

    Args:
        pixels: (H, W, 4) RGBA.
        key: 32 bytes.
        search: False looks only where `embed` puts it, which is enough for a picture that was
            written a moment ago, and quicker.

    Raises:
        InputError: the pixels are no picture of at least 16x16.
    """
    _check(pixels)
    waves = waves_of(key)
    size = math.sqrt(pixels.shape[0] * pixels.shape[1])
    if not search:
        repeats = _repeats(size)
        detail = analyse(canonical(pixels, repeats)[0])[0]
        return _read(_whole(detail, _Place(repeats, 1.0), waves), waves, 1, 1)
    grids = {}
    for repeats, (least, most) in _SEEN_AT.items():
        if least <= size <= most:
            grids[repeats] = analyse(canonical(pixels, repeats)[0])[0]
    places = [_Place(n, 1.0, turn) for n in grids for turn in range(8)]
    best = max((_whole(grids[p.repeats], p, waves) for p in places), key=lambda r: r.score)
    found = _read(best, waves, 2 * len(places), 2)  # twice: this is one of two searches
    if found.asset_id is not None:
        return found
    readings = sorted(
        (r for n, detail in grids.items() for r in _searched(detail, n, waves)),
        key=lambda r: -r.score,
    )
    trials = 2 * (sum(r.trials for r in readings) + _CANDIDATES * _STEPS * 6)
    for reading in readings[:_CANDIDATES]:
        fine = _refined(grids[reading.place.repeats], reading, waves)
        again = _read(fine, waves, trials, 2 * _CANDIDATES)
        if again.probability < found.probability:
            found = again
        if found.asset_id is not None:
            break
    return found


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a tile is taken to lie: repeats, scale, turn (0 to 7) and offset (y, x)."""

    repeats: int
    scale: float
    turn: int = 0
    y: float = 0.0
    x: float = 0.0


@dataclass(frozen=True, slots=True)
class _Reading:
    """What was read at a place: the waves in units of their usual size, and the sync's score."""

    place: _Place
    heard: NDArray[np.complex128]  # (N,)
    score: float
    trials: int = 1


def _heard(tile: Plane, waves: Waves) -> NDArray[np.complex128]:
    spectrum = spectrum_of(tile, waves, 1.0)
    heard = spectrum / usual_sizes(spectrum, waves)
    heard *= np.minimum(1.0, _CLIP / np.maximum(np.abs(heard), 1e-9))
    return heard


def _turned(plane: Plane, turn: int) -> Plane:
    plane = plane[:, ::-1] if turn & 1 else plane
    plane = plane[::-1] if turn & 2 else plane
    return plane.T if turn & 4 else plane


def _shift(waves: Waves, y: float, x: float) -> NDArray[np.complex128]:
    rows = np.where(waves.rows > TILE // 2, waves.rows - TILE, waves.rows)
    factors: NDArray[np.complex128] = np.exp(2j * np.pi / TILE * (rows * y + waves.columns * x))
    return factors


def _score(heard: NDArray[np.complex128], waves: Waves) -> float:
    """The sum of the sync's signs with weights of length 1."""
    sync = heard[waves.sync]
    agreeing = float(np.sum((sync * waves.signs[waves.sync].conj()).real))
    return agreeing / max(float(np.linalg.norm(sync)), 1e-9)


def _whole(detail: Plane, place: _Place, waves: Waves) -> _Reading:
    plane = np.ascontiguousarray(_turned(detail, place.turn))
    heard = _heard(fold(plane, place.scale), waves)
    return _Reading(place, heard, _score(heard, waves))


def _scales(repeats: int) -> NDArray[np.float64]:
    step = 0.016 / repeats  # moves the picture's edges by half a point
    scales: NDArray[np.float64] = np.exp(np.arange(math.log(_SMALLEST_PART), 0.02, step))
    return scales


def _searched(detail: Plane, repeats: int, waves: Waves) -> list[_Reading]:
    """The best offset of each scale."""
    readings = []
    whole = np.zeros((TILE, TILE // 2 + 1), np.complex64)
    at = waves.rows[waves.sync], waves.columns[waves.sync]
    for scale in _scales(repeats):
        tile = fold(detail, float(scale))
        heard = _heard(tile, waves)
        sync = heard[waves.sync]
        whole[at] = sync * waves.signs[waves.sync].conj()
        # irfft2 counts each wave twice and divides by T^2.
        surface = fft.irfft2(whole, s=(TILE, TILE)) * (
            TILE**2 / 2 / max(float(np.linalg.norm(sync)), 1e-9)
        )
        peak = int(surface.argmax())
        y, x = divmod(peak, TILE)
        place = _Place(repeats, float(scale), 0, float(y), float(x))
        readings.append(_Reading(place, heard, float(surface.flat[peak]), TILE * TILE))
    return readings


def _refined(detail: Plane, reading: _Reading, waves: Waves) -> _Reading:
    """The best place near one that was found: scale and offset by ever smaller steps."""
    place = reading.place
    step, move = 0.008 / place.repeats, 0.5
    best = _at(detail, place, waves)
    for _ in range(_STEPS):
        for scale in (1 - step, 1 + step):
            best = max(best, _at(detail, _moved(best.place, scale, 0, 0), waves), key=_by_score)
        for y, x in ((-move, 0), (move, 0), (0, -move), (0, move)):
            best = max(best, _at(detail, _moved(best.place, 1, y, x), waves), key=_by_score)
        step, move = step / 2, move / 2
    return best


def _by_score(reading: _Reading) -> float:
    return reading.score


def _moved(place: _Place, scale: float, y: float, x: float) -> _Place:
    return _Place(place.repeats, place.scale * scale, place.turn, place.y + y, place.x + x)


def _at(detail: Plane, place: _Place, waves: Waves) -> _Reading:
    heard = _heard(fold(detail, place.scale), waves) * _shift(waves, place.y, place.x)
    return _Reading(place, heard, _score(heard, waves))


def _read(reading: _Reading, waves: Waves, trials: int, readings: int) -> Found:
    """The payload that a reading holds, and how probable it is by chance."""
    chips = reading.heard.view(np.float64) * waves.signs.view(np.float64)
    sums = np.bincount(waves.group, chips)[: code.CODE_BITS].astype(np.float64)
    return code.found(sums, reading.score, trials, readings)
