"""FLAC and OGG (Vorbis, Opus): the label as a comment AIGC; the whole object.

A comment packet is the writer's name and a list of NAME=text in UTF-8, each with its length in
front (https://xiph.org/vorbis/doc/v-comment.html). In FLAC it is a metadata block. In OGG it is the
second packet (RFC 3533, RFC 7845, Vorbis I); where it grows over more pages, the numbers of all
later pages and their checksums change, and nothing else.
"""

from __future__ import annotations

import struct
import zlib
from typing import NamedTuple

from vermilion.errors import InputError
from vermilion.seal.carriers import id3, tags
from vermilion.seal.labels import Statement

_MOST = 65_536  # comments that are read
_COMMENT, _PADDING = 4, 1  # kinds of FLAC's metadata blocks
_LARGEST_BLOCK = (1 << 24) - 1
_MIRRORED = bytes(int(f"{value:08b}"[::-1], 2) for value in range(256))


def write(content: bytes, statement: Statement) -> bytes:
    """The file with this statement instead of any that stood there; sound stays as it is.

    Raises:
        InputError: it is no FLAC and no OGG of one stream of Vorbis or Opus, or it is damaged.
    """
    values = tags.written(statement, whole=True)
    return _write(content, [f"{name}={text}".encode() for name, text in values.items()])


def _write(content: bytes, values: list[bytes]) -> bytes:
    """The file with these comments instead of those of ours."""
    if content[:4] == b"OggS":
        return _write_ogg(content, values)
    start, blocks, audio = _blocks(content)
    parts = list[bytes]()
    held = next((b for b in blocks if b.kind == _COMMENT), None)
    body = _Comments.parse(held.body if held is not None else _NONE).bytes(values)
    if len(body) > _LARGEST_BLOCK:
        raise InputError("file: FLAC's comments would be longer than 16 MiB")
    for block in blocks:
        if block.kind != _COMMENT:
            parts.append(bytes([block.kind]) + len(block.body).to_bytes(3, "big") + block.body)
        if block == held or (held is None and block == blocks[0] and values):
            parts.append(bytes([_COMMENT]) + len(body).to_bytes(3, "big") + body)
    parts[-1] = bytes([parts[-1][0] | 0x80]) + parts[-1][1:]
    return b"".join((content[: start + 4], *parts, content[audio:]))


def adopt(content: bytes, like: bytes) -> bytes:
    """The file with the comments of another of its format (titles, artists), those of ours apart.

    Raises:
        InputError: one of them is damaged.
    """
    found = _found(like)
    kept = [e for comments in found for e in comments.entries if not _is_ours(e)]
    return _write(content, kept)


def read(content: bytes) -> Statement:
    """What the file says about itself.

    Raises:
        InputError: it is no FLAC and no OGG of one stream of Vorbis or Opus, it is damaged, or its
            label is.
    """
    return tags.stated(
        (_name(name), value)
        for comments in _found(content)
        for name, equals, value in (entry.partition(b"=") for entry in comments.entries)
        if equals
    )


def _found(content: bytes) -> list[_Comments]:
    if content[:4] == b"OggS":
        return [_heads(content).comments]
    return [_Comments.parse(b.body) for b in _blocks(content)[1] if b.kind == _COMMENT]


def _is_ours(entry: bytes) -> bool:
    return tags.is_ours(_name(entry.partition(b"=")[0]))


def _name(name: bytes) -> str:
    """A comment's name; DESCRIPTION is what Vorbis calls, and FFmpeg writes, a comment."""
    words = name.decode("latin-1")
    return tags.COMMENT if words.lower() == "description" else words


class _Comments(NamedTuple):
    vendor: bytes
    entries: list[bytes]
    rest: bytes  # what follows the list: Vorbis' framing bit, Opus' own bytes

    @classmethod
    def parse(cls, body: bytes) -> _Comments:
        vendor, at = _field(body, 0)
        if at + 4 > len(body):
            raise InputError("file: its comments are damaged")
        (count,) = struct.unpack_from("<I", body, at)
        if count > _MOST:
            raise InputError(f"file: it has more than {_MOST} comments")
        at, entries = at + 4, list[bytes]()
        for _ in range(count):
            entry, at = _field(body, at)
            entries.append(entry)
        return cls(vendor, entries, body[at:])

    def bytes(self, added: list[bytes]) -> bytes:
        entries = [*(e for e in self.entries if not _is_ours(e)), *added]
        fields = [struct.pack("<I", len(e)) + e for e in (self.vendor, *entries)]
        return b"".join((fields[0], struct.pack("<I", len(entries)), *fields[1:], self.rest))


_NONE = _Comments(b"vermilion", [], b"").bytes([])


def _field(body: bytes, at: int) -> tuple[bytes, int]:
    """Bytes with their length of 32 bits in front, and where they end."""
    if at + 4 > len(body):
        raise InputError("file: its comments are damaged")
    (length,) = struct.unpack_from("<I", body, at)
    if length > len(body) - at - 4:
        raise InputError("file: its comments are damaged (one is longer than all of them)")
    return body[at + 4 : at + 4 + length], at + 4 + length


class _Block(NamedTuple):
    kind: int
    body: bytes


