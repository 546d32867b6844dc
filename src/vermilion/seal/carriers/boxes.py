"""The boxes that MP4, MOV, M4A and AVIF are made of, and the comments in a film's.

A file is a row of boxes: a size of 32 bits (1: 64 bits follow; 0: to the end), a type of four
letters, a body (ISO/IEC 14496-12).

A comment stands where its writer put it, and FFmpeg alone knows three places:

    moov.udta.meta.ilst, item ©cmt              iTunes, and FFmpeg in MP4 and M4A
    moov.udta, box ©cmt                         QuickTime, and FFmpeg in MOV
    moov.meta, key com.apple.quicktime.comment  QuickTime's names; also beside a track

The key `comment` in moov.udta.meta, which stands among our own, is `isobmff`'s.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from vermilion.errors import InputError

_COMMENT = b"\xa9cmt"
_DESCRIPTIONS = (b"\xa9des", b"desc", b"ldes")  # FFmpeg writes a MOV's comment as \xa9des too
_NAMES = (b"com.apple.quicktime.comment", b"comment")
_HOLDERS = (b"moov", b"trak", b"udta", b"meta", b"ilst")
_MOST = 65_536  # boxes that are looked through


class Box(NamedTuple):
    """A box: its type, and where it, its body and what follows begin."""

    name: bytes
    start: int
    body: int
    end: int


def boxes(content: bytes, start: int = 0, end: int | None = None) -> Iterator[Box]:
    """The boxes that lie one behind the other, without what is inside them.

    Args:
        content: the file.
        start: where the first begins.
        end: where the last ends; None: at the end of the file.

    Raises:
        InputError: one is longer than the space that it lies in.
    """
    end = len(content) if end is None else end
    while start + 8 <= end:
        size, name = struct.unpack_from(">I4s", content, start)
        body = start + 8
        if size == 1 and start + 16 <= end:
            (size,) = struct.unpack_from(">Q", content, body)
            body += 8
        elif size == 0:
            size = end - start
        if size < body - start or start + size > end:
            raise InputError(f"file: its box {letters(name)} is damaged or cut off")
        yield Box(name, start, body, start + size)
        start += size


def box(name: bytes, *parts: bytes) -> bytes:
    """A box of these parts."""
    body = b"".join(parts)
    if len(body) + 8 >= 1 << 32:
        return struct.pack(">I4sQ", 1, name, len(body) + 16) + body
    return struct.pack(">I4s", len(body) + 8, name) + body


def letters(name: bytes) -> str:
    """A box's type for people."""
    return repr(name.decode("latin-1"))


def in_meta(content: bytes, meta: Box) -> list[Box]:
    """The boxes of a box meta, before which ISO has a version and QuickTime has none."""
    return list(boxes(content, _start(content, meta), meta.end))


def comments(content: bytes, moov: Box) -> list[str]:
    """The comments of a film or a sound, in the places that are named at the top.

    Raises:
        InputError: a box is damaged, or there are too many.
    """
    return [_words(content, found) for found in _comments(content, moov)]


def without_comments(content: bytes, moov: Box) -> bytes:
    """The box moov without them.

    Raises:
        InputError: likewise.
    """
    gone = frozenset(found.start for found in _comments(content, moov))
    return _rebuilt(content, moov, gone) if gone else content[moov.start : moov.end]


def _comments(content: bytes, moov: Box) -> list[Box]:
    """The boxes and items that hold a comment, and behind them those of a description."""
    found, waiting, seen = list[Box](), [(moov, b"moov", frozenset[bytes]())], 0
    while waiting:
        holder, path, numbers = waiting.pop()
        if holder.name == b"meta" and holder.end - holder.body >= 8:
            ours = path == b"moov.udta.meta"
            numbers = _numbers(content, holder, _NAMES[:1] if ours else _NAMES)
        for inside in boxes(content, _start(content, holder), holder.end):
            seen += 1
            if seen > _MOST:
                raise InputError(f"file: it has more than {_MOST} boxes of text")
            named = inside.name == _COMMENT or inside.name in _DESCRIPTIONS
            if named or (holder.name == b"ilst" and inside.name in numbers):
                found.append(inside)
            elif inside.name in _HOLDERS:
                waiting.append((inside, path + b"." + inside.name, numbers))
    return sorted(found, key=lambda one: (one.name in _DESCRIPTIONS, one.start))


def _numbers(content: bytes, meta: Box, names: tuple[bytes, ...]) -> frozenset[bytes]:
    """The types of the items that have one of these names."""
    found = set[bytes]()
    for keys in in_meta(content, meta):
        if keys.name == b"keys":
            # A name is written as a box is: its size, its kind, itself.
            for number, key in enumerate(boxes(content, keys.body + 8, keys.end), 1):
                if content[key.body : key.end].lower() in names:
                    found.add(struct.pack(">I", number))
    return frozenset(found)


def _start(content: bytes, holder: Box) -> int:
    """Where the boxes in a box begin."""
    plain = holder.name != b"meta" or content[holder.body + 4 : holder.body + 8] == b"hdlr"
    return holder.body if plain else holder.body + 4


def _words(content: bytes, found: Box) -> str:
    """The text of a comment: in a box data, or behind its length and language."""
    at, end = found.body, found.end
    if content[at + 4 : at + 8] == b"data":
        at += 16
    elif end - at >= 4:
        at += 4
    return content[at:end].decode("utf-8", "replace").rstrip("\0")


def _rebuilt(content: bytes, holder: Box, gone: frozenset[int]) -> bytes:
    """A box without those that begin at these places."""
    start = _start(content, holder)
    parts, at = [content[holder.body : start]], start
    for inside in boxes(content, start, holder.end):
        at = inside.end
        if inside.start in gone:
            continue
        within = any(inside.start < place < inside.end for place in gone)
        raw = content[inside.start : inside.end]
        parts.append(_rebuilt(content, inside, gone) if within else raw)
    return box(holder.name, *parts, content[at : holder.end])
