"""What vectors are good for: zero-shot classes, retrieval, nearest neighbours, a linear probe.

All vectors are of length 1, so that a dot product is the cosine of their angle. Computed in
blocks of rows: what is held in memory does not grow with N².

N items, M others, K classes, P features of a vector.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax

from vermilion.errors import InputError

Vectors: TypeAlias = NDArray[np.float32]
Labels: TypeAlias = NDArray[np.int64]

# The seven of CLIP's eighty that do best together on ImageNet, as its authors found by search.
PROMPTS = (
    "itap of a {}.",
    "a bad photo of the {}.",
    "a origami {}.",
    "a photo of the large {}.",
    "a {} in a video game.",
    "art of the {}.",
    "a photo of the small {}.",
)
_BLOCK = 1024

# Below, "not less" stands for "as much or more": a vector that is no number is then never right.


def class_vectors(
    texts: Callable[[Sequence[str]], Vectors],
    classes: Sequence[str],
    prompts: Sequence[str] = ("a photo of a {}.",),
) -> Vectors:
    """A vector for each class: the mean of its prompts' (Radford et al. 2021, sec. 3.1.4).

    Args:
        texts: gives vectors of length 1, as `ContrastEncoder.texts` does.
        classes: K names.
        prompts: sentences with {} where the name goes.

    Returns:
        (K, P), of length 1.

    Raises:
        InputError: there is no class or no prompt, or a prompt has no {}.
    """
    if not classes or not prompts:
        raise InputError("labels, prompts: there must be one of each at least")
    for prompt in prompts:
        if "{}" not in prompt:
            raise InputError(f"prompts: {prompt!r} has no {{}} where the label goes")
    sentences = [prompt.replace("{}", name) for name in classes for prompt in prompts]
    means = texts(sentences).reshape(len(classes), len(prompts), -1).mean(1)  # (K, P)
    return _unit(means)


def accuracy(scores: NDArray[Any], labels: Labels, k: int = 1) -> float:
    """How often the label is among the k classes with the highest scores.

    Args:
        scores: (N, K).
        labels: (N,), the right classes.
        k: 1 to K. A class that scores as high as the right one counts as before it.
    """
    right = np.take_along_axis(scores, labels[:, None], axis=1)  # (N, 1)
    before = (~(scores < right)).sum(1) - 1  # (N,)
    return float((before < k).mean())


def retrieval(
    pictures: Vectors, texts: Vectors, owners: Labels | None = None, ks: Sequence[int] = (1, 5, 10)
) -> dict[str, float]:
    """Recall both ways: how often what belongs to a query is among its k nearest.

    Args:
        pictures: (N, P).
        texts: (M, P).
        owners: (M,), the picture that each text belongs to; None: text i to picture i. A picture
            may have several texts, any of which is right; one without is not looked for.
        ks: the k.

    Returns:
        "text_to_picture@k" and "picture_to_text@k", 0 to 1. What lies exactly as near as the
        right one counts as nearer.

    Raises:
        ValueError: the numbers of texts and owners differ.
    """
    places = np.arange(len(texts)) if owners is None else owners  # (M,)
    if len(places) != len(texts) or (owners is None and len(pictures) != len(texts)):
        raise ValueError(f"owners: {len(places)} for {len(texts)} texts, {len(pictures)} pictures")
    to_pictures = np.empty(len(texts), dtype=np.int64)
    for rows in _blocks(len(texts)):
        near = texts[rows] @ pictures.T  # (rows, N)
        right = np.take_along_axis(near, places[rows, None], axis=1)
        to_pictures[rows] = (~(near < right)).sum(1) - 1
    to_texts = np.empty(len(pictures), dtype=np.int64)
    for rows in _blocks(len(pictures)):
        near = pictures[rows] @ texts.T  # (rows, M)
        own = places == np.arange(len(pictures))[rows, None]
        best = np.where(own, near, -np.inf).max(1, keepdims=True)
        to_texts[rows] = (~own & ~(near < best)).sum(1)
    asked = np.isin(np.arange(len(pictures)), places)
    found = {f"text_to_picture@{k}": float((to_pictures < k).mean()) for k in ks}
    return found | {f"picture_to_text@{k}": float((to_texts[asked] < k).mean()) for k in ks}


def nearest_neighbours(
    known: Vectors,
    labels: Labels,
    asked: Vectors,
    *,
    k: int = 20,
    temperature: float = 0.07,
) -> Labels:
    """The class of each vector by a vote of its k nearest (Wu et al. 2018, sec. 3.4).

    Args:
        known: (N, P).
        labels: (N,), 0 to K - 1, their classes.
        asked: (M, P).
        k: voters, 1 to N.
        temperature: τ; a voter at cosine s has exp(s/τ) votes.

    Returns:
        (M,).

    Raises:
        ValueError: there are fewer than k.
    """
    if not 1 <= k <= len(known):
        raise ValueError(f"k: must be 1 to {len(known)} (found {k})")
    classes = int(labels.max()) + 1
    found = np.empty(len(asked), dtype=np.int64)
    for rows in _blocks(len(asked)):
        near = asked[rows] @ known.T  # (rows, N)
        voters = np.argpartition(-near, k - 1, axis=1)[:, :k]  # (rows, k)
        # Less the largest cosine, so that no power overflows.
        power = np.take_along_axis(near, voters, axis=1).astype(np.float64)
        votes = np.exp((power - power.max(1, keepdims=True)) / temperature)
        totals = np.zeros((len(near), classes))
        np.add.at(totals, (np.arange(len(near))[:, None], labels[voters]), votes)
        found[rows] = totals.argmax(1)
    return found


class LinearProbe:
    """Multinomial logistic regression on vectors that stay as they are.

        min over W, b:  ½ |W|² + C Σ_i -ln softmax(W x_i + b)[y_i]

    (Radford et al. 2021, sec. 3.2), by L-BFGS in float64.

    Args:
        vectors: x, (N, P).
        labels: y, (N,), 0 to K - 1.
        C: weight of the data against that of the prior; scikit-learn's name.
        max_iter: most steps.
    """

    def __init__(
        self, vectors: Vectors, labels: Labels, *, C: float = 1.0, max_iter: int = 1000
    ) -> None:
        x, classes = vectors.astype(np.float64), int(labels.max()) + 1
        size = x.shape[1]
        right = np.eye(classes)[labels]  # (N, K)

        def objective(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
            weight, bias = np.split(flat.reshape(classes, size + 1), [size], axis=1)
            logits = x @ weight.T + bias[:, 0]  # (N, K)
            loss = 0.5 * (weight**2).sum() - C * (right * log_softmax(logits, axis=1)).sum()
            slope = C * (softmax(logits, axis=1) - right)  # (N, K)
            gradient = np.hstack((slope.T @ x + weight, slope.sum(0)[:, None]))
            return float(loss), gradient.ravel()

        found = minimize(
            objective,
            np.zeros(classes * (size + 1)),
            jac=True,
            method="L-BFGS-B",
            options={"maxiter": max_iter, "gtol": 1e-6, "ftol": 1e-12},
        )
        self.weight, self.bias = np.split(found.x.reshape(classes, size + 1), [size], axis=1)

    def scores(self, vectors: Vectors) -> NDArray[np.float64]:
        """Logits of the classes: (M, P) → (M, K)."""
        logits: NDArray[np.float64] = vectors @ self.weight.T + self.bias[:, 0]
        return logits


def _unit(vectors: Vectors) -> Vectors:
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.asarray(vectors / np.maximum(lengths, 1e-12), dtype=np.float32)


def _blocks(rows: int) -> Iterator[slice]:
    for first in range(0, rows, _BLOCK):
        yield slice(first, min(first + _BLOCK, rows))
