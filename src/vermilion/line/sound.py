"""Sound: loudness, and files. Waveforms are mono float32 in [-1, 1], shape (samples,)."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from types import ModuleType

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from vermilion.errors import InputError, MissingExtraError, ModelError
from vermilion.seal import formats
from vermilion.seal.media import sounds

Waveform = NDArray[np.float32]

FORMATS = {suffix: formats.FORMATS[suffix] for suffix in ("wav", "flac", "mp3")}
CEILING = 10 ** (-1 / 20)  # -1 dBFS, above which nothing rises
_SHORTEST = 0.4  # seconds: one gating block of BS.1770


def loudness(wave: Waveform, sample_rate: int) -> float:
    """Integrated loudness in LUFS (ITU-R BS.1770-4); -inf for silence, which is below -70.

    What is shorter than a gating block of 0.4 s is repeated until it fills one.
    """
    least = int(_SHORTEST * sample_rate) + 1
    if len(wave) == 0:
        return -np.inf
    if len(wave) < least:
        wave = np.tile(wave, -(-least // len(wave)))
    meter = _pyloudnorm().Meter(sample_rate)
    return float(meter.integrated_loudness(wave.astype(np.float64)))


def normalise(wave: Waveform, sample_rate: int, target: float) -> Waveform:
    """Bring a waveform to a loudness in LUFS, with peaks held below -1 dBFS.

    Speech at -16 LUFS has peaks above full scale; a limiter takes them down, which makes it
    a little quieter, so gain and limit are repeated until it is within 0.1 of the target.
    """
    level = loudness(wave, sample_rate)
    if not np.isfinite(level):
        return wave
    gain, limited = 10 ** ((target - level) / 20), wave
    for _ in range(12):
        limited = limit(wave * np.float32(gain), sample_rate)
        missing = target - loudness(limited, sample_rate)
        if abs(missing) < 0.1:
            break
        gain *= 10 ** (missing / 20)
    return limited


def limit(wave: Waveform, sample_rate: int) -> Waveform:
    """A look-ahead limiter: gain falls smoothly over 5 ms before a peak and rises after it."""
    window = int(0.005 * sample_rate) | 1
    needed = np.minimum(1.0, CEILING / np.maximum(np.abs(wave), 1e-9))  # (samples,)
    held = ndimage.minimum_filter1d(needed, 2 * window + 1, mode="nearest")
    shape = import_module("scipy.signal.windows").hann(window)
    smooth = np.convolve(np.pad(held, window // 2, mode="edge"), shape / shape.sum(), mode="valid")
    # The smooth gain is an average of gains that are each low enough for the peak.
    return np.clip(wave * smooth, -CEILING, CEILING).astype(np.float32)


def encode(wave: Waveform, sample_rate: int, suffix: str) -> tuple[bytes, str]:
    """A sound file's bytes and media type.

    Args:
        wave: what to write.
        sample_rate: in Hz.
        suffix: "wav" and "flac" (16 bit), or "mp3".

    Raises:
        InputError: another suffix.
    """
    if suffix not in FORMATS:
        raise InputError(f"out: .{suffix} is no sound format that is known; use {_known()}")
    form = FORMATS[suffix]
    return sounds.encode(sounds.Sound(wave[:, None], sample_rate), form), form.media_type


def decode(content: bytes) -> tuple[Waveform, int]:
    """A sound file's waveform (mono) and sample rate in Hz.

    Raises:
        ModelError: the bytes are no sound that can be read.
    """
    try:
        # What libsndfile reads, it knows by its first bytes.
        sound = sounds.decode(content, FORMATS["wav"])
    except InputError as error:
        raise ModelError(str(error).removeprefix("file: ")) from None
    mono: Waveform = sound.wave[:, 0] if sound.wave.shape[1] == 1 else sound.wave.mean(axis=1)
    return mono, sound.sample_rate


def convert(content: bytes, suffix: str) -> tuple[bytes, str]:
    """A sound file in another format, with its media type."""
    wave, sample_rate = decode(content)
    return encode(wave, sample_rate, suffix)


def _known() -> str:
    return ", ".join(f".{suffix}" for suffix in FORMATS)


@cache
def _pyloudnorm() -> ModuleType:
    """Imported when a waveform is measured: it takes longer to load than a picture to paint.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        return import_module("pyloudnorm")
    except ImportError:
        raise MissingExtraError("sound", "speech") from None
