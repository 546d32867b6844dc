"""Films are changed where they are to be, and nowhere else."""

from __future__ import annotations

import io
import shutil
import subprocess
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.seal.sound_files import film, sound, tags_by_ffmpeg
from vermilion.errors import InputError
from vermilion.seal.formats import FORMATS
from vermilion.seal.media import films, sounds

KINDS = [
    ("mp4", "mpeg4"),
    ("mp4", "libx264"),
    ("mov", "libx264"),
    ("mkv", "libx265"),
    ("mkv", "mpeg4"),
    ("webm", "libvpx"),
    ("webm", "libvpx-vp9"),
    ("mp4", "libsvtav1"),
]
RED = (200, 30, 40)


def frames(content: bytes) -> list[tuple[float, np.ndarray]]:
    with av.open(io.BytesIO(content)) as file:
        return [(f.time, f.to_ndarray(format="rgb24").astype(int)) for f in file.decode(video=0)]


def sound_packets(content: bytes) -> list[tuple[int | None, int | None, bytes]]:
    with av.open(io.BytesIO(content)) as file:
        return [(p.pts, p.dts, bytes(p)) for p in file.demux(file.streams.audio[0]) if p.size]


def video_packets(content: bytes) -> list[tuple[int | None, int | None, bytes]]:
    with av.open(io.BytesIO(content)) as file:
        return [(p.pts, p.dts, bytes(p)) for p in file.demux(file.streams.video[0]) if p.size]


def mark(pixels: np.ndarray, seconds: float) -> np.ndarray:
    """A white field at the bottom right for half a second."""
    if seconds >= 0.5:
        return pixels
    marked = pixels.copy()
    marked[-16:, -24:] = 255
    return marked


def turned(suffix: str, rotation: int) -> bytes:
    """A film of uneven times in colours of BT.709, which players turn."""
    buffer = io.BytesIO()
    clock = Fraction(1, 90_000)
    name = {"mkv": "matroska"}.get(suffix, suffix)
    with av.open(buffer, "w", format=name) as out:
        stream = out.add_stream("libx264", rate=30, options={"bf": "2"})
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        context = stream.codec_context
        context.time_base, context.color_range, context.colorspace = clock, 1, 1
        context.color_primaries = context.color_trc = 1
        if rotation:
            stream.set_display_rotation(rotation)
        pixels = np.full((64, 96, 3), RED, np.uint8)
        time = 0
        for index in range(12):
            frame = av.VideoFrame.from_ndarray(pixels, "rgb24").reformat(
                format="yuv420p", dst_colorspace="ITU709", dst_color_range="MPEG"
            )
            frame.pts, frame.time_base = time, clock
            time += 3000 + index * 777 % 2000
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    return buffer.getvalue()


@pytest.mark.parametrize(("suffix", "codec"), KINDS)
def test_pictures_are_marked_and_the_rest_stays(suffix: str, codec: str) -> None:
    source = film(suffix, video=codec, size=(64, 64))
    made = films.edit(source, FORMATS[suffix], mark)
    before, after = frames(source), frames(made)
    assert [time for time, _ in after] == [time for time, _ in before]
    for (time, old), (_, new) in zip(before, after, strict=True):
        assert np.abs(new - old)[:44].mean() < 3
        corner = np.abs(new - 255)[-14:, -22:].mean()
        assert corner < 8 if time < 0.5 else corner > 50
    assert sound_packets(made) == sound_packets(source)
    assert tags_by_ffmpeg(made)["TITLE"] == "Tea"
    with av.open(io.BytesIO(source)) as a, av.open(io.BytesIO(made)) as b:
        assert a.streams.video[0].codec_context.name == b.streams.video[0].codec_context.name
        assert a.streams.video[0].time_base == b.streams.video[0].time_base
        assert a.streams.video[0].codec_context.pix_fmt == b.streams.video[0].codec_context.pix_fmt


@pytest.mark.parametrize("rotation", [0, 90, -90, 180])
@pytest.mark.parametrize("suffix", ["mp4", "mov", "mkv"])
def test_rotation_times_and_colours_stay(suffix: str, rotation: int) -> None:
    source = turned(suffix, rotation)
    shapes = []

    def upright(pixels: np.ndarray, seconds: float) -> np.ndarray:
        shapes.append(pixels.shape)
        return mark(pixels, seconds)

    made = films.edit(source, FORMATS[suffix], upright)
    assert set(shapes) == {(96, 64, 3) if rotation in (90, -90) else (64, 96, 3)}
    with av.open(io.BytesIO(source)) as a, av.open(io.BytesIO(made)) as b:
        assert a.streams.video[0].time_base == b.streams.video[0].time_base
        for old, new in zip(a.decode(video=0), b.decode(video=0), strict=True):
            assert (new.pts, new.rotation) == (old.pts, old.rotation)
            assert (new.colorspace, new.color_range) == (old.colorspace, old.color_range)
            assert (new.color_primaries, new.color_trc) == (old.color_primaries, old.color_trc)
            difference = new.to_ndarray(format="rgb24").astype(int) - old.to_ndarray(format="rgb24")
            assert np.abs(difference[28:36, 40:56]).max() <= 4


