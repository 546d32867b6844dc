"""The watermark of sound, on a voice-like sound and a tune, through real codecs."""

from __future__ import annotations

import io

import numpy as np
import pytest
from scipy import signal

from vermilion.errors import InputError
from vermilion.seal.watermark import payload as code
from vermilion.seal.watermark import sound

soundfile = pytest.importorskip("soundfile", reason="the codecs are its")

KEY = bytes(range(32))
OTHER = bytes(range(1, 33))
ID = "0a1b2c3d"
PAYLOAD = code.pack(ID)
RATE = 24_000


def voice(seconds: float, seed: int = 0) -> sound.Wave:
    """Syllables: pulses of a gliding pitch through moving formants, breath, and pauses."""
    drawn = np.random.default_rng(seed)
    parts: list[np.ndarray] = []
    while sum(map(len, parts)) < seconds * RATE:
        count = int(drawn.uniform(0.12, 0.35) * RATE)
        now = np.arange(count) / RATE
        pitch = drawn.uniform(90, 180) + drawn.uniform(-40, 40) * now / now[-1]
        source = np.diff(np.cumsum(pitch / RATE) % 1, prepend=0) < 0
        source = source + 0.05 * drawn.normal(size=count)
        spoken = np.zeros(count)
        for low, high, loud in ((300, 850, 1.0), (900, 2300, 0.6), (2400, 3500, 0.3)):
            middle = drawn.uniform(low, high)
            filtered = signal.iirpeak(middle, 8, fs=RATE)
            spoken += loud * signal.lfilter(*filtered, source)
        parts.append(spoken * np.hanning(count))
        if drawn.random() < 0.2:
            parts.append(1e-4 * drawn.normal(size=int(drawn.uniform(0.05, 0.3) * RATE)))
    wave = np.concatenate(parts)[: int(seconds * RATE), None]
    return (0.5 * wave / np.abs(wave).max()).astype(np.float32)


def tune(seconds: float) -> sound.Wave:
    """Chords of decaying harmonics in stereo, at 44.1 kHz."""
    drawn = np.random.default_rng(5)
    count = int(seconds * 44_100)
    wave = np.zeros((count, 2))
    for start in range(0, count, 22_050):
        now = np.arange(count - start)[:88_200] / 44_100
        for step in (0, 4, 7, 12, 19):
            pitch = 130.8 * 2 ** ((drawn.integers(0, 5) + step) / 12)
            tone = sum(np.sin(2 * np.pi * pitch * k * now) / k for k in range(1, 12))
            side = drawn.uniform(0.2, 0.8)
            decay = np.exp(-3 * now) * np.minimum(1, now * 100)
            wave[start : start + len(now)] += (tone * decay)[:, None] * (side, 1 - side)
    return (0.5 * wave / np.abs(wave).max()).astype(np.float32)


@pytest.fixture(scope="module")
def spoken() -> sound.Wave:
    return voice(10.0)


@pytest.fixture(scope="module")
def marked(spoken) -> sound.Wave:
    return sound.embed(spoken, RATE, PAYLOAD, KEY)


def recoded(wave: sound.Wave, rate: int, form: str, **options) -> tuple[sound.Wave, int]:
    file = io.BytesIO()
    soundfile.write(file, wave, rate, format=form, **options)
    file.seek(0)
    return soundfile.read(file, dtype="float32", always_2d=True)


