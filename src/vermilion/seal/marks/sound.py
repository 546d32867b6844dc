"""A mark that is heard: tones in the rhythm short-long, short-short, or a spoken sentence.

GB 45438-2025 names the rhythm. In Morse it reads "AI".

Shape letters: S samples, C channels.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from math import gcd
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from vermilion.errors import InputError

RHYTHM = "short-long, short-short"
Wave = NDArray[np.float32]
Where = Literal["end", "start"]

UNIT = 0.08  # seconds: a short tone; a long one has three, and so has the pause within
PITCH = 880.0  # Hz, within what telephones and small speakers carry
SILENCE = 0.3  # seconds between the mark and the rest
# On and off in units: A is short-long, I is short-short.
_BEATS = ((1, 1), (3, 3), (1, 1), (1, 0))
_RAMP = 0.012  # seconds: how softly a tone comes and goes
_BELOW = 0.5  # a tone's level over that of what is heard beside it: -6 dB
_QUIETEST, _LOUDEST = 0.02, 0.2  # levels (RMS), -34 and -14 dBFS
_CEILING = 0.89  # -1 dBFS
_BLOCK = 0.1  # seconds over which a level is measured


@dataclass(frozen=True, slots=True)
class Spoken:
    """A spoken mark.

    Attributes:
        words: that it says.
        wave: float32 (S,) or (S, C).
        sample_rate: in Hz.
    """

    words: str
    wave: Wave
    sample_rate: int


def add(
    wave: Wave,
    sample_rate: int,
    *,
    place: Where = "end",
    spoken: Wave | None = None,
    spoken_rate: int | None = None,
) -> Wave:
    """Put a mark before or behind a sound.

    Args:
        wave: float32 (S, C) in [-1, 1].
        sample_rate: in Hz, from 4,000.
        place: behind it or before it.
        spoken: a spoken mark instead of the rhythm, as of `made`.
        spoken_rate: likewise.

    Returns:
        float32 (S + mark, C). The sound's own samples stay as they are.

    Raises:
        InputError: a value is not allowed.
    """
    if place not in ("end", "start"):
        raise InputError(f"mark: place must be end or start in a sound (found {place!r})")
    mark = made(wave, sample_rate, spoken=spoken, spoken_rate=spoken_rate)
    return join(wave, sample_rate, mark, place=place)


def join(wave: Wave, sample_rate: int, mark: Wave, *, place: Where = "end") -> Wave:
    """A sound (S, C) with a mark (M,) behind or before it, after `SILENCE`: (S + M + pause, C)."""
    silence = np.zeros(round(SILENCE * sample_rate), np.float32)
    parts = [silence, mark] if place == "end" else [mark, silence]
    channels = np.repeat(np.concatenate(parts)[:, None], wave.shape[1], axis=1)
    joined = [wave, channels] if place == "end" else [channels, wave]
    return np.concatenate(joined).astype(np.float32, copy=False)


def made(
    wave: Wave,
    sample_rate: int,
    *,
    spoken: Wave | None = None,
    spoken_rate: int | None = None,
) -> Wave:
    """The mark that suits a sound, at a level that goes with it: float32 (S,).

    Args:
        wave: the sound, float32 (S, C) in [-1, 1].
        sample_rate: in Hz, from 4,000.
        spoken: a spoken mark instead of the rhythm, float32 (S,) or (S, C); it is brought to
            the sound's loudness.
        spoken_rate: its samples a second; None: the sound's.

    Raises:
        InputError: a value is not allowed.
    """
    if sample_rate < 4000:
        raise InputError(f"mark: a sound needs 4,000 samples a second (found {sample_rate})")
    level = _loudness(wave, sample_rate)
    if spoken is None:
        return rhythm(sample_rate) * np.float32(np.clip(level * _BELOW, _QUIETEST, _LOUDEST))
    mark = _resampled(spoken, spoken_rate or sample_rate, sample_rate)
    own = _loudness(mark[:, None], sample_rate)
    if own == 0:
        raise InputError("mark: the spoken mark is silent; record it again")
    mark = mark * np.float32(max(level, 2 * _QUIETEST) / own)
    mark *= np.float32(min(1.0, _CEILING / max(float(np.abs(mark).max()), 1e-9)))
    return mark


def rhythm(sample_rate: int) -> Wave:
    """The tones at a level (RMS) of 1 while they sound: float32 (S,), 0.88 seconds."""
    parts = []
    for on, off in _BEATS:
        times = np.arange(round(on * UNIT * sample_rate)) / sample_rate
        # A quiet octave above makes it less of a test tone.
        tone = np.sin(2 * np.pi * PITCH * times) + 0.2 * np.sin(4 * np.pi * PITCH * times)
        tone *= np.sqrt(2 / 1.04)
        ramp = np.minimum(1, np.minimum(times, times[::-1]) / _RAMP)
        parts += [tone * np.sin(np.pi / 2 * ramp) ** 2, np.zeros(round(off * UNIT * sample_rate))]
    return np.concatenate(parts).astype(np.float32)


def _loudness(wave: Wave, sample_rate: int) -> float:
    """Level (RMS) of the parts that are heard: blocks within 20 dB of the loudest. 0: silence."""
    size = max(1, round(_BLOCK * sample_rate))
    # Power is averaged over the channels: their sum would lose what differs between them.
    power = (wave.astype(np.float64) ** 2).mean(axis=1) if wave.size else np.zeros(0)  # (S,)
    powers = np.pad(power, (0, -len(power) % size)).reshape(-1, size).mean(axis=1)  # (blocks,)
    heard = powers[powers > powers.max(initial=0.0) / 100]
    return float(np.sqrt(heard.mean())) if heard.size else 0.0


def _resampled(spoken: Wave, rate: int, sample_rate: int) -> Wave:
    mono = spoken if spoken.ndim == 1 else spoken.mean(axis=1)
    if mono.size == 0 or not np.isfinite(mono).all():
        raise InputError("mark: the spoken mark is empty or has samples that are no numbers")
    if rate != sample_rate:
        common = gcd(rate, sample_rate)
        # Imported here: it takes longer to load than a picture to paint, and seldom is needed.
        signal = import_module("scipy.signal")
        mono = signal.resample_poly(mono, sample_rate // common, rate // common)
    return np.asarray(mono, np.float32)
