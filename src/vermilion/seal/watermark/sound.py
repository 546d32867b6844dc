"""A keyed watermark of sound: 64 bits that outlive MP3, AAC, resampling, noise and trimming.

At 16 kHz the sound is cut into cells of 32 ms and 62.5 Hz. A pattern of signs over 64 columns of
cells, 2.05 s, is repeated; a cell with a plus is made a little louder, one with a minus softer.
What is added has the shape of the sound itself, about 20 dB below it, and less where a cell's
neighbours are steady: there a change would be heard, and is as well found. A third
of the signs follow from the key alone and tell where the pattern begins; the others carry the
payload's code.

S samples, C channels; K columns of cells, B = 88 bands; P = 64 columns, the pattern's period.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from scipy import fft, ndimage, signal

from vermilion.errors import InputError
from vermilion.seal.watermark import payload as code
from vermilion.seal.watermark.key import derive, shuffled, signs
from vermilion.seal.watermark.payload import Found

Wave = NDArray[np.float32]

RATE = 16_000  # samples a second at which cells are cut
SHORTEST = 0.5  # seconds: below, nothing is hidden
_WINDOW = 512  # samples of a frame, and of a column
_BANDS = 88
_LOWEST = 12  # first bin: 375 Hz; the last band ends at 5.9 kHz
_PERIOD = 64  # columns
_SYNC = 1 / 3  # share of the cells that tell where the pattern begins
_SHARE = 0.3  # of a cell's usual change from its neighbours (natural log of power)
_SOFTEST, _LOUDEST = 0.03, 0.2  # change of a cell's amplitude
_YIELD = 0.6  # part of a change that is found again: neighbouring cells overlap
_HEAVIEST = 2.0  # times the usual change that a code's bit may get where the sound is against it
_FLOOR = 1e-5  # of the mean power: cells below tell nothing
_NOISE = 4.0  # times the power of the quietest tenth, at which a cell counts half
_CLIP = 2.5  # times the usual size above which a cell's evidence does not grow
_PHASES = 4  # places within a column where the pattern may begin


@dataclass(frozen=True, slots=True)
class _Cells:
    """The signs of a key, and what they are for; all are (P, B)."""

    signs: NDArray[np.float64]
    sync: NDArray[np.bool_]
    group: NDArray[np.int64]  # the code's bit that a cell carries; 216 for the sync

    def carrying(self, payload: int) -> NDArray[np.float64]:
        """The signs with the payload's code on them."""
        bits = np.append(code.encode(payload), 1).astype(np.float64)
        return self.signs * bits[self.group]


@lru_cache(maxsize=4)
def _cells(key: bytes) -> _Cells:
    ours = derive(key, "sound watermark")
    count = _PERIOD * _BANDS
    order = shuffled(ours, "cells", count)
    first = round(_SYNC * count)
    group = np.empty(count, np.int64)
    group[order[:first]] = code.CODE_BITS
    group[order[first:]] = np.arange(count - first) % code.CODE_BITS
    shape = (_PERIOD, _BANDS)
    group = group.reshape(shape)
    return _Cells(signs(ours, "signs", count).reshape(shape), group == code.CODE_BITS, group)


def embed(wave: Wave, sample_rate: int, payload: int, key: bytes, strength: float = 1.0) -> Wave:
    """Hide a payload in a sound.

    Args:
        wave: (S, C) in [-1, 1].
        sample_rate: samples a second, 8000 and more.
        payload: 64 bits, made by `payload.pack`.
        key: 32 bytes.
        strength: 0.25 to 4; 1 is meant not to be heard.

    Returns:
        (S, C). Silence stays silent; what was within [-1, 1] stays there.

    Raises:
        InputError: the wave is no sound of half a second at least, the payload was not packed, or
            the strength is out of range.
    """
    _check(wave, sample_rate)
    if not 0.25 <= strength <= 4:
        raise InputError(f"strength: must be 0.25 to 4 (found {strength})")
    cells = _cells(key)
    sent = cells.carrying(payload)
    channels = [_resample(channel, sample_rate, RATE) for channel in wave.T]
    mix = np.mean(channels, axis=0)
    values, usual = _analyse(mix)
    values, usual = values[::_PHASES], usual[::_PHASES]  # (K, B)
    columns = len(values)
    change = np.clip(_SHARE * usual / 2, _SOFTEST, _LOUDEST)
    change *= strength * _weights(values, sent, cells)[np.arange(columns) % _PERIOD]
    change = np.clip(change, 0.0, 0.5) * sent[np.arange(columns) % _PERIOD]
    marked = wave.copy()
    for number, channel in enumerate(channels):
        added = _resample(_louder(channel, change), RATE, sample_rate)[: len(wave)]
        marked[: len(added), number] += added
    peak = max(1.0, float(np.abs(wave).max()))
    return np.clip(marked, -peak, peak)


