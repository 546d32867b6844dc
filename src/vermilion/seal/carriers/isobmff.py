"""MP4, MOV and M4A: the label in moov.udta.meta, key AIGC; the inner object.

The box `meta` of handler `mdta` (QuickTime File Format) holds names in `keys` and values in `ilst`,
where an item's type is the number of its name, from 1. Comments are a part of the Statement: where
it does not repeat them they go (`boxes` says where they stand).

Where moov lies before the samples and grows, they move. What says by absolute position where they
lie is moved with them: stco, co64, and of fragments tfhd and tfra.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from vermilion.errors import InputError
from vermilion.seal.carriers import tags
from vermilion.seal.carriers.boxes import (
    Box,
    box,
    boxes,
    comments,
    in_meta,
    letters,
    without_comments,
)
from vermilion.seal.labels import Statement

_MOST_ITEMS = 4096  # names and values that are read
_TEXT = 1  # the type of a value that is UTF-8
_HANDLER = b"\0\0\0\0\0\0\0\0mdta" + bytes(13)
_PATHS = {b"trak", b"mdia", b"minf", b"stbl"}


def write(content: bytes, statement: Statement) -> bytes:
    """The file with this statement instead of any that stood there; samples stay as they are.

    Raises:
        InputError: it is none of these formats, or it is damaged.
    """
    top = _top(content)
    moov = _only(top, b"moov")
    _refuse_compressed(content, moov)
    values = tags.written(statement, whole=False)
    plain = content[moov.start : moov.end]
    if not tags.stays(values, comments(content, moov)):
        plain = without_comments(content, moov)
    (whole,) = boxes(plain)
    held = [b for b in boxes(plain, whole.body) if b.name == b"udta"]
    parts = [
        _udta(plain, b, values) if held and b == held[0] else plain[b.start : b.end]
        for b in boxes(plain, whole.body)
    ]
    if not held and values:
        parts.append(box(b"udta", _meta(values, [], [], [])))
    made = box(b"moov", *parts)
    moved = len(made) - (moov.end - moov.start)
    edited = bytearray(b"".join((content[: moov.start], made, content[moov.end :])))
    if moved:
        _move(edited, moov.end, moved)
    return bytes(edited)


def read(content: bytes) -> Statement:
    """What the file says about itself.

    Raises:
        InputError: it is none of these formats, it is damaged, or its label is.
    """
    moov = _only(_top(content), b"moov")
    _refuse_compressed(content, moov)
    pairs = list[tuple[str, bytes]]()
    for holder in boxes(content, moov.body, moov.end):
        # QuickTime's own place is moov.meta.
        inside = boxes(content, holder.body, holder.end) if holder.name == b"udta" else [holder]
        for meta in inside:
            if meta.name == b"meta":
                pairs += _items(content, meta)
    pairs += [(tags.COMMENT, words.encode()) for words in comments(content, moov) if words]
    return tags.stated(pairs)


def _top(content: bytes) -> list[Box]:
    if content[4:8] not in (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot"):
        raise InputError("file: it is no MP4, MOV or M4A (no box ftyp at its start)")
    return list(boxes(content))


def _only(found: list[Box], name: bytes) -> Box:
    named = [b for b in found if b.name == name]
    if len(named) != 1:
        raise InputError(f"file: it has {len(named)} boxes {letters(name)}; one is needed")
    return named[0]


def _refuse_compressed(content: bytes, moov: Box) -> None:
    if any(b.name == b"cmov" for b in boxes(content, moov.body, moov.end)):
        raise InputError("file: its box moov is compressed, which nothing writes any more")


def _udta(content: bytes, udta: Box, values: dict[str, str]) -> bytes:
    """The box udta with our values: in its meta of handler mdta, or in one of their own.

    Beside a meta of iTunes' kind it stands last, since FFmpeg reads a list of names for all that
    follows.
    """
    kept, names, items, others = list[bytes](), list[bytes](), list[bytes](), list[bytes]()
    end = udta.body
    for inside in boxes(content, udta.body, udta.end):
        end = inside.end
        if inside.name == b"meta" and _handler(content, inside) == b"mdta":
            more_names, more_items, more_others = _split(content, inside)
            names += more_names
            items += more_items
            others += more_others
        else:
            kept.append(content[inside.start : inside.end])
    made = [_meta(values, names, items, others)] if values or names or others else []
    # QuickTime may end the list with 32 bits of zero.
    return box(b"udta", *kept, *made, content[end : udta.end])


def _meta(
    values: dict[str, str], names: list[bytes], items: list[bytes], others: list[bytes]
) -> bytes:
    """A box meta of these names and values (each the body of an item), and ours."""
    names = names + [name.encode() for name in values]
    items = items + [
        box(b"data", struct.pack(">II", _TEXT, 0), text.encode()) for text in values.values()
    ]
    keys = [struct.pack(">I4s", len(name) + 8, b"mdta") + name for name in names]
    numbered = [box(struct.pack(">I", i), item) for i, item in enumerate(items, 1)]
    return box(
        b"meta",
        bytes(4),
        box(b"hdlr", _HANDLER),
        box(b"keys", struct.pack(">II", 0, len(keys)), *keys),
        box(b"ilst", *numbered),
        *others,
    )


def _handler(content: bytes, meta: Box) -> bytes:
    for inside in in_meta(content, meta):
        if inside.name == b"hdlr":
            return content[inside.body + 8 : inside.body + 12]
    return b""


def _names(content: bytes, keys: Box) -> list[bytes]:
    """The names in a box keys."""
    if keys.end - keys.body < 8:
        raise InputError("file: its box keys is damaged")
    (count,) = struct.unpack_from(">I", content, keys.body + 4)
    if count > _MOST_ITEMS:
        raise InputError(f"file: its box keys has more than {_MOST_ITEMS} names")
    # A name is written as a box is: its size, its kind, itself.
    found = list(boxes(content, keys.body + 8, keys.end))
    if len(found) < count:
        raise InputError("file: its box keys is damaged")
    return [content[b.body : b.end] for b in found[:count]]


def _named(content: bytes, meta: Box) -> list[tuple[bytes, Box]]:
    """Name and item of every value in a meta of handler mdta."""
    if _handler(content, meta) != b"mdta":
        return []
    inside = {b.name: b for b in in_meta(content, meta)}
    if b"keys" not in inside or b"ilst" not in inside:
        return []
    names = _names(content, inside[b"keys"])
    found = []
    for item in boxes(content, inside[b"ilst"].body, inside[b"ilst"].end):
        number = int.from_bytes(item.name, "big")
        if 1 <= number <= len(names):
            found.append((names[number - 1], item))
        if len(found) > _MOST_ITEMS:
            raise InputError(f"file: its box ilst has more than {_MOST_ITEMS} values")
    return found


def _items(content: bytes, meta: Box) -> Iterator[tuple[str, bytes]]:
    """Name and text of every value in a meta of handler mdta."""
    for name, item in _named(content, meta):
        for data in boxes(content, item.body, item.end):
            if data.name == b"data" and data.end - data.body >= 8:
                yield name.decode("utf-8", "replace"), content[data.body + 8 : data.end]


def _split(content: bytes, meta: Box) -> tuple[list[bytes], list[bytes], list[bytes]]:
    """Of a meta of handler mdta: names and items that are not ours, and its other boxes."""
    names, items = list[bytes](), list[bytes]()
    for name, item in _named(content, meta):
        if not tags.is_ours(name.decode("utf-8", "replace")):
            names.append(name)
            items.append(content[item.body : item.end])
    inside = in_meta(content, meta)
    ours = (b"hdlr", b"keys", b"ilst", b"free")
    return names, items, [content[b.start : b.end] for b in inside if b.name not in ours]


def _move(content: bytearray, behind: int, by: int) -> None:
    """Add to every absolute position that was behind moov's end what moov grew by."""
    view = bytes(content)
    for outer in boxes(view):
        if outer.name == b"moov":
            move_chunks(content, view, outer, behind, by)
        elif outer.name == b"moof":
            for traf in boxes(view, outer.body, outer.end):
                for head in boxes(view, traf.body, traf.end) if traf.name == b"traf" else ():
                    if head.name == b"tfhd" and head.end - head.body >= 16:
                        based = content[head.body + 3] & 1
                        _add(content, head.body + 8, ">Q", behind, by) if based else None
        elif outer.name == b"mfra":
            for table in boxes(view, outer.body, outer.end):
                if table.name == b"tfra":
                    _move_index(content, table, behind, by)
        elif outer.name == b"meta" and any(b.name == b"iloc" for b in in_meta(view, outer)):
            raise InputError("file: it holds a picture beside its film, which cannot be moved")


