"""The plain way to choose a token: all of a row is sorted, and all of its noise is drawn.

What `vermilion.models.lm.sample` chooses has to be the same, to the bit.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from vermilion.models.lm.logits import Row, process
from vermilion.models.lm.sample import Sampling

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Ids = NDArray[np.int64]


def plain_choice(logits: Floats, row: Row) -> tuple[int, bool]:
    """The next token after logits, (V,), and whether it is certain."""
    values = process(torch.from_numpy(logits)[None], [row])[0].numpy()
    ids = np.flatnonzero(values > -np.inf)
    ids = ids[np.argsort(-values[ids], kind="stable")]
    tokens, certain = _draw(values[ids][None], ids[None], [row])
    return int(tokens[0]), bool(certain[0])


def _slack(row: Row) -> float:
    penalty = row.sampling.repetition_penalty
    return row.tolerance * max(penalty, 1 / penalty)


def _draw(values: Floats, ids: Ids, rows: Sequence[Row]) -> tuple[Ids, NDArray[np.bool_]]:
    """The Gumbel-max trick (Gumbel 1954; Maddison et al. 2014): argmax of score plus noise.

    Args:
        values: scores, (B, K), falling, -inf for what cannot be chosen.
        ids: their tokens; of equal scores the smaller first.
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
        cuts = {side: _cutoff(scaled, mass, samplings, slack, side) for side in {*sides}}
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
    falling: Doubles, mass: Doubles, samplings: Sequence[Sampling], slack: Doubles, side: int
) -> Doubles:
    """The scores from which on top_k, top_p and min_p, in that order, keep a token, (B, 1).

    Args:
        falling: scores by temperature, (B, K), the highest first.
        mass: of each token and the likelier ones together, (B, K); in any unit.
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
    total = np.take_along_axis(mass, kept - 1, 1)  # of what top_k keeps
    # A token stays while the likelier ones do not reach top_p without it.
    count = 1 + (mass[:, :-1] < top_p * np.exp(off) * total).sum(1, keepdims=True)
    cutoff = np.where(top_p < 1, np.maximum(cutoff, after(count)), cutoff)
    with np.errstate(divide="ignore"):
        least = falling[:, :1] + np.log(min_p) - off  # -inf for min_p 0
    first = after(np.ones_like(count))  # the likeliest always stays
    return np.where(min_p > 0, np.maximum(cutoff, np.minimum(first, least)), cutoff)


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
    key = _mix(_mix(np.atleast_1d(seed).astype(np.uint64)) + np.asarray(step, np.uint64))
    bits = _mix(key ^ _mix(ids.astype(np.uint64)))
    uniform = ((bits >> np.uint64(12)).astype(np.float64) + 0.5) / 2.0**52  # never 0 nor 1
    noise: Doubles = -np.log(-np.log(uniform))
    return noise


def _mix(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
