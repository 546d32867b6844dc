"""Small pictures and files of them."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def smooth(high: int, wide: int, seed: int = 0, channels: int = 3) -> NDArray[np.uint8]:
    """A picture with soft shapes, uint8 (H, W, C), that no turn leaves as it is."""
    draw = np.random.default_rng(seed)
    y, x = np.mgrid[0:high, 0:wide] / max(high, wide)
    waves = [
        127.5 + 127.4 * np.sin(3 * a * x + 5 * b * y + c)
        for a, b, c in draw.uniform(0.3, 2.0, (channels, 3))
    ]
    return np.stack(waves, axis=-1).astype(np.uint8)


def encoded(pixels: NDArray[Any] | Image.Image, form: str = "PNG", **options: Any) -> bytes:
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    sink = io.BytesIO()
    image.save(sink, form, **options)
    return sink.getvalue()


def put(path: Path, content: bytes | str | None = None, seed: int = 0) -> Path:
    """Write a file; by default a small PNG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if content is None:
        content = encoded(smooth(20, 30, seed))
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def difference(a: NDArray[Any], b: NDArray[Any]) -> float:
    """The mean absolute difference of two pictures, of 255."""
    assert a.shape == b.shape
    return float(np.abs(a.astype(np.int64) - b.astype(np.int64)).mean())
