"""Damaged and hostile files: one sentence, or what they say; never another error, never long."""

from __future__ import annotations

import io
import struct
import time
import zlib

import pypdf
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pypdf.generic import DictionaryObject, NameObject, StreamObject

from tests.seal import pictures_files as files
from tests.seal.pictures_files import ALL, FULL, PICTURES
from vermilion.errors import InputError
from vermilion.seal import carriers, foreign
from vermilion.seal.carriers import exif, ifd, xmp
from vermilion.seal.labels import Statement

HEADS = {
    "png": b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR",
    "jpg": b"\xff\xd8\xff\xe1\0\x20Exif\0\0",
    "webp": b"RIFF\x40\0\0\0WEBPEXIF\x30\0\0\0",
    "gif": b"GIF89a\1\0\1\0\0\0\0",
    "tiff": b"II*\0\x08\0\0\0\2\0",
    "avif": b"\0\0\0\x10ftypavif\0\0\0\0\0\0\0\x40meta\0\0\0\0",
    "svg": b'<svg xmlns="http://www.w3.org/2000/svg">',
    "pdf": b"%PDF-1.7\n1 0 obj\n",
}


@pytest.fixture(params=ALL)
def suffix(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def told(content: bytes, suffix: str) -> list[str]:
    """What reading and writing say: a sentence of InputError, or nothing."""
    sentences = []
    form = files.form(suffix)
    for step in (
        lambda: carriers.read(content, form),
        lambda: carriers.write(content, form, FULL),
        lambda: foreign.read(content, form),
    ):
        try:
            step()
        except InputError as error:
            sentences.append(str(error))
    assert all(": " in sentence and "\n" not in sentence for sentence in sentences)
    return sentences


def stated(suffix: str) -> bytes:
    """A file of few bytes that says all that a Statement can hold."""
    content = files.small(suffix)
    if suffix in PICTURES:
        content = files.saved(files.image("RGB", (8, 4)), suffix)
    return carriers.write(content, files.form(suffix), FULL)


def test_every_prefix(suffix: str) -> None:
    content = stated(suffix)
    ends = range(0, len(content), 19 if suffix == "pdf" else 1)
    refused = sum(len(told(content[:end], suffix)) == 3 for end in ends)
    # pypdf finds its way through most of what is left of a document.
    assert refused >= len(ends) * (0.1 if suffix == "pdf" else 0.5)
    assert told(content, suffix) == []


def test_bytes_that_were_changed(suffix: str) -> None:
    content = stated(suffix)
    for place in range(0, len(content), 29 if suffix == "pdf" else 2):
        for flip in (0xFF, 0x01):
            told(content[:place] + bytes([content[place] ^ flip]) + content[place + 1 :], suffix)


@settings(max_examples=300, deadline=None)
@given(tail=st.binary(max_size=300))
def test_random_bytes(tail: bytes) -> None:
    for suffix, head in HEADS.items():
        told(tail, suffix)
        told(head + tail, suffix)


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_pieces_in_any_order(data: st.DataObject) -> None:
    """Blocks that are cut out, moved and repeated, so that structures point astray."""
    suffix = data.draw(st.sampled_from(ALL))
    content = stated(suffix)
    for _ in range(data.draw(st.integers(1, 3))):
        places = sorted(data.draw(st.integers(0, len(content))) for _ in range(3))
        a, b, c = places
        content = data.draw(
            st.sampled_from(
                [content[:a] + content[b:], content[:a] + content[b:c] + content[a:b] + content[c:]]
            )
        )
    told(content, suffix)


def test_another_format_is_not_taken_for_it(suffix: str) -> None:
    for other in ALL:
        if other != suffix:
            assert len(told(files.small(other), suffix)) == 3


def png_with(*texts: bytes) -> bytes:
    content = files.picture("png")
    chunks = b"".join(
        struct.pack(">I", len(t) - 4) + t + struct.pack(">I", zlib.crc32(t)) for t in texts
    )
    return content[:33] + chunks + content[33:]


BOMB = (
    '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa">'
    + "".join(f'<!ENTITY {chr(98 + i)} "{f"&{chr(97 + i)};" * 10}">' for i in range(9))
    + ']><x:xmpmeta xmlns:x="adobe:ns:meta/">&j;</x:xmpmeta>'
)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (png_with(b"zTXtparameters\0\0" + zlib.compress(bytes(40 << 20))), "larger than"),
        (png_with(b"iTXtvermilion\0\1\0\0\0" + zlib.compress(bytes(40 << 20))), "larger than"),
        (png_with(b"iTXtXML:com.adobe.xmp\0\0\0\0\0" + BOMB.encode()), "declares entities"),
        (png_with(b"iTXtXML:com.adobe.xmp\0\0\0\0\0" + b"<a>" * 100_000), "more than 200 deep"),
        (png_with(b"iTXtXML:com.adobe.xmp\0\0\0\0\0<x:y"), "is damaged"),
        (png_with(b"iTXtvermilion\0\0\0\0\0" + b"[" * 1_000_000), "is not JSON"),
        (png_with(b"iTXtvermilion\0\0\0\0\0[]"), "no JSON object"),
        (png_with(b"tEXtAIGC\0{}"), "lacks Label"),
        (png_with(b"iTXtprompt\0\0\0\0\0\xff"), "not UTF-8"),
        (png_with(b"zTXtprompt\0\0\0\0\0\xff"), "damaged"),
    ],
)
def test_bombs_in_a_png(content: bytes, sentence: str) -> None:
    start = time.perf_counter()
    with pytest.raises(InputError, match=sentence):
        carriers.read(content, files.form("png"))
    assert time.perf_counter() - start < 5


