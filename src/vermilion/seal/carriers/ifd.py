"""TIFF's directories of tags, of which EXIF is made too: reading them, and changing tags.

A change appends: the directory is written anew at the end, with the values that are new, and
whatever points to the old one is turned to it. No byte of what stays moves, so offsets that only
their writers know (maker notes, strips, tiles) stay right. The places of what was replaced are
filled with zeros, or cut off where they are the end: an old prompt is not left behind.

Source: TIFF 6.0 section 2; BigTIFF (Adobe, 2011); EXIF 2.32 section 4.6.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from vermilion.errors import InputError

ASCII, LONG, UNDEFINED, BYTE, LONG8 = 2, 4, 7, 1, 16
EXIF_IFD = 0x8769
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
_SIZES |= {16: 8, 17: 8, 18: 8}
LARGEST = 16 << 20  # bytes of one value that is read

Value = tuple[int, bytes]  # type, bytes in the file's byte order


@dataclass(frozen=True, slots=True)
class Entry:
    """A tag of a directory.

    Attributes:
        tag: its number.
        type: of the value.
        raw: the entry as it is written, 12 bytes (20 in BigTIFF).
        start: where the value lies in the file.
        size: of the value, in bytes.
        inside: whether the value lies in the entry itself.
    """

    tag: int
    type: int
    raw: bytes
    start: int
    size: int
    inside: bool


@dataclass(frozen=True, slots=True)
class Directory:
    """A directory: its tags, where it lies, and the offset of the next one, as written."""

    entries: Mapping[int, Entry]
    start: int
    end: int
    following: bytes


class Tiff:
    """The bytes of a TIFF file, or of what stands in EXIF after its name."""

    def __init__(self, content: bytes, what: str) -> None:
        """Look at the header.

        Raises:
            InputError: it is none, or the first directory lies outside.
        """
        self.content, self.what = content, what
        orders: dict[bytes, Literal["little", "big"]] = {b"II": "little", b"MM": "big"}
        order = orders.get(content[:2])
        if order is None or len(content) < 8:
            raise InputError(f"{what}: the file is no TIFF, or ends early")
        self.order: Literal["little", "big"] = order
        version = self.number(2, 2)
        if version not in (42, 43):
            raise InputError(f"{what}: version {version} of TIFF is not known")
        self.big = version == 43
        self.width = 8 if self.big else 4  # bytes of an offset
        self.pointer = 8 if self.big else 4  # where the first directory's offset stands
        self.first = self.directory(self.number(self.pointer, self.width))

    def number(self, start: int, size: int) -> int:
        """A whole number at a place.

        Raises:
            InputError: it lies outside.
        """
        if start < 0 or start + size > len(self.content):
            raise InputError(f"{self.what}: is damaged: a tag points outside")
        return int.from_bytes(self.content[start : start + size], self.order)

    def pack(self, value: int, size: int) -> bytes:
        """A whole number in the file's byte order.

        Raises:
            InputError: it is too large, because the file is.
        """
        try:
            return value.to_bytes(size, self.order)
        except OverflowError:
            raise InputError(f"{self.what}: the file is too large for TIFF's offsets") from None

    def directory(self, start: int) -> Directory:
        """Read a directory.

        Raises:
            InputError: it, or a value of it, lies outside.
        """
        head, width = (8, 20) if self.big else (2, 12)
        count = self.number(start, head)
        end = start + head + count * width
        if start < self.pointer + self.width or end + self.width > len(self.content):
            raise InputError(f"{self.what}: is damaged: a directory lies outside")
        entries = {}
        for place in range(start + head, end, width):
            entry = self._entry(place, width)
            entries[entry.tag] = entry
        return Directory(entries, start, end + self.width, self.content[end : end + self.width])

    def _entry(self, place: int, width: int) -> Entry:
        tag, kind = self.number(place, 2), self.number(place + 2, 2)
        size = self.number(place + 4, self.width) * _SIZES.get(kind, 1)
        inside = size <= self.width
        field = place + width - self.width
        start = field if inside else self.number(field, self.width)
        return Entry(tag, kind, self.content[place : place + width], start, size, inside)

    def value(self, entry: Entry) -> bytes:
        """The bytes of a value.

        Raises:
            InputError: they lie outside, or are more than `LARGEST`.
        """
        if entry.size > LARGEST:
            raise InputError(f"{self.what}: tag {entry.tag} has {entry.size} bytes, too many")
        if entry.start + entry.size > len(self.content):
            raise InputError(f"{self.what}: is damaged: tag {entry.tag} points outside")
        return self.content[entry.start : entry.start + entry.size]

    def exif(self) -> Directory | None:
        """The directory of EXIF.

        Raises:
            InputError: it is damaged.
        """
        entry = self.first.entries.get(EXIF_IFD)
        if entry is None:
            return None
        return self.directory(int.from_bytes(self.value(entry)[: self.width], self.order))

    def changed(
        self, tags: Mapping[int, Value | None], exif: Mapping[int, Value | None] | None = None
    ) -> bytes:
        """The content with other tags.

        Args:
            tags: of the first directory: a value to set, or None to remove.
            exif: of EXIF's directory, likewise; it is made if something is set.

        Raises:
            InputError: the file is damaged, or too large.
        """
        tags, exif = self._needed(self.first, tags), dict(exif or {})
        inner = self.exif()
        exif = self._needed(inner, exif)
        if not tags and not exif:
            return self.content
        dead = self._dead(self.first, tags)
        if exif:
            dead += self._dead(inner, exif)
        body = self._cleared(dead)
        if exif:
            body, start = self._append(body, inner, exif)
            kind, width = (LONG8, 8) if self.big else (LONG, 4)
            tags[EXIF_IFD] = (kind, self.pack(start, width))
        body, start = self._append(body, self.first, tags)
        body[self.pointer : self.pointer + self.width] = self.pack(start, self.width)
        return bytes(body)

    def _needed(
        self, directory: Directory | None, tags: Mapping[int, Value | None]
    ) -> dict[int, Value | None]:
        """Those changes that change anything."""
        entries = directory.entries if directory is not None else {}
        needed: dict[int, Value | None] = {}
        for tag, value in tags.items():
            entry = entries.get(tag)
            old = (entry.type, self.value(entry)) if entry is not None else None
            if old != value:
                needed[tag] = value
        return needed

    def _dead(
        self, directory: Directory | None, tags: Mapping[int, Value | None]
    ) -> list[tuple[int, int]]:
        if directory is None:
            return []
        spans = [(directory.start, directory.end)]
        for tag in tags:
            entry = directory.entries.get(tag)
            if entry is not None and not entry.inside:
                spans.append((entry.start, min(entry.start + entry.size, len(self.content))))
        return spans

    def _cleared(self, dead: list[tuple[int, int]]) -> bytearray:
        body = bytearray(self.content)
        for start, end in dead:
            body[start:end] = bytes(end - start)
        for start, end in sorted(dead, reverse=True):
            if end == len(body) or (end + 1 == len(body) and body[end] == 0):
                del body[start:]
        return body

    def _append(
        self, body: bytearray, directory: Directory | None, tags: Mapping[int, Value | None]
    ) -> tuple[bytearray, int]:
        """Write a directory and its new values at the end; return where it starts."""
        rows = {t: e.raw for t, e in directory.entries.items()} if directory is not None else {}
        following = directory.following if directory is not None else bytes(self.width)
        for tag, value in tags.items():
            rows.pop(tag, None)
            if value is None:
                continue
            kind, data = value
            field = data.ljust(self.width, b"\0")
            if len(data) > self.width:
                body += bytes(len(body) % 2)
                field = self.pack(len(body), self.width)
                body += data
            count = self.pack(len(data) // _SIZES[kind], self.width)
            rows[tag] = self.pack(tag, 2) + self.pack(kind, 2) + count + field
        body += bytes(len(body) % 2)
        start = len(body)
        body += self.pack(len(rows), 8 if self.big else 2)
        body += b"".join(rows[tag] for tag in sorted(rows)) + following
        return body, start


def empty(order: Literal["little", "big"] = "big") -> bytes:
    """A TIFF whose first directory has no tags."""
    mark = b"MM" if order == "big" else b"II"
    return mark + (42).to_bytes(2, order) + (8).to_bytes(4, order) + bytes(6)
