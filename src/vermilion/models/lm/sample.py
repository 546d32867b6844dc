"""Choosing the next token. B texts in the batch, V vocabulary, K tokens that are considered.

One seed gives one text, whatever else is in the batch. Two things make it so. The noise of a
choice is a hash of (seed, step, token), not a draw from a generator whose state depends on
what was drawn before. And where a network's logits differ in their last digits with the shape
of the batch, a choice also tells whether such a difference could have changed it; the caller
then decides it again from logits that were computed for that text alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vermilion.errors import InputError, ModelError
from vermilion.models.lm.logits import Row, leaders, process
from vermilion.models.lm.noise import Spare, contenders, gumbel

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Ids = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How the next token is chosen; names and meanings are those of transformers.

    Attributes:
        temperature: >= 0; 0 takes the likeliest token.
        top_k: keep the k likeliest tokens; 0 keeps all.
        top_p: in (0, 1], keep the likeliest tokens that together reach this probability
            (Holtzman et al. 2020).
        min_p: in [0, 1], keep tokens with at least this share of the likeliest one's
            probability.
        repetition_penalty: > 0; logits of tokens already in the text, its prompt included, are
            divided by it when positive and multiplied when negative (Keskar et al. 2019).
        presence_penalty: taken off the logits of tokens that the new text has; OpenAI's.
        frequency_penalty: taken off for each time that the new text has them; OpenAI's.
        no_repeat_ngram_size: no run of that many tokens comes twice, the prompt's included;
            0: any may.
        min_new_tokens: the text does not end by itself before; a stop string still ends it.
        logprobs: how many of the likeliest tokens to tell with each choice, with their
            log-probabilities; None or 0: none.
        seed: 0 <= seed < 2**63.

    Raises:
        InputError: a value out of its range.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    no_repeat_ngram_size: int = 0
    min_new_tokens: int = 0
    logprobs: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        bounds = {
            "temperature": (0 <= self.temperature < np.inf, "at least 0"),
            "top_k": (self.top_k >= 0, "at least 0"),
            "top_p": (0 < self.top_p <= 1, "above 0 and at most 1"),
            "min_p": (0 <= self.min_p <= 1, "between 0 and 1"),
            "repetition_penalty": (0 < self.repetition_penalty < np.inf, "above 0"),
            "presence_penalty": (abs(self.presence_penalty) < np.inf, "a finite number"),
            "frequency_penalty": (abs(self.frequency_penalty) < np.inf, "a finite number"),
            "no_repeat_ngram_size": (self.no_repeat_ngram_size >= 0, "at least 0"),
            "min_new_tokens": (self.min_new_tokens >= 0, "at least 0"),
            "logprobs": (0 <= (self.logprobs or 0) <= 100, "between 0 and 100"),
            "seed": (0 <= self.seed < 2**63, "between 0 and 2**63 - 1"),
        }
        for name, (good, rule) in bounds.items():
            if not good:
                raise InputError(f"{name}: must be {rule} (found {getattr(self, name)!r})")

    @property
    def cut(self) -> bool:
        """Whether some tokens are too unlikely to be drawn."""
        return self.temperature > 0 and (self.top_k > 0 or self.top_p < 1 or self.min_p > 0)


@dataclass(frozen=True, slots=True)
class Choice:
    """A chosen token.

    Attributes:
        token: its id.
        logprob: its log-probability under the model itself, before anything was applied.
        certain: whether differences below the row's tolerance could not have changed it.
        top: `Sampling.logprobs` tokens that the model finds likeliest, and their
            log-probabilities, falling.
    """

    token: int
    logprob: float
    certain: bool
    top: tuple[tuple[int, float], ...] = ()


def choose(logits: Tensor, rows: Sequence[Row]) -> list[Choice]:
    """Choose the next token of each text; the texts do not influence one another.

    Args:
        logits: (B, V), float32; left as they are.
        rows: the B texts. The tokens are not appended to them.

    Raises:
        InputError: a grammar or a ban leaves no token.
        ModelError: the logits are not numbers.
    """
    with torch.inference_mode():
        tokens, certain = _decide(process(logits, rows), rows)
        # Not logsumexp, whose last digits depend on how many rows there are.
        own = torch.log_softmax(logits, 1)  # (B, V)
        chosen = torch.from_numpy(tokens).to(logits.device)[:, None]
        logprobs = own.gather(1, chosen)[:, 0].tolist()
        tops = _likeliest(own, rows)
    return [
        Choice(int(token), logprob, bool(sure), tops.get(i, ()))
        for i, (token, logprob, sure) in enumerate(zip(tokens, logprobs, certain, strict=True))
    ]


def _likeliest(own: Tensor, rows: Sequence[Row]) -> dict[int, tuple[tuple[int, float], ...]]:
    """By number of the row: its likeliest tokens, where they are asked for."""
    counts = {i: row.sampling.logprobs for i, row in enumerate(rows) if row.sampling.logprobs}
    if not counts:
        return {}
    most = min(own.shape[1], max(counts.values()))
    values, ids = leaders(own[list(counts)], most)  # (N, K) each
    return {
        i: tuple(zip(ids[n, :count].tolist(), values[n, :count].tolist(), strict=True))
        for n, (i, count) in enumerate(counts.items())
    }


# Rows are decided on their likeliest tokens alone where top_k is not above this.
_FEW = 256
_SPARE = 16  # tokens above top_k, for those that tie with the last, or nearly so


def _decide(scores: Tensor, rows: Sequence[Row]) -> tuple[Ids, NDArray[np.bool_]]:
    """The chosen tokens, (B,), and whether they are certain, (B,)."""
    size = scores.shape[1]
    wanted = np.array([_wanted(row.sampling, size) for row in rows])
    count = min(size, _SPARE + int(wanted.max(where=wanted <= _FEW, initial=2)))
    values, ids = leaders(scores, count)  # (B, K) each
    _check(values, rows)
    tokens, certain = _draw(values, ids, rows=rows)
    if count == size:
        return tokens, certain
    # Rows of which tokens further down may count as well.
    last = values[np.arange(len(rows)), np.minimum(wanted, count) - 1]
    slack = np.array([_slack(row) for row in rows])
    deep = (values[:, -1] > -np.inf) & ((wanted > _FEW) | (values[:, -1] >= last - slack))
    scores, spare = scores.cpu(), Spare(size)
    found = {
        i: _eligible(scores[i], rows[i], int(wanted[i]), int(tokens[i]), spare)
        for i in np.flatnonzero(deep).tolist()
    }
    # Rows of about as many tokens are drawn from together.
    widths = {i: len(kept).bit_length() for i, (kept, _, _) in found.items()}
    for _, members in groupby(sorted(found, key=widths.__getitem__), widths.__getitem__):
        group = list(members)
        lists = _side_by_side([found[i] for i in group])
        tokens[group], certain[group] = _draw(*lists, rows=[rows[i] for i in group])
    return tokens, certain


def _check(values: Floats, rows: Sequence[Row]) -> None:
    """See that there is a best score in each row of the leaders, (B, K)."""
    best = values[:, 0]
    if np.isnan(values).any() or np.isposinf(best).any():  # sorted, NaN is last
        raise ModelError("the model's logits are not finite; its weights are broken")
    for row in np.array(rows)[np.isneginf(best)]:
        if row.allowed is not None:
            raise InputError("the grammar leaves no token to go on with; simplify the schema")
        raise InputError("no_repeat_ngram_size: it leaves no token to go on with; make it larger")


def _wanted(sampling: Sampling, size: int) -> int:
    """How many of the likeliest tokens decide."""
    if sampling.temperature == 0:
        return min(2, size)
    return min(sampling.top_k, size) if sampling.top_k > 0 else size


def _slack(row: Row) -> float:
    """How far gaps between scores may be off."""
    penalty = row.sampling.repetition_penalty
    return row.tolerance * max(penalty, 1 / penalty)


def _eligible(
    scores: Tensor, row: Row, wanted: int, drawn: int, spare: Spare
) -> tuple[Floats, Ids, float]:
    """Those tokens of one row among which the choice is the same as among all.

    Args:
        scores: (V,), on the CPU.
        row: the text.
        wanted: how many of the likeliest tokens decide.
        drawn: any token, best one that has a good chance.
        spare: room to work in.

    Returns:
        Scores, falling, and ids, of equal scores the smaller first, (K,) each; and the mass of
        all other tokens that top_k keeps, that of the likeliest token being 1.
    """
    sampling, values = row.sampling, scores.numpy()
    scale = sampling.temperature or 1.0
    slack = _slack(row) / scale
    scaled = spare.scores.copy_(scores).div_(scale)  # (V,)
    top = float(scaled.max())
    slack += 1e-9 * (1 + slack + abs(top))  # what is lost by rounding
    if sampling.temperature > 0 and not sampling.cut:
        noise = gumbel(sampling.seed, row.step, np.array([drawn]))
        best = float(scaled[drawn]) + float(noise[0])
        ids = contenders(sampling.seed, row.step, best - slack, spare)
        return (*_sorted(values, ids), 0.0)
    gaps = scaled.sub_(top)  # (V,), at most 0
    least = np.log(sampling.min_p) if sampling.min_p > 0 and sampling.temperature > 0 else -np.inf
    if wanted < len(values):
        last = -np.partition(-values, wanted - 1)[wanted - 1]
        least = max(least, float(last) / scale - top)
    elif sampling.top_p < 1:
        return _nucleus(values, spare, sampling.top_p, least, slack)
    ids = np.flatnonzero(gaps.numpy() >= max(least - slack, np.finfo(np.float64).min))
    return (*_sorted(values, ids), 0.0)


def _nucleus(
    values: Floats, spare: Spare, top_p: float, least: float, slack: float
) -> tuple[Floats, Ids, float]:
    """The tokens that top_p keeps, or might were scores off by the slack; see `_eligible`.

    Args:
        values: scores, (V,).
        spare: with their distances from the highest, by temperature, (V,), at most 0.
        top_p: below 1.
        least: tokens with smaller gaps cannot be chosen.
        slack: how far gaps may be off.
    """
    distance = spare.scores.numpy()
    shares = torch.exp(spare.scores, out=spare.shares).numpy()  # (V,)
    total = float(shares.sum())  # by numpy, of this row alone: the same in any batch
    reached = top_p * np.exp(min(slack, 700)) * total
    # Below this, even V tokens have less than what top_p leaves out.
    left = (total - reached) / len(values)
    bound = np.log(left) if left > 0 else np.finfo(np.float64).min
    found, ids = _sorted(values, np.flatnonzero(distance >= max(bound, least) - slack))
    mass = shares[ids].cumsum()
    last = min(int(np.searchsorted(mass, reached)), len(ids) - 1)
    kept = int((distance[ids] >= distance[ids[last]] - slack).sum())
    return found[:kept], ids[:kept], total - float(mass[kept - 1])


def _sorted(values: Floats, ids: Ids) -> tuple[Floats, Ids]:
    """The scores of some tokens, falling, and those tokens; of equal ones the smaller first.

    Sorted as one whole number each, which numpy does ten times faster than by two keys.
    """
    bits = (values[ids] + np.float32(0)).view(np.int32)  # a zero has no sign then
    rising = bits ^ ((bits >> 31) & 0x7FFFFFFF)  # in the order of the numbers
    keys = (~rising.astype(np.int64) << 32) | ids
    keys.sort()
    ids = keys & 0xFFFFFFFF
    return values[ids], ids


def _side_by_side(
    found: Sequence[tuple[Floats, Ids, float]],
) -> tuple[Floats, Ids, Doubles]:
    """Scores and ids of rows, (B, K), filled up with what cannot be chosen; and `rest`, (B, 1)."""
    most = max(len(ids) for _, ids, _ in found)
    values = np.full((len(found), most), -np.inf, np.float32)
    tokens = np.zeros((len(found), most), np.int64)
    for i, (row, ids, _) in enumerate(found):
        values[i, : len(ids)], tokens[i, : len(ids)] = row, ids
    return values, tokens, np.array([[rest] for _, _, rest in found])


def _draw(
    values: Floats, ids: Ids, rest: Doubles | None = None, *, rows: Sequence[Row]
) -> tuple[Ids, NDArray[np.bool_]]:
    """The Gumbel-max trick (Gumbel 1954; Maddison et al. 2014): argmax of score plus noise.

    Args:
        values: scores, (B, K), falling, -inf for what cannot be chosen.
        ids: their tokens; of equal scores the smaller first.
        rest: mass of all other tokens that top_k keeps, that of the likeliest being 1, (B, 1);
            None: there are no others.
        rows: the B texts.

    Returns:
        The tokens, (B,), and whether they are certain, (B,).
    """
    samplings = [row.sampling for row in rows]
    greedy = np.array([[s.temperature == 0] for s in samplings])  # (B, 1)
    scale = np.array([[s.temperature or 1.0] for s in samplings])  # (B, 1)
    slack = np.array([[_slack(row)] for row in rows]) / scale  # (B, 1)
    scaled = values.astype(np.float64) / scale
    seeds = np.array([[s.seed] for s in samplings])
    steps = np.array([[row.step] for row in rows])
    loose = exact = strict = np.full(greedy.shape, -np.inf)
    if any(s.cut for s in samplings):
        mass = np.exp(scaled - scaled[:, :1]).cumsum(1)
        sides = (1, 0, -1) if slack.any() else (0, 0, 0)
        others = np.zeros_like(slack) if rest is None else rest
        cuts = {side: _cutoff(scaled, mass, others, samplings, slack, side) for side in {*sides}}
        loose, exact, strict = (np.where(greedy, -np.inf, cuts[side]) for side in sides)
        most = int((scaled >= loose).sum(1).max())  # falling: the others cannot be chosen
        scaled, ids = scaled[:, :most], ids[:, :most]
    noisy = np.where(greedy, scaled, scaled + gumbel(seeds, steps, ids))  # (B, K)
    noisy = np.where(scaled >= loose, noisy, -np.inf)
    chosen = np.where(scaled >= exact, noisy, -np.inf).argmax(1)  # (B,)
    rival, each = noisy.argmax(1), np.arange(len(rows))
    best = noisy[each, rival]
    sure = (chosen == rival) & (scaled[each, rival] >= strict[:, 0])
    noisy[each, rival] = -np.inf
    margin = best - noisy.max(1)
    return ids[each, chosen], (slack[:, 0] == 0) | (sure & (margin > slack[:, 0]))


def _cutoff(
    falling: Doubles,
    mass: Doubles,
    rest: Doubles,
    samplings: Sequence[Sampling],
    slack: Doubles,
    side: int,
) -> Doubles:
    """The scores from which on top_k, top_p and min_p, in that order, keep a token, (B, 1).

    Args:
        falling: scores by temperature, (B, K), the highest first.
        mass: of each token and the likelier ones together, (B, K); in any unit.
        rest: mass of what top_k keeps and is not among them, (B, 1).
        samplings: the limits of the B rows.
        slack: how far the gaps between the scores may be off, (B, 1).
        side: 0 gives the cutoff of these very scores; with 1 they might keep any token from
            there on, were they off by the slack; with -1 they would keep all of them even so.
    """
    size, off = falling.shape[1], side * slack

    def after(count: NDArray[np.intp]) -> Doubles:
        """The cutoff that keeps the first `count` tokens, (B, 1)."""
        if side >= 0:
            return np.take_along_axis(falling, count - 1, 1) - off
        below = np.take_along_axis(falling, np.minimum(count, size - 1), 1) - off
        return np.where(count < size, below, -np.inf)

    top_k = np.array([[s.top_k] for s in samplings])
    top_p = np.array([[s.top_p] for s in samplings])
    min_p = np.array([[s.min_p] for s in samplings])
    possible = (falling > -np.inf).sum(1, keepdims=True)
    limited = (top_k > 0) & (top_k < possible)
    cutoff = np.where(limited, after(np.where(limited, top_k, 1)), -np.inf)
    kept = np.maximum(1, (falling >= cutoff).sum(1, keepdims=True))
    total = np.take_along_axis(mass, kept - 1, 1) + rest  # of what top_k keeps
    # A token stays while the likelier ones do not reach top_p without it.
    count = 1 + (mass[:, :-1] < top_p * np.exp(np.minimum(off, 700)) * total).sum(1, keepdims=True)
    cutoff = np.where(top_p < 1, np.maximum(cutoff, after(count)), cutoff)
    with np.errstate(divide="ignore"):
        least = falling[:, :1] + np.log(min_p) - off  # -inf for min_p 0
    first = after(np.ones_like(count))  # the likeliest always stays
    return np.where(min_p > 0, np.maximum(cutoff, np.minimum(first, least)), cutoff)
