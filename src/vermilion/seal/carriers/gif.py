"""GIF: XMP in an application extension, parameters in a comment as A1111 writes them.

Frames keep their bytes. A GIF of 1987 becomes one of 1989, which has extensions. A C2PA manifest
stays where it is, and is invalid until the file is signed again.

Source: GIF89a, 17 to 26; XMP specification part 3, 1.1.2 (GIF).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from vermilion.errors import InputError
from vermilion.seal import parameters
from vermilion.seal.carriers import xmp
from vermilion.seal.carriers.statements import check, properties_of, statement_of
from vermilion.seal.labels import Statement

_VERSIONS = (b"GIF87a", b"GIF89a")
_XMP = b"\x21\xff\x0bXMP DataXMP"
_COMMENT = b"\x21\xfe"
# Whoever reads the packet as blocks of lengths falls into these, and comes to the end.
_MAGIC = b"\x01" + bytes(range(0xFF, -1, -1)) + b"\0"


@dataclass(frozen=True, slots=True)
class Block:
    """A block: an extension, an image with its table and data, or the trailer."""

    raw: bytes

    @property
    def is_extension(self) -> bool:
        """Whether it belongs to no frame."""
        return self.raw.startswith((b"\x21\xff", _COMMENT))

    @property
    def packet(self) -> bytes:
        """The XMP in it; empty: it is another block."""
        if not self.raw.startswith(_XMP):
            return b""
        # Its end is the last 258 bytes, and the zero that closes all blocks is one of them.
        return self.raw[len(_XMP) : -len(_MAGIC)]

    @property
    def comment(self) -> str:
        """The words of a comment; empty: it is another block."""
        if not self.raw.startswith(_COMMENT):
            return ""
        pieces, here = [], len(_COMMENT)
        while size := self.raw[here]:
            pieces.append(self.raw[here + 1 : here + 1 + size])
            here += 1 + size
        joined = b"".join(pieces)
        try:
            return joined.decode()
        except UnicodeDecodeError:
            return joined.decode("latin-1")

    @property
    def parameters(self) -> str:
        """A comment that says how the picture was made; empty: it is another block."""
        words = self.comment
        return words if words and parameters.recognised(words) else ""


def _sub_blocks(content: bytes, here: int) -> int:
    """The position after a chain of sub-blocks."""
    while here < len(content) and content[here]:
        here += 1 + content[here]
    return here + 1


def blocks(content: bytes) -> Iterator[Block]:
    """The head (signature, screen, table) and all blocks up to the trailer.

    Raises:
        InputError: no GIF, or it ends early.
    """
    if content[:6] not in _VERSIONS or len(content) < 13:
        raise InputError("GIF: the file is no GIF, or ends early")
    here, end, kind = 0, 13 + _table(content[10]), 0
    while True:
        if end > len(content):
            raise InputError("GIF: the file is damaged or ends early")
        yield Block(content[here:end])
        if kind == 0x3B:
            return
        here = end
        kind = content[here] if here < len(content) else 0
        if kind == 0x3B:
            end = here + 1
        elif kind == 0x21:
            end = _sub_blocks(content, here + 2)
        elif kind == 0x2C and here + 10 <= len(content):
            end = _sub_blocks(content, here + 11 + _table(content[here + 9]))
        else:
            raise InputError("GIF: the file is damaged or ends early")


def _table(flags: int) -> int:
    """The bytes of a table of colours."""
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def read(content: bytes) -> Statement:
    """What a GIF says about itself.

    Raises:
        InputError: the file or a part of it is damaged.
    """
    found = list(blocks(content))
    properties = xmp.once([item for b in found for item in xmp.read(b.packet).items()])
    statement = statement_of(properties)
    words = next((b.parameters for b in found if b.parameters), "")
    return replace(statement, parameters=words) if words else statement


def write(content: bytes, statement: Statement) -> bytes:
    """Let a GIF say what the statement says, and nothing else of that kind.

    Raises:
        InputError: the file is damaged, or a part of the statement cannot be written.
    """
    check(statement)
    head, *found = blocks(content)
    size = len(head.raw) + sum(len(block.raw) for block in found)
    packet = next((block.packet for block in found if block.packet), b"")
    comment = b""
    # Readers join all comments, so a person's own would become part of the prompt.
    taken = any(block.comment and not block.parameters for block in found)
    plain = "\0" not in statement.parameters and not taken
    if plain and parameters.recognised(statement.parameters):
        comment = _comment(statement.parameters)
        statement = replace(statement, parameters="")
    packet = xmp.merge(packet, properties_of(statement))
    new = ([_XMP + packet + _MAGIC] if packet else []) + ([comment] if comment else [])
    body = [block.raw for block in found if not block.packet and not block.parameters]
    # The loop's extension has to stand first; what belongs to a frame stands right before it.
    first = next(i for i, raw in enumerate(body) if not Block(raw).is_extension)
    body[first:first] = new
    version = _VERSIONS[1] if new else content[:6]
    return b"".join((version, head.raw[6:], *body, content[size:]))


def _comment(words: str) -> bytes:
    data = words.encode()
    pieces = [data[i : i + 255] for i in range(0, len(data), 255)]
    return _COMMENT + b"".join(bytes([len(p)]) + p for p in pieces) + b"\0"
