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
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import fft, ndimage, sparse

from vermilion.errors import InputError
from vermilion.seal.watermark import payload as code
from vermilion.seal.watermark.key import derive, shuffled, signs
from vermilion.seal.watermark.payload import Found

Pixels = NDArray[np.uint8]
Plane = NDArray[np.float32]

TILE = 128
SMALLEST = 16  # pixels of the shorter side: below, nothing is hidden
_INNER, _OUTER = 6.0, 34.0  # waves per tile, between which the chips lie
_OFF_AXIS = 2  # waves closer to the axes are left out: lines of text and block edges lie there
_SYNC = 1 / 3  # share of the waves that tell where the pattern lies
_CALM = 0.6  # grey levels, root mean square, on flat areas
_BUSY = 0.16  # share of the local spread (5x5 points) that is added on busy areas
_EDGE, _EDGE_LOUDEST = 0.06, 2.0  # the same on narrow lines and edges, and grey levels at most
_LOUDEST = 4.0  # grey levels, root mean square
_CLIP = 2.0  # times the usual size above which a wave's evidence does not grow
_REPEATS = ((448.0, 4), (192.0, 2), (0.0, 1))  # from this geometric mean of the sides on
_SEEN_AT = {4: (150.0, np.inf), 2: (90.0, 900.0), 1: (0.0, 400.0)}  # after resizing by 0.5 to 2
_SMALLEST_PART = 0.70  # of the original's geometric mean of the sides that a crop may leave
_CANDIDATES = 4


@dataclass(frozen=True, slots=True)
class _Waves:
    """The waves of a key: which they are, and what their signs are for."""

    rows: NDArray[np.int64]  # (N,)
    columns: NDArray[np.int64]  # (N,)
    ring: NDArray[np.int64]  # (N,) waves of about one length have one number
    sync: NDArray[np.bool_]  # (N,)
    signs: NDArray[np.complex128]  # (N,) ±1 ± 1j; each part is a chip
    group: NDArray[np.int64]  # (2N,) the code's bit that each chip carries; 216 for the sync

    def carrying(self, payload: int) -> NDArray[np.complex128]:
        """The signs with the payload's code on them."""
        bits = np.append(code.encode(payload), 1).astype(np.float64)
        return (self.signs.view(np.float64) * bits[self.group]).view(np.complex128)


