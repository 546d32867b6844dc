"""Comments, where tools put prompts: read wherever a format has them, and left out in private."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile

from tests.seal import sound_files
from tests.seal.signing import small
from vermilion.seal import carriers
from vermilion.seal.carriers import boxes
from vermilion.seal.carriers.id3 import span
from vermilion.seal.formats import FORMATS
from vermilion.seal.labels import MADE_BY_AI, Label, Statement
from vermilion.seal.order import About, SealOptions
from vermilion.seal.seal import Sealer

SECRET = '{"3": {"inputs": {"text": "a secret prompt, é猫"}}}'
PLAIN = SECRET.encode()
LABEL = Label(content_producer="vermilion", produce_id="a1b2c3d4")
PRIVATE = Statement(label=LABEL, source_type=MADE_BY_AI)


def by_ffmpeg(suffix: str, movflags: str = "") -> Callable[[], bytes]:
    """A file of FFmpeg's with a title and a comment."""

    def made() -> bytes:
        buffer = io.BytesIO()
        source = sound_files.film("mkv" if suffix in ("mp4", "mov", "mkv") else suffix)
        container = {"mkv": "matroska", "m4a": "ipod"}.get(suffix, suffix)
        options = {"movflags": movflags} if movflags else {}
        with (
            av.open(io.BytesIO(source)) as file,
            av.open(buffer, "w", format=container, options=options) as out,
        ):
            out.metadata["title"], out.metadata["comment"] = "Tea", SECRET
            streams = {one.index: out.add_stream_from_template(one) for one in file.streams}
            for packet in file.demux():
                if packet.dts is not None:
                    packet.stream = streams[packet.stream_index]
                    out.mux(packet)
        return buffer.getvalue()

    return made


def by_libsndfile(suffix: str) -> Callable[[], bytes]:
    def made() -> bytes:
        buffer = io.BytesIO()
        with soundfile.SoundFile(buffer, "w", 16_000, 1, format=suffix.upper()) as out:
            out.title, out.comment = "Tea", SECRET
            out.write(sound_files.tone())
        return buffer.getvalue()

    return made


def frame(name: bytes, body: bytes) -> bytes:
    return name + struct.pack(">IH", len(body), 0) + body


def id3(*frames: bytes) -> bytes:
    body = b"".join(frames)
    size = bytes(len(body) >> shift & 0x7F for shift in (21, 14, 7, 0))
    return b"ID3\3\0\0" + size + body


TITLE = frame(b"TIT2", b"\0Tea")
UTF16 = b"\1eng" + "\0".encode("utf-16") + SECRET.encode("utf-16")
TAGS = {
    "in UTF-16": id3(TITLE, frame(b"COMM", UTF16)),
    "two of them": id3(TITLE, frame(b"COMM", UTF16), frame(b"COMM", b"\0engnote\0a secret prompt")),
}


def audio() -> bytes:
    """MPEG audio without a tag."""
    content = sound_files.sound("mp3")
    return content[span(content) :]


def version_1() -> bytes:
    tail = b"TAG" + b"Tea".ljust(94, b"\0") + b"a secret prompt".ljust(28, b"\0") + b"\0\7\xff"
    return audio() + tail


def wav(*more: bytes) -> bytes:
    body = sound_files.sound("wav")[12:] + b"".join(more)
    return b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WAVE" + body


def chunk(name: bytes, body: bytes) -> bytes:
    return name + struct.pack("<I", len(body)) + body + bytes(len(body) % 2)


def quicktime(place: bytes) -> bytes:
    """A film whose comment stands under QuickTime's name in moov.meta, or in a track's udta."""
    content = sound_files.film("mov")
    (moov,) = [one for one in boxes.boxes(content) if one.name == b"moov"]
    assert moov.end == len(content)
    if place == b"meta":
        key = b"com.apple.quicktime.comment"
        data = boxes.box(b"data", struct.pack(">II", 1, 0), PLAIN)
        made = boxes.box(
            b"meta",
            boxes.box(b"hdlr", b"\0\0\0\0\0\0\0\0mdta" + bytes(13)),
            boxes.box(b"keys", struct.pack(">III4s", 0, 1, 8 + len(key), b"mdta") + key),
            boxes.box(b"ilst", boxes.box(struct.pack(">I", 1), data)),
        )
        return content[: moov.start] + boxes.box(b"moov", content[moov.body : moov.end], made)
    said = boxes.box(b"\xa9cmt", struct.pack(">HH", len(PLAIN), 0x55C4), PLAIN)
    parts = [
        boxes.box(b"trak", content[one.body : one.end], boxes.box(b"udta", said))
        if one.name == b"trak"
        else content[one.start : one.end]
        for one in boxes.boxes(content, moov.body, moov.end)
    ]
    return content[: moov.start] + boxes.box(b"moov", *parts)


