"""Sound in memory, whatever library decoded it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vermilion.errors import InputError

MOST = 400_000_000  # samples of all channels that are decoded: two hours of 48 kHz at one channel


@dataclass(frozen=True, slots=True)
class Sound:
    """A sound of S samples in each of its C channels.

    Attributes:
        wave: (S, C) float32, full scale is [-1, 1].
        sample_rate: in Hz.
    """

    wave: NDArray[np.float32]
    sample_rate: int


def check_length(count: int) -> None:
    """Stop at a sound that would not fit into memory.

    Args:
        count: samples of all channels that were decoded so far.

    Raises:
        InputError: they are more than 400 million.
    """
    if count > MOST:
        raise InputError(f"file: the sound has more than {MOST // 1_000_000} million samples")