def test_a_packet_that_is_too_large_is_not_parsed() -> None:
    with pytest.raises(InputError, match="more than 16777216"):
        xmp.read(b"<a>" + b" " * xmp.LARGEST)


def test_bombs_in_a_drawing() -> None:
    for content, sentence in (
        (BOMB.replace("<x:xmp", "<svg><x:xmp").encode(), "declares entities"),
        (b'<svg xmlns="http://www.w3.org/2000/svg">' + b"<g>" * 300, "200 deep"),
        (b"\x1f\x8b\x08", "compressed"),
        ("<svg/>".encode("utf-16"), "not UTF-8"),
        (b"<html/>", "first element is not svg"),
        (
            b'<!DOCTYPE svg [<!ENTITY x SYSTEM "file:///etc/passwd">]>'
            b'<svg xmlns="http://www.w3.org/2000/svg">&x;</svg>',
            "declares entities",
        ),
    ):
        with pytest.raises(InputError, match=sentence):
            carriers.read(content, files.form("svg"))


def test_a_directory_that_claims_too_much() -> None:
    for content in (
        b"II*\0\x08\0\0\0\xff\xff" + bytes(100),
        b"II*\0\xff\xff\xff\x7f" + bytes(100),
        b"II+\0\x08\0\0\0" + b"\xff" * 8 + bytes(100),
        b"II*\0\x08\0\0\0\1\0\xbc\2\1\0\xff\xff\xff\xff\0\0\0\0\0\0\0\0",
        b"II*\0\x08\0\0\0\1\0\xbc\2\1\0\0\0\1\0\xff\0\0\0\0\0\0\0",
        b"MM\0*\0\0\0\0\0\0\0\0",
    ):
        with pytest.raises(InputError, match="TIFF"):
            carriers.read(content, files.form("tiff"))


def test_a_directory_that_names_itself_ends() -> None:
    """EXIF's directory is the first one: nothing is followed twice."""
    block = b"II*\0\x08\0\0\0\1\0" + struct.pack("<HHII", ifd.EXIF_IFD, 4, 1, 8) + bytes(4)
    assert exif.read(block).parameters == ""
    written, rest = exif.write(block, FULL, 1 << 20)
    assert rest.parameters == ""
    assert exif.read(written).parameters == FULL.parameters


def test_avif_whose_item_lies_outside_or_everywhere() -> None:
    content = stated("avif")
    start = content.index(b"iloc") + 4
    end = start - 8 + int.from_bytes(content[start - 8 : start - 4], "big")
    for place in range(start, end):
        changed = content[:place] + b"\xff" + content[place + 1 :]
        told(changed, "avif")
    with pytest.raises(InputError, match="AVIF"):
        carriers.read(content[:start] + b"\x09" + content[start + 1 :], files.form("avif"))


def pdf_with_metadata(data: bytes, name: str) -> bytes:
    writer = pypdf.PdfWriter()
    writer.add_blank_page(9, 9)
    stream = StreamObject()
    stream[NameObject("/Filter")] = NameObject(name)
    stream._data = data
    writer.root_object[NameObject("/Metadata")] = writer._add_object(stream)
    buffer = io.BytesIO()
    writer.write(buffer)
    return buffer.getvalue()


def test_bombs_in_a_pdf() -> None:
    bomb = zlib.compress(bytes(100 << 20), 9)
    start = time.perf_counter()
    with pytest.raises(InputError, match="PDF|XMP"):
        carriers.read(pdf_with_metadata(bomb, "/FlateDecode"), files.form("pdf"))
    assert time.perf_counter() - start < 10
    loop = pypdf.PdfWriter()
    loop.add_blank_page(9, 9)
    first, second = DictionaryObject(), DictionaryObject()
    one, two = loop._add_object(first), loop._add_object(second)
    first[NameObject("/A")], second[NameObject("/A")] = two, one
    loop.root_object[NameObject("/Metadata")] = one
    buffer = io.BytesIO()
    loop.write(buffer)
    assert carriers.read(buffer.getvalue(), files.form("pdf")) == Statement()


def test_many_chunks_take_linear_time() -> None:
    many = png_with(*[b"tEXtprompt\0x"] * 50_000)
    start = time.perf_counter()
    assert carriers.read(many, files.form("png")).foreign == {"prompt": "x"}
    assert time.perf_counter() - start < 5


def test_parameters_that_would_take_a_slow_expression_long() -> None:
    for words in (" " * 1_000_000, "a" * 1_000_000, "a: " * 300_000, 'a:"' * 300_000, "\n" * 10**6):
        block, rest = exif.write(b"", Statement(parameters=f"x\nSteps: 1, Seed: 2, a: {words}"), 99)
        start = time.perf_counter()
        info = Image.Exif()
        info.get_ifd(0x8769)[0x9286] = b"ASCII\0\0\0" + words.encode()[:60_000]
        told(files.picture("jpg", exif=info.tobytes()), "jpg")
        foreign.of(Statement(parameters=words))
        foreign.of(Statement(foreign={"Dream": f'"{words}" {words}'}))
        assert time.perf_counter() - start < 3
        assert (block, rest.parameters[:8]) == (b"", "x\nSteps:")
