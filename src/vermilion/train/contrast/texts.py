"""Vectors of texts by a tower that is locked, made once and kept in a file.

N texts, C features.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vermilion.disk import exclusive, storage
from vermilion.runtime.engines import TextEncoder

Vectors = NDArray[np.float32]
_AT_ONCE = 512


def vectors_of(
    texts: Sequence[str],
    encoder: TextEncoder,
    identity: str,
    folder: Path,
    on_text: Callable[[int, int], None] | None = None,
) -> Vectors:
    """A vector for each text, from the file if they were made before.

    A run that is broken off goes on where it was.

    Args:
        texts: N of them, each once.
        encoder: what makes them.
        identity: hash of its weights.
        folder: of all such files.
        on_text: told how many of how many are made.

    Returns:
        (N, C), float32, of length 1, mapped into memory.

    Raises:
        StorageError: there is no room.
    """
    digest = hashlib.sha256(identity.encode())
    for text in texts:
        digest.update(b"\0" + text.encode("utf-8", "surrogatepass"))
    path = folder / f"{digest.hexdigest()[:32]}.f32"
    with storage(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with exclusive(path.with_suffix(".lock")):
            size = encoder.embed(["a"]).shape[1]
            if not path.exists():
                _make(texts, encoder, size, path, on_text)
    return np.memmap(path, np.float32, mode="r", shape=(len(texts), size))


def _make(
    texts: Sequence[str],
    encoder: TextEncoder,
    size: int,
    path: Path,
    on_text: Callable[[int, int], None] | None,
) -> None:
    part = path.with_suffix(".part")
    with part.open("ab") as file:
        done = part.stat().st_size // (4 * size)
        file.truncate(done * 4 * size)
        for first in range(done, len(texts), _AT_ONCE):
            found = encoder.embed(texts[first : first + _AT_ONCE])  # (N, C)
            lengths = np.linalg.norm(found, axis=1, keepdims=True)
            file.write(np.ascontiguousarray(found / np.maximum(lengths, 1e-12), "<f4").tobytes())
            file.flush()
            if on_text is not None:
                on_text(min(first + _AT_ONCE, len(texts)), len(texts))
    part.replace(path)
