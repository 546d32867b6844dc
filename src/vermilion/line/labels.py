"""Which labels fit a picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vermilion.errors import InputError
from vermilion.line.default import default_line
from vermilion.line.sight import open_encoder, read_all
from vermilion.models.contrast.evaluate import PROMPTS, class_vectors


@dataclass(frozen=True, slots=True)
class Guess:
    """A label, and how likely it is the right one among those that were given, 0 to 1."""

    label: str
    probability: float


def look(
    picture: str | Path | NDArray[np.uint8],
    labels: Sequence[str],
    *,
    ensemble: bool = False,
    model: str | None = None,
) -> tuple[Guess, ...]:
    """Say how likely each label fits a picture, the likeliest first.

    Args:
        picture: a file, or a uint8 array (H, W, 3 or 4).
        labels: two texts at least; the probabilities are among these.
        ensemble: labels are names that are put into seven sentences, whose vectors are averaged
            (Radford et al. 2021, sec. 3.1.4).
        model: name of a model that knows pictures and words; None: the usual one.

    Raises:
        InputError: the picture, the labels or the model cannot be used.
        NotFoundError: the file or the model is not there.
    """
    if isinstance(labels, str):
        raise InputError("labels: must be a list of texts")
    tidy = [label.strip() for label in labels if label.strip()]
    if len(tidy) < 2:
        raise InputError("labels: give two at least, with commas between")
    twice = next((label for n, label in enumerate(tidy) if label in tidy[:n]), None)
    if twice is not None:
        raise InputError(f"labels: {twice!r} is given twice; leave one out")
    loader = default_line().loader
    pixels = read_all(loader, [picture])
    _, engine = open_encoder(loader, model)
    words = class_vectors(engine.embed, tidy, PROMPTS) if ensemble else engine.embed(tidy)
    chances = engine.probabilities(engine.embed_pictures(pixels), words)[0]  # (number of labels,)
    guesses = (Guess(label, float(p)) for label, p in zip(tidy, chances, strict=True))
    return tuple(sorted(guesses, key=lambda guess: -guess.probability))
