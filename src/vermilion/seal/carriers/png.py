"""PNG: XMP and texts in chunks before the pixels.

The recipe stands where A1111 writes it: in a text named `parameters`. Chunks that are not ours
keep their bytes and their order; so does whatever follows the end of the picture. A C2PA manifest
(chunk caBX) stays too, and is invalid until the file is signed again.

Source: PNG (third edition), 11.3.3; XMP specification part 3, 1.1.5 (PNG).
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from vermilion.errors import InputError
from vermilion.seal.carriers import xmp
from vermilion.seal.carriers.statements import FOREIGN_KEYS, check, from_json, statement_of, to_json
from vermilion.seal.carriers.statements import properties_of as xmp_properties
from vermilion.seal.labels import Label, Statement

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_XMP = "XML:com.adobe.xmp"
_PARAMETERS = "parameters"
_RECIPE = "vermilion"
_LABEL = "AIGC"  # where some producers put the label, beside or in place of XMP
_OURS = frozenset({_XMP, _PARAMETERS, _RECIPE, _LABEL, *FOREIGN_KEYS})


@dataclass(frozen=True, slots=True)
class Chunk:
    """A chunk: its kind, and where it lies in the file, length and check sum included."""

    kind: bytes
    start: int
    end: int

    def data(self, content: bytes) -> bytes:
        """What is in it.

        Raises:
            InputError: its check sum is wrong.
        """
        inside = content[self.start + 8 : self.end - 4]
        if zlib.crc32(inside, zlib.crc32(self.kind)) != int.from_bytes(
            content[self.end - 4 : self.end], "big"
        ):
            raise InputError(f"PNG: the chunk {self.kind.decode('ascii')} is damaged")
        return inside


def chunks(content: bytes) -> Iterator[Chunk]:
    """The chunks up to IEND.

    Raises:
        InputError: no PNG, or it ends early.
    """
    if not content.startswith(_SIGNATURE):
        raise InputError("PNG: the file is no PNG")
    here, kind = len(_SIGNATURE), b""
    while kind != b"IEND":
        length, kind = int.from_bytes(content[here : here + 4], "big"), content[here + 4 : here + 8]
        end = here + 12 + length
        if end > len(content) or not kind.isalpha():
            raise InputError("PNG: the file is damaged or ends early")
        yield Chunk(kind, here, end)
        here = end


def text_of(kind: bytes, data: bytes) -> tuple[str, str] | None:
    """The name and the words of a text chunk that a Statement is made of; None: another one.

    Raises:
        InputError: it is damaged, or inflates to more than `xmp.LARGEST`.
    """
    keyword, found, rest = data.partition(b"\0")
    name = keyword.decode("latin-1")
    if name not in _OURS or not found:
        return None
    if kind == b"tEXt":
        return name, rest.decode("latin-1")
    if kind == b"zTXt":
        return name, _inflate(rest[1:]).decode("latin-1")
    squeezed, rest = rest[:1] == b"\1", rest[2:]
    words = rest.split(b"\0", 2)[-1]
    if squeezed:
        words = _inflate(words)
    try:
        return name, words.decode()
    except UnicodeDecodeError:
        raise InputError(f"PNG: the text {name} is not UTF-8") from None


def _inflate(data: bytes) -> bytes:
    inflater = zlib.decompressobj()
    try:
        words = inflater.decompress(data, xmp.LARGEST)
    except zlib.error:
        raise InputError("PNG: a text is damaged") from None
    if not inflater.eof:
        raise InputError(f"PNG: a text ends early, or is larger than {xmp.LARGEST} bytes")
    return words


def _texts(content: bytes) -> Iterator[tuple[Chunk, str, str]]:
    """The texts that a Statement is made of.

    Raises:
        InputError: one is damaged, or all together are larger than twice `xmp.LARGEST`.
    """
    left = 2 * xmp.LARGEST
    for chunk in chunks(content):
        if chunk.kind in (b"tEXt", b"zTXt", b"iTXt"):
            text = text_of(chunk.kind, chunk.data(content))
            if text is not None:
                left -= len(text[1])
                if left < 0:
                    raise InputError(f"PNG: its texts are larger than {2 * xmp.LARGEST} bytes")
                yield chunk, *text


def read(content: bytes) -> Statement:
    """What a PNG says about itself.

    Raises:
        InputError: the file or a part of it is damaged.
    """
    texts: dict[str, str] = {}
    properties: dict[str, str] = {}
    for _, name, words in _texts(content):
        if name == _XMP:
            properties |= xmp.once([*properties.items(), *xmp.read(words.encode()).items()])
        else:
            texts.setdefault(name, words)
    inside = statement_of(properties)
    label = inside.label
    if label is None and _LABEL in texts:
        label = Label.parse(texts[_LABEL])
    return Statement(
        label=label,
        source_type=inside.source_type,
        parameters=texts.get(_PARAMETERS, inside.parameters),
        recipe=from_json(texts[_RECIPE], _RECIPE) if _RECIPE in texts else inside.recipe,
        foreign={**inside.foreign, **{k: texts[k] for k in FOREIGN_KEYS if k in texts}},
    )


def write(content: bytes, statement: Statement) -> bytes:
    """Let a PNG say what the statement says, and nothing else of that kind.

    Raises:
        InputError: the file is damaged, or a part of the statement cannot be written.
    """
    check(statement)
    found = list(_texts(content))
    gone = {chunk.start for chunk, _, _ in found}
    packets = [words for _, name, words in found if name == _XMP] or [""]
    said = xmp_properties(Statement(label=statement.label, source_type=statement.source_type))
    new = [_chunk(_XMP, xmp.merge(packets[0].encode(), said).decode())]
    new += [_chunk(_XMP, xmp.merge(other.encode(), {}).decode()) for other in packets[1:]]
    recipe = to_json(statement.recipe) if statement.recipe else ""
    for name, words in (
        (_PARAMETERS, statement.parameters),
        (_RECIPE, recipe),
        *statement.foreign.items(),
    ):
        new.append(_chunk(name, words))
    pieces, last = [_SIGNATURE], len(_SIGNATURE)
    for chunk in chunks(content):
        if chunk.start not in gone:
            pieces.append(content[chunk.start : chunk.end])
        if chunk.kind == b"IHDR":
            pieces += new
        last = chunk.end
    return b"".join((*pieces, content[last:]))


def _chunk(name: str, words: str) -> bytes:
    """A text chunk: tEXt where Latin-1 has the words, as A1111 and Pillow do; else iTXt."""
    if not words:
        return b""
    if "\0" in words:
        raise InputError(f"{name}: has a zero character, which PNG cannot hold; remove it")
    kind, head = b"iTXt", name.encode("latin-1") + b"\0\0\0\0\0"
    data = head + words.encode()
    if name not in (_XMP, _RECIPE) and max(words) <= "\xff":
        kind, data = b"tEXt", name.encode("latin-1") + b"\0" + words.encode("latin-1")
    body = kind + data
    return (len(data).to_bytes(4, "big") + body) + zlib.crc32(body).to_bytes(4, "big")