def _check(wave: Wave, sample_rate: int) -> None:
    if wave.ndim != 2 or wave.shape[1] < 1 or wave.dtype != np.float32:
        raise InputError(
            f"wave: must be float32 of shape (samples, channels) (found {wave.dtype} of shape"
            f" {wave.shape})"
        )
    if sample_rate < 8000:
        raise InputError(f"sample rate: a watermark needs 8000 and more (found {sample_rate})")
    if len(wave) < SHORTEST * sample_rate:
        raise InputError(
            f"wave: a watermark needs at least {SHORTEST} seconds (found"
            f" {len(wave) / sample_rate:.2f})"
        )
    if not np.isfinite(wave).all():
        raise InputError("wave: holds values that are no numbers; make it again")


def _resample(channel: NDArray[np.float32], rate: int, to: int) -> NDArray[np.float32]:
    """(S,) at another rate."""
    if rate == to:
        return np.ascontiguousarray(channel)
    common = math.gcd(rate, to)
    return np.asarray(signal.resample_poly(channel, to // common, rate // common), np.float32)


def _frames(channel: NDArray[np.float32], hop: int) -> NDArray[np.complex64]:
    """Spectra (F, 257) of frames whose centres lie at hop / 2, 3 hop / 2, ...: whole columns."""
    columns = -(-len(channel) // _WINDOW)
    before = (_WINDOW - hop) // 2
    after = columns * _WINDOW - len(channel) + before
    padded = np.pad(channel, (before, after))
    return np.asarray(fft.rfft(sliding_window_view(padded, _WINDOW)[::hop] * _window(), axis=1))


@lru_cache(maxsize=1)
def _window() -> NDArray[np.float32]:
    """The root of a Hann window, whose squares at half its length apart add up to one."""
    return np.sin(np.pi * (np.arange(_WINDOW) + 0.5) / _WINDOW).astype(np.float32)


def _banded(spectra: NDArray[np.complex64]) -> NDArray[np.float32]:
    """The power of each band: (F, B)."""
    used = spectra[:, _LOWEST : _LOWEST + 2 * _BANDS]
    power = used.real**2 + used.imag**2
    return power[:, ::2] + power[:, 1::2]


def _analyse(mix: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """How much louder each cell is than its neighbours, in usual sizes; and those sizes.

    Both (4K, B), for columns that begin at every quarter of a column: row 4k + p belongs to
    column k of phase p.
    """
    power = _banded(_frames(mix, _WINDOW // _PHASES))
    floor = _FLOOR * float(power.mean()) + 1e-12
    level = np.log(power + floor)  # (4K, B)
    # Each row is the mean over the column that begins there.
    level = ndimage.uniform_filter1d(level, _PHASES, axis=0, origin=-(_PHASES // 2))
    far = 2 * _PHASES
    around = [np.roll(level, by, axis=0) for by in (-far, -_PHASES, _PHASES, far)]
    values = level - np.mean(around, axis=0)
    values -= ndimage.uniform_filter1d(values, 9, axis=1)
    spread = ndimage.uniform_filter(values.astype(np.float64) ** 2, (8 * _PHASES, 7))
    usual = np.sqrt(np.maximum(spread, 0.0)) + 0.02
    values = np.clip(values / usual, -_CLIP, _CLIP)
    # What lies near the quietest tenth is mostly noise that came later.
    noise = float(np.quantile(level, 0.1)) + math.log(_NOISE)
    values *= 1 / (1 + np.exp(noise - level))
    return values.astype(np.float64), usual


def _weights(
    values: NDArray[np.float64], sent: NDArray[np.float64], cells: _Cells
) -> NDArray[np.float64]:
    """How much of the usual change each cell of the pattern gets, of mean square 1: (P, B).

    A bit of the code that the sound itself speaks for needs less, one that it speaks against
    more: all are brought to one level, found by bisection, as far as `_HEAVIEST` goes.
    """
    folded = _fold(values) * sent
    group = cells.group.ravel()
    count = np.bincount(group, minlength=code.CODE_BITS + 1)
    have = np.bincount(group, folded.ravel(), code.CODE_BITS + 1) / count
    have /= max(1.0, len(values) / _PERIOD)  # a full change moves every repeat's value by a share
    gain = _YIELD * _SHARE
    low, high = 0.0, 20.0
    for _ in range(30):
        level = (low + high) / 2
        lacking = np.clip((level - have) / gain, 0.0, _HEAVIEST)
        if float(np.sum(lacking**2 * count)) < len(group):
            low = level
        else:
            high = level
    weights: NDArray[np.float64] = np.clip((high - have) / gain, 0.0, _HEAVIEST)[cells.group]
    return weights


def _louder(channel: NDArray[np.float32], change: NDArray[np.float64]) -> NDArray[np.float32]:
    """What has to be added to a channel (S,) at 16 kHz, so that its cells change so (K, B)."""
    spectra = _frames(channel, _WINDOW // 2)  # (2K, 257)
    factors = np.zeros(spectra.shape, np.float32)
    factors[:, _LOWEST : _LOWEST + 2 * _BANDS] = np.repeat(np.repeat(change, 2, axis=0), 2, axis=1)
    parts = fft.irfft(spectra * factors, n=_WINDOW, axis=1) * _window()  # (2K, 512)
    half = _WINDOW // 2
    added = np.zeros((len(parts) + 1, half), np.float32)
    added[:-1] += parts[:, :half]
    added[1:] += parts[:, half:]
    start = half // 2
    return added.ravel()[start : start + len(channel)]


def _fold(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """All repeats of the pattern added up: (K, B) to (P, B)."""
    padded = np.pad(values, ((0, -len(values) % _PERIOD), (0, 0)))
    summed: NDArray[np.float64] = padded.reshape(-1, _PERIOD, _BANDS).sum(axis=0)
    return summed


def detect(wave: Wave, sample_rate: int, key: bytes) -> Found:
    """Look for a watermark of this key, wherever in its pattern the sound begins.

    Args:
        wave: (S, C).
        sample_rate: samples a second, 8000 and more.
        key: 32 bytes.

    Raises:
        InputError: the wave is no sound of half a second at least.
    """
    _check(wave, sample_rate)
    cells = _cells(key)
    values, _ = _analyse(_resample(wave.mean(axis=1), sample_rate, RATE))
    sync = np.where(cells.sync, cells.signs, 0.0)
    pattern = fft.rfft(sync, axis=0).conj()
    best, score = np.zeros((_PERIOD, _BANDS)), -math.inf
    for phase in range(_PHASES):
        folded = _fold(values[phase::_PHASES])
        surface = fft.irfft((fft.rfft(folded, axis=0) * pattern).sum(axis=1), n=_PERIOD)
        squares = fft.rfft(folded**2, axis=0) * fft.rfft(sync**2, axis=0).conj()
        length = np.sqrt(np.maximum(fft.irfft(squares.sum(axis=1), n=_PERIOD), 1e-12))
        scores = surface / length
        shift = int(scores.argmax())
        if scores[shift] > score:
            best, score = np.roll(folded, -shift, axis=0), float(scores[shift])
    carrying = ~cells.sync
    chips = best[carrying] * cells.signs[carrying]
    sums = np.bincount(cells.group[carrying], chips, code.CODE_BITS).astype(np.float64)
    return code.found(sums, score, _PHASES * _PERIOD)