def at_rate(wave: sound.Wave, rate: int, to: int) -> tuple[sound.Wave, int]:
    common = np.gcd(rate, to)
    other = signal.resample_poly(wave, to // common, rate // common, axis=0)
    return other.astype(np.float32), to


def noisy(wave: sound.Wave, decibels: float) -> sound.Wave:
    noise = np.random.default_rng(1).normal(size=wave.shape)
    noise *= np.sqrt(np.mean(wave**2)) * 10 ** (-decibels / 20)
    return (wave + noise).astype(np.float32)


ATTACKS = {
    "none": lambda w: (w, RATE),
    "16 bits": lambda w: recoded(w, RATE, "WAV", subtype="PCM_16"),
    "mp3": lambda w: recoded(w, RATE, "MP3", compression_level=0.5),
    "mp3, small": lambda w: recoded(w, RATE, "MP3", compression_level=0.8),
    "vorbis": lambda w: recoded(w, RATE, "OGG", subtype="VORBIS"),
    "16 kHz": lambda w: at_rate(w, RATE, 16_000),
    "48 kHz": lambda w: at_rate(w, RATE, 48_000),
    "noise": lambda w: (noisy(w, 30), RATE),
    "trimmed": lambda w: (w[18_653:], RATE),
    "trimmed, mp3": lambda w: recoded(w[40_001:], RATE, "MP3", compression_level=0.5),
    "softer": lambda w: (w * np.float32(0.2), RATE),
    "louder": lambda w: (w * np.float32(1.7), RATE),
    "two channels": lambda w: (np.repeat(w, 2, axis=1), RATE),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_the_id_outlives(marked, attack) -> None:
    found = sound.detect(*ATTACKS[attack](marked), KEY)
    assert (found.present, found.asset_id, found.payload) == (True, ID, PAYLOAD)
    assert found.probability < 1e-7


def test_it_is_far_below_the_sound(spoken, marked) -> None:
    added = marked - spoken
    assert 10 * np.log10(np.sum(spoken**2) / np.sum(added**2)) > 18
    # Nowhere does it stand out: each 20 ms that is heard is at least 12 dB above what was added.
    frames = spoken[: len(spoken) // 480 * 480].reshape(-1, 480)
    power = (frames**2).mean(axis=1)
    change = (added[: frames.size].reshape(-1, 480) ** 2).mean(axis=1)
    heard = power > 1e-3 * power.max()
    assert 10 * np.log10(power[heard] / change[heard]).min() > 8


def test_a_tune_in_stereo_carries_it_too() -> None:
    wave = tune(10.0)
    after = sound.embed(wave, 44_100, PAYLOAD, KEY)
    assert after.shape == wave.shape
    assert 10 * np.log10(np.sum(wave**2) / np.sum((after - wave) ** 2)) > 18
    assert sound.detect(after, 44_100, KEY).asset_id == ID
    assert sound.detect(after[:, :1].copy(), 44_100, KEY).asset_id == ID
    assert sound.detect(*recoded(after, 44_100, "MP3"), KEY).asset_id == ID


def test_silence_stays_silent() -> None:
    silent = np.zeros((RATE * 2, 1), np.float32)
    after = sound.embed(silent, RATE, PAYLOAD, KEY)
    assert not after.any()
    found = sound.detect(after, RATE, KEY)
    assert (found.present, found.asset_id) == (False, None)


def test_full_scale_is_not_passed() -> None:
    loud = np.clip(voice(3.0) * 4, -1, 1)
    assert np.abs(sound.embed(loud, RATE, PAYLOAD, KEY)).max() <= 1.0


def test_nothing_is_found_where_nothing_is(spoken, marked) -> None:
    for wave, rate, key in (
        (spoken, RATE, KEY),
        (marked, RATE, OTHER),
        (tune(4.0), 44_100, KEY),
        (voice(4.0, 9), RATE, KEY),
    ):
        found = sound.detect(wave, rate, key)
        assert (found.present, found.payload, found.asset_id) == (False, None, None)
        assert found.probability > 1e-4


def test_the_same_in_gives_the_same_out(spoken, marked) -> None:
    before = spoken.copy()
    assert np.array_equal(sound.embed(spoken, RATE, PAYLOAD, KEY), marked)
    assert np.array_equal(before, spoken)


@pytest.mark.parametrize("rate", [8_000, 11_025, 16_000, 22_050, 44_100, 96_000])
@pytest.mark.parametrize("seconds", [0.5, 1.234])
def test_any_rate_and_length_goes_in_and_comes_out(rate, seconds) -> None:
    wave, rate = at_rate(voice(seconds), RATE, rate)
    after = sound.embed(wave, rate, PAYLOAD, KEY)
    assert after.shape == wave.shape
    assert after.dtype == np.float32
    assert sound.detect(after, rate, KEY).asset_id in (ID, None)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"wave": np.zeros(RATE, np.float32)}, "wave: must be float32"),
        ({"wave": np.zeros((RATE, 1), np.float64)}, "wave: must be float32"),
        ({"wave": np.zeros((RATE // 4, 1), np.float32)}, "at least 0.5 seconds"),
        ({"wave": np.full((RATE, 1), np.nan, np.float32)}, "values that are no numbers"),
        ({"sample_rate": 4000}, "sample rate: a watermark needs 8000"),
        ({"payload": PAYLOAD ^ 1}, "payload: its check bits do not agree"),
        ({"key": b""}, "key: a watermark key has 32 bytes"),
        ({"strength": 9.0}, "strength: must be 0.25 to 4"),
    ],
)
def test_what_cannot_be_used_gets_one_sentence(change, words) -> None:
    arguments = {
        "wave": np.zeros((RATE, 1), np.float32),
        "sample_rate": RATE,
        "payload": PAYLOAD,
        "key": KEY,
        "strength": 1.0,
    }
    with pytest.raises(InputError, match=words):
        sound.embed(**(arguments | change))
