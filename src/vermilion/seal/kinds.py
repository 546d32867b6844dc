"""Which kind of file something is by its first bytes, whatever its name says."""

from __future__ import annotations

from vermilion.seal.formats import FORMATS, Format

LOOKED_AT = 4096  # bytes from the beginning that are enough to tell

_BEGINNINGS = (
    (b"\x89PNG\r\n\x1a\n", "png"),
    (b"\xff\xd8\xff", "jpg"),
    (b"GIF87a", "gif"),
    (b"GIF89a", "gif"),
    (b"II*\0", "tiff"),
    (b"MM\0*", "tiff"),
    (b"OggS", "ogg"),
    (b"fLaC", "flac"),
    (b"%PDF-", "pdf"),
)
_RIFF = {b"WEBP": "webp", b"WAVE": "wav"}
_BRANDS = {b"avif": "avif", b"avis": "avif", b"M4A ": "m4a", b"qt  ": "mov"}
_ALIKE = ({"mp4", "mov", "m4a"}, {"mkv", "webm"})  # written by one kind of program, read by all


def kind_of(beginning: bytes) -> Format | None:
    """The format that the first bytes of a file belong to; None: they do not tell.

    Texts and drawings have no such beginning, and MP3 not always.
    """
    for signature, suffix in _BEGINNINGS:
        if beginning.startswith(signature):
            return FORMATS[suffix]
    if beginning[:4] in (b"RIFF", b"RF64"):
        suffix = _RIFF.get(beginning[8:12], "")
    elif beginning[4:8] == b"ftyp":
        suffix = _BRANDS.get(beginning[8:12], "mp4")
    elif beginning[:4] == b"\x1aE\xdf\xa3":
        suffix = "webm" if b"webm" in beginning[:64] else "mkv"
    else:
        suffix = ""
    return FORMATS.get(suffix)


def is_misnamed(form: Format, found: Format) -> bool:
    """Whether a file that is named as one format and begins like another is not what it says."""
    return form != found and not any({form.suffix, found.suffix} <= alike for alike in _ALIKE)
