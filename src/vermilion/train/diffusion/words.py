"""What a network is told of a batch: captions or classes to conditions, and what is hidden.

N items.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import fields

import torch
from torch import Tensor

from vermilion.models.diffusion.guidance import Condition
from vermilion.runtime.engines.towers import Tower

_KEPT_BYTES = 1 << 29
_BRACKETS = re.compile(r"[()\[\]\\]")


class Reader:
    """A tower that remembers what captions gave, since each comes again and again.

    Args:
        tower: what reads them. Of each the first chunk alone is taken: the rest of a caption that
            is longer than it is left out, since all of a batch have one length.
        kept_bytes: most memory that is taken for it.
    """

    def __init__(self, tower: Tower, kept_bytes: int = _KEPT_BYTES) -> None:
        self.tower, self._room = tower, kept_bytes
        self._kept: OrderedDict[str, Condition] = OrderedDict()
        self._bytes = 0
        self._changed: Callable[[Condition], Condition] = lambda told: told

    def condition(self, texts: Sequence[str]) -> Condition:
        """What N texts give, on the CPU: context (N, T, D), and pooled (N, D) if it has that."""
        found = [self._one(text) for text in texts]
        joined = {
            entry.name: torch.cat([getattr(one, entry.name) for one in found])
            for entry in fields(Condition)
            if getattr(found[0], entry.name) is not None
        }
        return Condition(**joined)

    def change(self, how: Callable[[Condition], Condition]) -> None:
        """Give what texts give changed from now on, also those that are remembered.

        Args:
            how: what is done to the condition of one text, (1, T, D) and (1, D).
        """
        self._kept = OrderedDict((text, how(told)) for text, told in self._kept.items())
        self._changed = how

    def _one(self, text: str) -> Condition:
        if text in self._kept:
            self._kept.move_to_end(text)
            return self._kept[text]
        read = self.tower.condition([shortened(text, self.tower)])
        # Cloned, since what is made in inference mode cannot be learned from.
        parts = {
            entry.name: getattr(read, entry.name).detach().cpu().clone()
            for entry in fields(Condition)
            if getattr(read, entry.name) is not None
        }
        self._kept[text] = self._changed(Condition(**parts))
        self._bytes += _size(parts)
        while self._bytes > self._room and len(self._kept) > 1:
            _, old = self._kept.popitem(last=False)
            self._bytes -= _size({entry.name: getattr(old, entry.name) for entry in fields(old)})
        return self._kept[text]


def _size(parts: dict[str, Tensor | None]) -> int:
    return sum(part.nbytes for part in parts.values() if part is not None)


def plain(text: str) -> str:
    """A caption so that none of its brackets is read as a weight, as a prompt's are."""
    return _BRACKETS.sub(r"\\\g<0>", text).replace("BREAK", "break")


def shortened(text: str, tower: Tower) -> str:
    """A caption's beginning, as much as one chunk of a tower holds, as a prompt."""
    if tower.chunks(plain(text)) <= 1:
        return plain(text)
    low, high = 0, len(text)
    while low < high:  # the most characters of which the tower makes one chunk
        middle = (low + high + 1) // 2
        if tower.chunks(plain(text[:middle])) <= 1:
            low = middle
        else:
            high = middle - 1
    return plain(text[:low])


def hidden(
    captions: Sequence[str], shares: Tensor, *, condition_dropout: float, style_dropout: float
) -> list[str]:
    """Captions of which some are hidden, and some lose their style.

    Args:
        captions: N of them.
        shares: (N, 2), uniform from 0 to 1.
        condition_dropout: part that becomes the empty text.
        style_dropout: part that loses what stands after the last comma.
    """
    found = []
    for caption, (hides, shortens) in zip(captions, shares.tolist(), strict=True):
        kept = caption
        if shortens < style_dropout and "," in kept:
            kept = kept.rpartition(",")[0].rstrip()
        found.append("" if hides < condition_dropout else kept)
    return found
