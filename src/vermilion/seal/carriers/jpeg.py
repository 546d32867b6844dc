"""JPEG: XMP and EXIF in segments before the picture.

Segments that are not ours keep their bytes and their order, and so does everything from the first
scan on: pixels, further pictures, what follows the end. A C2PA manifest (APP11) stays too, and is
invalid until the file is signed again.

Source: ITU-T T.81 annex B; XMP specification part 3, 1.1.3 (JPEG); EXIF 2.32, 4.7.2.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from vermilion.errors import InputError
from vermilion.seal.carriers import exif, xmp
from vermilion.seal.carriers.statements import properties_of, statement_of
from vermilion.seal.labels import Statement

_XMP = b"http://ns.adobe.com/xap/1.0/\0"
_EXTENSION = b"http://ns.adobe.com/xmp/extension/\0"
_EXIF = b"Exif\0\0"
_APP0, _APP1, _SCAN, _END = 0xE0, 0xE1, 0xDA, 0xD9
_ALONE = frozenset({0x01, *range(0xD0, 0xD9)})  # markers without a length
LARGEST = 0xFFFF - 2  # bytes in a segment
_EXTENDED = re.compile(rb"""HasExtendedXMP\s*(?:=\s*["']|>)\s*([0-9A-Fa-f]{32})""")


@dataclass(frozen=True, slots=True)
class Segment:
    """A segment before the first scan: its marker, where it lies, and what is in it."""

    marker: int
    start: int
    end: int
    data: bytes


def segments(content: bytes) -> list[Segment]:
    """The segments up to the first scan.

    Raises:
        InputError: no JPEG, or it ends before the picture begins.
    """
    if not content.startswith(b"\xff\xd8\xff"):
        raise InputError("JPEG: the file is no JPEG")
    found: list[Segment] = []
    here = 2
    while True:
        start = here
        if content[here : here + 1] != b"\xff":
            raise InputError("JPEG: the file is damaged or ends early")
        while content[here : here + 1] == b"\xff":
            here += 1
        marker = content[here] if here < len(content) else _END
        here += 1
        if marker == _SCAN:
            return found
        if marker in _ALONE:
            found.append(Segment(marker, start, here, b""))
            continue
        length = int.from_bytes(content[here : here + 2], "big")
        if marker == _END or length < 2 or here + length > len(content):
            raise InputError("JPEG: the file is damaged or ends early")
        found.append(Segment(marker, start, here + length, content[here + 2 : here + length]))
        here += length


def _is(segment: Segment, name: bytes) -> bool:
    return segment.marker == _APP1 and segment.data.startswith(name)


def _extended(found: list[Segment], packet: bytes) -> bytes:
    """The part of the XMP that did not fit into one segment; empty: there is none.

    Raises:
        InputError: it is named but not whole.
    """
    named = _EXTENDED.search(packet)
    if named is None:
        return b""
    parts: dict[int, bytes] = {}
    whole = 0
    for segment in found:
        if _is(segment, _EXTENSION + named[1]):
            head = segment.data[len(_EXTENSION) + 32 :]
            whole = int.from_bytes(head[:4], "big")
            parts[int.from_bytes(head[4:8], "big")] = head[8:]
    joined = b"".join(parts[offset] for offset in sorted(parts))
    if len(joined) != whole or not joined:
        raise InputError("JPEG: the extended XMP is not whole; save the picture anew")
    return joined


def _packets(found: list[Segment]) -> list[bytes]:
    return [segment.data[len(_XMP) :] for segment in found if _is(segment, _XMP)]


def read(content: bytes) -> Statement:
    """What a JPEG says about itself.

    Raises:
        InputError: the file or a part of it is damaged.
    """
    found = segments(content)
    packets = _packets(found)
    packets += [extended for packet in packets if (extended := _extended(found, packet))]
    properties = xmp.once([item for packet in packets for item in xmp.read(packet).items()])
    statement = statement_of(properties)
    for segment in found:
        if _is(segment, _EXIF):
            return exif.into(statement, exif.read(segment.data[len(_EXIF) :]))
    return statement


def write(content: bytes, statement: Statement) -> bytes:
    """Let a JPEG say what the statement says, and nothing else of that kind.

    Raises:
        InputError: the file is damaged, a part of the statement cannot be written or does not
            fit into a JPEG, or what has to be replaced stands in extended XMP.
    """
    found = segments(content)
    packets = _packets(found) or [b""]
    for packet in packets:
        if xmp.read(_extended(found, packet)):
            raise InputError(
                "JPEG: the label stands in extended XMP, which is not changed; use PNG"
            )
    block = next((s.data[len(_EXIF) :] for s in found if _is(s, _EXIF)), b"")
    block, rest = exif.write(block, statement, LARGEST - len(_EXIF))
    merged = [xmp.merge(packets[0], properties_of(rest))]
    merged += [xmp.merge(packet, {}) for packet in packets[1:]]
    new = [_segment(_EXIF, block), *(_segment(_XMP, packet) for packet in merged)]
    return _arranged(content, found, new)


def _arranged(content: bytes, found: list[Segment], new: list[bytes]) -> bytes:
    """Segments of ours in the places of the old ones, or after JFIF's, which comes first."""
    exif_new, xmp_new = new[0], new[1:]
    head: list[bytes] = []
    body: list[bytes] = []
    end = 2
    has_exif = any(_is(segment, _EXIF) for segment in found)
    for segment in found:
        raw = content[segment.start : segment.end]
        end = segment.end
        if _is(segment, _EXIF) and exif_new:
            body += [exif_new, *xmp_new]
            exif_new, xmp_new = b"", []
        elif _is(segment, _XMP):
            continue
        elif segment.marker == _APP0 and not body:
            head.append(raw)
        else:
            body.append(raw)
    if not has_exif:
        body = [exif_new, *xmp_new, *body]
    return b"".join((content[:2], *head, *body, content[end:]))


def _segment(name: bytes, data: bytes) -> bytes:
    """A segment APP1; nothing for no data.

    Raises:
        InputError: it does not fit.
    """
    if not data:
        return b""
    size = len(name) + len(data) + 2
    if size > 0xFFFF:
        raise InputError(
            f"JPEG: holds at most {LARGEST} bytes of XMP, and this has {len(data)}; export it"
            " privately, without the recipe, or as PNG"
        )
    return b"\xff\xe1" + size.to_bytes(2, "big") + name + data
