"""WebP: XMP and EXIF in chunks behind the picture.

A simple file, of one chunk, becomes an extended one, as XMP asks for. All chunks keep their bytes
and their order; frames too. A C2PA manifest stays where it is, and is invalid until the file is
signed again.

Source: RFC 9649 (WebP), 2.5 to 2.7.
"""

from __future__ import annotations

from dataclasses import dataclass

from vermilion.errors import InputError
from vermilion.seal.carriers import exif, xmp
from vermilion.seal.carriers.statements import properties_of, statement_of
from vermilion.seal.labels import Statement

_XMP, _EXIF = b"XMP ", b"EXIF"
_HAS_ALPHA, _HAS_EXIF, _HAS_XMP = 0x10, 0x08, 0x04
_PICTURE = (b"VP8 ", b"VP8L", b"ANMF", b"ALPH", b"ANIM", b"ICCP", b"VP8X")
_NAME = b"Exif\0\0"  # with which some writers begin the chunk, though the format has no such name
_LARGEST = 0xFFFFFFF0


@dataclass(frozen=True, slots=True)
class Chunk:
    """A chunk: its name, and what is in it."""

    name: bytes
    data: bytes

    def raw(self) -> bytes:
        """As it stands in the file, filled up to an even length."""
        size = len(self.data).to_bytes(4, "little")
        return self.name + size + self.data + bytes(len(self.data) % 2)


def chunks(content: bytes) -> tuple[list[Chunk], bytes]:
    """The chunks, and what follows the file's end.

    Raises:
        InputError: no WebP, or it ends early.
    """
    if content[:4] != b"RIFF" or content[8:12] != b"WEBP":
        raise InputError("WebP: the file is no WebP")
    end = 8 + int.from_bytes(content[4:8], "little")
    found, here = [], 12
    while here + 8 <= min(end, len(content)):
        size = int.from_bytes(content[here + 4 : here + 8], "little")
        found.append(Chunk(content[here : here + 4], content[here + 8 : here + 8 + size]))
        here += 8 + size + size % 2
        if here - size % 2 > len(content):
            break
    if end > len(content) or here not in (end, end + 1):
        raise InputError("WebP: the file is damaged or ends early")
    return found, content[end:]


def _first(found: list[Chunk], name: bytes) -> bytes:
    return next((chunk.data for chunk in found if chunk.name == name), b"")


def _exif(found: list[Chunk]) -> tuple[bytes, bytes]:
    """The EXIF chunk's TIFF, and the name before it."""
    data = _first(found, _EXIF)
    name = _NAME if data.startswith(_NAME) else b""
    return data[len(name) :], name


def read(content: bytes) -> Statement:
    """What a WebP says about itself.

    Raises:
        InputError: the file or a part of it is damaged.
    """
    found, _ = chunks(content)
    packets = [chunk.data for chunk in found if chunk.name == _XMP]
    statement = statement_of(xmp.once([i for p in packets for i in xmp.read(p).items()]))
    block, _ = _exif(found)
    return exif.into(statement, exif.read(block)) if block else statement


def write(content: bytes, statement: Statement) -> bytes:
    """Let a WebP say what the statement says, and nothing else of that kind.

    Raises:
        InputError: the file is damaged, or a part of the statement cannot be written.
    """
    found, trailing = chunks(content)
    block, name = _exif(found)
    block, rest = exif.write(block, statement, xmp.LARGEST)
    packet = xmp.merge(_first(found, _XMP), properties_of(rest))
    body = [chunk for chunk in found if chunk.name not in (_XMP, _EXIF)]
    if not body:
        raise InputError("WebP: the file is damaged: it has no picture")
    last = max((i for i, chunk in enumerate(body) if chunk.name in _PICTURE), default=-1) + 1
    new = [Chunk(_EXIF, name + block)] if block else []
    new += [Chunk(_XMP, packet)] if packet else []
    body[last:last] = new
    if new or body[0].name == b"VP8X":
        body = _extended(body, bool(block), bool(packet))
    inside = b"WEBP" + b"".join(chunk.raw() for chunk in body)
    if len(inside) > _LARGEST:
        raise InputError("WebP: the file would be larger than 4 GB, which the format cannot hold")
    return b"RIFF" + len(inside).to_bytes(4, "little") + inside + trailing


def _extended(body: list[Chunk], has_exif: bool, has_xmp: bool) -> list[Chunk]:
    """The chunks with a head that says that EXIF and XMP are there, or are not."""
    head = _first(body, b"VP8X") or _head(body[0])
    if len(head) < 10:
        raise InputError("WebP: the file is damaged: its head is too short")
    flags = head[0] & ~(_HAS_EXIF | _HAS_XMP)
    flags |= (_HAS_EXIF if has_exif else 0) | (_HAS_XMP if has_xmp else 0)
    others = body[1:] if body[0].name == b"VP8X" else body
    return [Chunk(b"VP8X", bytes([flags]) + head[1:]), *others]


def _head(picture: Chunk) -> bytes:
    """VP8X for a simple file, whose size stands in its picture (RFC 6386, 9.1; RFC 9649, 3.4)."""
    data = picture.data
    if picture.name == b"VP8L" and data[:1] == b"\x2f" and len(data) >= 5:
        bits = int.from_bytes(data[1:5], "little")
        width, height, alpha = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1, bits >> 28 & 1
    elif picture.name == b"VP8 " and data[3:6] == b"\x9d\x01\x2a" and len(data) >= 10:
        width = int.from_bytes(data[6:8], "little") & 0x3FFF
        height = int.from_bytes(data[8:10], "little") & 0x3FFF
        alpha = 0
    else:
        raise InputError("WebP: the file is damaged: its first chunk is no picture")
    if width == 0 or height == 0:
        raise InputError("WebP: the file is damaged: the picture has no size")
    flags = _HAS_ALPHA if alpha else 0
    size = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return bytes([flags, 0, 0, 0]) + size
