"""The label in films, read by independent readers; every packet and its time is the same."""

from __future__ import annotations

import io
import json
import struct
from pathlib import Path

import av
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.seal.sound_files import (
    ALL,
    EMPTY,
    LABEL,
    OTHER,
    STATEMENT,
    film,
    packets,
    run,
    tags_by_ffmpeg,
)
from tests.seal.test_carriers_sound import statements
from vermilion.errors import InputError
from vermilion.seal import carriers
from vermilion.seal.carriers import isobmff, matroska
from vermilion.seal.formats import FORMATS
from vermilion.seal.labels import MADE_BY_AI, Statement

BOXES = [
    (),
    (("movflags", "use_metadata_tags"),),
    (("movflags", "faststart"),),
    (("movflags", "faststart+use_metadata_tags"),),
    (("movflags", "frag_keyframe"),),
    (("movflags", "frag_keyframe+empty_moov"),),
    (("movflags", "frag_keyframe+empty_moov+default_base_moof"),),
]
TREES = [
    (),
    (("live", "1"),),
    (("cluster_time_limit", "200"),),
    (("reserve_index_space", "2000"),),
]
KINDS = [(suffix, options) for suffix in ("mp4", "mov", "m4a") for options in BOXES] + [
    (suffix, options) for suffix in ("mkv", "webm") for options in TREES
]
Options = tuple[tuple[str, str], ...]
LONG = Statement(label=LABEL, recipe={"prompt": "长" * 50_000})


def _sought(content: bytes) -> list[int | None]:
    """The first picture or packet after jumps into the file, which need its index."""
    found = []
    with av.open(io.BytesIO(content)) as file:
        for second in (0, 1, 2):
            file.seek(second * 1_000_000)
            found.append(next(file.demux()).pts)
    return found


@pytest.mark.parametrize(("suffix", "options"), KINDS)
def test_what_is_written_is_read_and_every_packet_is_the_same(
    suffix: str, options: Options
) -> None:
    form = FORMATS[suffix]
    source = film(suffix, options, seconds=3.0)
    before, tags, sought = packets(source), tags_by_ffmpeg(source), _sought(source)
    assert carriers.read(source, form) == EMPTY
    assert carriers.write(source, form, EMPTY) == source
    written = source
    for statement in (*ALL, LONG, STATEMENT):
        written = carriers.write(written, form, statement)
        assert carriers.read(written, form) == statement
        assert carriers.write(written, form, statement) == written
        assert packets(written) == before
        assert _sought(written) == sought
        found = tags_by_ffmpeg(written)
        assert all(found[name] == value for name, value in tags.items())
        assert ("AIGC" in found) == (statement.label is not None)
    inner = suffix not in ("mkv", "webm")
    assert json.loads(found["AIGC"]) == json.loads(LABEL.inner() if inner else LABEL.outer())
    assert json.loads(found["VERMILION"])["recipe"] == STATEMENT.recipe
    emptied = carriers.write(written, form, EMPTY)
    assert carriers.read(emptied, form) == EMPTY
    assert packets(emptied) == before
    if inner and options != (("movflags", "faststart+use_metadata_tags"),):
        assert emptied == source


@pytest.mark.parametrize("suffix", ["mp4", "mov", "mkv", "webm"])
def test_ffprobe_reads_the_label_and_finds_nothing_wrong(suffix: str, tmp_path: Path) -> None:
    content = carriers.write(film(suffix, seconds=3.0), FORMATS[suffix], STATEMENT)
    options = ("-v", "error", "-show_format", "-count_packets", "-show_streams", "-of", "json")
    found = json.loads(run("ffprobe", *options, content=content, folder=tmp_path, suffix=suffix))
    assert LABEL.produce_id in found["format"]["tags"]["AIGC"]
    assert found["streams"][0]["nb_read_packets"] == "30"


@pytest.mark.parametrize("suffix", ["mp4", "mov", "mkv"])
def test_exiftool_reads_the_label(suffix: str, tmp_path: Path) -> None:
    content = carriers.write(film(suffix), FORMATS[suffix], STATEMENT)
    printed = run("exiftool", "-a", "-G1", content=content, folder=tmp_path, suffix=suffix)
    assert "Error" not in printed
    assert "Warning" not in printed
    assert LABEL.produce_id in printed


def test_boxes_of_64_bits_and_to_the_end_are_read() -> None:
    source = film("mp4", (("movflags", "faststart"),))
    top = list(isobmff.boxes(source))
    assert [b.name for b in top][:2] == [b"ftyp", b"moov"]
    mdat = next(b for b in top if b.name == b"mdat")
    assert mdat.end == len(source)
    open_end = source[: mdat.start] + bytes(4) + source[mdat.start + 4 :]
    written = isobmff.write(open_end, STATEMENT)
    assert isobmff.read(written) == STATEMENT
    assert packets(written) == packets(source)
    # A head of 64 bits: moov before it is told that samples lie eight bytes farther back.
    size = struct.pack(">I4sQ", 1, b"mdat", mdat.end - mdat.start + 8)
    moov = bytearray(source[: mdat.start])
    isobmff._move(moov, mdat.start, 8)
    wide = bytes(moov) + size + source[mdat.body :]
    assert packets(wide)[-1] == packets(source)[-1]
    written = isobmff.write(wide, STATEMENT)
    assert isobmff.read(written) == STATEMENT
    assert packets(written) == packets(wide)


def test_positions_that_32_bits_cannot_say_are_said() -> None:
    content = bytearray(film("mp4", (("movflags", "faststart"),)))
    at = content.index(b"stco")
    content[at + 12 : at + 16] = b"\xff\xff\xff\xf0"
    with pytest.raises(InputError, match="32-bit"):
        isobmff.write(bytes(content), STATEMENT)


