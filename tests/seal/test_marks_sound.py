"""Marks in sound: the rhythm is found again by its spectrum, beside speech and music."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import signal

from vermilion.errors import InputError
from vermilion.seal.marks import sound
from vermilion.seal.marks.sound import PITCH, UNIT, add

RATES = (8_000, 11_025, 16_000, 22_050, 24_000, 44_100, 48_000, 96_000)


def speech(rate: int, channels: int = 1, level: float = 0.1, seconds: float = 2.0) -> np.ndarray:
    """Noise shaped as speech is: most of it below 4 kHz, in syllables with pauses."""
    random = np.random.default_rng(0)
    wave = random.standard_normal((round(seconds * rate), channels))
    shape = signal.butter(2, [150, 3500], "bandpass", fs=rate, output="sos")
    wave = signal.sosfilt(shape, wave, axis=0)
    times = np.arange(len(wave)) / rate
    wave *= (np.maximum(0, np.sin(2 * np.pi * 3 * times)) ** 0.5)[:, None]
    return (wave * level / np.sqrt((wave**2).mean())).astype(np.float32)


def tones(wave: np.ndarray, rate: int) -> list[tuple[float, float]]:
    """When a tone of the mark's pitch sounds: begin and end in seconds, by its share of power."""
    mono = wave.mean(axis=1)
    step, size = round(0.01 * rate), round(0.04 * rate)
    frequencies, times, power = signal.spectrogram(
        mono, rate, "hann", nperseg=size, noverlap=size - step, nfft=4 * size, mode="psd"
    )
    near = np.abs(frequencies - PITCH) < 60
    on = power[near].sum(axis=0) > 0.5 * (power.sum(axis=0) + 1e-12)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], on, [False]]).astype(int)))
    spans = [(times[a], times[b - 1]) for a, b in zip(edges[::2], edges[1::2], strict=True)]
    return [(a, b) for a, b in spans if b - a > 0.03]


def is_rhythm(spans: list[tuple[float, float]]) -> bool:
    """Short-long, short-short, with the longer pause in the middle."""
    if len(spans) != 4:
        return False
    long = [b - a > 2 * UNIT for a, b in spans]
    pauses = [spans[k + 1][0] - spans[k][1] for k in range(3)]
    return long == [False, True, False, False] and pauses[1] > 2 * max(pauses[0], pauses[2])


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("place", ["end", "start"])
def test_the_rhythm_is_heard_beside_speech(rate: int, channels: int, place: str) -> None:
    wave = speech(rate, channels)
    assert not is_rhythm(tones(wave, rate))
    marked = add(wave, rate, place=place)
    assert marked.dtype == np.float32
    assert marked.shape[1] == channels
    extra = (len(marked) - len(wave)) / rate
    assert 0.5 < extra < 2
    kept = marked[: len(wave)] if place == "end" else marked[-len(wave) :]
    assert (kept == wave).all()
    mark = marked[len(wave) :] if place == "end" else marked[: -len(wave)]
    assert is_rhythm(tones(mark, rate))
    assert is_rhythm(tones(marked, rate)[-4:] if place == "end" else tones(marked, rate)[:4])
    # A pause lies between, and nothing clicks at the ends.
    pause = mark[: round(0.25 * rate)] if place == "end" else mark[-round(0.25 * rate) :]
    assert not pause.any()
    assert np.abs(np.diff(mark[:, 0])).max() < 0.2


def heard(wave: np.ndarray) -> float:
    """Level of the loud half, in dB."""
    power = np.sort(wave[np.abs(wave) > 0].astype(float) ** 2)
    return 10 * np.log10(power[len(power) // 2 :].mean())


@pytest.mark.parametrize("level", [0.03, 0.08, 0.2, 0.3])
def test_it_is_as_loud_as_what_is_beside_it_allows(level: float) -> None:
    wave = speech(24_000, level=level)
    mark = add(wave, 24_000)[len(wave) :]
    assert -13 < heard(mark) - heard(wave) < -2
    assert np.abs(mark).max() < 0.9


@pytest.mark.parametrize("length", [0, 1, 24_000])
def test_silence_is_marked_audibly(length: int) -> None:
    marked = add(np.zeros((length, 1), np.float32), 24_000)
    assert is_rhythm(tones(marked, 24_000))
    assert 0.01 < np.sqrt((marked[-2000:] ** 2).mean()) < 0.1


def test_full_scale_does_not_clip() -> None:
    wave = np.sign(speech(24_000))
    assert np.abs(add(wave, 24_000)[len(wave) :]).max() <= 0.9


@pytest.mark.parametrize(
    ("rate", "spoken_rate"), [(24_000, 16_000), (44_100, 24_000), (8_000, 48_000)]
)
def test_a_spoken_mark_takes_the_place_of_tones(rate: int, spoken_rate: int) -> None:
    wave = speech(rate, 2)
    times = np.arange(spoken_rate) / spoken_rate
    spoken = (0.01 * np.sin(2 * np.pi * 300 * times)).astype(np.float32)
    marked = add(wave, rate, spoken=spoken, spoken_rate=spoken_rate)
    mark = marked[len(wave) + round(sound.SILENCE * rate) :]
    assert len(mark) == pytest.approx(rate, abs=2)
    spectrum = np.abs(np.fft.rfft(mark[:, 0]))
    assert np.argmax(spectrum) * rate / len(mark) == pytest.approx(300, abs=2)
    assert -3 < heard(mark) - heard(wave) < 3 or np.abs(mark).max() > 0.85
    assert np.abs(mark).max() <= 0.9


def test_wrong_choices_are_named() -> None:
    wave = speech(24_000)
    with pytest.raises(InputError, match="place must be end or start"):
        add(wave, 24_000, place="middle")
    with pytest.raises(InputError, match=r"4,000 samples"):
        add(wave, 1_000)
    with pytest.raises(InputError, match="silent"):
        add(wave, 24_000, spoken=np.zeros(100, np.float32))
    with pytest.raises(InputError, match="empty"):
        add(wave, 24_000, spoken=np.zeros(0, np.float32))
