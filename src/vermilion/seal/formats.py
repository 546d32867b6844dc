"""The file formats that can be sealed, and what each of them carries."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from vermilion.errors import InputError

Medium = Literal["picture", "drawing", "sound", "film", "text", "document"]


@dataclass(frozen=True, slots=True)
class Format:
    """A file format.

    Attributes:
        suffix: of the file's name, without a dot.
        media_type: as IANA has it.
        medium: how it is marked: a picture of pixels, a drawing (SVG), sound, film, text that
            people read as it is (also JSON), or a document (PDF).
        label: where the machine label of GB 45438-2025 stands, for people.
        embeds: whether a credential can lie inside; else it lies beside the file.
        labels: whether the label can stand inside; else the credential beside the file holds it.
    """

    suffix: str
    media_type: str
    medium: Medium
    label: str
    embeds: bool
    labels: bool = True


_ALL = (
    Format("png", "image/png", "picture", "XMP in an iTXt chunk", True),
    Format("jpg", "image/jpeg", "picture", "XMP in APP1", True),
    Format("webp", "image/webp", "picture", "XMP chunk", True),
    Format("gif", "image/gif", "picture", "XMP application extension", True),
    Format("tiff", "image/tiff", "picture", "XMP in tag 700", True),
    Format("avif", "image/avif", "picture", "XMP item", True),
    Format("svg", "image/svg+xml", "drawing", "XMP in a metadata element", True),
    Format("wav", "audio/wav", "sound", "RIFF chunk AIGC", True),
    Format("mp3", "audio/mpeg", "sound", "ID3v2 TXXX frame AIGC", True),
    Format("flac", "audio/flac", "sound", "Vorbis comment AIGC", True),
    Format("m4a", "audio/mp4", "sound", "moov.udta.meta, key AIGC", True),
    Format("ogg", "audio/ogg", "sound", "Vorbis comment AIGC", False),
    Format("mp4", "video/mp4", "film", "moov.udta.meta, key AIGC", True),
    Format("mov", "video/quicktime", "film", "moov.udta.meta, key AIGC", True),
    Format("webm", "video/webm", "film", "SimpleTag AIGC", False),
    Format("mkv", "video/x-matroska", "film", "SimpleTag AIGC", False),
    Format("txt", "text/plain", "text", "the credential beside it", False, labels=False),
    Format("md", "text/markdown", "text", "front matter, key AIGC", False),
    Format("html", "text/html", "text", "meta element AIGC", False),
    Format("json", "application/json", "text", "member AIGC", False),
    Format("pdf", "application/pdf", "document", "Info, key AIGC", True),
)

FORMATS: Mapping[str, Format] = MappingProxyType({form.suffix: form for form in _ALL})
_OTHER_NAMES = {"jpeg": "jpg", "tif": "tiff", "htm": "html", "markdown": "md", "oga": "ogg"}


def format_of(suffix: str) -> Format:
    """The format that a file name's ending names, with or without its dot, in any case.

    Raises:
        InputError: it is none of those that can be sealed.
    """
    name = suffix.removeprefix(".").lower()
    form = FORMATS.get(_OTHER_NAMES.get(name, name))
    if form is None:
        raise InputError(f"file: .{name} cannot be sealed; these can: {', '.join(FORMATS)}")
    return form