def test_a_size_that_is_not_true_takes_no_memory() -> None:
    content = bytearray(isobmff.write(film("mp4"), STATEMENT))
    at = content.index(b"keys")
    content[at + 8 : at + 12] = b"\xff\xff\xff\xff"
    with pytest.raises(InputError, match="keys"):
        isobmff.read(bytes(content))


def test_a_cluster_that_states_its_position_is_put_right() -> None:
    source = film("mkv")
    segment = matroska._segment(source)
    children = list(matroska._children(source, segment))
    first = next(c for c in children if c.id == 0x1F43B675)
    position = first.start - segment.body
    # The checksum goes, and the Cluster's own position comes in the same six bytes.
    own = b"\xa7\x84" + position.to_bytes(4, "big")
    assert source[first.body : first.body + 2] == b"\xbf\x84"
    stated = source[: first.body] + own + source[first.body + 6 :]
    written = matroska.write(stated, STATEMENT)
    assert packets(written) == packets(source)
    segment = matroska._segment(written)
    again = next(c for c in matroska._children(written, segment) if c.id == 0x1F43B675)
    said = int.from_bytes(written[again.body + 2 : again.body + 6], "big")
    assert said == again.start - segment.body > position


def test_a_wrong_checksum_of_tags_is_said() -> None:
    content = bytearray(matroska.write(film("mkv"), STATEMENT))
    content[content.index(b'{"AIGC"') + 12] ^= 1
    with pytest.raises(InputError, match="checksum"):
        matroska.read(bytes(content))


@pytest.mark.parametrize(
    ("suffix", "content", "said"),
    [
        ("mp4", b"", "no MP4"),
        ("mp4", film("mkv"), "no MP4"),
        ("mp4", film("mp4")[:32], "moov"),
        ("mkv", film("mp4"), "no MKV"),
        ("mkv", film("mkv") * 2, "2 Segments"),
        ("webm", b"\x1a\x45\xdf\xa3\x80", "0 Segments"),
    ],
)
def test_what_is_no_film_is_said(suffix: str, content: bytes, said: str) -> None:
    with pytest.raises(InputError, match=said):
        carriers.read(content, FORMATS[suffix])


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "webm"])
def test_what_is_cut_off_is_said_or_read(suffix: str) -> None:
    form = FORMATS[suffix]
    options = (("movflags", "faststart"),) if suffix == "mp4" else (("live", "1"),)
    content = carriers.write(film(suffix, options, seconds=0.3), form, STATEMENT)
    for length in [*range(0, min(len(content), 2500), 3), *range(2500, len(content), 61)]:
        cut = content[:length]
        try:
            found = carriers.read(cut, form)
            carriers.write(cut, form, OTHER)
        except InputError as error:
            assert "\n" not in str(error)  # noqa: PT017
        else:
            assert found in (STATEMENT, EMPTY)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(["mp4", "mov", "m4a", "mkv", "webm"]), st.data())
def test_damaged_films_are_said_or_read(suffix: str, data: st.DataObject) -> None:
    form = FORMATS[suffix]
    options = () if suffix in ("mkv", "webm") else (("movflags", "faststart"),)
    content = bytearray(carriers.write(film(suffix, options, seconds=0.3), form, STATEMENT))
    for _ in range(data.draw(st.integers(1, 6))):
        place = data.draw(st.integers(0, min(len(content), 3000) - 1))
        content[place] = data.draw(st.integers(0, 255))
    for use in (carriers.read, lambda held, form: carriers.write(held, form, OTHER)):
        try:
            use(bytes(content), form)
        except InputError as error:
            assert "\n" not in str(error)  # noqa: PT017


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(["mp4", "mkv"]), st.binary(max_size=300))
def test_random_bytes_are_said(suffix: str, rest: bytes) -> None:
    start = b"\0\0\0\x08ftyp" if suffix == "mp4" else b"\x1a\x45\xdf\xa3\x80\x18\x53\x80\x67\xff"
    for use in (carriers.read, lambda held, form: carriers.write(held, form, OTHER)):
        try:
            use(start + rest, FORMATS[suffix])
        except InputError as error:
            assert "\n" not in str(error)  # noqa: PT017


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(["mp4", "mov", "mkv", "webm"]), statements)
def test_any_statement_comes_back(suffix: str, statement: Statement) -> None:
    content = carriers.write(film(suffix, seconds=0.3), FORMATS[suffix], statement)
    assert carriers.read(content, FORMATS[suffix]) == statement


@pytest.mark.parametrize("suffix", ["mkv", "webm"])
def test_what_stands_at_a_track_goes_too(suffix: str) -> None:
    """FFmpeg's tools write a stream's tags there; a prompt among them would stay in the file."""
    made = io.BytesIO()
    with (
        av.open(io.BytesIO(film(suffix, seconds=0.3))) as source,
        av.open(made, "w", format={"mkv": "matroska"}.get(suffix, suffix)) as out,
    ):
        copies = {s.index: out.add_stream_from_template(s, opaque=True) for s in source.streams}
        for copy in copies.values():
            copy.metadata.update({"prompt": "a secret", "title": "a track"})
        for packet in source.demux():
            if packet.dts is not None:
                packet.stream = copies[packet.stream_index]
                out.mux(packet)
    assert b"a secret" in made.getvalue()
    for said in (Statement(), Statement(source_type=MADE_BY_AI)):
        written = carriers.write(made.getvalue(), FORMATS[suffix], said)
        assert b"a secret" not in written
        assert carriers.read(written, FORMATS[suffix]) == said
        with av.open(io.BytesIO(written)) as opened:
            assert {stream.metadata["title"] for stream in opened.streams} == {"a track"}
            assert len(list(opened.decode(video=0))) == 3
