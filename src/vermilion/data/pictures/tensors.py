"""Pixels in bytes ↔ numbers from -1 to 1, as models take them.

Shape letters: N pictures, H W of a picture, C channels.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vermilion.data.pictures.decoding import Pixels
from vermilion.errors import InputError


def to_float(pixels: Pixels) -> NDArray[np.float32]:
    """Bytes to numbers.

    Of four channels the fourth is alpha a, and the colours c are premultiplied: with both from 0
    to 1, what comes out is 2 c a - 1 and 2 a - 1. What is clear is -1 throughout, whatever colour
    it hides.

    Args:
        pixels: uint8 (N, H, W, C), C 1, 3 or 4, straight alpha.

    Returns:
        float32 (N, C, H, W), -1 to 1.

    Raises:
        InputError: another number of channels or dimensions.
    """
    if pixels.ndim != 4 or pixels.shape[3] not in (1, 3, 4):
        raise InputError(f"pixels: must be (N, H, W, 1, 3 or 4), found {pixels.shape}")
    numbers = np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)).astype(np.float32)  # (N, C, H, W)
    numbers *= np.float32(1 / 255)
    if pixels.shape[3] == 4:
        numbers[:, :3] *= numbers[:, 3:]
    numbers *= 2
    numbers -= 1
    return numbers


def to_bytes(numbers: NDArray[np.float32]) -> Pixels:
    """Numbers to bytes, the inverse of `to_float` but for colours where all is clear.

    Args:
        numbers: float32 (N, C, H, W), C 1, 3 or 4; values outside of -1 to 1 are cut off.

    Returns:
        uint8 (N, H, W, C), straight alpha; black where alpha is 0.

    Raises:
        InputError: another number of channels or dimensions.
    """
    if numbers.ndim != 4 or numbers.shape[1] not in (1, 3, 4):
        raise InputError(f"pixels: must be (N, 1, 3 or 4, H, W), found {numbers.shape}")
    parts = (np.clip(numbers, -1, 1) + 1) / 2  # (N, C, H, W)
    if numbers.shape[1] == 4:
        alpha = np.round(parts[:, 3:] * 255) / 255
        colours = np.divide(parts[:, :3], alpha, out=np.zeros_like(parts[:, :3]), where=alpha > 0)
        parts = np.concatenate([np.clip(colours, 0, 1), alpha], axis=1)
    return np.round(parts * 255).astype(np.uint8).transpose(0, 2, 3, 1)
