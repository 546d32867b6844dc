"""SVG: XMP in a metadata element.

The file is edited as text: the drawing keeps every byte. An rdf:RDF that is there, as Inkscape
writes one, takes ours in. A C2PA manifest in its metadata element stays, and is invalid until the
file is signed again.

Source: SVG 2, 5.10 (metadata); XMP specification part 3, 2.2 (SVG).
"""

from __future__ import annotations

from collections.abc import Mapping

from vermilion.errors import InputError
from vermilion.seal.carriers import xmp
from vermilion.seal.carriers.statements import properties_of, statement_of
from vermilion.seal.labels import Statement

_ROOT = "{http://www.w3.org/2000/svg}svg"
# Without x:xmpmeta around it, which some readers take for a part of the drawing.
_OPEN = b'<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
_CLOSE = b"</rdf:RDF>"


def _scan(content: bytes) -> tuple[bytes, xmp.Scan]:
    """The text in UTF-8 without its mark, and where things stand in it.

    Raises:
        InputError: no SVG, compressed, or damaged.
    """
    if content.startswith(b"\x1f\x8b"):
        raise InputError("SVG: the file is compressed (svgz); unpack it with gzip first")
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise InputError("SVG: is not UTF-8; save the file anew")
    text = content.removeprefix(b"\xef\xbb\xbf")
    found = xmp.scan(text, "SVG")
    if found.first[0] != _ROOT:
        raise InputError("SVG: the file is no SVG: its first element is not svg")
    return text, found


def _description(properties: Mapping[str, str], about: str = "") -> bytes:
    """Ours in ASCII, because the drawing may name another encoding than UTF-8."""
    return xmp.description(properties, about).decode().encode("ascii", "xmlcharrefreplace")


def read(content: bytes) -> Statement:
    """What an SVG says about itself.

    Raises:
        InputError: the file or a part of it is damaged.
    """
    return statement_of(xmp.once(_scan(content)[1].found))


def write(content: bytes, statement: Statement) -> bytes:
    """Let an SVG say what the statement says, and nothing else of that kind.

    Raises:
        InputError: the file is damaged, or a part of the statement cannot be written.
    """
    text, found = _scan(content)
    mark = content[: len(content) - len(text)]
    properties = properties_of(statement)
    _, place, closed = found.first
    name = text[text.rindex(b"<", 0, place) + 1 : place - 1].split(maxsplit=1)[0].rstrip(b"/")
    tag = name.removesuffix(b"svg") + b"metadata"
    if found.root >= 0 or not properties:
        edited = xmp.cut(text, found, _description(properties, found.about))
        return mark + edited.replace(_element(tag, _OPEN + _CLOSE), b"", 1)
    new = _element(tag, _OPEN + _description(properties) + _CLOSE)
    if not closed:
        return mark + text[:place] + new + text[place:]
    return mark + text[: place - len(b"/>")] + b">" + new + b"</" + name + b">" + text[place:]


def _element(tag: bytes, inside: bytes) -> bytes:
    return b"<" + tag + b">" + inside + b"</" + tag + b">"
