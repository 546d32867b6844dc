"""XMP packets: reading our properties out of one, and putting them in.

A packet is edited as text. Only our own properties are cut out and put in, so whatever other tools
wrote stays byte for byte, their prefixes, order and spaces included. The same code serves SVG,
where the packet lies among the elements of the drawing.

Source: ISO 16684-1:2019 (XMP, RDF/XML), IPTC Photo Metadata Standard (Digital Source Type).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from xml.etree.ElementTree import ParseError
from xml.sax.saxutils import escape

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import DefusedXMLParser

from vermilion.errors import InputError

LARGEST = 16 << 20  # bytes of a packet that is read

_RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
_ROOT, _DESCRIPTION, _ABOUT, _RESOURCE = (
    f"{{{_RDF}}}{name}" for name in ("RDF", "Description", "about", "resource")
)
_SPACES = {
    "TC260": "http://www.tc260.org.cn/ns/AIGC/1.0/",
    "Iptc4xmpExt": "http://iptc.org/std/Iptc4xmpExt/2008-02-29/",
    "vermilion": "urn:vermilion:1.0:",
}
LABEL = "TC260:AIGC"
SOURCE_TYPE = "Iptc4xmpExt:DigitalSourceType"
PARAMETERS = "vermilion:parameters"
RECIPE = "vermilion:recipe"
FOREIGN = "vermilion:foreign"
_NAMES = {
    f"{{{_SPACES[prefix]}}}{local}": name
    for name in (LABEL, SOURCE_TYPE, PARAMETERS, RECIPE, FOREIGN)
    for prefix, local in [name.split(":")]
}

_ATTRIBUTE = rb"""\s+([^\s=/>"']+)\s*=\s*(?:"[^"]*"|'[^']*')"""
_START_TAG = re.compile(rb"<[^\s=/>\"']+((?:" + _ATTRIBUTE + rb")*)\s*(/?)>")
_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_DEEPEST = 200
_HEAD = (
    '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
    f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="{_RDF}">'
).encode()
_TAIL = b'</rdf:RDF></x:xmpmeta><?xpacket end="w"?>'
_EMPTY = _HEAD + _TAIL  # what is left of a packet of ours


@dataclass(slots=True)
class Scan:
    """Where things stand in an XML text; positions are in bytes.

    Attributes:
        found: our properties, (name, text) in order, repeated ones too.
        cuts: what has to go for none of ours to be left, (start, end).
        root: position after the start tag of the first rdf:RDF; -1: there is none.
        root_end: position of its end tag.
        root_closed: whether it has none, because its start tag closes itself.
        about: what the packet describes, as its rdf:about says.
        first: (name, position after the start tag, whether it closes itself) of the document's
            element.
    """

    found: list[tuple[str, str]] = field(default_factory=list)
    cuts: list[tuple[int, int]] = field(default_factory=list)
    root: int = -1
    root_end: int = -1
    root_closed: bool = False
    about: str = ""
    first: tuple[str, int, bool] = ("", -1, False)


class _Walker:
    """Target of the parser: follows elements, notes where ours stand. Builds no tree."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.scan = Scan()
        self.parser: DefusedXMLParser = DefusedXMLParser(target=self, encoding="utf-8")
        self.path: list[str] = []
        self.words: list[str] | None = None  # of our property that is open
        self.property_start = 0
        self.description_start = 0
        self.description_cuts: list[tuple[int, int]] = []
        self.others = False  # whether the open rdf:Description holds anything that is not ours

    def run(self) -> Scan:
        self.parser.feed(self.content)
        self.parser.close()
        return self.scan

    def _here(self) -> int:
        return int(self.parser.parser.CurrentByteIndex)

    def _tag(self) -> tuple[re.Match[bytes], bool]:
        tag = _START_TAG.match(self.content, self._here())
        if tag is None:
            raise InputError("XMP: a tag of the file cannot be read; save it anew as UTF-8")
        return tag, bool(tag[tag.re.groups])

    def start(self, name: str, attributes: dict[str, str]) -> None:
        if len(self.path) >= _DEEPEST:
            raise InputError(f"XMP: the file's elements lie more than {_DEEPEST} deep")
        above = self.path[-1] if self.path else ""
        self.path.append(name)
        if not self.scan.first[0]:
            tag, closed = self._tag()
            self.scan.first = (name, tag.end(), closed)
        if name == _ROOT and self.scan.root < 0:
            tag, self.scan.root_closed = self._tag()
            self.scan.root = tag.end()
        elif name == _DESCRIPTION and above == _ROOT:
            self._open_description(attributes)
        elif above == _DESCRIPTION and self.path[-3:-2] == [_ROOT]:
            if name in _NAMES:
                self.words = [attributes.get(_RESOURCE, "")]
                self.property_start = self._here()
            else:
                self.others = True

    def _open_description(self, attributes: dict[str, str]) -> None:
        if not self.scan.about:
            self.scan.about = attributes.get(_ABOUT, "")
        tag, _ = self._tag()
        self.description_start, self.description_cuts = tag.start(), []
        self.others = any(key not in _NAMES and key != _ABOUT for key in attributes)
        # The parser names attributes by their namespace, in the order in which they are written.
        written = [
            match
            for match in re.finditer(_ATTRIBUTE, tag[1])
            if match[1] != b"xmlns" and not match[1].startswith(b"xmlns:")
        ]
        for (key, value), match in zip(attributes.items(), written, strict=True):
            if key in _NAMES:
                self.scan.found.append((_NAMES[key], value))
                start = tag.start(1)
                self.description_cuts.append((start + match.start(), start + match.end()))

    def data(self, words: str) -> None:
        if self.words is not None:
            self.words.append(words)
        elif words.strip() and self.path[-1] == _DESCRIPTION:
            self.others = True

    def comment(self, words: str) -> None:
        if self.path and self.path[-1] == _DESCRIPTION:
            self.others = True

    def end(self, name: str) -> None:
        depth = len(self.path)
        self.path.pop()
        if name == _ROOT and self.scan.root_end < 0:
            self.scan.root_end = self._here()
        elif name == _DESCRIPTION and self.path[-1:] == [_ROOT]:
            whole = (self.description_start, self._after_end())
            empty = self.description_cuts and not self.others
            self.scan.cuts.extend([whole] if empty else self.description_cuts)
        elif self.words is not None and name in _NAMES and self._is_property(depth):
            self.scan.found.append((_NAMES[name], "".join(self.words)))
            self.description_cuts.append((self.property_start, self._after_end()))
            self.words = None

    def _is_property(self, depth: int) -> bool:
        return depth >= 3 and self.path[-2:] == [_ROOT, _DESCRIPTION]

    def _after_end(self) -> int:
        """The position after the element that ends here, whose tag may close itself."""
        return self.content.index(b">", self._here()) + 1 if self._ends_by_tag() else self._closed()

    def _ends_by_tag(self) -> bool:
        return self.content.startswith(b"</", self._here())

    def _closed(self) -> int:
        return self._tag()[0].end()

    def close(self) -> None:
        """Asked for by the parser."""


def scan(content: bytes, what: str = "XMP") -> Scan:
    """Find our properties in a packet, or in an XML file that holds one.

    Raises:
        InputError: too large, not well formed, not UTF-8, or it declares entities.
    """
    if len(content) > LARGEST:
        raise InputError(f"{what}: {len(content)} bytes are more than {LARGEST}, the most read")
    try:
        content.decode()
        return _Walker(content).run()
    except ParseError as error:
        raise InputError(f"{what}: is damaged: {error}") from None
    except UnicodeDecodeError:
        raise InputError(f"{what}: is not UTF-8; save the file anew") from None
    except DefusedXmlException:
        raise InputError(f"{what}: declares entities, which are not read; save it plain") from None


def cut(content: bytes, found: Scan, added: bytes) -> bytes:
    """Take our properties out, and put `added` at the end of the first rdf:RDF."""
    edits = [(start, end, b"") for start, end in found.cuts]
    if added and found.root_closed:
        start = content.rindex(b"<", 0, found.root)
        name = re.split(rb"[\s/>]", content[start + 1 : found.root], maxsplit=1)[0]
        edits.append((found.root - len(b"/>"), found.root, b">" + added + b"</" + name + b">"))
    elif added:
        edits.append((found.root_end, found.root_end, added))
    pieces, here = [], 0
    for start, end, new in sorted(edits):
        pieces += [content[here:start], new]
        here = end
    return b"".join((*pieces, content[here:]))


def description(properties: Mapping[str, str], about: str = "") -> bytes:
    """Our properties as an rdf:Description that stands for itself; nothing for none.

    Raises:
        InputError: a text has a character that XML cannot hold.
    """
    if not properties:
        return b""
    used = dict.fromkeys(name.partition(":")[0] for name in properties)
    spaces = "".join(f' xmlns:{prefix}="{_SPACES[prefix]}"' for prefix in used)
    inside = "".join(f"<{name}>{_text(name, words)}</{name}>" for name, words in properties.items())
    subject = escape(about, {'"': "&quot;"})
    return (
        f'<rdf:Description xmlns:rdf="{_RDF}" rdf:about="{subject}"{spaces}>{inside}'
        "</rdf:Description>"
    ).encode()


def _text(name: str, words: str) -> str:
    if bad := _FORBIDDEN.search(words):
        field_name = name.partition(":")[2]
        raise InputError(
            f"{field_name}: has the character U+{ord(bad[0]):04X}, which XMP cannot hold; remove it"
        )
    return escape(words, {"\r": "&#13;"})


def _utf8(packet: bytes) -> bytes:
    """The packet in UTF-8; some tools write UTF-16 or UTF-32."""
    for mark, encoding in (
        (b"\xff\xfe\0\0", "utf-32"),
        (b"\0\0\xfe\xff", "utf-32"),
        (b"\xff\xfe", "utf-16"),
        (b"\xfe\xff", "utf-16"),
        (b"<\0\0\0", "utf-32-le"),
        (b"\0\0\0<", "utf-32-be"),
        (b"<\0", "utf-16-le"),
        (b"\0<", "utf-16-be"),
    ):
        if packet.startswith(mark):
            try:
                return packet.decode(encoding).encode()
            except UnicodeError:
                raise InputError(f"XMP: is damaged: it is not {encoding}") from None
    return packet.removeprefix(b"\xef\xbb\xbf").rstrip(b"\0")


def read(packet: bytes) -> dict[str, str]:
    """Our properties in a packet, name to text.

    Raises:
        InputError: the packet is damaged, or holds two labels that differ.
    """
    if not packet.strip(b"\0 \t\r\n"):
        return {}
    return once(scan(_utf8(packet)).found)


def once(found: list[tuple[str, str]]) -> dict[str, str]:
    """Properties by name.

    Raises:
        InputError: one is there twice, with different texts.
    """
    properties: dict[str, str] = {}
    for name, words in found:
        if properties.setdefault(name, words) != words:
            raise InputError(f"{name}: the file has two that differ; seal it anew")
    return properties


def merge(packet: bytes, properties: Mapping[str, str]) -> bytes:
    """A packet with our properties in place of those of ours that it had.

    Args:
        packet: that the file has; empty: none.
        properties: name to text, names of this module; empty: ours are taken out.

    Returns:
        The packet in UTF-8; empty where there was none and there is nothing to say.

    Raises:
        InputError: the packet is damaged, or a text has a character that XML cannot hold.
    """
    if packet.strip(b"\0 \t\r\n"):
        content = _utf8(packet)
        found = scan(content)
        if found.root >= 0:
            if not found.cuts and not properties:
                return packet
            merged = cut(content, found, description(properties, found.about))
            return b"" if merged == _EMPTY else merged
    return _HEAD + description(properties) + _TAIL if properties else packet
