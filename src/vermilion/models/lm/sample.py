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

# How far the gap between two logits may lie from that of another batch shape. On SmolLM2-135M in
# float32 the largest change of a gap that was seen is 1.3e-4; one choice in a few hundred is
# closer than the tolerance.
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
    scores, slack = logits, TOLERANCE
    if seen is not None and sampling.repetition_penalty != 1:
        scores = logits.copy()
        slack *= max(sampling.repetition_penalty, 1 / sampling.repetition_penalty)
        values, penalty = scores[seen], np.float32(sampling.repetition_penalty)
        scores[seen] = np.where(values < 0, values * penalty, values / penalty)
    if allowed is not None:
        if not allowed.any():
            raise InputError("the grammar leaves no token to go on with; simplify the schema")
        scores = np.where(allowed, scores, -np.inf).astype(np.float32)
    ids = _leaders(scores, sampling, slack)
    if sampling.temperature == 0:
        token, margin = _best(ids, scores[ids])
        certain = margin > slack
    else:
        token, certain = _draw(ids, scores[ids], sampling, step, slack)
    return Choice(token, float(logits[token] - _logsumexp(logits)), certain)


def _leaders(scores: Floats, sampling: Sampling, slack: float) -> NDArray[np.int64]:
    """Ids that can be chosen at all, a superset: the top k, with those that tie or nearly so."""
    wanted = sampling.top_k if sampling.temperature > 0 else 2
    if wanted == 0 or wanted >= len(scores):
        return np.flatnonzero(scores > -np.inf)
    least = np.partition(scores, -wanted)[-wanted]
    return np.flatnonzero((scores >= least - slack) & (scores > -np.inf))


def _draw(
    ids: NDArray[np.int64], scores: Floats, sampling: Sampling, step: int, slack: float
) -> tuple[int, bool]:
    """The Gumbel-max trick (Gumbel 1954; Maddison et al. 2014): argmax of score plus noise."""
    scaled = scores.astype(np.float64) / sampling.temperature
    slack /= sampling.temperature
    loose = exact = strict = -np.inf
    if sampling.top_k > 0 or sampling.top_p < 1 or sampling.min_p > 0:
        falling = np.sort(scaled)[::-1]
        mass = np.exp(falling - falling[0]).cumsum()
        loose, exact, strict = (_cutoff(falling, mass, sampling, s) for s in (slack, 0.0, -slack))
        candidates = scaled >= loose
        ids, scaled = ids[candidates], scaled[candidates]
    noisy = scaled + gumbel(sampling.seed, step, ids)
    token = int(ids[np.where(scaled >= exact, noisy, -np.inf).argmax()])
    rival, margin = _best(ids, noisy)
    certain = token == rival and margin > slack and scaled[noisy.argmax()] >= strict
    return token, bool(certain)


def _cutoff(
    falling: NDArray[np.float64], mass: NDArray[np.float64], sampling: Sampling, slack: float
) -> float:
    """The score from which on top_k, top_p and min_p, in that order, keep a token.

    With slack > 0 they might keep any token from there on, were the gaps between the scores
    off by that much; with slack < 0 they would keep all of them even so.

    Args:
        falling: all scores, the highest first, float64.
        mass: of each token and the likelier ones together; in any unit.
        sampling: the three limits.
        slack: see above; 0 gives the cutoff of these very scores.
    """

    def after(count: int) -> float:
        """The cutoff that keeps the first `count` tokens."""
        if slack >= 0:
            return float(falling[count - 1]) - slack
        return float(falling[count]) - slack if count < len(falling) else -np.inf

    cutoff = -np.inf
    if 0 < sampling.top_k < len(falling):
        cutoff = after(sampling.top_k)
    if sampling.top_p < 1:
        total = mass[max(1, int((falling >= cutoff).sum())) - 1]  # of what top_k keeps
        # A token stays while the likelier ones do not reach top_p without it.
        count = 1 + int(np.searchsorted(mass[:-1], sampling.top_p * np.exp(slack) * total))
        cutoff = max(cutoff, after(count))
    if sampling.min_p > 0:
        least = float(falling[0]) + float(np.log(sampling.min_p)) - slack
        cutoff = max(cutoff, min(after(1), least))  # the likeliest always stays
    return cutoff


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
    uniform = ((bits >> np.uint64(12)).astype(np.float64) + 0.5) / 2.0**52  # never 0 nor 1
    noise: NDArray[np.float64] = -np.log(-np.log(uniform))
    return noise


def _mix(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
