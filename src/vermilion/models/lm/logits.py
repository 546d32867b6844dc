"""From the model's logits to the scores that a token is chosen by.

B texts in the batch, V vocabulary, K leaders of a row.

What is applied, in this order, which is that of transformers: repetition penalty, presence
and frequency penalties, hooks, and then what may not be said at all: repeated n-grams, an end
that comes too early, what a grammar forbids.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

if TYPE_CHECKING:
    from vermilion.models.lm.sample import Sampling

LogitsHook = Callable[[Sequence[int], int, Tensor], Tensor]
"""A function of a text's token ids, of how many of them are its prompt, and of the logits of
the next token, (V,) float32, which it may change in place, to the logits to go on with, (V,).

It sees the logits after the penalties and before the bans, so that it cannot lift a ban. A text
watermark adds to the logits of some tokens. What a hook returns may depend on its arguments only;
then one seed still gives one text. It should not enlarge the gaps between logits (see
`sample.TOLERANCE`); adding to them does not.
"""


class Row:
    """One text while it is written: how its tokens are chosen, and what it says so far.

    Args:
        sampling: how tokens are chosen.
        prompt: token ids, at least one.
        ends: tokens that end the text; not to be chosen before `min_new_tokens`.
        hooks: called in their order for each choice.
        tolerance: how far a gap between two logits may lie from what the text alone would give;
            0 where a text's logits do not depend on its batch.

    Attributes:
        ids: of all tokens, prompt and new.
        prompt_length: how many of them are the prompt.
        allowed: True where a grammar lets the next token stand, (V,); None allows all. Set it
            before each choice.
    """

    __slots__ = (
        "_counts",
        "_following",
        "_places",
        "_tokens",
        "allowed",
        "ends",
        "hooks",
        "ids",
        "prompt_length",
        "sampling",
        "tolerance",
    )

    def __init__(
        self,
        sampling: Sampling,
        prompt: Sequence[int],
        *,
        ends: Collection[int] = (),
        hooks: Sequence[LogitsHook] = (),
        tolerance: float = 0.0,
    ) -> None:
        self.sampling, self.ends, self.hooks = sampling, frozenset(ends), tuple(hooks)
        self.tolerance = tolerance
        self.allowed: NDArray[np.bool_] | None = None
        self.ids: list[int] = []
        self.prompt_length = len(prompt)
        # Each token that was said has a place in these arrays, which have room to grow.
        self._places: dict[int, int] = {}
        self._tokens = np.zeros(64, np.int64)
        self._counts = np.zeros(64, np.float32)  # in the new text only
        # What followed each run of no_repeat_ngram_size - 1 tokens.
        self._following: dict[tuple[int, ...], tuple[int, ...]] = {}
        for token in prompt:
            self.append(token)

    @property
    def step(self) -> int:
        """Number of new tokens."""
        return len(self.ids) - self.prompt_length

    def append(self, token: int) -> None:
        """Take the token that was chosen."""
        self.ids.append(token)
        if self.penalised:
            place = self._places.setdefault(token, len(self._places))
            if place == len(self._tokens):
                self._tokens = np.concatenate([self._tokens, np.zeros_like(self._tokens)])
                self._counts = np.concatenate([self._counts, np.zeros_like(self._counts)])
            self._tokens[place] = token
            self._counts[place] += self.step > 0
        size = self.sampling.no_repeat_ngram_size
        if 0 < size <= len(self.ids):
            before = tuple(self.ids[len(self.ids) - size : -1])
            self._following[before] = (*self._following.get(before, ()), token)

    def fork(self) -> Row:
        """A copy that goes its own way."""
        other = object.__new__(Row)
        for name in self.__slots__:
            setattr(other, name, getattr(self, name))
        other.ids = self.ids.copy()
        other._places = self._places.copy()
        other._tokens, other._counts = self._tokens.copy(), self._counts.copy()
        other._following = self._following.copy()
        return other

    @property
    def penalised(self) -> bool:
        """Whether there is a penalty on what was said."""
        s = self.sampling
        return s.repetition_penalty != 1 or s.presence_penalty != 0 or s.frequency_penalty != 0

    def said(self) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Each token in the text once, and how often the new text has it; kept for penalties."""
        count = len(self._places)
        return self._tokens[:count], self._counts[:count]

    def banned(self) -> tuple[int, ...]:
        """Tokens that would repeat an n-gram, or end the text before `min_new_tokens`."""
        banned: tuple[int, ...] = ()
        size = self.sampling.no_repeat_ngram_size
        if size > 0:
            before = tuple(self.ids[len(self.ids) - size + 1 :])
            banned = self._following.get(before, ())
        if self.step < self.sampling.min_new_tokens:
            banned += tuple(self.ends)
        return banned


