"""MP3: the label in ID3v2 as a frame TXXX whose description is AIGC; the inner object.

Tags of versions 2.2, 2.3 and 2.4 (https://id3.org) are read and stay what they are; a file without
a tag gets one of version 2.3, which the most players know. Ours is ASCII, so that neither an
encoding nor unsynchronisation changes it. The audio is not touched.

Comments (frames COMM, and the field of a tag of version 1) are a part of the Statement: where it
does not repeat them they go. iTunes keeps figures in such frames, which stay.
"""

from __future__ import annotations

import re
import struct
import zlib
from dataclasses import dataclass, field

from vermilion.errors import InputError
from vermilion.seal.carriers import tags
from vermilion.seal.labels import Statement

_LONGEST = 1 << 28  # what a tag's size of 28 bits can say
_UNSYNCHRONISED, _EXTENDED = 0x80, 0x40
_ENCODINGS = ("latin-1", "utf-16", "utf-16-be", "utf-8")
_COMMON_PADDING = 256  # bytes left free, so that a title is changed without moving the audio


@dataclass(frozen=True, slots=True)
class _Frame:
    name: bytes
    raw: bytes  # with its head
    body: bytes  # without its head, as it lies in the file
    flags: int  # the second byte of a frame's flags: how its body is held


@dataclass(frozen=True, slots=True)
class _Tag:
    version: int  # 2, 3 or 4
    flags: int
    frames: list[_Frame] = field(default_factory=list)
    end: int = 0  # where the audio begins


def write(content: bytes, statement: Statement) -> bytes:
    """The file with this statement instead of any that stood there; the audio stays as it is.

    Raises:
        InputError: it is no MP3, or its tag is damaged.
    """
    tag = _parse(content)
    values = tags.written(statement, whole=False)
    audio = content[tag.end :]
    stay = tags.stays(values, _comments(tag))
    if not stay:
        audio = _without_comment(audio)
    if tag.end == 0 and not values:
        return audio
    kept = [
        f.raw
        for f in tag.frames
        if not (_is_comment(tag, f) and not stay)
        and ((pair := _user_text(tag, f)) is None or not tags.is_ours(pair[0]))
    ]
    added = [_frame(tag.version, *item) for item in values.items()]
    body = b"".join((*kept, *added)) + bytes(_COMMON_PADDING)
    # Version 2.3 undoes unsynchronisation for the whole tag, and 2.4 frame by frame, where the
    # frames keep it. The extended header counts the tag as it was, and the footer repeats its size.
    flags = tag.flags & (_UNSYNCHRONISED if tag.version == 4 else 0)
    if len(body) >= _LONGEST:
        raise InputError("file: the MP3's ID3 tag would be longer than 256 MiB")
    head = b"ID3" + bytes([tag.version, 0, flags]) + _syncsafe(len(body))
    return head + body + audio


def read(content: bytes) -> Statement:
    """What the file says about itself.

    Raises:
        InputError: it is no MP3, its tag is damaged, or its label is.
    """
    tag = _parse(content)
    texts = [pair for f in tag.frames if (pair := _user_text(tag, f)) is not None]
    return tags.stated([*texts, *((tags.COMMENT, words) for words in _comments(tag) if words)])


def span(content: bytes) -> int:
    """Length in bytes of the ID3v2 tag that the content begins with; 0: there is none.

    Raises:
        InputError: the tag is longer than the file, or of a version that is not known.
    """
    if content[:3] != b"ID3":
        return 0
    if len(content) < 10 or max(content[6:10]) > 0x7F:
        raise InputError("file: its ID3 tag has a damaged head")
    if content[3] not in (2, 3, 4):
        raise InputError(f"file: ID3 version 2.{content[3]} is not known; 2.2, 2.3 and 2.4 are")
    footer = 10 if content[3] == 4 and content[5] & 0x10 else 0
    end = 10 + _number(content[6:10], 7) + footer
    if end > len(content):
        raise InputError("file: it ends within its ID3 tag")
    return end


