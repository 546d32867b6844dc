"""The label in sound files, read by independent readers; the sound is the same to the bit."""

from __future__ import annotations

import dataclasses
import io
import json
import struct
import zlib
from pathlib import Path

import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.seal.sound_files import (
    ALL,
    EMPTY,
    LABEL,
    OTHER,
    STATEMENT,
    packets,
    run,
    samples,
    sound,
    stream_wav,
    tags_by_ffmpeg,
)
from vermilion.errors import InputError
from vermilion.seal import carriers
from vermilion.seal.carriers import id3, riff, vorbis
from vermilion.seal.formats import FORMATS
from vermilion.seal.labels import Statement

KINDS = [
    ("wav", "PCM_16"),
    ("wav", "PCM_24"),
    ("mp3", None),
    ("flac", "PCM_16"),
    ("ogg", "VORBIS"),
    ("ogg", "OPUS"),
    ("m4a", None),
]
LONG = Statement(label=LABEL, recipe={"prompt": "长" * 50_000})


@pytest.mark.parametrize(("suffix", "subtype"), KINDS)
def test_what_is_written_is_read_and_the_sound_is_the_same(
    suffix: str, subtype: str | None
) -> None:
    form = FORMATS[suffix]
    source = sound(suffix, subtype, seconds=2.0)
    before, tags = packets(source), tags_by_ffmpeg(source)
    assert carriers.read(source, form) == EMPTY
    written = source
    for statement in (*ALL, LONG, STATEMENT):
        written = carriers.write(written, form, statement)
        assert carriers.read(written, form) == statement
        assert carriers.write(written, form, statement) == written
        assert packets(written) == before
        found = tags_by_ffmpeg(written)
        assert all(found[name] == value for name, value in tags.items())
        if suffix not in ("m4a",):
            assert samples(written) == samples(source)
            with soundfile.SoundFile(io.BytesIO(written)) as file:
                assert (file.title, file.artist) == ("Tea", "Someone")
    assert written == carriers.write(source, form, STATEMENT)
    if suffix != "mp3":  # whose tag gets room to grow
        assert carriers.write(written, form, EMPTY) == source


@pytest.mark.parametrize(
    ("suffix", "inner"), [("mp3", True), ("m4a", True), ("flac", False), ("ogg", False)]
)
def test_ffmpeg_reads_the_label(suffix: str, inner: bool, tmp_path: Path) -> None:
    content = carriers.write(sound(suffix), FORMATS[suffix], STATEMENT)
    wanted = json.loads(LABEL.inner() if inner else LABEL.outer())
    assert json.loads(tags_by_ffmpeg(content)["AIGC"]) == wanted
    options = ("-v", "error", "-show_format", "-show_streams", "-of", "json")
    found = json.loads(run("ffprobe", *options, content=content, folder=tmp_path, suffix=suffix))
    tags = found["format"].get("tags", {}) | found["streams"][0].get("tags", {})
    assert json.loads(tags["AIGC"]) == wanted
    own = json.loads(tags["VERMILION"])
    assert own["recipe"] == STATEMENT.recipe


@pytest.mark.parametrize("suffix", ["mp3", "m4a", "flac", "ogg"])
def test_exiftool_reads_the_label(suffix: str, tmp_path: Path) -> None:
    content = carriers.write(sound(suffix), FORMATS[suffix], STATEMENT)
    printed = run("exiftool", "-a", "-G1", content=content, folder=tmp_path, suffix=suffix)
    assert "Error" not in printed
    assert "Warning" not in printed
    assert LABEL.produce_id in printed
    assert "Tea" in printed


def test_the_chunk_of_wav_is_where_a_reader_of_chunks_finds_it() -> None:
    content = riff.write(sound("wav"), STATEMENT)
    assert struct.unpack_from("<I", content, 4)[0] == len(content) - 8
    at, found = 12, {}
    while at < len(content):
        name, size = struct.unpack_from("<4sI", content, at)
        assert name not in found
        found[name] = content[at + 8 : at + 8 + size]
        at += 8 + size + size % 2
    assert at == len(content)
    assert json.loads(found[b"AIGC"]) == json.loads(LABEL.outer())
    assert json.loads(found[b"VRML"])["recipe"] == STATEMENT.recipe


