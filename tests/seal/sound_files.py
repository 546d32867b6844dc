"""Small real files of sound, film and words, made by independent writers, and the readers' helpers.

Their tags (a title, an artist) are other people's, which a label must leave alone.
"""

from __future__ import annotations

import functools
import hashlib
import io
import shutil
import struct
import subprocess
import tempfile
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile

from vermilion.seal.labels import MADE_BY_AI, Label, Statement

LABEL = Label(content_producer="vermilion", produce_id="a1b2c3d4", reserved_code1="x'y&<z>")
STATEMENT = Statement(
    label=LABEL,
    source_type=MADE_BY_AI,
    recipe={"prompt": '一只猫, "a cat" <b> & \\ é', "seed": 0, "scale": 7.5, "tags": ["a", None]},
)
OTHER = Statement(label=Label(content_producer="other", produce_id="z9"), source_type="")
PRIVATE = Statement(label=LABEL, source_type=MADE_BY_AI)
FOREIGN = Statement(label=LABEL, foreign={"prompt": '{"3": "é猫"}', "workflow": "{}"})
EMPTY = Statement()
ALL = (STATEMENT, OTHER, PRIVATE, FOREIGN, EMPTY)

RATE = 16_000


def tone(seconds: float = 0.5, rate: int = RATE, channels: int = 1) -> np.ndarray:
    """A chord that swells, float64 (S, C) in [-0.5, 0.5]."""
    time = np.arange(int(seconds * rate)) / rate
    voices = [np.sin(2 * np.pi * pitch * time) * np.sin(3 * time) for pitch in (220, 277, 330)]
    return np.stack([sum(np.roll(v, 40 * c) for v in voices) / 6 for c in range(channels)], 1)


@functools.cache
def sound(
    suffix: str, subtype: str | None = None, *, seconds: float = 0.5, channels: int = 1
) -> bytes:
    """A sound file with a title and an artist, written by libsndfile (M4A: by FFmpeg)."""
    if suffix == "m4a":
        return film("m4a", seconds=seconds)
    buffer = io.BytesIO()
    with soundfile.SoundFile(buffer, "w", RATE, channels, subtype, format=suffix.upper()) as writer:
        writer.title, writer.artist = "Tea", "Someone"
        writer.write(tone(seconds, RATE, channels))
    return buffer.getvalue()


CODECS = {
    "mp4": ("mpeg4", "aac", "mp4"),
    "mov": ("mpeg4", "aac", "mov"),
    "mkv": ("mpeg4", "aac", "matroska"),
    "webm": ("libvpx", "libopus", "webm"),
    "m4a": (None, "aac", "ipod"),
}


@functools.cache
def film(
    suffix: str,
    options: tuple[tuple[str, str], ...] = (),
    *,
    seconds: float = 1.0,
    title: str = "Tea",
    video: str = "",
    size: tuple[int, int] = (64, 48),
) -> bytes:
    """A film of moving colours with sound, written by FFmpeg with a title."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"file.{suffix}"  # what moves moov to the front opens it again
        _write_film(path, suffix, options, seconds, title, video, size)
        return path.read_bytes()


def _write_film(
    path: Path,
    suffix: str,
    options: tuple[tuple[str, str], ...],
    seconds: float,
    title: str,
    video: str,
    size: tuple[int, int],
) -> None:
    video_codec, audio_codec, container = CODECS[suffix]
    video_codec = video_codec and (video or video_codec)
    with av.open(str(path), "w", format=container, options=dict(options)) as out:
        if title:
            out.metadata["title"] = title
        picture = out.add_stream(video_codec, rate=10) if video_codec else None
        if picture is not None:
            picture.width, picture.height = size
            picture.pix_fmt = "yuv420p"
        rate = 48_000
        voice = out.add_stream(audio_codec, rate=rate, layout="mono")
        wave = tone(seconds, rate).astype(np.float32).T
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(wave), "fltp", "mono")
        frame.sample_rate, frame.pts = rate, 0
        for index in range(int(seconds * 10) if picture is not None else 0):
            pixels = np.zeros((size[1], size[0], 3), np.uint8)
            pixels[..., 0] = np.linspace(0, 255, size[0], dtype=np.uint8)
            pixels[..., 1] = index * 20 % 256
            out.mux(picture.encode(av.VideoFrame.from_ndarray(pixels, "rgb24")))
        if picture is not None:
            out.mux(picture.encode())
        out.mux(voice.encode(frame))
        out.mux(voice.encode())


def packets(content: bytes) -> list[tuple[object, ...]]:
    """Every packet of every stream with its times, as FFmpeg finds them, and what it decodes to."""
    with av.open(io.BytesIO(content)) as file:
        found = [
            (p.stream_index, p.pts, p.dts, p.duration, hashlib.sha256(bytes(p)).hexdigest())
            for p in file.demux()
            if p.size
        ]
    with av.open(io.BytesIO(content)) as file:
        for frame in file.decode():
            planes = [hashlib.sha256(bytes(plane)).hexdigest() for plane in frame.planes]
            found.append((type(frame).__name__, frame.pts, *planes))
    assert found
    return found


def samples(content: bytes) -> bytes:
    """A sound's samples as libsndfile decodes them."""
    wave, _ = soundfile.read(io.BytesIO(content), dtype="int32", always_2d=True)
    assert len(wave)
    return wave.tobytes()


def tags_by_ffmpeg(content: bytes) -> dict[str, str]:
    """The file's tags as FFmpeg's library reads them, names in capitals."""
    with av.open(io.BytesIO(content)) as file:
        found = {**file.metadata}
        for stream in file.streams:
            found |= stream.metadata
    return {name.upper(): value for name, value in found.items()}


def run(program: str, *arguments: str, content: bytes, folder: Path, suffix: str) -> str:
    """What a program prints about a file; the test is passed by where it is not installed."""
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")
    path = folder / f"file.{suffix}"
    path.write_bytes(content)
    done = subprocess.run(
        [program, *arguments, str(path)], stdin=subprocess.DEVNULL, capture_output=True
    )
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    return done.stdout.decode()


def stream_wav() -> bytes:
    """A WAV as a program writes it into a pipe: no size is known."""
    content = sound("wav")
    at = content.index(b"data")
    unknown = struct.pack("<I", 0xFFFFFFFF)
    end = at + 8 + struct.unpack_from("<I", content, at + 4)[0]
    return content[:4] + unknown + content[8 : at + 4] + unknown + content[at + 8 : end]