def adopt(content: bytes, like: bytes) -> bytes:
    """Audio without a tag, with the tag of another file before it; ours and credentials apart.

    Raises:
        InputError: it is no MP3, or its tag is damaged.
    """
    tag = _parse(like)
    credential = b"c2pa"
    kept = []
    for f in tag.frames:
        pair = _user_text(tag, f)
        ours = pair is not None and tags.is_ours(pair[0])
        if not ours and not (f.name in (b"GEOB", b"GEO") and credential in f.body[:128].lower()):
            kept.append(f.raw)
    body = b"".join(kept)
    if not body:
        return content
    flags = tag.flags & (_UNSYNCHRONISED if tag.version == 4 else 0)
    return b"ID3" + bytes([tag.version, 0, flags]) + _syncsafe(len(body)) + body + content


def _parse(content: bytes) -> _Tag:
    end = span(content)
    if end == 0:
        if not _begins_audio(content):
            raise InputError("file: it is no MP3 (neither an ID3 tag nor MPEG audio at its start)")
        # A tag of version 1, at the end, is not looked at where there is one of version 2.
        return _Tag(version=3, flags=0, frames=_frames(_of_version_1(content[-128:]), 3))
    version, flags = content[3], content[5]
    if version == 2 and flags & 0x40:
        raise InputError("file: its ID3 tag of version 2.2 is compressed, which nothing can read")
    body = content[10 : 10 + _number(content[6:10], 7)]
    if flags & _UNSYNCHRONISED and version < 4:
        body = body.replace(b"\xff\x00", b"\xff")
    if flags & _EXTENDED and version > 2:
        body = body[_extended(body, version) :]
    return _Tag(version, flags, _frames(body, version), end)


def _of_version_1(tail: bytes) -> bytes:
    """A tag of version 1 (fields of fixed length) as frames of version 2.3, if there is one."""
    if len(tail) < 128 or tail[:3] != b"TAG":
        return b""
    fields = {
        b"TIT2": tail[3:33],
        b"TPE1": tail[33:63],
        b"TALB": tail[63:93],
        b"TYER": tail[93:97],
        b"TRCK": str(tail[126]).encode() if tail[125] == 0 and tail[126] else b"",
        b"TCON": b"(%d)" % tail[127] if tail[127] < 255 else b"",
    }
    made = b""
    for name, value in fields.items():
        if text := value.split(b"\0")[0].rstrip():
            made += name + struct.pack(">IHB", len(text) + 1, 0, 0) + text
    if comment := tail[97 : 125 if tail[125] == 0 else 127].split(b"\0")[0].rstrip():
        made += b"COMM" + struct.pack(">IHB4s", len(comment) + 5, 0, 0, b"XXX") + comment
    return made


def _extended(body: bytes, version: int) -> int:
    """The length of the extended header, which says of itself how long it is."""
    if len(body) < 6:
        raise InputError("file: its ID3 tag has a damaged head")
    length = _number(body[:4], 7) if version == 4 else 4 + _number(body[:4], 8)
    if not 6 <= length <= len(body):
        raise InputError("file: its ID3 tag has a damaged extended head")
    return length


def _frames(body: bytes, version: int) -> list[_Frame]:
    """Every frame. Version 2.4 counts in sevens of bits, which some programs did not know."""
    try:
        return _walk(body, version, 7 if version == 4 else 8)
    except InputError:
        if version != 4:
            raise
        return _walk(body, version, 8)


def _walk(body: bytes, version: int, bits: int) -> list[_Frame]:
    width, head = (3, 6) if version == 2 else (4, 10)
    frames, at = list[_Frame](), 0
    while at + head <= len(body) and body[at] != 0:
        name = body[at : at + width]
        size = body[at + width : at + 2 * width]
        if re.fullmatch(rb"[A-Z0-9 ]+", name) is None or (bits == 7 and max(size) > 0x7F):
            raise InputError("file: its ID3 tag is damaged (a frame has no name)")
        end = at + head + _number(size, bits)
        if end > len(body):
            raise InputError(f"file: its ID3 tag ends within the frame {name.decode()}")
        flags = 0 if version == 2 else body[at + 9]
        raw = body[at:end]
        if bits != 7 and version == 4:
            raw = name + _syncsafe(end - at - head) + raw[8:]
        frames.append(_Frame(name, raw, body[at + head : end], flags))
        at = end
    return frames


