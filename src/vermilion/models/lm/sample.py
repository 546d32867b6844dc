"""Choosing the next token. V vocabulary.

One seed gives one text, whatever else is in the batch. Two things make it so. The noise of a
choice is a hash of (seed, step, token), not a draw from a generator whose state depends on
what was drawn before. And since a network's logits differ in their last digits with the
shape of the batch, a choice also tells whether such a difference could have changed it; the
caller then decides it again from logits that were computed for that text alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vermilion.errors import InputError

# How far logits may lie from those of another batch shape. On SmolLM2-135M in float32 the
# largest difference seen is 1e-4; one choice in a few hundred is closer than this.
TOLERANCE = 5e-4

Floats = NDArray[np.float32]


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
        repetition_penalty: > 0; logits of tokens already in the text are divided by it when
            positive and multiplied when negative (Keskar et al. 2019).
        seed: 0 <= seed < 2**63.

    Raises:
        InputError: a value out of its range.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        bounds = {
            "temperature": (self.temperature >= 0, "at least 0"),
            "top_k": (self.top_k >= 0, "at least 0"),
            "top_p": (0 < self.top_p <= 1, "above 0 and at most 1"),
            "min_p": (0 <= self.min_p <= 1, "between 0 and 1"),
            "repetition_penalty": (self.repetition_penalty > 0, "above 0"),
            "seed": (0 <= self.seed < 2**63, "between 0 and 2**63 - 1"),
        }
        for name, (good, rule) in bounds.items():
            if not good:
                raise InputError(f"{name}: must be {rule} (found {getattr(self, name)!r})")


@dataclass(frozen=True, slots=True)
class Choice:
    """A chosen token, its log-probability under the model itself, and whether it is certain."""

    token: int
    logprob: float
    certain: bool


def choose(
    logits: Floats,
    sampling: Sampling,
    *,
    step: int,
    seen: NDArray[np.int64] | None = None,
    allowed: NDArray[np.bool_] | None = None,
) -> Choice:
    """Choose the next token of one text.

    Args:
        logits: (V,), float32.
        sampling: how to choose.
        step: number of tokens chosen before, part of the noise's key.
        seen: ids of the tokens in the text so far, for the repetition penalty.
        allowed: True where a grammar lets a token stand, (V,); None allows all.

    Raises:
        InputError: no token is allowed.
    """
    scores = logits
    if seen is not None and sampling.repetition_penalty != 1:
        scores = logits.copy()
        values, penalty = scores[seen], np.float32(sampling.repetition_penalty)
        scores[seen] = np.where(values < 0, values * penalty, values / penalty)
    if allowed is not None:
        if not allowed.any():
            raise InputError("the grammar leaves no token to go on with; simplify the schema")
        scores = np.where(allowed, scores, -np.inf).astype(np.float32)
    ids = _leaders(scores, sampling)
    if sampling.temperature == 0:
        token, margin = _best(ids, scores[ids])
        certain = margin > TOLERANCE
    else:
        token, certain = _draw(ids, scores, sampling, step)
    return Choice(token, float(logits[token] - _logsumexp(logits)), certain)


def _leaders(scores: Floats, sampling: Sampling) -> NDArray[np.int64]:
    """Ids that can be chosen at all, a superset: the top k, with those that tie or nearly so."""
    wanted = sampling.top_k if sampling.temperature > 0 else 2
    if wanted == 0 or wanted >= len(scores):
        return np.flatnonzero(scores > -np.inf)
    least = np.partition(scores, -wanted)[-wanted]
    return np.flatnonzero((scores >= least - TOLERANCE) & (scores > -np.inf))


def _draw(
    ids: NDArray[np.int64], scores: Floats, sampling: Sampling, step: int
) -> tuple[int, bool]:
    """The Gumbel-max trick (Gumbel 1954; Maddison et al. 2014): argmax of score plus noise."""
    scaled = scores[ids].astype(np.float64) / sampling.temperature
    noisy = scaled + gumbel(sampling.seed, step, ids)
    slack = TOLERANCE / sampling.temperature
    token, margin = _best(ids, np.where(_kept(scaled, sampling, slack), noisy, -np.inf))
    narrow, _ = _best(ids, np.where(_kept(scaled, sampling, -slack), noisy, -np.inf))
    if token == narrow:
        return token, margin > slack
    return _best(ids, np.where(_kept(scaled, sampling, 0.0), noisy, -np.inf))[0], False


def _kept(scaled: NDArray[np.float64], sampling: Sampling, slack: float) -> NDArray[np.bool_]:
    """Which tokens top_k, top_p and min_p keep, in that order, were the logits off by slack."""
    order = np.argsort(-scaled, kind="stable")
    kept = np.ones(len(scaled), dtype=bool)
    if 0 < sampling.top_k < len(scaled):
        kept = scaled >= scaled[order[sampling.top_k - 1]] - slack
    weights = np.where(kept, np.exp(scaled - scaled[order[0]]), 0.0)
    probabilities = weights / weights.sum()
    if sampling.top_p < 1:
        before = np.empty_like(probabilities)
        before[order] = np.cumsum(probabilities[order]) - probabilities[order]
        kept &= before < sampling.top_p + slack
    if sampling.min_p > 0:
        kept &= probabilities >= sampling.min_p * probabilities[order[0]] * (1 - slack)
    kept[order[0]] = True
    return kept


def _best(ids: NDArray[np.int64], values: NDArray[np.floating]) -> tuple[int, float]:
    """The id with the highest value, and how far the second lies below it."""
    winner = int(values.argmax())
    rest = np.delete(values, winner)
    margin = float(values[winner] - rest.max()) if len(rest) else np.inf
    return int(ids[winner]), margin


def _logsumexp(logits: Floats) -> float:
    top = logits.max()
    return float(top + np.log(np.exp(logits - top).sum()))


def gumbel(seed: int, step: int, ids: NDArray[np.int64]) -> NDArray[np.float64]:
    """Standard Gumbel noise that depends on its arguments only.

    The uniform numbers beneath it are SplitMix64 hashes (Steele et al. 2014) of the seed,
    the step and each id.

    Args:
        seed: of the text.
        step: number of the choice within the text.
        ids: tokens to draw for, (N,).

    Returns:
        (N,), float64.
    """
    key = _mix(_mix(np.array([seed], np.uint64)) + np.uint64(step))
    bits = _mix(key ^ _mix(ids.astype(np.uint64)))
    uniform = ((bits >> np.uint64(11)).astype(np.float64) + 0.5) / 2.0**53
    noise: NDArray[np.float64] = -np.log(-np.log(uniform))
    return noise


def _mix(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
