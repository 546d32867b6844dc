"""TIFF: XMP in tag 700 of the first page.

The first page's directory is written anew at the end of the file; strips, tiles, other pages and
all that points to them stay where they are. A C2PA manifest (tag 52545) stays too, and is invalid
until the file is signed again.

Source: XMP specification part 3, 1.1.7 (TIFF); TIFF 6.0.
"""

from __future__ import annotations

from vermilion.seal.carriers import ifd, xmp
from vermilion.seal.carriers.ifd import Tiff
from vermilion.seal.carriers.statements import properties_of, statement_of
from vermilion.seal.labels import Statement

_XMP = 700


def _packet(tiff: Tiff) -> bytes:
    entry = tiff.first.entries.get(_XMP)
    return tiff.value(entry) if entry is not None else b""


def read(content: bytes) -> Statement:
    """What a TIFF says about itself.

    Raises:
        InputError: the file or a part of it is damaged.
    """
    return statement_of(xmp.read(_packet(Tiff(content, "TIFF"))))


def write(content: bytes, statement: Statement) -> bytes:
    """Let a TIFF say what the statement says, and nothing else of that kind.

    Raises:
        InputError: the file is damaged, or a part of the statement cannot be written.
    """
    tiff = Tiff(content, "TIFF")
    old = _packet(tiff)
    packet = xmp.merge(old, properties_of(statement))
    if packet == old:
        return content
    return tiff.changed({_XMP: (ifd.BYTE, packet) if packet else None})