def process(logits: Tensor, rows: Sequence[Row], *, in_place: bool = False) -> Tensor:
    """The scores to choose by: see the top of this file for what is applied.

    A ban gives way where a grammar would be left without any token.

    Args:
        logits: (B, V), float32; in beam search, log-probabilities.
        rows: the B texts.
        in_place: change `logits` instead of a copy.

    Returns:
        (B, V), float32; -inf where a token must not be chosen.
    """
    bans = [row.banned() for row in rows]
    plain = not any(
        ban or row.penalised or row.hooks or row.allowed is not None
        for row, ban in zip(rows, bans, strict=True)
    )
    if plain:
        return logits
    scores = logits if in_place else logits.clone()
    _penalise(scores, rows)
    size = scores.shape[1]
    where: list[int] = []
    tokens: list[int] = []
    for i, (row, ban) in enumerate(zip(rows, bans, strict=True)):
        for hook in row.hooks:
            scores[i] = hook(row.ids, row.prompt_length, scores[i])
        ban = tuple(token for token in ban if token < size)
        if row.allowed is not None:
            left = row.allowed.copy()
            left[list(ban)] = False
            allowed = torch.from_numpy(left if left.any() else row.allowed)
            scores[i].masked_fill_(~allowed.to(scores.device), -torch.inf)
        else:
            where += [i] * len(ban)
            tokens += ban
    if tokens:
        scores[torch.tensor(where), torch.tensor(tokens)] = -torch.inf
    return scores


def _penalise(scores: Tensor, rows: Sequence[Row]) -> None:
    """Penalties on what was said, in place.

    Repetition (Keskar et al. 2019): divides what is positive and multiplies what is negative,
    for all tokens in the text. Presence and frequency, as OpenAI defines them: taken off once,
    and once for each time, for tokens in the new text.
    """
    changed = [i for i, row in enumerate(rows) if row.penalised]
    if not changed:
        return
    said = [rows[i].said() for i in changed]
    lengths = [len(tokens) for tokens, _ in said]
    settings = [rows[i].sampling for i in changed]

    def each(values: Sequence[float]) -> NDArray[np.float32]:
        return np.repeat(np.array(values, np.float32), lengths)

    counts = np.concatenate([counts for _, counts in said])
    where = (
        torch.from_numpy(np.repeat(changed, lengths)),
        torch.from_numpy(np.concatenate([tokens for tokens, _ in said])),
    )
    values = scores[where].cpu().numpy()
    repetition = each([s.repetition_penalty for s in settings])
    values = np.where(values < 0, values * repetition, values / repetition)
    values -= each([s.presence_penalty for s in settings]) * (counts > 0)
    values -= each([s.frequency_penalty for s in settings]) * counts
    scores[where] = torch.from_numpy(values).to(scores.device)


_BLOCKS = 32


def leaders(scores: Tensor, count: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The highest scores of each row and their tokens; of equal ones the smaller token first.

    The row is cut into many small sets; its leaders lie in the sets that have the highest
    maxima. That is several times faster than a search through the row. Which of the tokens that
    tie for the last place are among them is not said.

    Args:
        scores: (B, V), float32.
        count: K, at most V.

    Returns:
        Scores, falling, and token ids, (B, K) each.
    """
    size = scores.shape[1]
    sets = size // _BLOCKS
    if sets < 2 * count:
        top = scores.topk(count)
        values, ids = top.values, top.indices  # (B, K)
    else:
        head = scores[:, : sets * _BLOCKS].view(-1, _BLOCKS, sets)
        best = head.amax(1).topk(count).indices  # (B, K)
        inside = head.gather(2, best[:, None].expand(-1, _BLOCKS, -1)).flatten(1)
        starts = torch.arange(0, sets * _BLOCKS, sets, device=scores.device)[:, None]
        names = (best[:, None] + starts).flatten(1)  # (B, 32 K)
        rest = torch.arange(sets * _BLOCKS, size, device=scores.device)
        names = torch.cat([names, rest.expand(len(scores), -1)], 1)
        top = torch.cat([inside, scores[:, sets * _BLOCKS :]], 1).topk(count)
        values, ids = top.values, names.gather(1, top.indices)  # (B, K)
    found, tokens = values.cpu().numpy(), ids.cpu().numpy()
    order = np.lexsort((tokens, -found), axis=1)
    return np.take_along_axis(found, order, 1), np.take_along_axis(tokens, order, 1)
