"""Noise that belongs to its item: one seed gives one picture, whatever stands beside it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


class Noise:
    """Standard normal noise, one draw after the other, of a generator for each item.

    It is drawn on the CPU, so that it does not depend on the device. N items in one batch get what
    each would get alone. A list of torch generators given to diffusers draws the same.

    Args:
        seeds: of the N items.
        shape: (C, H, W) of one.
    """

    def __init__(self, seeds: Sequence[int], shape: tuple[int, int, int]) -> None:
        self.shape = shape
        self._generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    def __len__(self) -> int:
        return len(self._generators)

    def next(self) -> Tensor:
        """The next draw of every item, (N, C, H, W), float32 on the CPU."""
        draws = [torch.randn(self.shape, generator=source) for source in self._generators]
        return torch.stack(draws)  # (N, C, H, W)
