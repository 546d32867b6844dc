"""What reads tokens and remembers them: a network with a cache, behind one small interface.

The scheduler and beam search know nothing else of a network. `TorchDecoder` runs net.py, in any
dtype and on any device; `native.NativeDecoder` runs the same network in int8 on a CPU.

B sequences, T tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from vermilion.errors import ModelError
from vermilion.models.lm.config import LMConfig
from vermilion.models.lm.net import LM

# How far the gap between two logits may lie from that of another batch shape. On SmolLM2-135M in
# float32 the largest change of a gap that was seen is 1.3e-4; one choice in a few hundred is
# closer than the tolerance.
TOLERANCE = 5e-4


class Memory:
    """What a decoder has read of one sequence. Made by `start` and `fork` only.

    Attributes:
        length: number of tokens that were read.
    """

    length: int


class Decoder(Protocol):
    """Reads tokens of many sequences, and tells what may follow.

    Attributes:
        config: of the network.
        tolerance: how far a gap between two logits may lie from what the sequence alone would
            give; 0 where logits do not depend on the batch.
        keeps: whether memories may lie about that nobody reads on with; where they take up
            what the others need, it is False.
    """

    config: LMConfig
    tolerance: float
    keeps: bool

    def start(self) -> Memory:
        """A memory of nothing."""
        ...

    def fork(self, memory: Memory, length: int) -> Memory:
        """A memory of the first `length` tokens of another; the two then go their own ways."""
        ...

    def free(self, memory: Memory) -> None:
        """Forget; the memory is not used again."""
        ...

    def room(self, memory: Memory | None, tokens: int) -> int:
        """How many bytes it takes that a memory (None: a new one) comes to `tokens` in all."""
        ...

    @property
    def capacity(self) -> int:
        """How many bytes there are for all memories."""
        ...

    @property
    def used(self) -> int:
        """How many of them are taken."""
        ...

    def extend(self, memories: Sequence[Memory], tokens: Sequence[Sequence[int]]) -> Tensor:
        """Read on.

        Args:
            memories: B of them, each once.
            tokens: what each reads, at least one token.

        Returns:
            Logits of what follows the last token of each, (B, V), float32.

        Raises:
            ModelError: there is no memory left.
        """
        ...

    def alone(self, ids: Sequence[int]) -> Tensor:
        """Logits of what follows a text that is read by itself, in one pass: (1, V)."""
        ...


class _Row(Memory):
    """A row of a cache."""

    def __init__(self, number: int, length: int = 0) -> None:
        self.number, self.length = number, length


class TorchDecoder:
    """A network of net.py and a row of its cache for each sequence. A `Decoder`.

    Args:
        net: the network, in evaluation mode.
        memory: most bytes for keys and values.
    """

    keeps = False
    tolerance = TOLERANCE

    def __init__(self, net: LM, memory: int = 2**32) -> None:
        self.net, self.config, self.capacity = net, net.config, memory
        self._cache = net.new_cache(0, 0)
        self._rows: list[_Row | None] = []  # by number; None: free, and filled at the next pass

    @property
    def used(self) -> int:
        """See `Decoder.used`."""
        return sum(self.room(None, row.length) for row in self._rows if row is not None)

    def room(self, memory: Memory | None, tokens: int) -> int:
        """See `Decoder.room`."""
        config = self.config
        number = 2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim
        new = tokens - (0 if memory is None else memory.length)
        return max(0, new) * number * self._cache.keys.element_size()

    def start(self) -> Memory:
        """See `Decoder.start`."""
        number = self._rows.index(None) if None in self._rows else len(self._rows)
        if number == self._cache.rows:
            self._cache.grow(rows=max(4, 2 * self._cache.rows))
        row = _Row(number)
        self._rows[number : number + 1] = [row]
        return row

    def fork(self, memory: Memory, length: int) -> Memory:
        """See `Decoder.fork`."""
        row = self.start()
        self._cache.copy_row(_row(memory).number, _row(row).number, length)
        row.length = length
        return row

    def free(self, memory: Memory) -> None:
        """See `Decoder.free`."""
        self._rows[_row(memory).number] = None
        if not any(self._rows):  # a long text does not hold its memory for good
            self._cache, self._rows = self.net.new_cache(0, 0), []

    def _close_up(self) -> None:
        """Move the last rows into those that are free, so that neighbours are read together."""
        while None in self._rows:
            last = self._rows.pop()
            if last is not None:
                number = self._rows.index(None)
                self._cache.copy_row(last.number, number, last.length)
                self._rows[number], last.number = last, number

    def extend(self, memories: Sequence[Memory], tokens: Sequence[Sequence[int]]) -> Tensor:
        """See `Decoder.extend`."""
        self._close_up()
        rows = [_row(memory) for memory in memories]
        longest = max(row.length + len(new) for row, new in zip(rows, tokens, strict=True))
        if longest > self._cache.length:
            context = self.config.max_position_embeddings
            self._cache.grow(length=min(context, max(64 + longest, 3 * longest // 2)))
        groups = _groups(rows, tokens)
        parts = [self._pass([rows[i] for i in g], [tokens[i] for i in g]) for g in groups]
        for row, new in zip(rows, tokens, strict=True):
            row.length += len(new)
        order = [i for group in groups for i in group]
        logits = parts[0] if len(parts) == 1 else torch.cat(parts)  # (B, V), in that order
        if order == sorted(order):
            return logits
        return logits[torch.tensor(order).argsort().to(logits.device)]

    def alone(self, ids: Sequence[int]) -> Tensor:
        """See `Decoder.alone`."""
        with torch.inference_mode():
            last = torch.tensor([len(ids) - 1], device=self.net.device)
            logits: Tensor = self.net(torch.tensor([list(ids)], device=self.net.device), last=last)
            return logits

    def _pass(self, rows: Sequence[_Row], tokens: Sequence[Sequence[int]]) -> Tensor:
        """Rows that lie side by side read as many tokens each: (B, V)."""
        device = self.net.device
        ids = torch.tensor([list(new) for new in tokens], device=device)  # (B, T)
        starts = torch.tensor([[row.length] for row in rows], device=device)  # (B, 1)
        positions = starts + torch.arange(ids.shape[1], device=device)  # (B, T)
        with torch.inference_mode():
            last = torch.arange(1, len(rows) + 1, device=device) * ids.shape[1] - 1  # (B,)
            past = self._cache.at(positions, first_row=rows[0].number)
            logits: Tensor = self.net(ids, positions=positions, past=past, last=last)
            return logits


def _row(memory: Memory) -> _Row:
    if not isinstance(memory, _Row):
        raise ModelError("this memory belongs to another decoder")
    return memory


_TOGETHER = 512  # tokens of a pass


def _groups(rows: Sequence[_Row], tokens: Sequence[Sequence[int]]) -> list[list[int]]:
    """Numbers of the rows that can be read together: neighbours with as many new tokens."""
    groups: list[list[int]] = []
    for i in sorted(range(len(rows)), key=lambda i: rows[i].number):
        group = groups[-1] if groups else []
        if (
            group
            and rows[i].number == rows[group[-1]].number + 1
            and len(tokens[i]) == len(tokens[group[-1]])
            and (len(group) + 1) * len(tokens[i]) <= _TOGETHER
        ):
            group.append(i)
        else:
            groups.append([i])
    return groups
