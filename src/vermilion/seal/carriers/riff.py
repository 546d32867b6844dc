"""WAV: the label as a RIFF chunk AIGC, VERMILION as a chunk VRML, behind all others.

Chunks are an id, a size of 32 bits (little endian) and a body padded to an even length. In files
above 4 GiB (RF64, BW64: EBU Tech 3306) the sizes of the file and its samples stand in chunk ds64.

Comments (ICMT in a chunk LIST of INFO, and those of an ID3 tag in a chunk) are a part of the
Statement: where it does not repeat them they go.
"""

from __future__ import annotations

import struct
from dataclasses import replace
from typing import NamedTuple

from vermilion.errors import InputError
from vermilion.seal.carriers import id3, tags
from vermilion.seal.labels import Statement

_NAMES = {b"AIGC": tags.LABEL, b"VRML": tags.OWN}
_OTHERS = (b"LIST", b"bext", b"iXML", b"cue ", b"smpl", b"inst", b"id3 ", b"ID3 ")
_ID3 = (b"id3 ", b"ID3 ")
_UNKNOWN = 0xFFFFFFFF  # a size that a stream's writer did not know, or that stands in ds64


class _Chunk(NamedTuple):
    name: bytes
    body: int
    end: int  # without the byte that makes it even


def write(content: bytes, statement: Statement) -> bytes:
    """The file with this statement instead of any that stood there; samples stay as they are.

    Raises:
        InputError: it is no WAV, it is damaged, or it would be longer than its sizes can say.
    """
    chunks, end = _walk(content)
    comments = [words for chunk in chunks for words in _comments(content, chunk)]
    said = dict(statement.foreign)
    kept = [chunk for chunk in chunks if chunk.name not in _NAMES]
    if tags.stays(said, comments):
        parts = [_bytes(content, chunk) for chunk in kept]
    else:
        parts = [_without_comments(content, chunk) for chunk in kept]
    label = statement.label.outer() if statement.label is not None else ""
    own = tags.own(replace(statement, foreign=said), foreign=True)
    for name, text in (b"AIGC", label), (b"VRML", own):
        if text:
            body = text.encode()
            parts.append(name + struct.pack("<I", len(body)) + body + bytes(len(body) % 2))
    size = 4 + sum(map(len, parts))
    head = content[:4]
    if head != b"RIFF":
        _resize(parts, size)
        size = _UNKNOWN
    elif size >= _UNKNOWN:
        raise InputError("file: the WAV is longer than the 4 GiB that its sizes can say")
    return b"".join([head, struct.pack("<I", size), b"WAVE", *parts, content[end:]])


def read(content: bytes) -> Statement:
    """What the file says about itself.

    Raises:
        InputError: it is no WAV, it is damaged, or its label is.
    """
    chunks, _ = _walk(content)
    comments = [words for chunk in chunks for words in _comments(content, chunk) if words]
    found = tags.stated(
        (_NAMES[chunk.name], content[chunk.body : chunk.end].rstrip(b"\0"))
        for chunk in chunks
        if chunk.name in _NAMES
    )
    if not comments:
        return found
    inside = tags.stated([(tags.COMMENT, comments[0])]).foreign
    return replace(found, foreign={**inside, **found.foreign})


def adopt(content: bytes, like: bytes) -> bytes:
    """The file with the chunks of another that other tools wrote: titles, cues, not credentials.

    Raises:
        InputError: one of them is no WAV, or is damaged.
    """
    chunks, end = _walk(content)
    kept = [_bytes(like, chunk) for chunk in _walk(like)[0] if chunk.name in _OTHERS]
    body = b"".join((*(_bytes(content, chunk) for chunk in chunks), *kept))
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WAVE" + body + content[end:]


def _walk(content: bytes) -> tuple[list[_Chunk], int]:
    """Every chunk, and where the last one ends."""
    if content[:4] not in (b"RIFF", b"RF64", b"BW64") or content[8:12] != b"WAVE":
        raise InputError("file: it is no WAV (it does not begin with RIFF and WAVE)")
    (size,) = struct.unpack_from("<I", content, 4)
    end = len(content) if size in (0, _UNKNOWN) else min(8 + size, len(content))
    if size != _UNKNOWN and 8 + size > len(content) + 1:
        raise InputError("file: the WAV is shorter than it says, it was cut off")
    chunks, at, samples = list[_Chunk](), 12, _UNKNOWN
    while at + 8 <= end:
        name = content[at : at + 4]
        (length,) = struct.unpack_from("<I", content, at + 4)
        if name == b"ds64" and length >= 16 and at + 24 <= end:
            (samples,) = struct.unpack_from("<Q", content, at + 16)
        if name == b"data" and length == _UNKNOWN:
            length = samples if samples != _UNKNOWN else end - at - 8
        if at + 8 + length > end:
            raise InputError(f"file: the WAV ends within its chunk {name.decode('latin-1')!r}")
        chunks.append(_Chunk(name, at + 8, at + 8 + length))
        at += 8 + length + length % 2
    if not any(chunk.name == b"data" for chunk in chunks):
        raise InputError("file: the WAV has no samples (no chunk data)")
    return chunks, min(at, end)


def _comments(content: bytes, chunk: _Chunk) -> list[str]:
    """The comments that stand in a chunk."""
    if chunk.name in _ID3:
        body = content[chunk.body : chunk.end]
        found = id3.read(body).foreign.get(tags.COMMENT) if body else None
        return [] if found is None else [found]
    return [
        content[one.body : one.end].split(b"\0")[0].decode("utf-8", "replace")
        for one in _info(content, chunk)
        if one.name == b"ICMT"
    ]


def _info(content: bytes, chunk: _Chunk) -> list[_Chunk]:
    """The chunks inside a LIST of INFO; of another chunk none."""
    if chunk.name != b"LIST" or content[chunk.body : chunk.body + 4] != b"INFO":
        return []
    found, at = list[_Chunk](), chunk.body + 4
    while at + 8 <= chunk.end:
        (length,) = struct.unpack_from("<I", content, at + 4)
        if at + 8 + length > chunk.end:
            raise InputError("file: the WAV's chunk LIST is damaged")
        found.append(_Chunk(content[at : at + 4], at + 8, at + 8 + length))
        at += 8 + length + length % 2
    return found


def _without_comments(content: bytes, chunk: _Chunk) -> bytes:
    """A chunk without the comments in it; empty where nothing else stood there."""
    if not _comments(content, chunk):
        return _bytes(content, chunk)
    if chunk.name in _ID3:
        body = id3.write(content[chunk.body : chunk.end], Statement())
    else:
        others = [one for one in _info(content, chunk) if one.name != b"ICMT"]
        if not others:
            return b""
        body = b"INFO" + b"".join(_bytes(content, one) for one in others)
    return chunk.name + struct.pack("<I", len(body)) + body + bytes(len(body) % 2)


def _bytes(content: bytes, chunk: _Chunk) -> bytes:
    length = chunk.end - chunk.body
    stated = content[chunk.body - 4 : chunk.body]
    if chunk.name == b"data" and content[:4] == b"RIFF":
        # Behind samples whose number was not known nothing could follow.
        stated = struct.pack("<I", length)
    return chunk.name + stated + content[chunk.body : chunk.end] + bytes(length % 2)


def _resize(parts: list[bytes], size: int) -> None:
    for index, part in enumerate(parts):
        if part[:4] == b"ds64" and len(part) >= 16:
            parts[index] = part[:8] + struct.pack("<Q", size) + part[16:]
            return
    raise InputError("file: the WAV says that its sizes stand in a chunk ds64, and has none")
