"""AVIF: XMP and EXIF as items that describe the picture.

The picture's data keeps its bytes, frames too. A C2PA manifest (box uuid) stays where it is, and
is invalid until the file is signed again.

Source: AV1 Image File Format 1.1, 2; ISO/IEC 23008-12, A.2.1 (EXIF: four bytes say where in the
item the TIFF header is) and A.3 (XMP).
"""

from __future__ import annotations

from vermilion.errors import InputError
from vermilion.seal.carriers import exif, items, xmp
from vermilion.seal.carriers.statements import properties_of, statement_of
from vermilion.seal.labels import Statement


def _data(meta: items.Meta, kind: bytes) -> bytes:
    item = meta.of(kind)
    return meta.data(item) if item is not None else b""


def _tiff(data: bytes) -> int:
    """Where in an EXIF item its TIFF header stands.

    Raises:
        InputError: outside.
    """
    start = 4 + int.from_bytes(data[:4], "big")
    if start >= len(data):
        raise InputError("AVIF: the EXIF of the file is damaged")
    return start


def read(content: bytes) -> Statement:
    """What an AVIF says about itself.

    Raises:
        InputError: the file or a part of it is damaged.
    """
    meta = items.Meta(content)
    statement = statement_of(xmp.read(_data(meta, items.XMP)))
    data = _data(meta, items.EXIF)
    return exif.into(statement, exif.read(data[_tiff(data) :])) if data else statement


def write(content: bytes, statement: Statement) -> bytes:
    """Let an AVIF say what the statement says, and nothing else of that kind.

    Raises:
        InputError: the file is damaged, or a part of the statement cannot be written.
    """
    meta = items.Meta(content)
    data, packet = _data(meta, items.EXIF), _data(meta, items.XMP)
    head = data[: _tiff(data)] if data else bytes(4)
    block, rest = exif.write(data[len(head) :] if data else b"", statement, items.LARGEST)
    merged = xmp.merge(packet, properties_of(rest))
    described = head + block if block else b""
    if (described, merged) == (data, packet):
        return content
    return meta.changed({items.EXIF: described, items.XMP: merged})
