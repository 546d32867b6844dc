"""The key of the watermarks: 32 random bytes of this installation.

Who has it can find its watermarks and remove them. It is never exported.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from vermilion.errors import InputError, StorageError
from vermilion.seal import private

SIZE = 32  # bytes
FILE = "watermark.key"
_USED = "ledger/ledger.jsonl"  # beside it, once something was sealed


@dataclass(frozen=True, slots=True)
class Key:
    """A key of 32 bytes; its bytes never show in a message."""

    content: bytes = field(repr=False)

    def __post_init__(self) -> None:
        check(self.content)

    @staticmethod
    def is_in(folder: Path) -> bool:
        """Whether there is a key, or was one: then `open` makes none."""
        return (folder / FILE).exists() or (folder / _USED).exists()

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Read `folder`/watermark.key, and make it (mode 0600) when it is first needed.

        Raises:
            InputError: the file is no key, or others may read it.
            StorageError: the folder cannot be read or written, or the key was lost: a new one
                would find no watermark of before, and the ledger's head would seem forged.
        """
        path = folder / FILE
        content = private.read(path)
        if content is None:
            with private.exclusive(folder):
                content = private.read(path)  # another process may have made it meanwhile
                if content is None and (folder / _USED).exists():
                    raise StorageError(
                        f"{path}: is missing though things were sealed with it; restore it from a"
                        f" backup, or move {folder} away to start anew"
                    )
                if content is None:
                    content = secrets.token_bytes(SIZE)
                    private.write(path, content)
        if len(content) != SIZE:
            raise InputError(
                f"{path}: a watermark key has {SIZE} bytes (found {len(content)}); bring it back"
                " from a copy, or move it away and a new one is made"
            )
        return cls(content)


def check(key: bytes) -> None:
    """Refuse what is no key.

    Raises:
        InputError: it has not 32 bytes.
    """
    if len(key) != SIZE:
        raise InputError(f"key: a watermark key has {SIZE} bytes (found {len(key)})")


def derive(key: bytes, purpose: str) -> bytes:
    """A key of 32 bytes for one purpose: HKDF's expansion with SHA-256 (RFC 5869)."""
    check(key)
    return hmac.new(key, purpose.encode() + b"\x01", hashlib.sha256).digest()


def signs(key: bytes, purpose: str, count: int) -> NDArray[np.float64]:
    """Fair coins that follow from a key and a purpose: (count,) of -1 and 1 (SHAKE256)."""
    stream = hashlib.shake_256(derive(key, purpose)).digest(-(-count // 8))
    bits = np.unpackbits(np.frombuffer(stream, np.uint8), count=count)
    return bits.astype(np.float64) * 2.0 - 1.0


def shuffled(key: bytes, purpose: str, count: int) -> NDArray[np.int64]:
    """The numbers 0 to count - 1 in an order that follows from a key and a purpose."""
    stream = hashlib.shake_256(derive(key, purpose)).digest(8 * count)
    return np.argsort(np.frombuffer(stream, "<u8"), kind="stable")
