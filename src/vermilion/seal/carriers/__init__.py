"""What a file says about itself: one module for each way that formats have to hold it.

A carrier has two functions. `write` lets the file say what a Statement says, in place of whatever
it said of that kind before, so that `read` gives that Statement back. Whoever wants to keep what a
file says reads it first, and changes the Statement. Everything else in the file stays byte for
byte where the format allows; pixels and sound are never decoded.
"""

from __future__ import annotations

from importlib import import_module
from types import MappingProxyType
from typing import Protocol, cast

from vermilion.seal.formats import Format
from vermilion.seal.labels import Statement

# By name, because some of them load large packages.
_MODULES = MappingProxyType(
    {
        "png": "png",
        "jpg": "jpeg",
        "webp": "webp",
        "gif": "gif",
        "tiff": "tiff",
        "avif": "avif",
        "svg": "svg",
        "pdf": "pdf",
        "wav": "riff",
        "mp3": "id3",
        "flac": "vorbis",
        "ogg": "vorbis",
        "m4a": "isobmff",
        "mp4": "isobmff",
        "mov": "isobmff",
        "webm": "matroska",
        "mkv": "matroska",
        "txt": "txt",
        "md": "markdown",
        "html": "webpage",
        "json": "json_object",
    }
)


class Carrier(Protocol):
    """A module of this package."""

    def write(self, content: bytes, statement: Statement) -> bytes:
        """Let a file say what the statement says."""

    def read(self, content: bytes) -> Statement:
        """What a file says."""


def carrier(form: Format) -> Carrier:
    """The module for a format."""
    return cast(Carrier, import_module(f"{__name__}.{_MODULES[form.suffix]}"))


def write(content: bytes, form: Format, statement: Statement) -> bytes:
    """Let a file say what the statement says.

    Args:
        content: the file.
        form: its format.
        statement: all that it shall say; what it said of that kind before is replaced.

    Returns:
        The file, with everything else as it was.

    Raises:
        InputError: the file is damaged or not of that format, or a part of the statement cannot
            be written in it.
    """
    return carrier(form).write(content, statement)


def read(content: bytes, form: Format) -> Statement:
    """What a file says.

    Args:
        content: the file.
        form: its format.

    Raises:
        InputError: the file is damaged or not of that format, or its label is.
    """
    return carrier(form).read(content)
