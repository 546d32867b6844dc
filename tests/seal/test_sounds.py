"""Sound is decoded and encoded again: to the bit where the format can, else near it."""

from __future__ import annotations

import io

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.seal.sound_files import RATE, film, sound, stream_wav, tags_by_ffmpeg, tone
from vermilion.errors import InputError
from vermilion.seal.formats import FORMATS
from vermilion.seal.media import sounds, wave

KINDS = [
    ("wav", "PCM_16"),
    ("wav", "PCM_24"),
    ("wav", "PCM_U8"),
    ("wav", "FLOAT"),
    ("flac", "PCM_16"),
    ("flac", "PCM_24"),
    ("mp3", None),
    ("ogg", "VORBIS"),
    ("ogg", "OPUS"),
    ("m4a", None),
]


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize(("suffix", "subtype"), KINDS)
def test_what_is_encoded_like_its_source_comes_back(
    suffix: str, subtype: str | None, channels: int
) -> None:
    source = sound(suffix, subtype, seconds=1.5, channels=channels)
    form = FORMATS[suffix]
    heard = sounds.decode(source, form)
    made = sounds.encode(heard, form, source)
    again = sounds.decode(made, form)
    assert again.sample_rate == heard.sample_rate
    assert tags_by_ffmpeg(made)["TITLE"] == "Tea"
    assert again.wave.shape == heard.wave.shape
    assert again.wave.dtype == np.float32
    if suffix in ("wav", "flac"):
        assert np.array_equal(again.wave, heard.wave)
    else:
        # The ear's codecs do not keep waves; what is said here is that nothing moved in time.
        power = np.mean(heard.wave**2)
        assert np.mean((again.wave - heard.wave) ** 2) < 0.1 * power
        assert len(made) < 1.5 * len(source) + 1000
    if suffix != "m4a":
        kept = {"PCM_U8": "PCM_16"}.get(subtype or "", subtype)
        assert subtype is None or soundfile.info(io.BytesIO(made)).subtype == kept


@pytest.mark.parametrize("kbps", [32, 64, 128, 256])
@pytest.mark.parametrize("rate", [24_000, 44_100])
def test_mp3_keeps_the_bit_rate_of_its_source(rate: int, kbps: int) -> None:
    if rate == 24_000 and kbps > 160:
        pytest.skip("MPEG-2 has no such bit rate")
    noise = np.random.default_rng(0).normal(0, 0.1, (rate * 3, 1))
    highest, lowest = (320, 32) if rate >= 32_000 else (160, 8)
    buffer = io.BytesIO()
    level = min(0.99, (highest - kbps) / (highest - lowest))
    soundfile.write(
        buffer, noise, rate, format="MP3", compression_level=level, bitrate_mode="CONSTANT"
    )
    source = buffer.getvalue()
    made = sounds.encode(sounds.decode(source, FORMATS["mp3"]), FORMATS["mp3"], source)
    assert len(made) == pytest.approx(len(source), rel=0.15)


@pytest.mark.parametrize(
    ("suffix", "subtype"),
    [("wav", "PCM_16"), ("wav", "PCM_24"), ("flac", "PCM_16"), ("flac", "PCM_24")],
)
def test_every_whole_number_comes_back_to_the_bit(suffix: str, subtype: str) -> None:
    bits = int(subtype[-2:])
    top = 1 << bits - 1
    rng = np.random.default_rng(1)
    whole = np.concatenate([[-top, top - 1, 0, 1, -1], rng.integers(-top, top, 60_000)])
    held = (whole << (32 - bits)).astype(np.int32)
    buffer = io.BytesIO()
    soundfile.write(buffer, held, RATE, subtype, format=suffix.upper())
    form = FORMATS[suffix]
    made = sounds.encode(sounds.decode(buffer.getvalue(), form), form, buffer.getvalue())
    back, _ = soundfile.read(io.BytesIO(made), dtype="int32")
    assert np.array_equal(back, held)


def test_what_is_too_loud_is_held_at_full_scale() -> None:
    loud = sounds.Sound(np.array([[1.5], [-1.5], [1.0], [-1.0]], np.float32), RATE)
    for suffix in ("wav", "flac"):
        back, _ = soundfile.read(io.BytesIO(sounds.encode(loud, FORMATS[suffix])), dtype="int16")
        assert back.tolist() == [32767, -32768, 32767, -32768]


def test_encoding_is_the_same_each_time() -> None:
    for suffix, subtype in KINDS:
        if suffix == "ogg":
            continue  # its streams have numbers drawn by chance
        source = sound(suffix, subtype)
        heard = sounds.decode(source, FORMATS[suffix])
        made = [sounds.encode(heard, FORMATS[suffix], source) for _ in range(2)]
        assert made[0] == made[1], suffix


def test_a_stream_without_sizes_is_heard_whole() -> None:
    assert np.array_equal(
        sounds.decode(stream_wav(), FORMATS["wav"]).wave,
        sounds.decode(sound("wav"), FORMATS["wav"]).wave,
    )


def test_a_sound_that_is_too_long_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wave, "MOST", 1000)
    for suffix in ("flac", "m4a"):
        with pytest.raises(InputError, match="more than"):
            sounds.decode(sound(suffix), FORMATS[suffix])


@pytest.mark.parametrize("suffix", ["wav", "flac", "mp3", "ogg", "m4a"])
def test_what_is_no_sound_is_said(suffix: str) -> None:
    for content in (b"", b"no sound at all", bytes(5000)):
        with pytest.raises(InputError, match=r"^file: "):
            sounds.decode(content, FORMATS[suffix])
    with pytest.raises(InputError, match=r"^file: "):
        sounds.encode(sounds.Sound(tone().astype(np.float32), RATE), FORMATS[suffix], b"none")


@pytest.mark.parametrize("suffix", ["wav", "flac", "mp3", "ogg", "m4a"])
def test_what_a_format_cannot_hold_is_said(suffix: str) -> None:
    many = sounds.Sound(np.zeros((100, 300 if suffix == "ogg" else 99), np.float32), 3)
    if suffix == "wav":
        assert sounds.decode(sounds.encode(many, FORMATS[suffix]), FORMATS[suffix]).wave.any() == 0
        return
    with pytest.raises(InputError, match=r"^file: "):
        sounds.encode(many, FORMATS[suffix])


def test_a_film_without_sound_is_said() -> None:
    assert sounds.decode(film("mp4"), FORMATS["m4a"]).sample_rate == 48_000
    with pytest.raises(InputError, match="cannot be read"):
        sounds.decode(film("mp4")[:100], FORMATS["m4a"])


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(["wav", "flac", "mp3", "ogg", "m4a"]), st.data())
def test_damaged_sounds_are_said_or_heard(suffix: str, data: st.DataObject) -> None:
    content = bytearray(sound(suffix))
    for _ in range(data.draw(st.integers(0, 5))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(content[: data.draw(st.integers(0, len(content)))])
    try:
        heard = sounds.decode(cut, FORMATS[suffix])
    except InputError:
        return
    assert heard.wave.ndim == 2
    assert len(heard.wave)


def test_a_stream_of_no_known_kind_is_refused() -> None:
    """FFmpeg opens it, and knows nothing of what it holds."""
    content = sound("m4a", seconds=0.2)
    assert content.count(b"mp4a") == content.count(b"esds") == 1
    unknown = content.replace(b"mp4a", b"zzzz").replace(b"esds", b"zzzz")
    with pytest.raises(InputError, match="known kind"):
        sounds.decode(unknown, FORMATS["m4a"])