FILES: dict[str, tuple[str, Callable[[], bytes]]] = {
    "MP3, UTF-16": ("mp3", lambda: TAGS["in UTF-16"] + audio()),
    "MP3, two": ("mp3", lambda: TAGS["two of them"] + audio()),
    "MP3, version 1": ("mp3", version_1),
    "WAV of libsndfile": ("wav", by_libsndfile("wav")),
    "WAV with ID3": ("wav", lambda: wav(chunk(b"id3 ", TAGS["in UTF-16"]))),
    "FLAC of libsndfile": ("flac", by_libsndfile("flac")),
    "OGG of libsndfile": ("ogg", by_libsndfile("ogg")),
    "M4A of FFmpeg": ("m4a", by_ffmpeg("m4a")),
    "M4A, key comment": ("m4a", by_ffmpeg("m4a", "use_metadata_tags")),
    "MP4 of FFmpeg": ("mp4", by_ffmpeg("mp4")),
    "MP4, moov first": ("mp4", by_ffmpeg("mp4", "frag_keyframe+empty_moov")),
    "MP4, key comment": ("mp4", by_ffmpeg("mp4", "use_metadata_tags")),
    "MOV of FFmpeg": ("mov", by_ffmpeg("mov")),
    "MOV, key comment": ("mov", by_ffmpeg("mov", "use_metadata_tags")),
    "MOV, QuickTime's key": ("mov", lambda: quicktime(b"meta")),
    "MOV, of a track": ("mov", lambda: quicktime(b"trak")),
    "MKV of FFmpeg": ("mkv", by_ffmpeg("mkv")),
    "WebM of FFmpeg": ("webm", by_ffmpeg("webm")),
}


def is_in(content: bytes) -> bool:
    return any("secret prompt".encode(code) in content for code in ("utf-8", "utf-16-le"))


@pytest.mark.parametrize("name", FILES)
def test_a_comment_is_read_and_leaves_and_all_else_stays(name: str) -> None:
    suffix, made = FILES[name]
    form, content = FORMATS[suffix], made()
    assert is_in(content)
    said = carriers.read(content, form)
    expected = "a secret prompt" if name == "MP3, version 1" else SECRET
    assert said.foreign["comment"] == expected
    private = carriers.write(content, form, PRIVATE)
    assert not is_in(private)
    assert carriers.read(private, form) == PRIVATE
    assert sound_files.packets(private) == sound_files.packets(content)
    if "QuickTime" not in name and "ID3" not in name and "moov first" not in name:
        assert "Tea" in sound_files.tags_by_ffmpeg(private).values()
    # Where it is said again it stays, once, and where it was.
    public = carriers.write(content, form, Statement(label=LABEL, foreign=dict(said.foreign)))
    assert carriers.read(public, form).foreign == said.foreign
    assert sound_files.packets(public) == sound_files.packets(content)
    found = sound_files.tags_by_ffmpeg(public)
    if suffix != "wav" and "two" not in name:
        assert expected in found.values()
    assert not is_in(carriers.write(public, form, PRIVATE))


def test_description_is_a_comment_of_vorbis() -> None:
    buffer, form = io.BytesIO(), FORMATS["flac"]
    with av.open(buffer, "w", format="flac") as out:
        out.metadata["comment"] = SECRET
        stream = out.add_stream("flac", rate=16_000, layout="mono")
        wave = (sound_files.tone().T * 32767).astype(np.int16)
        block = av.AudioFrame.from_ndarray(np.ascontiguousarray(wave), "s16", "mono")
        block.sample_rate, block.pts = 16_000, 0
        out.mux(stream.encode(block))
        out.mux(stream.encode())
    content = buffer.getvalue()
    assert b"DESCRIPTION=" in content
    assert carriers.read(content, form).foreign["comment"] == SECRET
    assert not is_in(carriers.write(content, form, PRIVATE))


def test_figures_of_itunes_are_no_comment() -> None:
    gapless = frame(b"COMM", b"\0engiTunSMPB\0 00000000 00000840")
    content = id3(TITLE, gapless, frame(b"COMM", UTF16)) + audio()
    form = FORMATS["mp3"]
    private = carriers.write(content, form, PRIVATE)
    assert not is_in(private)
    assert b"00000840" in private
    assert carriers.read(content, form).foreign == {"comment": SECRET}


@pytest.mark.parametrize("name", [name for name in FILES if "moov first" not in name])
@pytest.mark.parametrize("mark", [True, False])
def test_no_private_export_has_a_comment(name: str, mark: bool, tmp_path: Path) -> None:
    suffix, made = FILES[name]
    sealer = Sealer(tmp_path / "seal")
    options = SealOptions(mark=mark, reason="" if mark else "a test")
    form, content = FORMATS[suffix], made()
    about = About(asset_id="k3f9x2ab", edited=False, said=carriers.read(content, form))
    sealed = sealer.seal(content, form, about, options)
    assert not is_in(sealed.content + (sealed.sidecar or b""))


def test_small_files_without_a_comment_stay_as_they_are() -> None:
    for suffix in ("wav", "mp3", "mp4", "m4a"):
        content, form = small(suffix), FORMATS[suffix]
        said = carriers.read(content, form)
        assert "comment" not in said.foreign
        assert sound_files.packets(carriers.write(content, form, said)) == sound_files.packets(
            content
        )
