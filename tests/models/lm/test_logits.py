"""Penalties and bans, against the logits processors of transformers; leaders, against topk."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import (
    LogitsProcessorList,
    MinNewTokensLengthLogitsProcessor,
    NoRepeatNGramLogitsProcessor,
    RepetitionPenaltyLogitsProcessor,
)

from vermilion.models.lm.logits import Row, leaders, process
from vermilion.models.lm.sample import Sampling

ENDS = (0, 7)


def logits_of(rows: int, size: int = 20, seed: int = 0) -> Tensor:
    return torch.randn(rows, size, generator=torch.Generator().manual_seed(seed)) * 3


def row_of(prompt: Sequence[int], new: Sequence[int], **sampling: Any) -> Row:
    row = Row(Sampling(**sampling), prompt, ends=ENDS)
    for token in new:
        row.append(token)
    return row


def expected(row: Row, logits: Tensor) -> Tensor:
    s = row.sampling
    processors = LogitsProcessorList()
    if s.repetition_penalty != 1:
        processors.append(RepetitionPenaltyLogitsProcessor(s.repetition_penalty))
    if s.no_repeat_ngram_size:
        processors.append(NoRepeatNGramLogitsProcessor(s.no_repeat_ngram_size))
    if s.min_new_tokens:
        processors.append(
            MinNewTokensLengthLogitsProcessor(row.prompt_length, s.min_new_tokens, list(ENDS))
        )
    scores: Tensor = processors(torch.tensor([row.ids]), logits[None])[0]
    return scores


SETTINGS: list[dict[str, Any]] = [
    {},
    {"repetition_penalty": 1.7},
    {"repetition_penalty": 0.6},
    {"no_repeat_ngram_size": 1},
    {"no_repeat_ngram_size": 2},
    {"no_repeat_ngram_size": 3},
    {"no_repeat_ngram_size": 9},
    {"min_new_tokens": 6},
    {"repetition_penalty": 1.2, "no_repeat_ngram_size": 2, "min_new_tokens": 3},
]


def test_processors_of_transformers_for_a_mixed_batch() -> None:
    draw, changed = random.Random(0), 0
    rows = [
        row_of(draw.choices(range(6), k=draw.randint(1, 9)), draw.choices(range(6), k=n), **s)
        for s in SETTINGS
        for n in (0, 1, 2, 5, 6, 30)
    ]
    logits = logits_of(len(rows))
    before = logits.clone()
    scores = process(logits, rows)
    for row, own, found in zip(rows, logits, scores, strict=True):
        torch.testing.assert_close(found, expected(row, own), rtol=0, atol=0)
        changed += not torch.equal(found, own)
    assert changed > 25
    assert torch.equal(logits, before)
    assert process(logits, rows, in_place=True) is logits
    assert torch.equal(logits, scores)


def test_presence_and_frequency_count_the_new_text_only() -> None:
    """OpenAI: mu[j] - count[j] * frequency_penalty - (count[j] > 0) * presence_penalty."""
    row = row_of([1, 1, 2], [2, 3, 3, 3], presence_penalty=0.5, frequency_penalty=-0.25)
    logits = logits_of(1)
    counts = torch.zeros(20)
    counts[2], counts[3] = 1, 3
    torch.testing.assert_close(
        process(logits, [row])[0], logits[0] + counts * 0.25 - (counts > 0) * 0.5
    )


def test_a_fork_goes_its_own_way() -> None:
    row = row_of([1, 2], [3, 1], repetition_penalty=1.5, no_repeat_ngram_size=2, presence_penalty=1)
    other = row.fork()
    for token in range(9, 19):
        other.append(token)
    row.append(2)
    logits = logits_of(1)
    for one, new in ((row, [3, 1, 2]), (other, [3, 1, *range(9, 19)])):
        fresh = row_of(
            [1, 2], new, repetition_penalty=1.5, no_repeat_ngram_size=2, presence_penalty=1
        )
        assert one.ids == fresh.ids
        assert torch.equal(process(logits, [one]), process(logits, [fresh]))


def test_hooks_come_after_penalties_and_before_bans() -> None:
    seen: list[Tensor] = []

    def hook(ids: Sequence[int], prompt_length: int, logits: Tensor) -> Tensor:
        assert (list(ids), prompt_length) == ([4, 5, 4], 2)
        seen.append(logits.clone())
        return torch.full_like(logits, 9.0)

    sampling = Sampling(no_repeat_ngram_size=2, repetition_penalty=2.0)
    row = Row(sampling, [4, 5], hooks=[hook])
    row.append(4)
    other = row_of([1], [])
    logits = logits_of(2)
    scores = process(logits, [row, other])
    assert torch.equal(seen[0], expected(row_of([4, 5], [4], repetition_penalty=2.0), logits[0]))
    assert scores[0, 5] == -torch.inf
    assert (scores[0] == 9).sum() == 19
    assert torch.equal(scores[1], logits[1])


def test_a_ban_gives_way_to_a_grammar_that_leaves_nothing_else() -> None:
    row = row_of([3, 5, 3], [], no_repeat_ngram_size=2)
    row.allowed = np.zeros(20, np.bool_)
    row.allowed[[5, 8]] = True
    logits = logits_of(1)
    assert torch.isfinite(process(logits, [row])[0]).nonzero().flatten().tolist() == [8]
    row.allowed[8] = False
    assert torch.isfinite(process(logits, [row])[0]).nonzero().flatten().tolist() == [5]


@pytest.mark.parametrize("size", [1, 7, 100, 5000, 49152, 50257])
@pytest.mark.parametrize("count", [1, 2, 66])
def test_leaders_are_those_of_topk(size: int, count: int) -> None:
    count = min(size, count)
    scores = logits_of(5, size, seed=size)
    values, ids = leaders(scores, count)
    best = scores.topk(count)
    np.testing.assert_array_equal(values, best.values.numpy())
    np.testing.assert_array_equal(ids, best.indices.numpy())
    scores[:, -1] = 100.0  # in the part that fills no whole set
    assert leaders(scores, count)[1][:, 0].tolist() == [size - 1] * 5


def test_of_equal_leaders_the_smaller_token_is_first() -> None:
    scores = torch.zeros(2, 6000)
    scores[:, [5000, 17, 300]] = 1.0
    scores[1, 4] = 2.0
    values, ids = leaders(scores, 3)
    assert ids[0].tolist() == [17, 300, 5000]
    assert ids[1, 0] == 4
    assert values[1].tolist() == [2, 1, 1]