def test_a_wav_of_a_stream_gets_its_sizes() -> None:
    content = riff.write(stream_wav(), STATEMENT)
    assert riff.read(content) == STATEMENT
    assert samples(content) == samples(sound("wav"))


def test_a_wav_above_4_gib_keeps_its_sizes_in_ds64() -> None:
    plain = sound("wav")
    at = plain.index(b"data")
    (size,) = struct.unpack_from("<I", plain, at + 4)
    unknown = struct.pack("<I", 0xFFFFFFFF)
    ds64 = b"ds64" + struct.pack("<IQQQI", 28, len(plain) - 8 + 36, size, size // 2, 0)
    content = b"RF64" + unknown + b"WAVE" + ds64 + plain[12 : at + 4] + unknown + plain[at + 8 :]
    written = riff.write(content, STATEMENT)
    assert riff.read(written) == STATEMENT
    assert struct.unpack_from("<Q", written, 20)[0] == len(written) - 8
    assert samples(written) == samples(plain)


def test_what_lies_behind_a_wav_stays() -> None:
    assert riff.write(sound("wav") + b"behind it", STATEMENT).endswith(b"behind it")


def _frame(name: bytes, body: bytes, version: int, flags: int = 0) -> bytes:
    size = len(body)
    if version == 2:
        return name + size.to_bytes(3, "big") + body
    if version == 4:
        return name + bytes(size >> s & 127 for s in (21, 14, 7, 0)) + bytes([0, flags]) + body
    return name + size.to_bytes(4, "big") + bytes([0, flags]) + body


def _tagged(body: bytes, version: int, flags: int = 0, footer: bytes = b"") -> bytes:
    size = bytes(len(body) >> s & 127 for s in (21, 14, 7, 0))
    return b"ID3" + bytes([version, 0, flags]) + size + body + footer


def _bare_mp3() -> bytes:
    content = sound("mp3")
    return content[id3.span(content) :]


def _unsynchronised(body: bytes) -> bytes:
    return body.replace(b"\xff", b"\xff\x00")


OLD = b"\0AIGC\0" + OTHER.label.inner().encode()  # type: ignore[union-attr]
OLD_16 = b"\1" + "AIGC".encode("utf-16") + b"\0\0" + OTHER.label.inner().encode("utf-16")  # type: ignore[union-attr]
TITLE = b"\1" + "Tee ÿ".encode("utf-16")
PACKED = zlib.compress(OLD)
BODIES = {
    "none": b"",
    "2.2": _tagged(_frame(b"TT2", TITLE, 2) + _frame(b"TXX", OLD, 2) + bytes(9), 2),
    "2.3": _tagged(_frame(b"TIT2", TITLE, 3) + _frame(b"TXXX", OLD, 3) + bytes(9), 3),
    "2.3 in UTF-16": _tagged(_frame(b"TIT2", TITLE, 3) + _frame(b"TXXX", OLD_16, 3), 3),
    "2.3 unsynchronised": _tagged(
        _unsynchronised(_frame(b"TIT2", TITLE, 3) + _frame(b"TXXX", OLD_16, 3)), 3, 0x80
    ),
    "2.3 with an extended head": _tagged(
        struct.pack(">IHI", 6, 0, 9)
        + _frame(b"TIT2", TITLE, 3)
        + _frame(b"TXXX", OLD, 3)
        + bytes(9),
        3,
        0x40,
    ),
    "2.3 compressed": _tagged(
        _frame(b"TIT2", TITLE, 3)
        + _frame(b"TXXX", struct.pack(">I", len(OLD)) + PACKED, 3, 0x80),
        3,
    ),
    "2.4": _tagged(_frame(b"TIT2", TITLE, 4) + _frame(b"TXXX", OLD, 4), 4),
    "2.4 unsynchronised": _tagged(
        _frame(b"TIT2", _unsynchronised(TITLE), 4, 2)
        + _frame(b"TXXX", struct.pack(">I", len(OLD_16)) + _unsynchronised(OLD_16), 4, 3),
        4,
        0x80,
    ),
    "2.4 with an extended head": _tagged(
        bytes([0, 0, 0, 6, 1, 0]) + _frame(b"TIT2", TITLE, 4) + _frame(b"TXXX", OLD, 4), 4, 0x40
    ),
    "2.4 with a footer": _tagged(
        _frame(b"TIT2", TITLE, 4) + _frame(b"TXXX", OLD, 4), 4, 0x10, b"3DI\4\0\x10\0\0\0\0"
    ),
    "2.4 with sizes as in 2.3": _tagged(
        _frame(b"TIT2", TITLE, 4) + b"TXXX" + struct.pack(">IH", len(OLD), 0) + OLD
        + _frame(b"TPE1", b"\3Someone", 4),
        4,
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", BODIES)
def test_every_kind_of_id3_tag_is_read_and_replaced(kind: str) -> None:
    audio = _bare_mp3()
    content = BODIES[kind] + audio
    old = EMPTY if kind == "none" else dataclasses.replace(EMPTY, label=OTHER.label)
    assert id3.read(content) == old
    for statement in ALL:
        written = id3.write(content, statement)
        assert id3.read(written) == statement
        assert written.endswith(audio)
        assert id3.span(written) == len(written) - len(audio)
        found = tags_by_ffmpeg(written)
        assert ("AIGC" in found) == (statement.label is not None)
        if kind != "none":
            assert found["TITLE"] == "Tee ÿ"


def test_flac_may_lie_behind_an_id3_tag_and_without_comments() -> None:
    source = sound("flac")
    assert vorbis.read(BODIES["2.3"] + vorbis.write(source, STATEMENT)) == STATEMENT
    # fLaC and STREAMINFO alone, marked as the last block.
    at = source.index(b"\xff\xf8")
    bare = source[:4] + b"\x80" + source[5:42] + source[at:]
    written = vorbis.write(bare, STATEMENT)
    assert vorbis.read(written) == STATEMENT
    assert samples(written) == samples(source)
    assert vorbis.write(bare, EMPTY) == bare


def _ogg_pages(content: bytes) -> list[tuple[int, int, int]]:
    """Flags, position and number of every page; its checksum by a loop as RFC 3533 has it."""
    table = []
    for value in range(256):
        r = value << 24
        for _ in range(8):
            r = (r << 1 ^ 0x04C11DB7 if r & 0x80000000 else r << 1) & 0xFFFFFFFF
        table.append(r)
    found, at = [], 0
    while at < len(content):
        count = content[at + 26]
        end = at + 27 + count + sum(content[at + 27 : at + 27 + count])
        crc = 0
        for byte in content[at : at + 22] + bytes(4) + content[at + 26 : end]:
            crc = (crc << 8 ^ table[crc >> 24 ^ byte]) & 0xFFFFFFFF
        assert struct.unpack_from("<I", content, at + 22)[0] == crc
        found.append(struct.unpack_from("<BqII", content, at + 5)[0:4:1])
        at = end
    assert at == len(content)
    return [(flags, position, number) for flags, position, _, number in found]


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_pages_of_ogg_are_numbered_and_summed(subtype: str) -> None:
    source = sound("ogg", subtype, seconds=2.0)
    for statement in (STATEMENT, LONG):
        written = vorbis.write(source, statement)
        pages = _ogg_pages(written)
        assert [number for *_, number in pages] == list(range(len(pages)))
        positions = [position for _, position, _ in _ogg_pages(source)]
        assert [position for _, position, _ in pages][-1] == positions[-1]
    assert len(pages) > 2 + len(LONG.recipe["prompt"]) * 6 // 65_025


def test_more_than_one_stream_of_ogg_is_refused() -> None:
    one, two = sound("ogg", "VORBIS"), sound("ogg", "OPUS")
    for content in (one + two, two + one):
        with pytest.raises(InputError, match="more than one stream"):
            vorbis.write(content, STATEMENT)
    first = 28 + one[27]
    with pytest.raises(InputError, match="more than one stream"):
        vorbis.read(one[:first] + two[: 28 + two[27]] + one[first:])


def test_a_damaged_page_of_ogg_is_not_summed_anew() -> None:
    content = bytearray(sound("ogg", "VORBIS", seconds=2.0))
    content[-20] ^= 1
    with pytest.raises(InputError, match="checksum"):
        vorbis.write(bytes(content), LONG)


@pytest.mark.parametrize(("suffix", "subtype"), KINDS)
def test_two_labels_in_a_file_are_said(suffix: str, subtype: str | None) -> None:
    content = carriers.write(sound(suffix, subtype), FORMATS[suffix], STATEMENT)
    if suffix == "wav":
        end = content[content.index(b"AIGC") :]
        content = content + end
        content = content[:4] + struct.pack("<I", len(content) - 8) + content[8:]
    elif suffix == "mp3":
        content = _tagged(_frame(b"TXXX", OLD, 3) * 2, 3) + _bare_mp3()
    elif suffix == "flac":
        content = content.replace(b"VERMILION=", b"AIGC=" + b"x" * 5, 1)
    else:
        return
    with pytest.raises(InputError, match="AIGC"):
        carriers.read(content, FORMATS[suffix])
    # To write is the remedy.
    fixed = carriers.write(content, FORMATS[suffix], OTHER)
    assert carriers.read(fixed, FORMATS[suffix]) == OTHER


@pytest.mark.parametrize(("suffix", "subtype"), KINDS)
def test_what_is_cut_off_is_said_or_read(suffix: str, subtype: str | None) -> None:
    form = FORMATS[suffix]
    content = carriers.write(sound(suffix, subtype, seconds=0.05), form, STATEMENT)
    read = 0
    for length in [*range(min(len(content), 3000)), *range(3000, len(content), 97)]:
        cut = content[:length]
        try:
            found = carriers.read(cut, form)
            carriers.write(cut, form, OTHER)
        except InputError:
            continue
        read += 1
        assert found in (STATEMENT, EMPTY)
    assert read < len(content) // 2 or suffix in ("mp3", "flac", "ogg")


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(KINDS), st.data())
def test_damaged_files_are_said_or_read(kind: tuple[str, str | None], data: st.DataObject) -> None:
    form = FORMATS[kind[0]]
    content = bytearray(carriers.write(sound(*kind, seconds=0.1), form, STATEMENT))
    for _ in range(data.draw(st.integers(1, 6))):
        place = data.draw(st.integers(0, min(len(content), 2000) - 1))
        content[place] = data.draw(st.integers(0, 255))
    for use in (lambda: carriers.read(bytes(content), form),
                lambda: carriers.write(bytes(content), form, OTHER)):  # fmt: skip
        try:
            use()
        except InputError as error:
            assert "\n" not in str(error)  # noqa: PT017


STARTS = [
    b"",
    b"RIFF\0\0\0\0WAVE",
    b"ID3\3\0\0\0\0\1\0",
    b"fLaC",
    b"OggS\0\2",
    b"\0\0\0\x08ftyp",
]


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(["wav", "mp3", "flac", "ogg", "m4a"]),
    st.sampled_from(STARTS),
    st.binary(max_size=300),
)  # fmt: skip
def test_random_bytes_are_said(suffix: str, start: bytes, rest: bytes) -> None:
    for use in (carriers.read, lambda content, form: carriers.write(content, form, STATEMENT)):
        try:
            use(start + rest, FORMATS[suffix])
        except InputError as error:
            assert "\n" not in str(error)  # noqa: PT017


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)  # fmt: skip
TAG_TEXT = st.characters(exclude_characters="\0\ufeff", exclude_categories=["Cs"])
statements = st.builds(
    Statement,
    label=st.sampled_from([LABEL, OTHER.label, None]),
    source_type=st.sampled_from(["", STATEMENT.source_type]),
    parameters=st.text(max_size=50),
    recipe=st.dictionaries(st.text(max_size=10), json_values, max_size=4),
    foreign=st.dictionaries(
        st.sampled_from(["prompt", "workflow", "invokeai_metadata"]),
        st.text(TAG_TEXT, min_size=1, max_size=30),
    ),
)  # fmt: skip


@settings(max_examples=120, deadline=None)
@given(st.sampled_from(KINDS), statements)
def test_any_statement_comes_back(kind: tuple[str, str | None], statement: Statement) -> None:
    form = FORMATS[kind[0]]
    content = carriers.write(sound(*kind, seconds=0.1), form, statement)
    assert carriers.read(content, form) == statement
