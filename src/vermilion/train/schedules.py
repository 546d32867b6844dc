"""Learning rates as plain functions of the step, as fractions of the highest, 0 to 1."""

from __future__ import annotations

import math

from vermilion.train.options import Training


def warmup(step: int, steps: int) -> float:
    """Linear rise over the first `steps` steps; the first step is not 0."""
    return min(1.0, (step + 1) / steps) if steps > 0 else 1.0


def cosine(step: int, *, warmup_steps: int, max_steps: int, floor: float) -> float:
    """Warm-up, then half a cosine down to `floor` (Loshchilov & Hutter 2017, eq. 5)."""
    done = (step - warmup_steps) / max(1, max_steps - warmup_steps)
    if done <= 0:
        return warmup(step, warmup_steps)
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


def wsd(
    step: int, *, warmup_steps: int, max_steps: int, floor: float, decay_fraction: float
) -> float:
    """Warm-up, a stable plateau, and a decay over the last part (Hu et al. 2024, MiniCPM).

    The decay is 1 - sqrt(x), which Hägele et al. (2024) found best, down to `floor`.
    """
    decay = max(1, round(decay_fraction * max_steps))
    done = (step - (max_steps - decay)) / decay
    if done <= 0:
        return warmup(step, warmup_steps)
    return floor + (1 - floor) * (1 - math.sqrt(min(1.0, done)))


def learning_rate(step: int, options: Training) -> float:
    """The learning rate of a step, counted from 0."""
    o = options
    if o.schedule == "constant":
        return o.learning_rate * warmup(step, o.warmup_steps)
    sizes = {"warmup_steps": o.warmup_steps, "max_steps": o.max_steps}
    if o.schedule == "cosine":
        return o.learning_rate * cosine(step, floor=o.min_learning_rate, **sizes)
    part = wsd(step, floor=o.min_learning_rate, decay_fraction=o.decay_fraction, **sizes)
    return o.learning_rate * part
