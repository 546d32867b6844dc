"""MKV and WebM: the label as a SimpleTag AIGC of the whole file; the whole object.

A file is a tree of elements: an id, a size, a body (RFC 8794, RFC 9559). A Segment's children are
its head (SeekHead: where the others lie), Tracks, Clusters of samples, Cues and Tags. Tags are
written where they stand, or before the first Cluster. What lies behind moves, so SeekHead and Cues
are written anew, with positions of eight bytes each, so that their own length does not depend on
what they say. Clusters stay as they are; a Position that one states of itself is put right.
"""

from __future__ import annotations

import zlib
from collections.abc import Collection, Iterator, Mapping
from typing import NamedTuple

from vermilion.errors import InputError
from vermilion.seal.carriers import tags
from vermilion.seal.labels import Statement

_EBML, _SEGMENT = 0x1A45DFA3, 0x18538067
_SEEK_HEAD, _SEEK, _SEEK_ID, _SEEK_POSITION = 0x114D9B74, 0x4DBB, 0x53AB, 0x53AC
_CLUSTER, _POSITION, _VOID, _CRC = 0x1F43B675, 0xA7, 0xEC, 0xBF
_CUES, _CUE_POINT, _CUE_TRACKS, _CUE_CLUSTER = 0x1C53BB6B, 0xBB, 0xB7, 0xF1
_TAGS, _TAG, _TARGETS, _SIMPLE, _NAME, _STRING = 0x1254C367, 0x7373, 0x63C0, 0x67C8, 0x45A3, 0x4487
_UIDS = (0x63C5, 0x63C9, 0x63C4, 0x63C6)  # of a track, edition, chapter, attachment
_LEVEL_1 = {
    _SEEK_HEAD, _CLUSTER, _CUES, _TAGS, 0x1549A966, 0x1654AE6B, 0x1941A469, 0x1043A770,
}  # fmt: skip
_MOST = 65_536  # tags that are read


class _Element(NamedTuple):
    id: int
    start: int
    body: int
    end: int
    known: bool  # whether its size is stated


def write(content: bytes, statement: Statement) -> bytes:
    """The file with this statement instead of any that stood there; samples stay as they are.

    Raises:
        InputError: it is no Matroska file of one Segment, or it is damaged.
    """
    segment = _segment(content)
    values = tags.written(statement, whole=True)
    children = list(_children(content, segment))
    held = [child for child in children if child.id == _TAGS]
    if not values and not any(_has_ours(content, child) for child in held):
        return content
    place = held[0] if held else next((c for c in children if c.id == _CLUSTER), None)
    made = {c: _tags(content, c, values if c == place else {}) for c in held}
    gone = {c.start - segment.body for c in held if not made[c]}
    parts = list[tuple[_Element | None, bytes]]()
    for child in children:
        if child == place and not held:
            parts.append((None, _element(_TAGS, _tag(values))))
        parts.append((child, made[child] if child in made else _anew(content, child, {}, gone)))
    if place is None:
        parts.append((None, _element(_TAGS, _tag(values))))
    moved, at = dict[int, int](), 0
    for old, part in parts:
        if old is not None:
            moved[old.start - segment.body] = at
        at += len(part)
    body = b"".join(
        part if old is None or old in made else _anew(content, old, moved, gone)
        for old, part in parts
    )
    size = _size(len(body), 8) if segment.known else b"\x01" + b"\xff" * 7
    return b"".join((content[: segment.start], _id(_SEGMENT), size, body, content[segment.end :]))


def read(content: bytes) -> Statement:
    """What the file says about itself.

    Raises:
        InputError: it is no Matroska file of one Segment, it is damaged, or its label is.
    """
    pairs = list[tuple[str, bytes]]()
    for child in _children(content, _segment(content)):
        if child.id == _TAGS:
            _check_sum(content, child)
            for tag in _inside(content, child, _TAG):
                if _of_all(content, tag):
                    pairs += [_pair(content, simple) for simple in _inside(content, tag, _SIMPLE)]
        if len(pairs) > _MOST:
            raise InputError(f"file: it has more than {_MOST} tags")
    return tags.stated(pairs)


# The tree