def _user_text(tag: _Tag, frame: _Frame) -> tuple[str, bytes] | None:
    """Description and text (as UTF-8) of a frame TXXX; None: it is another, or cannot be read."""
    if frame.name not in (b"TXXX", b"TXX"):
        return None
    body = _plain(tag, frame)
    if not body or body[0] > 3:
        return None
    text = body[1:].decode(_ENCODINGS[body[0]], "replace")
    name, _, value = text.partition("\0")
    # In UTF-16 the text has a byte order mark of its own.
    return name, value.lstrip("\ufeff").rstrip("\0").encode("utf-8", "replace")


def _comments(tag: _Tag) -> list[str]:
    """The texts of the frames COMM; one that cannot be read is an empty text."""
    found = []
    for frame in tag.frames:
        if _is_comment(tag, frame):
            body = _plain(tag, frame)
            text = body[4:].decode(_ENCODINGS[body[0]], "replace") if _readable(body) else ""
            found.append(text.partition("\0")[2].lstrip("\ufeff").rstrip("\0"))
    return found


def _is_comment(tag: _Tag, frame: _Frame) -> bool:
    if frame.name not in (b"COMM", b"COM"):
        return False
    body = _plain(tag, frame)  # encoding, three letters for the language, description, text
    about = body[4:].decode(_ENCODINGS[body[0]], "replace") if _readable(body) else ""
    return not about.lstrip("\ufeff").startswith("iTun")


def _readable(body: bytes) -> bool:
    return len(body) > 4 and body[0] < len(_ENCODINGS)


def _without_comment(audio: bytes) -> bytes:
    """The audio without the comment that a tag of version 1 behind it holds."""
    tail = audio[-128:]
    if len(tail) < 128 or tail[:3] != b"TAG":
        return audio
    end = 125 if tail[125] == 0 else 127  # behind it the number of the track may stand
    return audio[:-128] + tail[:97] + bytes(end - 97) + tail[end:]


def _plain(tag: _Tag, frame: _Frame) -> bytes:
    """A frame's body without what its flags say was done to it; empty: it is encrypted or torn."""
    body, flags = frame.body, frame.flags
    if tag.version == 3:
        compressed, encrypted, grouped, counted = flags & 0x80, flags & 0x40, flags & 0x20, 0
        counted = compressed
    elif tag.version == 4:
        compressed, encrypted, grouped, counted = flags & 8, flags & 4, flags & 0x40, flags & 1
    else:
        return body
    if encrypted:
        return b""
    if tag.version == 4 and (flags & 2 or tag.flags & _UNSYNCHRONISED):
        body = body.replace(b"\xff\x00", b"\xff")
    body = body[(1 if grouped else 0) + (4 if counted else 0) :]
    if not compressed:
        return body
    unpacking = zlib.decompressobj()
    try:
        return unpacking.decompress(body, tags.LARGEST + 1)
    except zlib.error:
        return b""


def _frame(version: int, name: str, text: str) -> bytes:
    """A frame TXXX; a text that is not ASCII (of another tool) in the encoding of its version."""
    if (name + text).isascii():
        body = b"\0" + f"{name}\0{text}".encode()
    elif version < 4:
        body = b"\1" + f"{name}\0".encode("utf-16") + text.encode("utf-16")
    else:
        body = b"\3" + f"{name}\0{text}".encode()
    if version == 2:
        if len(body) >= 1 << 24:
            raise InputError(f"{name}: longer than a frame of ID3 version 2.2 can be")
        return b"TXX" + len(body).to_bytes(3, "big") + body
    size = _syncsafe(len(body)) if version == 4 else struct.pack(">I", len(body))
    return b"TXXX" + size + b"\0\0" + body


def _begins_audio(content: bytes) -> bool:
    """Whether MPEG audio begins within the first bytes (some files begin with zeros)."""
    start = len(content[:4096]) - len(content[:4096].lstrip(b"\0"))
    head = content[start : start + 4]
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return False
    version, layer = head[1] >> 3 & 3, head[1] >> 1 & 3
    return version != 1 and layer != 0 and head[2] >> 4 != 15 and head[2] >> 2 & 3 != 3


def _number(digits: bytes, bits: int) -> int:
    value = 0
    for digit in digits:
        value = value << bits | digit
    return value


def _syncsafe(value: int) -> bytes:
    return bytes(value >> shift & 0x7F for shift in (21, 14, 7, 0))
