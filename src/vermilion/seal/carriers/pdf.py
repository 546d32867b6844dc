"""PDF: the label as the whole object under the key AIGC of Info, all else in the document's XMP.

What is new is appended, as the format provides for, so the file's own bytes and the signatures in
it stay. Where something that was said before goes away, the file is written anew instead: appended
to, it would still hold the old words. A C2PA manifest stays in either case, and is invalid until
the file is signed again.

Source: ISO 32000-2, 7.5.6 (incremental updates), 14.3 (metadata).
"""

from __future__ import annotations

import io
import logging
import zlib
from dataclasses import replace

from pypdf import PdfReader, PdfWriter
from pypdf.errors import PyPdfError
from pypdf.generic import DictionaryObject, NameObject, StreamObject

from vermilion.errors import InputError
from vermilion.seal.carriers import xmp
from vermilion.seal.carriers.statements import properties_of, statement_of
from vermilion.seal.labels import Label, Statement

_AIGC = "/AIGC"
# What pypdf finds odd in a file is no news for people; without a handler it would be printed.
logging.getLogger("pypdf").addHandler(logging.NullHandler())
# What pypdf raises on files that are not as they should be.
DAMAGED = (
    PyPdfError,
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    NotImplementedError,
    OSError,
    RecursionError,
    TypeError,
    ValueError,
    zlib.error,
)


def _open(content: bytes) -> PdfReader:
    """A reader of the file.

    Raises:
        InputError: no PDF, or encrypted.
    """
    if b"%PDF-" not in content[:1024]:
        raise InputError("PDF: the file is no PDF")
    reader = PdfReader(io.BytesIO(content))
    if reader.is_encrypted:
        raise InputError("PDF: the file is encrypted; save it without its password, then seal it")
    return reader


def damaged(error: BaseException) -> InputError:
    """What people are told where pypdf raised one of `DAMAGED`."""
    return InputError(f"PDF: the file is damaged: {str(error)[:200] or type(error).__name__}")


def _packet(root: object) -> bytes:
    """The XMP of the whole document; empty: it has none."""
    stream = root.get("/Metadata") if isinstance(root, DictionaryObject) else None
    stream = stream.get_object() if stream is not None else None
    return bytes(stream.get_data()) if isinstance(stream, StreamObject) else b""


def _said(reader: PdfReader) -> Statement:
    statement = statement_of(xmp.read(_packet(reader.trailer["/Root"])))
    info = reader.trailer.get("/Info")
    info = info.get_object() if info is not None else None
    words = info.get(_AIGC) if isinstance(info, DictionaryObject) else None
    if words is None:
        return statement
    return replace(statement, label=Label.parse(str(words.get_object())))


def read(content: bytes) -> Statement:
    """What a PDF says about itself.

    Raises:
        InputError: the file or a part of it is damaged, or it is encrypted.
    """
    try:
        return _said(_open(content))
    except InputError:
        raise
    except DAMAGED as error:
        raise damaged(error) from None


def write(content: bytes, statement: Statement) -> bytes:
    """Let a PDF say what the statement says, and nothing else of that kind.

    Raises:
        InputError: the file is damaged or encrypted, or a part of the statement cannot be written.
    """
    try:
        return _written(content, _open(content), statement)
    except InputError:
        raise
    except DAMAGED as error:
        raise damaged(error) from None


def _written(content: bytes, reader: PdfReader, statement: Statement) -> bytes:
    old = _said(reader)
    if old == statement:
        return content
    packet = _packet(reader.trailer["/Root"])
    merged = xmp.merge(packet, properties_of(replace(statement, label=None)))
    if old == Statement():
        writer = PdfWriter(io.BytesIO(content), incremental=True)
    else:
        root = reader.trailer["/Root"]
        if isinstance(root, DictionaryObject):
            root.pop("/Metadata", None)  # or it would be copied, and stay without being named
        writer = PdfWriter(clone_from=reader)
    info = writer._info  # the public `metadata` is a copy in which names have become texts
    if statement.label is not None:
        writer.add_metadata({_AIGC: statement.label.outer()})
    elif info is not None:
        info.pop(_AIGC, None)
    if merged != packet or old != Statement():
        _set_packet(writer, merged)
    written = io.BytesIO()
    writer.write(written)
    return written.getvalue()


def _set_packet(writer: PdfWriter, packet: bytes) -> None:
    root = writer.root_object
    root.pop("/Metadata", None)
    if not packet:
        return
    stream = StreamObject()
    stream.set_data(packet)
    stream[NameObject("/Type")] = NameObject("/Metadata")
    stream[NameObject("/Subtype")] = NameObject("/XML")
    root[NameObject("/Metadata")] = writer._add_object(stream)
