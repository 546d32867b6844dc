"""The watermark of texts: green tokens are made likelier, and counted again later.

Kirchenbauer et al. (2023), "A Watermark for Large Language Models" (arXiv:2301.10226), algorithm
2: the token before decides, with the key, which share gamma of the vocabulary is green; delta is
added to the logits of the green ones. Who has the key counts them: a text that knows nothing of
it has a share of gamma, a marked one has more. The model is not needed for it, its tokenizer is.

V vocabulary, T tokens that are counted.
"""

from __future__ import annotations

import hashlib
import math
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vermilion.errors import InputError
from vermilion.seal.watermark.key import derive

GAMMA = 0.25
PRESENT = 1e-5  # a smaller probability is taken for a watermark
_REMEMBERED = 256  # lists of green tokens that are kept, V bytes each

_SPREAD, _MIX1, _MIX2 = np.uint32(0x9E3779B1), np.uint32(0x85EBCA6B), np.uint32(0xC2B2AE35)


@dataclass(frozen=True, slots=True)
class Found:
    """What a text says.

    Attributes:
        z: by how many standard deviations there are more green tokens than by chance, the
            paper's equation 3.
        probability: that a text which knows nothing of the key has as many green tokens, were
            its tokens independent of each other; 0 to 1. See the documentation for how often
            texts that people wrote come below it.
        tokens: T, how many were counted; each pair of a token and the one before counts once.
        green: how many of them are green.
    """

    z: float
    probability: float
    tokens: int
    green: int

    @property
    def present(self) -> bool:
        """Whether this is taken for a watermark."""
        return self.probability < PRESENT

    @property
    def asset_id(self) -> str | None:
        """None: the choice of words names no asset."""
        return None

    @property
    def names_asset(self) -> bool:
        """It does not."""
        return False


class GreenList:
    """Which tokens are green.

    Args:
        key: of the watermarks, 32 bytes; see `watermark.key`.
        vocab_size: V, of the network, so that every logit has a colour. What a token's colour
            is does not depend on it.
        gamma: share of green tokens, above 0 and below 1.
        delta: what is added to their logits; 0 adds nothing.

    Raises:
        InputError: a value cannot be used.
    """

    def __init__(
        self, key: bytes, vocab_size: int, gamma: float = GAMMA, delta: float = 2.0
    ) -> None:
        if not 0 < gamma < 1:
            raise InputError(f"gamma: must be between 0 and 1 (found {gamma})")
        if not 1 <= vocab_size < 2**32:
            raise InputError(f"vocab_size: must be 1 to {2**32 - 1} (found {vocab_size})")
        self.gamma, self.delta, self.vocab_size = gamma, delta, vocab_size
        self._key = derive(key, "watermark of texts")
        self._below = np.uint32(round(gamma * 2**32))
        self._spread = np.arange(vocab_size, dtype=np.uint32) * _SPREAD  # (V,)
        self._lists: OrderedDict[int, NDArray[np.bool_]] = OrderedDict()

    def green(self, previous: Sequence[int]) -> NDArray[np.bool_]:
        """Which tokens are green after those that stand there, of which the last one counts.

        Returns:
            (V,), not to be written to.

        Raises:
            InputError: nothing stands there.
        """
        if not previous:
            raise InputError("previous: is empty; the first token of a text has no colour")
        last = previous[-1]
        found = self._lists.get(last)
        if found is None:
            found = self._colours(self._spread.copy(), *self._seeds(last))
            found.flags.writeable = False
            self._lists[last] = found
            if len(self._lists) > _REMEMBERED:
                self._lists.popitem(last=False)
        return found

    def detect(self, ids: Sequence[int], prompt_length: int = 0) -> Found:
        """Count the green tokens of a text.

        A pair that comes again says nothing new and is passed over, as the paper's section 4.1
        advises; else a text that repeats itself would look marked by chance.

        Args:
            ids: of the text's tokens, by the tokenizer of the model that may have written it.
            prompt_length: how many of them stand before what was written.
        """
        first = max(1, prompt_length)
        pairs = list(dict.fromkeys(zip(ids[first - 1 : -1], ids[first:], strict=True)))
        total = len(pairs)
        if total == 0:
            return Found(0.0, 1.0, 0, 0)
        seeds = {last: self._seeds(last) for last in {last for last, _ in pairs}}
        adds, flips = np.array([seeds[last] for last, _ in pairs], np.uint32).T  # (T,) each
        tokens = np.array([token for _, token in pairs], np.uint32)
        green = int(self._colours(tokens * _SPREAD, adds, flips).sum())
        spread = math.sqrt(total * self.gamma * (1 - self.gamma))
        z = (green - self.gamma * total) / spread
        return Found(z, _tail(green, total, self.gamma), total, green)

    def _seeds(self, last: int) -> tuple[np.uint32, np.uint32]:
        content = last.to_bytes(8, "little")
        digest = hashlib.blake2b(content, key=self._key, digest_size=8).digest()
        add, flip = np.frombuffer(digest, "<u4")
        return add, flip

    def _colours(
        self,
        mixed: NDArray[np.uint32],
        add: np.uint32 | NDArray[np.uint32],
        flip: np.uint32 | NDArray[np.uint32],
    ) -> NDArray[np.bool_]:
        """MurmurHash3's finish of each token, entered by two seeds; changes `mixed`."""
        mixed += add
        mixed ^= mixed >> np.uint32(16)
        mixed *= _MIX1
        mixed ^= flip
        mixed ^= mixed >> np.uint32(13)
        mixed *= _MIX2
        mixed ^= mixed >> np.uint32(16)
        colours: NDArray[np.bool_] = mixed < self._below
        return colours


def _tail(green: int, total: int, gamma: float) -> float:
    """The probability of that many green tokens or more, by the binomial distribution."""
    counts = np.arange(green, total + 1)
    logs = [
        math.lgamma(total + 1)
        - math.lgamma(k + 1)
        - math.lgamma(total - k + 1)
        + k * math.log(gamma)
        + (total - k) * math.log1p(-gamma)
        for k in counts.tolist()
    ]
    top = max(logs)
    return min(1.0, math.exp(top) * math.fsum(math.exp(log - top) for log in logs))
