"""Beam search: of many texts at once the likeliest are followed, step by step.

N prompts, R beams of all prompts that are followed, V vocabulary, K candidates of a beam.

It is the search of transformers: `num_beams` texts are followed; a text that ends is set aside
with its score, the sum of its log-probabilities divided by its length to the power of
`length_penalty`; the best `num_beams` of those are kept, and the search ends when following
the others is not worth while, see `early_stopping`. Of equal scores the earlier beam comes
first, and within a beam the smaller token; of ended texts, that which ended earlier.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vermilion.errors import InputError, ModelError
from vermilion.models.lm.decoder import Decoder, Memory
from vermilion.models.lm.logits import Row, leaders, process

Floats = NDArray[np.float32]
Ids = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class BeamSearch:
    """How beams are followed; names and meanings are those of transformers.

    Attributes:
        num_beams: how many texts are followed, at least 1.
        length_penalty: a score is divided by length ** length_penalty; above 0 favours long
            texts, below 0 short ones.
        early_stopping: True ends the search when `num_beams` texts have ended; False, when
            none that is followed would be better at its present length; "never", when none
            can become better.
        num_return_sequences: how many texts are returned, 1 to num_beams.

    Raises:
        InputError: a value out of its range.
    """

    num_beams: int
    length_penalty: float = 1.0
    early_stopping: bool | Literal["never"] = False
    num_return_sequences: int = 1

    def __post_init__(self) -> None:
        count = self.num_return_sequences
        bounds = {
            "num_beams": (self.num_beams >= 1, "at least 1"),
            "length_penalty": (abs(self.length_penalty) <= 10, "between -10 and 10"),
            "early_stopping": (
                self.early_stopping in (True, False, "never"),
                'true, false or "never"',
            ),
            "num_return_sequences": (1 <= count <= self.num_beams, "between 1 and num_beams"),
        }
        for name, (good, rule) in bounds.items():
            if not good:
                raise InputError(f"{name}: must be {rule} (found {getattr(self, name)!r})")


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """A text that beam search found.

    Attributes:
        ids: of its new tokens, with the one that ended it.
        logprobs: of each, under the model itself.
        score: what it was chosen by; includes penalties.
    """

    ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    score: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A prompt to search from.

    Attributes:
        row: the prompt, its penalties and bans, what ends it.
        beams: how to search.
        max_new_tokens: at least 1.
        stopped: told the new tokens so far, whether the text ends with them; None: only by
            the row's `ends`.
    """

    row: Row
    beams: BeamSearch
    max_new_tokens: int
    stopped: Callable[[Sequence[int]], bool] | None = None


def search(decoder: Decoder, tasks: Sequence[Task]) -> Iterator[tuple[int, list[Hypothesis]]]:
    """Yield (number of the task, its texts, the best first) as searches end.

    Closing the iterator stops the work.

    Raises:
        InputError: a ban leaves no token; or it asks for chance, which beams do not take.
        ModelError: the logits are not numbers.
    """
    for task in tasks:
        if task.row.sampling.temperature > 0:
            raise InputError(
                "temperature: beam search takes no chances; set it to 0 or num_beams to 1"
            )
    live = [_Search(number, task) for number, task in enumerate(tasks)]
    beams = _Beams(decoder)
    try:
        yield from _follow(beams, live, beams.prefill([task.row.ids for task in tasks]))
    finally:
        beams.free()


def _follow(
    beams: _Beams, live: list[_Search], logits: Tensor
) -> Iterator[tuple[int, list[Hypothesis]]]:
    """Take steps until all searches have ended; logits of their prompts are (N, V)."""
    while True:
        parents, tokens, first = [], [], 0
        for one, own, values, ids in _candidates(logits, live):
            ways = one.advance(own, values, ids)
            parents += [first + beam for beam, _ in ways]
            tokens += [token for _, token in ways]
            first += len(values)
        yield from ((one.number, one.best()) for one in live if one.done)
        live = [one for one in live if not one.done]
        if not live:
            return
        logits = beams.step(parents, tokens)  # (R, V)


def _candidates(
    logits: Tensor, live: Sequence[_Search]
) -> Iterator[tuple[_Search, Tensor, Floats, Ids]]:
    """For each search: its rows' log-probabilities, (n, V), and their candidates, (n, K)."""
    with torch.inference_mode():
        own = torch.log_softmax(logits, 1)  # (R, V)
        rows = [row for one in live for row in one.rows]
        count = min(own.shape[1], max(one.keep for one in live))
        values, ids = leaders(process(own, rows), count)  # (R, K)
    if not (values[:, 0] < np.inf).all():
        raise ModelError("the model's logits are not finite; its weights are broken")
    first = 0
    for one in live:
        part = slice(first, first + len(one.rows))
        first = part.stop
        yield one, own[part], values[part], ids[part]