def _blocks(content: bytes) -> tuple[int, list[_Block], int]:
    """Where FLAC begins (an ID3 tag may lie in front), its blocks, and where sound begins."""
    start = id3.span(content)
    if content[start : start + 4] != b"fLaC":
        raise InputError("file: it is no FLAC and no OGG")
    blocks, at, last = list[_Block](), start + 4, False
    while not last:
        if at + 4 > len(content):
            raise InputError("file: it ends within FLAC's metadata")
        last, kind = bool(content[at] & 0x80), content[at] & 0x7F
        end = at + 4 + int.from_bytes(content[at + 1 : at + 4], "big")
        if end > len(content):
            raise InputError("file: it ends within FLAC's metadata")
        blocks.append(_Block(kind, content[at + 4 : end]))
        at = end
    if blocks[0].kind != 0:
        raise InputError("file: its FLAC is damaged (it does not begin with STREAMINFO)")
    return start, blocks, at


class _Page(NamedTuple):
    start: int
    body: int
    end: int
    flags: int  # 1: it goes on with a packet, 2: first of a stream, 4: last
    serial: int
    number: int
    laces: bytes


class _Heads(NamedTuple):
    """The head packets of a stream of OGG."""

    first: _Page
    magic: bytes  # with which the comment packet begins
    comments: _Comments
    more: list[bytes]  # Vorbis' setup packet
    pages: int  # how many hold the comments and what follows
    end: int  # where sound begins


def _page(content: bytes, at: int, *, check: bool = True) -> _Page:
    if at + 27 > len(content) or content[at : at + 4] != b"OggS" or content[at + 4] != 0:
        raise InputError("file: its OGG is damaged or cut off (a page is missing)")
    flags = content[at + 5]
    serial, number, crc, count = struct.unpack_from("<IIIB", content, at + 14)
    laces = content[at + 27 : at + 27 + count]
    page = _Page(at, at + 27 + count, at + 27 + count + sum(laces), flags, serial, number, laces)
    if len(laces) < count or page.end > len(content):
        raise InputError("file: its OGG is cut off within a page")
    if check and crc != _crc(content[at : at + 22] + bytes(4) + content[at + 26 : page.end]):
        raise InputError("file: its OGG is damaged (a page has a wrong checksum)")
    return page


def _heads(content: bytes) -> _Heads:
    first = _page(content, 0)
    head = content[first.body : first.end]
    if head[:8] == b"OpusHead":
        magic, wanted = b"OpusTags", 1
    elif head[:7] == b"\x01vorbis":
        magic, wanted = b"\x03vorbis", 2
    else:
        raise InputError("file: its OGG holds neither Vorbis nor Opus, or more than one stream")
    packets, begun, at, pages = list[bytes](), list[bytes](), first.end, 0
    while len(packets) < wanted:
        page = _page(content, at)
        if page.serial != first.serial or page.flags & 2:
            raise InputError("file: its OGG holds more than one stream; only one can be labelled")
        packets += _packets(content, page, begun)
        at, pages = page.end, pages + 1
    if len(packets) > wanted or begun:
        raise InputError("file: its OGG is damaged (sound does not begin on a page of its own)")
    if not packets[0].startswith(magic):
        raise InputError("file: its OGG has no comments")
    comments = _Comments.parse(packets[0][len(magic) :])
    return _Heads(first, magic, comments, packets[1:], pages, at)


def _packets(content: bytes, page: _Page, begun: list[bytes]) -> list[bytes]:
    """The packets that end on a page; `begun` takes up the parts of the one that goes on."""
    found, at = list[bytes](), page.body
    for lace in page.laces:
        begun.append(content[at : at + lace])
        at += lace
        if lace < 255:
            found.append(b"".join(begun))
            begun.clear()
    return found


def _write_ogg(content: bytes, values: list[bytes]) -> bytes:
    heads = _heads(content)
    packet = heads.magic + heads.comments.bytes(values)
    pages = _paged([packet, *heads.more], heads.first)
    moved = len(pages) - heads.pages
    parts = [content[: heads.first.end], *pages]
    at = heads.end
    while at < len(content):
        page = _page(content, at, check=moved != 0)
        if page.serial != heads.first.serial or page.flags & 2:
            raise InputError("file: its OGG holds more than one stream; only one can be labelled")
        if moved:
            number = (page.number + moved) & 0xFFFFFFFF
            parts.append(_signed(content[at : page.end], number))
        else:
            parts.append(content[at : page.end])
        at = page.end
    return b"".join(parts)


def _paged(packets: list[bytes], first: _Page) -> list[bytes]:
    """Packets on pages of their own, which follow the first page."""
    laces = list[tuple[int, bool]]()
    for packet in packets:
        whole, rest = divmod(len(packet), 255)
        laces += [(255, False)] * whole + [(rest, True)]
    body, at, pages, ended = b"".join(packets), 0, list[bytes](), True
    for start in range(0, len(laces), 255):
        part = laces[start : start + 255]
        length = sum(lace for lace, _ in part)
        # A page on which no packet ends has no position.
        position = 0 if any(last for _, last in part) else -1
        head = struct.pack(
            "<4sBBqIIIB", b"OggS", 0, 0 if ended else 1, position, first.serial, 0, 0, len(part)
        )
        page = head + bytes(lace for lace, _ in part) + body[at : at + length]
        pages.append(_signed(page, first.number + 1 + len(pages)))
        at, ended = at + length, part[-1][1]
    return pages


def _signed(page: bytes, number: int) -> bytes:
    """A page with this number, and its checksum."""
    head, rest = page[:18] + struct.pack("<I", number), page[26:]
    return head + struct.pack("<I", _crc(head + bytes(4) + rest)) + rest


def _crc(data: bytes) -> int:
    """OGG's checksum: polynomial 0x04c11db7, not mirrored, begun with 0.

    It is the mirror image of zlib's over mirrored bytes, which is a hundred times faster than a
    loop here.
    """
    mirrored = zlib.crc32(data.translate(_MIRRORED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int(f"{mirrored:032b}"[::-1], 2)