@pytest.mark.parametrize("rotation", [0, 90, -90, 180])
def test_a_mark_stands_upright_where_players_show_it(rotation: int, tmp_path: Path) -> None:
    if shutil.which("ffmpeg") is None:
        pytest.skip("ffmpeg, which turns pictures as players do, is not installed")
    path = tmp_path / "film.mp4"
    path.write_bytes(films.edit(turned("mp4", rotation), FORMATS["mp4"], mark))
    command = ["ffmpeg", "-v", "error", "-i", str(path), "-frames:v", "1", "-f", "rawvideo"]
    done = subprocess.run(
        [*command, "-pix_fmt", "rgb24", "-"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=True,
    )
    width, height = (64, 96) if rotation in (90, -90) else (96, 64)
    shown = np.frombuffer(done.stdout, np.uint8).reshape(height, width, 3).astype(int)
    assert shown[-12:, -20:].min() > 235
    for other in (shown[:12, :20], shown[:12, -20:], shown[-12:, :20]):
        assert np.abs(other - RED).max() < 20


@pytest.mark.parametrize("suffix", ["mp4", "mov", "mkv", "webm"])
def test_sound_is_changed_and_pictures_are_copied(suffix: str) -> None:
    source = film(suffix, seconds=2.0)
    heard = []

    def quieter(sound: sounds.Sound) -> sounds.Sound:
        heard.append(sound)
        return sounds.Sound(sound.wave * np.float32(0.25), sound.sample_rate)

    made = films.edit(source, FORMATS[suffix], sound=quieter)
    assert video_packets(made) == video_packets(source)
    films.edit(made, FORMATS[suffix], sound=quieter)
    first, second = (np.sqrt(np.mean(s.wave**2)) for s in heard)
    assert second == pytest.approx(first / 4, rel=0.1)
    assert abs(len(heard[0].wave) - len(heard[1].wave)) < 2048
    shortest = min(len(s.wave) for s in heard)
    one, two = (s.wave[1000:shortest, 0] for s in heard)
    assert np.corrcoef(one, two)[0, 1] > 0.95


def test_both_are_changed_in_one_pass_and_lie_together() -> None:
    source = film("mp4", seconds=3.0)
    made = films.edit(source, FORMATS["mp4"], mark, lambda s: s)
    with av.open(io.BytesIO(made)) as file:
        order = [p.stream_index for p in file.demux() if p.size]
    changes = sum(a != b for a, b in pairwise(order))
    assert changes > 10
    assert frames(made)[0][1][-8:, -8:].min() > 240


def test_nothing_to_change_copies_every_packet() -> None:
    for suffix in ("mp4", "mov", "mkv", "webm"):
        source = film(suffix)
        made = films.edit(source, FORMATS[suffix])
        assert video_packets(made) == video_packets(source)
        assert sound_packets(made) == sound_packets(source)


def test_a_film_without_sound_stays_without() -> None:
    source = turned("mp4", 0)
    made = films.edit(source, FORMATS["mp4"], sound=lambda s: pytest.fail("there is no sound"))
    assert video_packets(made) == video_packets(source)


def test_what_is_no_film_is_said() -> None:
    with pytest.raises(InputError, match="no picture"):
        films.edit(sound("m4a"), FORMATS["mp4"], mark)
    for content in (b"", b"no film", film("mp4")[:200]):
        with pytest.raises(InputError, match=r"^file: "):
            films.edit(content, FORMATS["mp4"], mark)


def test_pictures_that_are_too_large_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(films, "MOST_PIXELS", 1000)
    with pytest.raises(InputError, match="pixels"):
        films.edit(film("mp4"), FORMATS["mp4"], mark)


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(["mp4", "mkv", "webm"]), st.data())
def test_damaged_films_are_said_or_made(suffix: str, data: st.DataObject) -> None:
    content = bytearray(film(suffix, seconds=0.5))
    for _ in range(data.draw(st.integers(1, 5))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(content[: data.draw(st.integers(0, len(content)))])
    try:
        made = films.edit(cut, FORMATS[suffix], mark)
    except InputError:
        return
    assert made