def _segment(content: bytes) -> _Element:
    """The one Segment."""
    if content[:4] != _id(_EBML):
        raise InputError("file: it is no MKV and no WebM (it does not begin with EBML's head)")
    found = list[_Element]()
    at = 0
    while at < len(content):
        element = _head(content, at, len(content))
        if not element.known and element.id != _SEGMENT:
            raise InputError("file: its Matroska is damaged (an element has no size)")
        found.append(element)
        at = element.end
    segments = [element for element in found if element.id == _SEGMENT]
    if len(segments) != 1:
        raise InputError(f"file: it has {len(segments)} Segments; one can be labelled")
    return segments[0]


def _head(content: bytes, at: int, end: int) -> _Element:
    """An element's id and size; it lies before `end`, and goes up to there if it states no size."""
    first = content[at] if at < end else 0
    width = 9 - first.bit_length()
    if not 1 <= width <= 4 or at + width >= end:
        raise InputError("file: its Matroska is damaged or cut off (an element has no id)")
    name = int.from_bytes(content[at : at + width], "big")
    body = at + width
    width = 9 - content[body].bit_length()
    if width > 8 or body + width > end:
        raise InputError("file: its Matroska is damaged or cut off (an element has no size)")
    size = int.from_bytes(content[body : body + width], "big") & ((1 << 7 * width) - 1)
    body += width
    if size == (1 << 7 * width) - 1:
        return _Element(name, at, body, end, known=False)
    if size > end - body:
        raise InputError("file: its Matroska is damaged or cut off (an element is too long)")
    return _Element(name, at, body, body + size, known=True)


def _children(content: bytes, parent: _Element) -> Iterator[_Element]:
    """The elements inside another; a Cluster without a size ends where the next one begins."""
    at = parent.body
    while at < parent.end:
        element = _head(content, at, parent.end)
        if not element.known:
            if element.id != _CLUSTER:
                raise InputError("file: its Matroska is damaged (an element has no size)")
            end = element.body
            while end < parent.end:
                inside = _head(content, end, parent.end)
                if inside.id in _LEVEL_1:
                    break
                if not inside.known:
                    raise InputError("file: its Matroska is damaged (an element has no size)")
                end = inside.end
            element = element._replace(end=end)
        yield element
        at = element.end


def _inside(content: bytes, parent: _Element, name: int) -> Iterator[_Element]:
    return (child for child in _children(content, parent) if child.id == name)


def _raw(content: bytes, element: _Element) -> bytes:
    return content[element.start : element.end]


def _body(content: bytes, element: _Element) -> bytes:
    return content[element.body : element.end]