@lru_cache(maxsize=4)
def _waves(key: bytes) -> _Waves:
    rows, columns = np.meshgrid(
        np.arange(-TILE // 2, TILE // 2), np.arange(TILE // 2), indexing="ij"
    )
    length = np.hypot(rows, columns)
    used = (length >= _INNER) & (length <= _OUTER)
    used &= (np.abs(rows) >= _OFF_AXIS) & (columns >= _OFF_AXIS)
    rows, columns, length = rows[used], columns[used], length[used]
    count = len(rows)
    ours = derive(key, "picture watermark")
    sync = np.zeros(count, bool)
    sync[shuffled(ours, "sync", count)[: round(_SYNC * count)]] = True
    coins = signs(ours, "signs", 2 * count)
    group = np.full((count, 2), code.CODE_BITS)
    chips = 2 * int((~sync).sum())
    group[~sync] = (shuffled(ours, "bits", chips) % code.CODE_BITS).reshape(-1, 2)
    ring = np.round((length - _INNER) / 2).astype(np.int64)
    return _Waves(rows % TILE, columns, ring, sync, coins[::2] + 1j * coins[1::2], group.ravel())


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
    waves = _waves(key)
    sent = waves.carrying(payload)
    height, width = pixels.shape[:2]
    repeats = next(n for size, n in _REPEATS if math.sqrt(height * width) >= size)
    light, scale = _canonical(pixels, repeats)
    detail, mask, weight = _analyse(light)
    spectrum = _spectrum(_fold(detail, 1.0), waves, float(weight.mean()))
    amounts = _amounts(spectrum, sent, waves)
    rows, columns = (math.ceil(side * scale) + 1 for side in (height, width))
    pattern = _pattern(amounts, waves)
    canvas = np.pad(mask, ((0, rows - len(mask)), (0, columns - mask.shape[1])), mode="edge")
    canvas *= np.tile(pattern, (-(-rows // TILE), -(-columns // TILE)))[:rows, :columns]
    change = _resize(canvas * np.float32(strength), width, height, width * scale, height * scale)
    marked = pixels.copy()
    seen = pixels[..., 3] > 0
    colours = pixels[..., :3].astype(np.float32) + (change * seen)[..., None]
    marked[..., :3] = np.clip(np.rint(colours), 0, 255).astype(np.uint8)
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


def _canonical(pixels: Pixels, repeats: int) -> tuple[Plane, float]:
    """Luminance over white at the canonical size (h, w), 0 to 255, and the scale that led there."""
    height, width = pixels.shape[:2]
    alpha = pixels[..., 3:]
    picture = Image.fromarray(pixels)
    if alpha.min() < 255:
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
    light = np.asarray(picture.convert("RGB").convert("L"), np.float32)
    scale = TILE * repeats / math.sqrt(height * width)
    columns, rows = max(1, int(width * scale)), max(1, int(height * scale))
    box = (0.0, 0.0, min(width, columns / scale), min(height, rows / scale))
    image = Image.fromarray(light).resize((columns, rows), Image.Resampling.BICUBIC, box=box)
    return np.asarray(image), scale


def _resize(plane: Plane, width: int, height: int, of_width: float, of_height: float) -> Plane:
    box = (0.0, 0.0, of_width, of_height)
    image = Image.fromarray(plane).resize((width, height), Image.Resampling.BICUBIC, box=box)
    return np.asarray(image)


def _analyse(light: Plane) -> tuple[Plane, Plane, Plane]:
    """Detail weighted for detection, the mask, and the weight that the mask's pattern has there.

    A place of which the host's detail varies by v, and to which mask * pattern is added, tells of
    the pattern with the weight mask / (mask^2 + v): the matched filter in noise of variance v.
    """
    detail = light - ndimage.uniform_filter(light, 15)
    power = ndimage.uniform_filter(detail * detail, 3)
    near = ndimage.uniform_filter(light, 5)
    rough = ndimage.uniform_filter(light * light, 5) - near * near
    rough = np.sqrt(np.maximum(rough, 0))
    # Opening takes away what is narrow: beside an edge between flat areas little can be hidden.
    busy = ndimage.uniform_filter(ndimage.grey_opening(rough, (9, 9)), 7)
    edge = np.minimum(_EDGE * rough, np.float32(_EDGE_LOUDEST))
    mask = np.minimum(_CALM + _BUSY * busy + edge, np.float32(_LOUDEST))
    variance = np.maximum(ndimage.uniform_filter(power, 7), 0)
    gain = mask / (mask * mask + variance)
    return detail * gain, mask, mask * gain


@lru_cache(maxsize=2048)
def _bins(length: int, scale: float) -> sparse.csr_array:
    """The matrix (T, length) that adds up points that lie `scale` tile points apart."""
    place = (np.arange(length) + 0.5) * scale - 0.5
    lower = np.floor(place).astype(np.int64)
    part = (place - lower).astype(np.float32)
    values = np.concatenate([1 - part, part])
    rows = np.concatenate([lower, lower + 1]) % TILE
    columns = np.tile(np.arange(length), 2)
    return sparse.csr_array((values, (rows, columns)), shape=(TILE, length))


def _fold(detail: Plane, scale: float) -> Plane:
    """All repeats of the tile laid over one another and averaged: (T, T)."""
    rows, columns = detail.shape
    once = _bins(rows, scale) @ detail  # (T, W)
    tile = (_bins(columns, scale) @ once.T).T  # (T, T)
    return np.asarray(tile * np.float32(TILE * TILE / detail.size))


def _spectrum(tile: Plane, waves: _Waves, weight: float) -> NDArray[np.complex128]:
    """How much of each wave a tile holds: (N,), in units of the mask."""
    whole = fft.rfft2(tile)
    held = whole[waves.rows, waves.columns].astype(np.complex128)
    return held * (math.sqrt(2) / TILE**2 / weight)


def _pattern(amounts: NDArray[np.complex128], waves: _Waves) -> Plane:
    """The tile that holds so much of each wave: (T, T)."""
    whole = np.zeros((TILE, TILE // 2 + 1), np.complex128)
    whole[waves.rows, waves.columns] = amounts * (TILE**2 / math.sqrt(2))
    return fft.irfft2(whole, s=(TILE, TILE)).astype(np.float32)


def _usual(spectrum: NDArray[np.complex128], waves: _Waves) -> NDArray[np.float64]:
    """The usual size of a wave of that length, root mean square: (N,)."""
    power = np.abs(spectrum) ** 2
    counts = np.bincount(waves.ring)
    mean = np.bincount(waves.ring, power) / np.maximum(counts, 1)
    usual: NDArray[np.float64] = np.sqrt(mean + 1e-12)[waves.ring]
    return usual


def _amounts(
    spectrum: NDArray[np.complex128], sent: NDArray[np.complex128], waves: _Waves
) -> NDArray[np.complex128]:
    """How much of each wave to add, of mean square 1 in sum: more where the host disagrees.

    The chips of one bit of the code, and those of the sync, are summed by the detector. Each such
    sum shall reach one level in usual sizes; what it lacks is spread evenly over its chips. The
    level follows by bisection from the energy there is.
    """
    usual = np.repeat(_usual(spectrum, waves), 2)
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


def detect(pixels: Pixels, key: bytes) -> Found:
    """Look for a watermark of this key.

    First where an uncropped picture has it, at any size and turned or mirrored in any way; then
    at all offsets and the scales that a crop leaves.

    Args:
        pixels: (H, W, 4) RGBA.
        key: 32 bytes.

    Raises:
        InputError: the pixels are no picture of at least 16x16.
    """
    _check(pixels)
    waves = _waves(key)
    size = math.sqrt(pixels.shape[0] * pixels.shape[1])
    grids = {}
    for repeats, (least, most) in _SEEN_AT.items():
        if least <= size <= most:
            grids[repeats] = _analyse(_canonical(pixels, repeats)[0])[0]
    places = [_Place(n, 1.0, turn) for n in grids for turn in range(8)]
    best = max((_whole(grids[p.repeats], p, waves) for p in places), key=lambda r: r.score)
    found = _read(best, waves, len(places))
    if found.asset_id is not None:
        return found
    readings = sorted(
        (r for n, detail in grids.items() for r in _searched(detail, n, waves)),
        key=lambda r: -r.score,
    )
    trials = len(places) + sum(r.trials for r in readings)
    for reading in readings[:_CANDIDATES]:
        fine = _refined(grids[reading.place.repeats], reading, waves)
        again = _read(fine, waves, trials)
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


def _heard(tile: Plane, waves: _Waves) -> NDArray[np.complex128]:
    spectrum = _spectrum(tile, waves, 1.0)
    heard = spectrum / _usual(spectrum, waves)
    heard *= np.minimum(1.0, _CLIP / np.maximum(np.abs(heard), 1e-9))
    return heard


def _turned(plane: Plane, turn: int) -> Plane:
    plane = plane[:, ::-1] if turn & 1 else plane
    plane = plane[::-1] if turn & 2 else plane
    return plane.T if turn & 4 else plane


def _shift(waves: _Waves, y: float, x: float) -> NDArray[np.complex128]:
    rows = np.where(waves.rows > TILE // 2, waves.rows - TILE, waves.rows)
    factors: NDArray[np.complex128] = np.exp(2j * np.pi / TILE * (rows * y + waves.columns * x))
    return factors


def _score(heard: NDArray[np.complex128], waves: _Waves) -> float:
    """The sum of the sync's signs with weights of length 1."""
    sync = heard[waves.sync]
    agreeing = float(np.sum((sync * waves.signs[waves.sync].conj()).real))
    return agreeing / max(float(np.linalg.norm(sync)), 1e-9)


def _whole(detail: Plane, place: _Place, waves: _Waves) -> _Reading:
    plane = np.ascontiguousarray(_turned(detail, place.turn))
    heard = _heard(_fold(plane, place.scale), waves)
    return _Reading(place, heard, _score(heard, waves))


def _scales(repeats: int) -> NDArray[np.float64]:
    step = 0.016 / repeats  # moves the picture's edges by half a point
    return np.exp(np.arange(math.log(_SMALLEST_PART), 0.02, step))


def _searched(detail: Plane, repeats: int, waves: _Waves) -> list[_Reading]:
    """The best offset of each scale."""
    readings = []
    whole = np.zeros((TILE, TILE // 2 + 1), np.complex64)
    at = waves.rows[waves.sync], waves.columns[waves.sync]
    for scale in _scales(repeats):
        tile = _fold(detail, float(scale))
        heard = _heard(tile, waves)
        sync = heard[waves.sync]
        whole[at] = sync * waves.signs[waves.sync].conj()
        # irfft2 counts each wave twice and divides by T^2.
        surface = fft.irfft2(whole, s=(TILE, TILE)) * (TILE**2 / 2 / np.linalg.norm(sync))
        peak = int(surface.argmax())
        y, x = divmod(peak, TILE)
        place = _Place(repeats, float(scale), 0, float(y), float(x))
        readings.append(_Reading(place, heard, float(surface.flat[peak]), TILE * TILE))
    return readings


def _refined(detail: Plane, reading: _Reading, waves: _Waves) -> _Reading:
    """The best place near one that was found: scale and offset by ever smaller steps."""
    best = reading
    place = reading.place
    step, move = 0.008 / place.repeats, 0.5
    best = _at(detail, place, waves)
    for _ in range(4):
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


def _at(detail: Plane, place: _Place, waves: _Waves) -> _Reading:
    heard = _heard(_fold(detail, place.scale), waves) * _shift(waves, place.y, place.x)
    return _Reading(place, heard, _score(heard, waves))


def _read(reading: _Reading, waves: _Waves, trials: int) -> Found:
    """The payload that a reading holds, and how probable it is by chance."""
    chips = reading.heard.view(np.float64) * waves.signs.view(np.float64)
    sums = np.bincount(waves.group, chips)[: code.CODE_BITS].astype(np.float64)
    payload, confidence = code.decode(sums)
    asset_id = code.asset_id_of(payload)
    probability = code.evidence(reading.score, trials, asset_id)
    present = probability < code.PRESENT
    known = present and asset_id is not None
    return Found(
        present=present,
        payload=payload if known else None,
        asset_id=asset_id if known else None,
        probability=probability,
        bit_confidence=confidence,
    )