class _Search:
    """The beams of one prompt.

    Attributes:
        rows: the texts that are followed, the best first.
        done: whether the search has ended.
    """

    def __init__(self, number: int, task: Task) -> None:
        self.number, self.task, self.done = number, task, False
        self.rows = [task.row]
        # So many that num_beams go on, even if each beam's likeliest tokens all end it.
        self.keep = max(2, 1 + len(task.row.ends)) * task.beams.num_beams
        self._scores = np.zeros(1, np.float32)
        self._logprobs: list[tuple[float, ...]] = [()]
        self._ended: list[Hypothesis] = []

    def best(self) -> list[Hypothesis]:
        return self._ended[: self.task.beams.num_return_sequences]

    def advance(self, own: Tensor, values: Floats, ids: Ids) -> list[tuple[int, int]]:
        """Take a step: (beam, token) of what is followed further, nothing if the search ends.

        Args:
            own: log-probabilities under the model itself, (n, V).
            values: of the candidates, after penalties and bans, (n, K).
            ids: their tokens, (n, K).
        """
        length = self.rows[0].step + 1
        totals = values + self._scores[:, None]  # (n, K)
        beams = np.repeat(np.arange(len(values)), values.shape[1])
        order = np.lexsort((ids.ravel(), beams, -totals.ravel()))[: self.keep]
        order = order[totals.ravel()[order] > -np.inf]
        if len(order) == 0:
            raise InputError(
                "no_repeat_ngram_size: it leaves no token to go on with; make it larger"
            )
        totals, beams, ids = totals.ravel()[order], beams[order], ids.ravel()[order]
        chosen = (torch.from_numpy(beams).to(own.device), torch.from_numpy(ids).to(own.device))
        logprobs = own[chosen].tolist()
        size = self.task.beams.num_beams
        ended, going = self._ended, list[int]()
        for rank, (beam, token) in enumerate(zip(beams.tolist(), ids.tolist(), strict=True)):
            if self._ends(self.rows[beam], token):
                if rank < size:
                    score = totals[rank] / np.float32(length**self.task.beams.length_penalty)
                    new = (*self.rows[beam].ids[self.task.row.prompt_length :], token)
                    kept = (*self._logprobs[beam], logprobs[rank])
                    ended.append(Hypothesis(new, kept, float(score)))
            elif len(going) < size:
                going.append(rank)
            if rank >= size - 1 and len(going) == size:
                break
        self._ended = sorted(ended, key=lambda text: -text.score)[:size]
        self._scores = totals[going]
        self.done = self._over(length)
        if self.done:
            return []
        self._logprobs = [(*self._logprobs[beams[rank]], logprobs[rank]) for rank in going]
        self.rows = [self.rows[beams[rank]].fork() for rank in going]
        ways = [(int(beams[rank]), int(ids[rank])) for rank in going]
        for row, (_, token) in zip(self.rows, ways, strict=True):
            row.append(token)
        return ways

    def _ends(self, row: Row, token: int) -> bool:
        if token in row.ends or row.step + 1 >= self.task.max_new_tokens:
            return True
        stopped = self.task.stopped
        return stopped is not None and stopped([*row.ids[row.prompt_length :], token])

    def _over(self, length: int) -> bool:
        """Whether nothing that is followed is worth it any longer; `length` new tokens."""
        beams = self.task.beams
        if len(self._scores) == 0:
            return True
        if len(self._ended) < beams.num_beams:
            return False
        if beams.early_stopping is True:
            return True
        if beams.early_stopping == "never" and beams.length_penalty > 0:
            length = self.task.max_new_tokens
        hoped = self._scores[0] / np.float32(length**beams.length_penalty)
        return bool(hoped <= self._ended[-1].score)


class _Beams:
    """The memories of what is followed. Rows are numbered from 0 in each step."""

    def __init__(self, decoder: Decoder) -> None:
        self._decoder = decoder
        self._memories: list[Memory] = []

    def prefill(self, prompts: Sequence[Sequence[int]]) -> Tensor:
        """Read N prompts into rows; logits of what follows each, (N, V), float32."""
        self._memories = [self._decoder.start() for _ in prompts]
        return self._decoder.extend(self._memories, prompts)

    def step(self, parents: Sequence[int], tokens: Sequence[int]) -> Tensor:
        """Go on with R rows in the place of those before.

        Args:
            parents: number of the row before that each goes on; several may go on with one.
            tokens: what each takes.

        Returns:
            Logits of what follows each, (R, V), float32.
        """
        before, taken, chosen = self._memories, set[int](), list[Memory]()
        for parent in range(len(before)):
            if parent not in parents:
                self._decoder.free(before[parent])
        # What is in use stands in the list at any time: a copy may find no memory.
        self._memories = [before[parent] for parent in dict.fromkeys(parents)]
        for parent in parents:  # the first goes on with the memory itself, the others with a copy
            memory = before[parent]
            if parent in taken:
                memory = self._decoder.fork(memory, memory.length)
                self._memories.append(memory)
            taken.add(parent)
            chosen.append(memory)
        self._memories = chosen
        return self._decoder.extend(self._memories, [[token] for token in tokens])

    def free(self) -> None:
        """Forget all."""
        for memory in self._memories:
            self._decoder.free(memory)
        self._memories = []
