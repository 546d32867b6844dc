"""Items in the meta box of AVIF and HEIF: what they are, where they lie, and changing some.

An item's data lies anywhere in the file, at a place that the box iloc names. New data goes into a
box mdat of its own at the end. The meta box stands before the pixels and changes its size, so the
places of everything behind it move, and are named anew: in iloc, and for moving pictures in the
tables of chunks (stco, co64).

Source: ISO/IEC 14496-12:2022, 8.11 (meta box, iloc, iinf, iref), 8.7.5; ISO/IEC 23008-12, A.2
(Exif and XMP items).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from vermilion.errors import InputError
from vermilion.seal.carriers.boxes import Box, box, boxes
from vermilion.seal.carriers.isobmff import move_chunks

EXIF, XMP = b"Exif", b"mime"
_RDF = b"application/rdf+xml"
LARGEST = 16 << 20  # bytes of an item that is read
_MOST_PIECES = 65_536  # of all items together; numbers of no bytes could name any number of them


@dataclass(slots=True)
class Place:
    """Where an item lies: how offsets are meant, and (index, offset, length) of its pieces."""

    method: int = 0
    reference: int = 0
    pieces: list[tuple[int, int, int]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Info:
    """What an item is: its number, its kind, and its box infe as it is written."""

    item: int
    kind: bytes
    is_xmp: bool
    raw: bytes


def damaged() -> InputError:
    """The error for a file whose boxes do not fit together."""
    return InputError("AVIF: the file is damaged or ends early")


class _Reader:
    """Reads whole numbers one after another, within a box."""

    def __init__(self, content: bytes, start: int, end: int) -> None:
        self.content, self.here, self.end = content, start, end

    def number(self, size: int) -> int:
        if self.here + size > self.end:
            raise damaged()
        value = int.from_bytes(self.content[self.here : self.here + size], "big")
        self.here += size
        return value


class Meta:
    """The meta box of a file."""

    def __init__(self, content: bytes) -> None:
        """Read it.

        Raises:
            InputError: there is none, or it is damaged.
        """
        if content[4:8] != b"ftyp":
            raise InputError("AVIF: the file is no AVIF")
        self.content = content
        self.top = list(boxes(content))
        found = [part for part in self.top if part.name == b"meta" and part.body + 4 <= part.end]
        if not found or self.top[-1].end != len(content):
            raise damaged()
        self.box = found[0]
        self.parts = list(boxes(content, self.box.body + 4, self.box.end))
        self.version, self.places = self._iloc()
        self.infos = {info.item: info for info in self._iinf()}

    def part(self, name: bytes) -> Box | None:
        """A box in the meta box."""
        return next((part for part in self.parts if part.name == name), None)

    def _full(self, name: bytes) -> tuple[int, _Reader] | None:
        """The version of a box in the meta box, and a reader after its flags."""
        part = self.part(name)
        if part is None:
            return None
        reader = _Reader(self.content, part.body, part.end)
        version = reader.number(1)
        reader.number(3)
        return version, reader

    def _iloc(self) -> tuple[int, dict[int, Place]]:
        found = self._full(b"iloc")
        if found is None:
            return 1, {}
        version, reader = found
        if version > 2:
            raise InputError(f"AVIF: version {version} of the box iloc is not known")
        sizes, more = reader.number(1), reader.number(1)
        offset_size, length_size, base_size = sizes >> 4, sizes & 15, more >> 4
        index_size = more & 15 if version else 0
        if {offset_size, length_size, base_size, index_size} - {0, 4, 8}:
            raise damaged()
        places: dict[int, Place] = {}
        left = _MOST_PIECES
        for _ in range(reader.number(4 if version == 2 else 2)):
            item = reader.number(4 if version == 2 else 2)
            method = reader.number(2) & 15 if version else 0
            place = Place(method, reader.number(2))
            base, pieces = reader.number(base_size), reader.number(2)
            left -= pieces
            if left < 0:
                raise InputError(f"AVIF: its items have more than {_MOST_PIECES} pieces")
            for _ in range(pieces):
                index = reader.number(index_size)
                offset = base + reader.number(offset_size)
                place.pieces.append((index, offset, reader.number(length_size)))
            places[item] = place
        return version, places

    def _iinf(self) -> Iterator[Info]:
        found = self._full(b"iinf")
        if found is None:
            return
        version, reader = found
        reader.number(4 if version else 2)
        for part in boxes(self.content, reader.here, reader.end):
            inside = _Reader(self.content, part.body, part.end)
            kind_version = inside.number(1)
            inside.number(3)
            item = inside.number(4 if kind_version == 3 else 2)
            inside.number(2)
            kind = inside.number(4).to_bytes(4, "big") if kind_version >= 2 else b""
            words = self.content[inside.here : part.end].split(b"\0")
            is_xmp = kind == XMP and len(words) > 1 and words[1] == _RDF
            yield Info(item, kind, is_xmp, self.content[part.start : part.end])

    @property
    def primary(self) -> int:
        """The number of the picture itself.

        Raises:
            InputError: it is not said.
        """
        found = self._full(b"pitm")
        if found is None:
            raise damaged()
        version, reader = found
        return reader.number(4 if version else 2)

    def of(self, kind: bytes) -> int | None:
        """The number of the first item that is EXIF or XMP."""
        for item, info in self.infos.items():
            if info.is_xmp if kind == XMP else info.kind == kind:
                return item
        return None

    def spans(self, item: int) -> list[tuple[int, int]]:
        """Where an item's pieces lie in the file.

        Raises:
            InputError: elsewhere, or outside.
        """
        place = self.places.get(item, Place())
        start, end = 0, len(self.content)
        if place.method == 1:
            inner = self.part(b"idat")
            start, end = (inner.body, inner.end) if inner is not None else (0, 0)
        if place.method > 1 or place.reference:
            raise InputError("AVIF: the label's item lies in another item or file")
        found = []
        for _, offset, length in place.pieces:
            # By the standard a length of 0 is the whole source.
            stop = start + offset + length if length else end
            if start + offset > end or stop > end:
                raise damaged()
            found.append((start + offset, stop))
        return found

    def data(self, item: int) -> bytes:
        """An item's data.

        Raises:
            InputError: it lies outside, or is more than `LARGEST`.
        """
        spans = self.spans(item)
        size = sum(end - start for start, end in spans)
        if size > LARGEST:
            raise InputError(f"AVIF: an item has {size} bytes, too many")
        return b"".join(self.content[start:end] for start, end in spans)

    def changed(self, new: Mapping[bytes, bytes]) -> bytes:
        """The file with other EXIF and XMP.

        Args:
            new: data of the kinds EXIF and XMP; empty: the item goes.

        Raises:
            InputError: the file is damaged, or a number does not fit into its boxes.
        """
        try:
            return self._changed(new)
        except OverflowError:
            raise damaged() from None

    def _changed(self, new: Mapping[bytes, bytes]) -> bytes:
        old = {kind: self.of(kind) for kind in new}
        dead = [span for item in old.values() if item is not None for span in self.spans(item)]
        body = bytearray(self.content)
        for start, end in dead:
            body[start:end] = bytes(end - start)
        end = self._tail(dead)
        if end == len(body):
            self._close(body)
        data = b"".join(new.values())
        gone = {item for kind, item in old.items() if item is not None and not new[kind]}
        added, ids = self._ids(old, new)
        grown = len(self._meta(body, 0, 0, ids, new, gone, added)) - (self.box.end - self.box.start)
        meta = self._meta(body, grown, end + grown + 8, ids, new, gone, added)
        for moov in (part for part in self.top if part.name == b"moov"):
            move_chunks(body, self.content, moov, self.box.end, grown)
        tail = box(b"mdat", data) if data else b""
        return bytes(body[: self.box.start]) + meta + bytes(body[self.box.end : end]) + tail

    def _ids(
        self, old: Mapping[bytes, int | None], new: Mapping[bytes, bytes]
    ) -> tuple[set[int], dict[bytes, int]]:
        """Numbers of those items that are new, and of all that are written."""
        free = max([0, *self.infos, *self.places]) + 1
        added: set[int] = set()
        ids: dict[bytes, int] = {}
        for kind in (kind for kind, data in new.items() if data):
            item = old[kind]
            if item is None:
                item, free = free, free + 1
                added.add(item)
            ids[kind] = item
        if free > 0x10000:
            raise InputError("AVIF: the file has too many items for one more")
        return added, ids

    def _tail(self, dead: list[tuple[int, int]]) -> int:
        """Where the file ends without a last mdat in which nothing is left."""
        last = self.top[-1]
        if last.name == b"mdat":
            here = last.body
            for start, end in sorted(dead):
                here = end if start == here else here
            if here == last.end and dead:
                return last.start
        return len(self.content)

    def _close(self, body: bytearray) -> None:
        """Give the last box a length, if it reaches to the end without one."""
        last = self.top[-1]
        if struct.unpack_from(">I", body, last.start)[0] == 0:
            if last.end - last.start >= 1 << 32:
                raise InputError("AVIF: the file is too large")
            struct.pack_into(">I", body, last.start, last.end - last.start)

    def _meta(
        self,
        body: bytearray,
        grown: int,
        place: int,
        ids: Mapping[bytes, int],
        new: Mapping[bytes, bytes],
        gone: set[int],
        added: set[int],
    ) -> bytes:
        """The meta box anew, `grown` bytes longer, with new data from `place` on."""
        places = {i: self._moved(p, grown) for i, p in self.places.items() if i not in gone}
        for kind, item in ids.items():
            places[item] = Place(0, 0, [(0, place, len(new[kind]))])
            place += len(new[kind])
        parts = []
        for part in self.parts:
            if part.name == b"iloc":
                parts.append(self._new_iloc(places))
            elif part.name == b"iinf":
                parts.append(self._new_iinf(ids, gone, added))
                if self.part(b"iref") is None:
                    parts.append(self._new_iref(gone, added))
            elif part.name == b"iref":
                parts.append(self._new_iref(gone, added))
            else:
                parts.append(bytes(body[part.start : part.end]))
        if any(self.part(name) is None for name in (b"iloc", b"iinf")):
            raise damaged()
        return box(b"meta", self.content[self.box.body : self.box.body + 4] + b"".join(parts))

    def _moved(self, place: Place, grown: int) -> Place:
        if place.method or place.reference:
            return place
        pieces = [
            (index, offset + grown if offset >= self.box.end else offset, length)
            for index, offset, length in place.pieces
        ]
        return Place(place.method, place.reference, pieces)

    def _new_iloc(self, places: Mapping[int, Place]) -> bytes:
        pieces = [piece for place in places.values() for piece in place.pieces]
        wide = any(max(offset, length) >= 1 << 32 for _, offset, length in pieces)
        size, sizes = (8, 0x88) if wide else (4, 0x44)
        width = 4 if self.version == 2 else 2
        index_size = 4 if any(index for index, _, _ in pieces) else 0
        rows = [
            bytes([self.version, 0, 0, 0, sizes, index_size]),
            len(places).to_bytes(width, "big"),
        ]
        for item, place in places.items():
            method = place.method.to_bytes(2, "big") if self.version else b""
            head = item.to_bytes(width, "big") + method + place.reference.to_bytes(2, "big")
            rows.append(head + len(place.pieces).to_bytes(2, "big"))
            for index, offset, length in place.pieces:
                numbers = offset.to_bytes(size, "big") + length.to_bytes(size, "big")
                rows.append((index.to_bytes(4, "big") if index_size else b"") + numbers)
        return box(b"iloc", b"".join(rows))

    def _new_iinf(self, ids: Mapping[bytes, int], gone: set[int], added: set[int]) -> bytes:
        rows = [info.raw for item, info in self.infos.items() if item not in gone]
        for kind, item in ids.items():
            if item in added:
                words = b"\0" + (_RDF + b"\0" if kind == XMP else b"")
                rows.append(box(b"infe", struct.pack(">IHH4s", 2 << 24, item, 0, kind) + words))
        version = self._full(b"iinf")
        wide = version is not None and version[0] > 0
        count = struct.pack(">II" if wide else ">IH", wide << 24, len(rows))
        return box(b"iinf", count + b"".join(rows))

    def _new_iref(self, gone: set[int], added: set[int]) -> bytes:
        """References: what describes the picture says so."""
        version, reader = self._full(b"iref") or (0, _Reader(b"", 0, 0))
        width, rows = 4 if version else 2, []
        for part in boxes(self.content, reader.here, reader.end):
            item = _Reader(self.content, part.body, part.end).number(width)
            if item not in gone:
                rows.append(self.content[part.start : part.end])
        for item in sorted(added):
            row = item.to_bytes(width, "big") + b"\0\1" + self.primary.to_bytes(width, "big")
            rows.append(box(b"cdsc", row))
        return box(b"iref", bytes([version, 0, 0, 0]) + b"".join(rows)) if rows else b""
