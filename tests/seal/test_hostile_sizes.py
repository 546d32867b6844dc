"""Small files that ask for much time, memory or depth: one sentence, in good time."""

from __future__ import annotations

import struct
import time
import zlib
from collections.abc import Iterator

import pytest

from vermilion.errors import InputError
from vermilion.seal import carriers, rights, verify
from vermilion.seal.carriers import vorbis
from vermilion.seal.formats import FORMATS
from vermilion.seal.labels import Label, Statement
from vermilion.seal.marks import text

SAID = Statement(label=Label(content_producer="a", produce_id="b"))
MANY = 100_000
LABELS = {
    "txt": b'{"AIGC":1}\n' * MANY,
    "md": b"---\n" + b"AIGC: 1\n" * MANY + b"---\n",
    "html": b"<html><head>" + b'<meta name="AIGC">' * MANY + b"</head></html>",
    "json": b"{" + b",".join([b'"AIGC":1,"a":1'] * MANY) + b"}",
}


@pytest.fixture(autouse=True)
def in_good_time() -> Iterator[None]:
    """Each of these took more than twenty seconds, or all the memory that there is."""
    started = time.process_time()
    yield
    assert time.process_time() - started < 8


@pytest.mark.parametrize("suffix", list(LABELS))
def test_many_labels(suffix: str) -> None:
    form = FORMATS[suffix]
    for step in (
        lambda: text.mark_of(LABELS[suffix], form),
        lambda: carriers.write(LABELS[suffix], form, SAID if form.labels else Statement()),
    ):
        with pytest.raises(InputError, match="more than 64 times"):
            step()


@pytest.mark.parametrize("part", ["<a ", "<!--", "<?", "</a ", "<!-- >", "<![CDATA[ >", "<!"])
def test_pages_that_never_end(part: str) -> None:
    content = ("<html><head>" + part * MANY).encode()
    for step in (
        lambda: carriers.read(content, FORMATS["html"]),
        lambda: text.add(content, FORMATS["html"], "AI-generated"),
    ):
        with pytest.raises(InputError, match="no end"):
            step()


def box(name: bytes, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return struct.pack(">I4s", len(body) + 8, name) + body


def test_boxes_that_lie_deep() -> None:
    inside = box(b"stco", bytes(8))
    for _ in range(3000):
        inside = box(b"trak", inside)
    content = box(b"ftyp", b"isom", bytes(4)) + box(b"moov", inside) + box(b"mdat")
    written = carriers.write(content, FORMATS["mp4"], SAID)
    assert carriers.read(written, FORMATS["mp4"]) == SAID


def test_items_of_pieces_without_bytes() -> None:
    rows = b"".join(struct.pack(">HHH", number, 0, 65535) for number in range(20_000))
    places = box(b"iloc", bytes(6), struct.pack(">H", 20_000), rows)
    content = box(b"ftyp", b"avif", bytes(4)) + box(b"meta", bytes(4), places)
    with pytest.raises(InputError, match="more than 65536 pieces"):
        carriers.read(content, FORMATS["avif"])


def test_texts_that_inflate() -> None:
    def chunk(name: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    bomb = chunk(b"zTXt", b"prompt\0\0" + zlib.compress(bytes(15 << 20)))
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0))
    content = b"\x89PNG\r\n\x1a\n" + head + bomb * 200 + chunk(b"IEND", b"")
    for step in (carriers.read, lambda *file: carriers.write(*file, SAID)):
        with pytest.raises(InputError, match="its texts are larger"):
            step(content, FORMATS["png"])


def test_a_packet_on_many_pages() -> None:
    def page(flags: int, number: int, body: bytes) -> bytes:
        head = struct.pack("<4sBBqIIIB", b"OggS", 0, flags, -1, 1, 0, 0, 1)
        return vorbis._signed(head + bytes([len(body)]) + body, number)

    pages = [page(2, 0, b"OpusHead" + bytes(11))]
    pages += [page(min(n, 1), n + 1, b"OpusTags".ljust(255, b"\0")) for n in range(50_000)]
    with pytest.raises(InputError, match="cut off"):
        carriers.read(b"".join(pages), FORMATS["ogg"])


@pytest.mark.parametrize(
    ("suffix", "content"),
    [
        ("txt", "words\n\n[AI生成 \x1b[31m\x07]\n".encode()),
        ("json", b'{"ai_notice": "AI-generated \\ud800\\u001b[2J", "a": 1}'),
        ("json", b'{"a": 1, "VERMILION": {"source_type": "x\\u001b[31m\\ud800\\nsignature good"}}'),
    ],
)
def test_a_terminal_obeys_no_file(suffix: str, content: bytes) -> None:
    verdict = verify.examine(content, FORMATS[suffix], None, authority=None, key=None)
    words = [finding.words for finding in verdict.findings]
    assert any("\ufffd" in said for said in words)
    assert all(said.isprintable() for said in words)


def test_a_licence_of_brackets() -> None:
    assert rights.commercial_use("(" * 1000) == "unknown"
    assert rights.commercial_use("(" * 20 + "MIT" + ")" * 20) == "allowed"
