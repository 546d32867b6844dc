"""Loudness and sound files, measured from the file with the standard's own meter."""

from __future__ import annotations

import io

import numpy as np
import pyloudnorm
import pytest
import soundfile

from vermilion.errors import InputError, ModelError
from vermilion.line import sound

RATE = 24_000


def speech_like(seconds: float, level: float) -> np.ndarray:
    """Bursts of coloured noise with pauses: a crest factor like that of speech."""
    rng = np.random.default_rng(0)
    time = np.arange(int(seconds * RATE)) / RATE
    wave = np.cumsum(rng.standard_normal(len(time)))
    wave -= np.convolve(wave, np.ones(200) / 200, mode="same")
    envelope = np.maximum(0, np.sin(2 * np.pi * 2.3 * time)) ** 3
    wave = wave * envelope / np.abs(wave).max()
    return (level * wave).astype(np.float32)


@pytest.mark.parametrize("level", [0.02, 0.1, 1.0])
@pytest.mark.parametrize("target", [-16.0, -23.0])
def test_loudness_is_reached_and_peaks_are_held(level: float, target: float) -> None:
    wave = sound.normalise(speech_like(4, level), RATE, target)
    content, _ = sound.encode(wave, RATE, "wav")
    heard, rate = soundfile.read(io.BytesIO(content))
    assert pyloudnorm.Meter(rate).integrated_loudness(heard) == pytest.approx(target, abs=0.2)
    assert np.abs(heard).max() <= 10 ** (-1 / 20) + 1e-4


def test_silence_and_the_shortest_sounds_pass() -> None:
    silence = np.zeros(RATE, np.float32)
    assert np.array_equal(sound.normalise(silence, RATE, -16), silence)
    click = speech_like(0.15, 0.3)
    assert np.isfinite(sound.normalise(click, RATE, -16)).all()
    assert sound.normalise(np.zeros(0, np.float32), RATE, -16).size == 0


@pytest.mark.parametrize(("suffix", "error"), [("wav", 1e-4), ("flac", 1e-4), ("mp3", 0.2)])
def test_formats_hold_what_was_put_in(suffix: str, error: float) -> None:
    wave = speech_like(2, 0.5)
    content, media_type = sound.encode(wave, RATE, suffix)
    assert media_type.startswith("audio/")
    heard, rate = sound.decode(content)
    assert rate == RATE
    assert len(heard) == len(wave)
    assert np.sqrt(np.mean((heard - wave) ** 2)) < error * np.sqrt(np.mean(wave**2)) + 1e-4


def test_encoding_is_the_same_each_time() -> None:
    wave = speech_like(1, 0.5)
    for suffix in sound.FORMATS:
        assert sound.encode(wave, RATE, suffix) == sound.encode(wave, RATE, suffix)


def test_what_is_no_sound_is_said() -> None:
    with pytest.raises(InputError, match=r"\.ogg is no sound format"):
        sound.encode(np.zeros(10, np.float32), RATE, "ogg")
    with pytest.raises(ModelError, match="cannot be read"):
        sound.decode(b"no sound at all")
