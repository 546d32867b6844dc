"""Documents → one long row of token ids in a file that is mapped, not read.

    FOLDER/header.json      what it is, and the sizes that the files must have
    FOLDER/train.bin        token ids, uint16 or uint32, little endian
    FOLDER/validation.bin   likewise
    FOLDER/*.mask           where only some tokens count for the loss: a byte for each, 0 or 1

T tokens of a window, N windows.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
from numpy.typing import NDArray

from vermilion.data.documents import Piece
from vermilion.errors import InputError, StorageError

HEADER = "header.json"
FORMAT = 1
# From so many documents on, whole documents are held back for validation; with fewer, the end
# of each is.
MANY_DOCUMENTS = 100
_BUFFER = 1 << 20  # characters that are encoded at once
_COPY = 1 << 24  # bytes

Encoded = tuple[Sequence[int], Sequence[int] | None]
"""Token ids, and for each 1 or 0: whether the loss counts it; None: it counts all."""

Encode = Callable[[Sequence[Piece]], Iterable[Encoded]]
"""Gives for each piece its tokens, with the token that ends a document where it ends."""

Split = Literal["auto", "document", "tail"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """What lies in a folder of tokens.

    Attributes:
        key: fingerprint of the data, the tokenizer and the split.
        dtype: "uint16" or "uint32".
        vocab_size: every id is below it.
        documents: how many there were.
        train_tokens: in train.bin.
        validation_tokens: in validation.bin.
        masked: whether some tokens do not count for the loss.
        split: "document" or "tail".
    """

    key: str
    dtype: str
    vocab_size: int
    documents: int
    train_tokens: int
    validation_tokens: int
    masked: bool
    split: str
    format: int = FORMAT


class Tokens:
    """A row of tokens on disk.

    Attributes:
        ids: (N,), uint16 or uint32, mapped.
        mask: (N,), uint8, mapped; None: every token counts.
    """

    def __init__(self, folder: Path, name: str, header: Header) -> None:
        count = header.train_tokens if name == "train" else header.validation_tokens
        self.ids = _mapped(folder / f"{name}.bin", header.dtype, count)  # (N,)
        self.mask = _mapped(folder / f"{name}.mask", "uint8", count) if header.masked else None

    def __len__(self) -> int:
        return len(self.ids)

    def window(self, start: int, length: int) -> tuple[NDArray[np.int64], NDArray[np.uint8] | None]:
        """`length` tokens from `start` on, (T,), and their mask."""
        part = slice(start, start + length)
        mask = None if self.mask is None else np.asarray(self.mask[part])
        return self.ids[part].astype(np.int64), mask


def _mapped(path: Path, dtype: str, count: int) -> NDArray[Any]:
    size = path.stat().st_size if path.exists() else -1
    if size != count * np.dtype(dtype).itemsize:
        raise StorageError(
            f"{path} has {size} bytes where its header says"
            f" {count * np.dtype(dtype).itemsize}; remove {path.parent} and start again"
        )
    if count == 0:
        return np.zeros(0, dtype)
    return np.memmap(path, dtype=np.dtype(dtype).newbyteorder("<"), mode="r", shape=(count,))


def read_header(folder: Path) -> Header | None:
    """The header of a folder of tokens; None where there is none of this format."""
    try:
        found = json.loads((folder / HEADER).read_text(encoding="utf-8"))
        return Header(**found) if found.get("format") == FORMAT else None
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, TypeError, AttributeError):
        raise StorageError(
            f"{folder / HEADER} cannot be read; remove {folder} and start again"
        ) from None


def pack(
    pieces: Iterable[Piece],
    encode: Encode,
    folder: Path,
    *,
    key: str,
    vocab_size: int,
    validation: float,
    split: Split = "auto",
    on_tokens: Callable[[int], None] | None = None,
) -> Header:
    """Tokenise documents into a folder, unless it holds the same already.

    Args:
        pieces: the documents.
        encode: text to tokens.
        folder: written beside its place and put there in one step.
        key: fingerprint of all that decides what is written.
        vocab_size: every id is below it.
        validation: fraction that is held back, 0 to below 1.
        split: by whole documents, by the tail of each document, or by their number.
        on_tokens: told how many tokens are written.

    Raises:
        InputError: there is no text.
    """
    there = read_header(folder)
    if there is not None and there.key == key:
        return there
    part = folder.with_name(f"{folder.name}.part-{os.getpid()}")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    writer = _Writer(part, "uint16" if vocab_size <= 1 << 16 else "uint32")
    try:
        for ids, mask, ends in _encoded(pieces, encode):
            writer.add(ids, mask, ends)
            if on_tokens is not None:
                on_tokens(writer.total)
        if writer.total == 0:
            raise InputError("data: there is no text in it; put some into it")
        header = writer.finish(key, vocab_size, validation, split)
        shutil.rmtree(folder, ignore_errors=True)
        part.rename(folder)
    finally:
        writer.close()
        shutil.rmtree(part, ignore_errors=True)
    return header


def _encoded(
    pieces: Iterable[Piece], encode: Encode
) -> Iterator[tuple[Sequence[int], Sequence[int] | None, bool]]:
    """Pieces encoded many at a time, which the tokenizer does in several threads."""
    held: list[Piece] = []
    size = 0
    for piece in pieces:
        held.append(piece)
        size += len(piece.text) + sum(len(message["content"]) for message in piece.messages)
        if size >= _BUFFER:
            yield from _rows(held, encode)
            held, size = [], 0
    yield from _rows(held, encode)


def _rows(
    held: list[Piece], encode: Encode
) -> Iterator[tuple[Sequence[int], Sequence[int] | None, bool]]:
    for piece, (ids, mask) in zip(held, encode(held), strict=True):
        yield ids, mask, piece.ends


class _Writer:
    """Writes all tokens into one file, notes where documents end, and divides them at the end."""

    def __init__(self, folder: Path, dtype: str) -> None:
        self.folder, self.dtype = folder, np.dtype(dtype).newbyteorder("<")
        self.ids = (folder / "all.bin").open("wb")
        self.masks = (folder / "all.mask").open("wb")
        self.ends = (folder / "all.ends").open("wb")
        self.total, self.masked = 0, False

    def add(self, ids: Sequence[int], mask: Sequence[int] | None, ends: bool) -> None:
        np.asarray(ids, dtype=self.dtype).tofile(self.ids)
        if mask is not None and not self.masked:
            self.masked = True
            self._ones(self.total)
        if mask is not None:
            np.asarray(mask, dtype=np.uint8).tofile(self.masks)
        elif self.masked:
            self._ones(len(ids))
        self.total += len(ids)
        if ends:
            np.asarray([self.total], dtype="<u8").tofile(self.ends)

    def _ones(self, count: int) -> None:
        for start in range(0, count, _COPY):
            np.ones(min(_COPY, count - start), np.uint8).tofile(self.masks)

    def close(self) -> None:
        for file in (self.ids, self.masks, self.ends):
            file.close()

    def finish(self, key: str, vocab_size: int, validation: float, split: Split) -> Header:
        self.close()
        ends = np.fromfile(self.folder / "all.ends", "<u8")
        by = split if split != "auto" else "document" if len(ends) >= MANY_DOCUMENTS else "tail"
        spans = list(_spans(ends, validation, by))
        counts = {
            name: sum(stop - start for kind, start, stop in spans if kind == name)
            for name in ("train", "validation")
        }
        for name in counts:
            parts = [(start, stop) for kind, start, stop in spans if kind == name]
            self._divide("bin", name, parts, self.dtype.itemsize)
            if self.masked:
                self._divide("mask", name, parts, 1)
        for ending in ("bin", "mask", "ends"):
            (self.folder / f"all.{ending}").unlink()
        header = Header(
            key=key,
            dtype=self.dtype.name,
            vocab_size=vocab_size,
            documents=len(ends),
            train_tokens=counts["train"],
            validation_tokens=counts["validation"],
            masked=self.masked,
            split=by,
        )
        text = json.dumps(asdict(header), indent=2)
        (self.folder / HEADER).write_text(text + "\n", encoding="utf-8")
        return header

    def _divide(self, ending: str, name: str, spans: list[tuple[int, int]], width: int) -> None:
        with (
            (self.folder / f"all.{ending}").open("rb") as source,
            (self.folder / f"{name}.{ending}").open("wb") as target,
        ):
            for start, stop in spans:
                source.seek(start * width)
                _copy(source, target, (stop - start) * width)
            target.flush()
            os.fsync(target.fileno())


def _copy(source: IO[bytes], target: IO[bytes], size: int) -> None:
    while size > 0:
        size -= target.write(source.read(min(size, _COPY)))


def _spans(ends: NDArray[Any], validation: float, by: str) -> Iterator[tuple[str, int, int]]:
    """Which tokens go where, neighbours joined: (name, start, stop)."""
    start, held = 0, 0.0
    joined: tuple[str, int, int] | None = None
    for end in ends.tolist():
        if by == "tail":
            cut = end - int((end - start) * validation)
            parts = [("train", start, cut), ("validation", cut, end)]
        else:
            # Every 1/validation-th document, so that both parts are alike all along.
            held += validation
            name = "validation" if held >= 1 else "train"
            held -= held >= 1
            parts = [(name, start, end)]
        for part in parts:
            if part[1] == part[2]:
                continue
            if joined is not None and joined[0] == part[0] and joined[2] == part[1]:
                joined = (part[0], joined[1], part[2])
                continue
            if joined is not None:
                yield joined
            joined = part
        start = end
    if joined is not None:
        yield joined
