"""The noise of a choice: a hash, not a draw, so that nothing has to be replayed.

V vocabulary.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray

Doubles = NDArray[np.float64]
Ids = NDArray[np.int64]
Words = NDArray[np.uint64]

_BITS = 52  # of a uniform number


def gumbel(seed: int | Ids, step: int | Ids, ids: Ids) -> Doubles:
    """Standard Gumbel noise that depends on its arguments only.

    The uniform numbers beneath it are SplitMix64 hashes (Steele et al. 2014) of the seed,
    the step and each id.

    Args:
        seed: of the text; one number, or an array of a shape that goes with that of `ids`.
        step: number of the choice within the text; likewise.
        ids: tokens to draw for.

    Returns:
        Noise in the shape of `ids`, float64.
    """
    whole = _uniform(seed, step, _mix(ids.astype(np.uint64)))
    uniform = (whole.astype(np.float64) + 0.5) / 2.0**_BITS  # never 0 nor 1
    noise: Doubles = -np.log(-np.log(uniform))
    return noise


class Spare:
    """Room to work in, so that it is not asked for anew for each row.

    Args:
        size: V.

    Attributes:
        scores: (V,), float64.
        shares: (V,), float64.
        words: (2, V), uint64.
    """

    def __init__(self, size: int) -> None:
        self.scores = torch.empty(size, dtype=torch.float64)
        self.shares = torch.empty(size, dtype=torch.float64)
        self.words = np.empty((2, size), np.uint64)


def contenders(seed: int, step: int, best: float, spare: Spare) -> Ids:
    """The tokens whose score and noise together may reach `best`, and perhaps a few others.

    As -log(u) >= 1 - u, the noise -log(-log(u)) is at most -log(1 - u): only where 1 - u is at
    most exp(score - best) it can be enough. That is far quicker to see than the noise itself.

    Args:
        seed: of the text.
        step: number of the choice within the text.
        best: what is to be reached.
        spare: with the scores of all tokens, which are overwritten.

    Returns:
        Their ids, rising.
    """
    whole = _uniform(seed, step, _hashes(len(spare.scores)), spare.words)  # (V,)
    # All in units of 2**-52, with some room for what is lost by rounding.
    room = (1 + 1e-6) * 2.0**_BITS
    reach: Doubles = spare.scores.sub_(best - float(np.log(room))).exp_().numpy()
    np.add(reach, whole, out=reach)
    return np.flatnonzero(reach >= 2.0**_BITS - 4)


def _uniform(seed: int | Ids, step: int | Ids, hashes: Words, spare: Words | None = None) -> Words:
    """Whole numbers below 2**52, perhaps in the first part of `spare`."""
    key = _mix(_mix(np.atleast_1d(seed).astype(np.uint64)) + np.asarray(step, np.uint64))
    bits = _mix(np.bitwise_xor(key, hashes, out=None if spare is None else spare[0]), spare)
    bits >>= np.uint64(64 - _BITS)
    return bits


@lru_cache(maxsize=4)
def _hashes(size: int) -> Words:
    """Of the tokens 0 to size - 1."""
    hashes = _mix(np.arange(size, dtype=np.uint64))
    hashes.flags.writeable = False
    return hashes


def _mix(words: Words, spare: Words | None = None) -> Words:
    room: Words = np.empty((2, *words.shape), np.uint64) if spare is None else spare
    x: Words = room[0]
    shifted: Words = room[1]
    np.add(words, np.uint64(0x9E3779B97F4A7C15), out=x)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        x ^= np.right_shift(x, np.uint64(shift), out=shifted)
        x *= np.uint64(factor)
    x ^= np.right_shift(x, np.uint64(31), out=shifted)
    return x
