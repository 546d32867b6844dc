"""Which tokens make which batch: a pure function of the seed and the step.

Nothing about the order is kept anywhere, so that a run that is taken up again, or is spread over
several processes, sees the very same batches. B windows of a batch, T tokens of a window.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from vermilion.data.packed import Tokens
from vermilion.errors import InputError


class Windows:
    """A row of tokens cut into windows of T + 1 that overlap by one: T inputs and T targets.

    Each epoch goes once over all windows, in an order of its own, and cuts them at an offset of
    its own, so that no token is always the first of a window.

    Args:
        tokens: the row.
        length: T.
        seed: of the order.

    Raises:
        InputError: the row is too short for one window.
    """

    def __init__(self, tokens: Tokens, length: int, seed: int) -> None:
        if len(tokens) <= length:
            raise InputError(
                f"max_position_embeddings: a context of {length} is longer than the text, which"
                f" has {len(tokens)} tokens to train on; set it to less than"
                f" {len(tokens)}, or give more text"
            )
        self.tokens, self.length, self.seed = tokens, length, seed
        self.slack = min(length, len(tokens) - length)  # offsets 0 .. slack - 1
        self.count = (len(tokens) - self.slack) // length
        self._order = lru_cache(maxsize=2)(self._draw_order)

    def _draw_order(self, epoch: int) -> tuple[int, NDArray[np.int64]]:
        draw = np.random.default_rng((self.seed, epoch))
        return int(draw.integers(self.slack)), draw.permutation(self.count)

    def start(self, number: int) -> int:
        """Where the window with this number, counted from the first step on, begins."""
        epoch, place = divmod(number, self.count)
        offset, order = self._order(epoch)
        return offset + int(order[place]) * self.length

    def batch(self, first: int, size: int) -> tuple[NDArray[np.int64], NDArray[np.uint8] | None]:
        """Windows number `first` to `first + size - 1`: ids (B, T + 1), and their mask."""
        return _stack(self.tokens, [self.start(first + i) for i in range(size)], self.length)


def in_order(
    tokens: Tokens, length: int, number: int, size: int
) -> tuple[NDArray[np.int64], NDArray[np.uint8] | None]:
    """Windows `number` to `number + size - 1` of a row, one after the other, for validation."""
    return _stack(tokens, [(number + i) * length for i in range(size)], length)


def _stack(
    tokens: Tokens, starts: list[int], length: int
) -> tuple[NDArray[np.int64], NDArray[np.uint8] | None]:
    rows = [tokens.window(start, length + 1) for start in starts]
    masks = [mask for _, mask in rows if mask is not None]
    return np.stack([ids for ids, _ in rows]), np.stack(masks) if masks else None