def move_chunks(content: bytearray, before: bytes, moov: Box, behind: int, by: int) -> None:
    """Add to every position in a film's tables of samples that was `behind` or more.

    Args:
        content: what is changed.
        before: the same as it was, where boxes are looked for.
        moov: the box that holds the tables.
        behind: the first position that moves.
        by: how far.

    Raises:
        InputError: a table is damaged, or a position no longer fits in.
    """
    waiting = [moov]
    while waiting:
        holder = waiting.pop()
        for inside in boxes(before, holder.body, holder.end):
            if inside.name in (b"stco", b"co64"):
                _move_table(content, inside, behind, by)
            elif inside.name in _PATHS:
                waiting.append(inside)


def _move_table(content: bytearray, table: Box, behind: int, by: int) -> None:
    """The positions of a track's samples (stco: 32 bits, co64: 64)."""
    form = ">I" if table.name == b"stco" else ">Q"
    width = struct.calcsize(form)
    if table.end - table.body < 8:
        raise InputError(f"file: its box {letters(table.name)} is damaged")
    (count,) = struct.unpack_from(">I", content, table.body + 4)
    if table.body + 8 + count * width > table.end:
        raise InputError(f"file: its box {letters(table.name)} is damaged")
    for at in range(table.body + 8, table.body + 8 + count * width, width):
        _add(content, at, form, behind, by)


def _move_index(content: bytearray, table: Box, behind: int, by: int) -> None:
    """The positions of fragments, which players may look up (tfra)."""
    if table.end - table.body < 16:
        raise InputError("file: its box tfra is damaged")
    version, sizes, count = (
        content[table.body],
        content[table.body + 11],
        struct.unpack_from(">I", content, table.body + 12)[0],
    )
    numbers = sum((sizes >> shift & 3) + 1 for shift in (4, 2, 0))
    width = (16 if version else 8) + numbers
    if table.body + 16 + count * width > table.end:
        raise InputError("file: its box tfra is damaged")
    for at in range(table.body + 16, table.body + 16 + count * width, width):
        _add(content, at + (8 if version else 4), ">Q" if version else ">I", behind, by)


def _add(content: bytearray, at: int, form: str, behind: int, by: int) -> None:
    (value,) = struct.unpack_from(form, content, at)
    if value >= behind:
        try:
            struct.pack_into(form, content, at, value + by)
        except struct.error:
            raise InputError("file: it is longer than its 32-bit positions can say") from None