def _id(name: int) -> bytes:
    return name.to_bytes((name.bit_length() + 7) // 8, "big")


def _size(length: int, width: int = 0) -> bytes:
    """A size in as few bytes as it needs, or in `width` bytes."""
    width = width or next(w for w in range(1, 9) if length < (1 << 7 * w) - 1)
    return (length | 1 << 7 * width).to_bytes(width, "big")


def _element(name: int, *parts: bytes, checked: bool = False) -> bytes:
    """An element of these parts, with a CRC-32 in front of them if it is to be checked."""
    body = b"".join(parts)
    if checked:
        body = _id(_CRC) + _size(4) + zlib.crc32(body).to_bytes(4, "little") + body
    return _id(name) + _size(len(body)) + body


def _checked(content: bytes, element: _Element) -> bool:
    return content[element.body : element.body + 2] == b"\xbf\x84"


def _check_sum(content: bytes, element: _Element) -> None:
    if _checked(content, element):
        stated = content[element.body + 2 : element.body + 6]
        if zlib.crc32(content[element.body + 6 : element.end]).to_bytes(4, "little") != stated:
            raise InputError("file: its tags are damaged (their checksum is wrong)")


# Tags


def _tag(values: dict[str, str]) -> bytes:
    """A Tag of the whole file."""
    simples = [
        _element(_SIMPLE, _element(_NAME, name.encode()), _element(_STRING, text.encode()))
        for name, text in values.items()
    ]
    return _element(_TAG, _element(_TARGETS), *simples)


def _tags(content: bytes, element: _Element, values: dict[str, str]) -> bytes:
    """Tags without what is ours, and with these values; empty where nothing is left.

    Ours goes from tags of single tracks too: a prompt that stands there would stay in the file.
    """
    _check_sum(content, element)
    kept = list[bytes]()
    for tag in _children(content, element):
        if tag.id == _TAG:
            inside = list(_children(content, tag))
            others = [
                c for c in inside if c.id != _SIMPLE or not tags.is_ours(_pair(content, c)[0])
            ]
            if others == inside:
                kept.append(_raw(content, tag))
            elif any(c.id == _SIMPLE for c in others):
                parts = [_raw(content, c) for c in others if c.id != _CRC]
                kept.append(_element(_TAG, *parts, checked=_checked(content, tag)))
    added = [_tag(values)] if values else []
    if not kept and not added:
        return b""
    return _element(_TAGS, *kept, *added, checked=_checked(content, element))


def _has_ours(content: bytes, element: _Element) -> bool:
    return any(
        tags.is_ours(_pair(content, simple)[0])
        for tag in _inside(content, element, _TAG)
        for simple in _inside(content, tag, _SIMPLE)
    )


def _of_all(content: bytes, tag: _Element) -> bool:
    """Whether a Tag is about the whole file, and not about a track or a chapter."""
    return not any(
        child.id in _UIDS and any(_body(content, child))
        for targets in _inside(content, tag, _TARGETS)
        for child in _children(content, targets)
    )


def _pair(content: bytes, simple: _Element) -> tuple[str, bytes]:
    found = {child.id: child for child in _children(content, simple)}
    name = _body(content, found[_NAME]).rstrip(b"\0") if _NAME in found else b""
    text = _body(content, found[_STRING]).rstrip(b"\0") if _STRING in found else b""
    return name.decode("utf-8", "replace"), text


# Positions


def _anew(
    content: bytes, child: _Element, moved: Mapping[int, int], gone: Collection[int]
) -> bytes:
    """A child of the Segment with its positions as they are now; of the same length for any."""
    if child.id == _SEEK_HEAD:
        return _rebuilt(content, child, (_SEEK,), _SEEK_POSITION, moved, gone)
    if child.id == _CUES:
        return _rebuilt(content, child, (_CUE_POINT, _CUE_TRACKS), _CUE_CLUSTER, moved, gone)
    return _cluster(content, child, moved) if child.id == _CLUSTER else _raw(content, child)


def _rebuilt(
    content: bytes,
    element: _Element,
    path: tuple[int, ...],
    position: int,
    moved: Mapping[int, int],
    gone: Collection[int],
) -> bytes:
    """An element with positions in it, down a path; empty: what it leads to is gone."""
    parts = list[bytes]()
    for child in _children(content, element):
        if path and child.id == path[0]:
            parts.append(_rebuilt(content, child, path[1:], position, moved, gone))
        elif not path and child.id == position:
            old = int.from_bytes(_body(content, child), "big")
            if old in gone:
                return b""
            parts.append(_element(position, (moved.get(old, old) % (1 << 64)).to_bytes(8, "big")))
        elif child.id != _CRC:
            parts.append(_raw(content, child))
    return _element(element.id, *parts, checked=_checked(content, element))


def _cluster(content: bytes, cluster: _Element, moved: Mapping[int, int]) -> bytes:
    """A Cluster; where it states its own position, that is put right in the bytes that it has."""
    stated = next(_inside(content, cluster, _POSITION), None) if moved else None
    if stated is None:
        return _raw(content, cluster)
    old = int.from_bytes(_body(content, stated), "big")
    length = stated.end - stated.body
    new = moved.get(old, old)
    if new < 1 << 8 * length:
        held = content[stated.start : stated.body] + new.to_bytes(length, "big")
    else:
        # It may be left out; an element Void of the same length takes its place.
        held = (
            _id(_VOID) + _size(stated.end - stated.start - 2) + bytes(stated.end - stated.start - 2)
        )
    edited = content[cluster.start : stated.start] + held + content[stated.end : cluster.end]
    if _checked(content, cluster):
        rest = cluster.body + 6 - cluster.start
        sum_ = zlib.crc32(edited[rest:]).to_bytes(4, "little")
        edited = edited[: rest - 4] + sum_ + edited[rest:]
    return edited
