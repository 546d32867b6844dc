"""Captions' vectors, centred and whitened while a network learns from them, and as they are after.

    x' = (x - m) A,    A = U (S + r mean(S))^(-1/2) U',    covariance = U S U'

A sentence encoder's vectors lie close together and vary most in a few directions that tell little
of what is to be seen; a network that reads them as they are is long occupied with that. Whitened,
each direction counts alike (ZCA, Bell & Sejnowski 1997), but for those that hardly vary, which r
keeps small (shrinkage, Ledoit & Wolf 2004). How long the vectors are does not matter then.

Since the map is affine, it is folded into the layers that read the vectors when the model is
written, which then is an ordinary one:

    W x' + b = (W A') x + (b - W A' m)

Keys without a bias need none: what is added to all keys changes no softmax. What is added to all
values comes out of the attention as it is, since its weights sum up to 1, and goes into `to_out`.

N items, T tokens, D features.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from vermilion.data.pictures import Batches
from vermilion.disk import storage
from vermilion.models.diffusion.dit import DiT
from vermilion.models.diffusion.guidance import Condition
from vermilion.models.diffusion.net import UNet
from vermilion.models.diffusion.transformer import Attention
from vermilion.train.diffusion.words import Reader

_MOST = 20_000  # captions that are looked at: more change the result little and take long to read

OnCaption = Callable[[int, int], None]
"""Told how many captions are read, and of how many."""


@dataclass(frozen=True, slots=True)
class Affine:
    """x' = (x - mean) matrix.

    Attributes:
        mean: m, (D,).
        matrix: A, (D, D), symmetric.
    """

    mean: Tensor
    matrix: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """(..., D) → (..., D)."""
        return (x - self.mean) @ self.matrix


@dataclass(frozen=True, slots=True)
class Whitening:
    """What is done to captions' vectors.

    Attributes:
        context: to those of the tokens; None: there are none.
        pooled: to the one of a caption; None: there is none.
    """

    context: Affine | None = None
    pooled: Affine | None = None

    def __call__(self, told: Condition) -> Condition:
        """Of a condition as the encoder gives it. Where a text has no token, 0 is mapped too."""
        context, pooled = told.context, told.pooled
        if context is not None and self.context is not None:
            context = self.context(context)  # (N, T, D)
        if pooled is not None and self.pooled is not None:
            pooled = self.pooled(pooled)  # (N, D)
        return replace(told, context=context, pooled=pooled)

    def write(self, path: Path) -> None:
        """Write it into a run's folder.

        Raises:
            StorageError: it cannot be written.
        """
        parts = {
            f"{name}.{part}": getattr(affine, part).contiguous()
            for name, affine in (("context", self.context), ("pooled", self.pooled))
            if affine is not None
            for part in ("mean", "matrix")
        }
        with storage(path.parent):
            part = path.with_suffix(".part")
            save_file(parts, part)
            part.replace(path)

    @classmethod
    def read(cls, path: Path) -> Whitening:
        """What `write` has written."""
        found = load_file(path)
        parts = {
            name: Affine(found[f"{name}.mean"], found[f"{name}.matrix"])
            for name in ("context", "pooled")
            if f"{name}.mean" in found
        }
        return cls(**parts)


class _Moments:
    """Mean and covariance of vectors, added up one text after another."""

    def __init__(self) -> None:
        self.count = 0
        self.total: Tensor | None = None
        self.squares: Tensor | None = None

    def add(self, x: Tensor) -> None:
        """Vectors, (N, D)."""
        x = x.double()
        total, squares = x.sum(dim=0), x.T @ x  # (D,), (D, D)
        self.total = total if self.total is None else self.total + total
        self.squares = squares if self.squares is None else self.squares + squares
        self.count += len(x)

    def affine(self, shrinkage: float) -> Affine | None:
        """What whitens them; None where there were none."""
        if self.total is None or self.squares is None:
            return None
        mean = self.total / self.count  # (D,)
        covariance = self.squares / self.count - torch.outer(mean, mean)  # (D, D)
        s, u = torch.linalg.eigh(covariance)
        s = s.clamp(min=0)
        # Vectors that are all the same have no deviation; their map is 0.
        rooted = (s + shrinkage * s.mean()).clamp(min=1e-12).rsqrt()
        matrix = (u * rooted) @ u.T if float(s.mean()) > 0 else torch.zeros_like(u)
        return Affine(mean.float(), matrix.float())


def whitening_of(
    reader: Reader,
    captions: Iterable[str],
    shrinkage: float,
    on_caption: OnCaption | None = None,
) -> Whitening:
    """What whitens the vectors of captions.

    Args:
        reader: gives them; padding, which is 0, does not count.
        captions: of the training, each once.
        shrinkage: r, above 0.
        on_caption: told of progress.
    """
    texts = list(captions)
    tokens, pooled = _Moments(), _Moments()
    for number, text in enumerate(texts, 1):
        told = reader.condition([text])
        if told.context is not None:
            vectors = told.context[0]  # (T, D)
            tokens.add(vectors[vectors.any(dim=-1)])
        if told.pooled is not None:
            pooled.add(told.pooled)
        if on_caption is not None:
            on_caption(number, len(texts))
    return Whitening(tokens.affine(shrinkage), pooled.affine(shrinkage))


def captions_of(data: Batches, *, shortened: bool) -> list[str]:
    """All captions of a set, each once; of very many, some.

    Args:
        data: the pictures.
        shortened: whether those without their last part are read too, see `words.hidden`.
    """
    found: dict[str, None] = {}
    for item in data.cache.items.tolist():
        for caption in data.cache.pictures.captions(item):
            found[caption] = None
            if shortened and "," in caption:
                found[caption.rpartition(",")[0].rstrip()] = None
    every = list(found) or [""]
    few = np.linspace(0, len(every) - 1, min(_MOST, len(every))).astype(int)
    return [every[i] for i in few]


@torch.no_grad()
def fold(net: UNet | DiT, white: Whitening) -> None:
    """Let a network that has learnt from whitened vectors read those of the encoder.

    Args:
        net: the network, changed in place.
        white: what was done to its vectors.
    """
    for name, module in net.named_modules():
        if white.context is not None and name.endswith("attn2") and isinstance(module, Attention):
            _fold_attention(module, white.context)
    if white.pooled is not None:
        for layer in _reading(net):
            _fold(layer, white.pooled)


def _reading(net: UNet | DiT) -> Iterator[nn.Linear]:
    """The layers that read the one vector of a caption."""
    names = ("class_embedding.linear_1", "label_map.linear_1")
    layers = dict(net.named_modules())
    yield from (layer for name in names if isinstance(layer := layers.get(name), nn.Linear))


def _fold_attention(layer: Attention, affine: Affine) -> None:
    _fold(layer.to_k, affine)
    rest = _fold(layer.to_v, affine)
    if rest is not None:
        out = layer.to_out[0]
        assert isinstance(out, nn.Linear)  # noqa: S101 - for the type
        out.bias.add_((out.weight.double() @ rest).to(out.bias))


def _fold(layer: nn.Linear, affine: Affine) -> Tensor | None:
    """Let a layer read vectors as they are; without a bias, give back what is to be added."""
    weight = layer.weight.double() @ affine.matrix.to(layer.weight.device).double().T  # (F, D)
    shift = -(weight @ affine.mean.to(weight))  # (F,)
    layer.weight.copy_(weight)
    bias: Tensor | None = layer.bias
    if bias is None:
        return shift
    bias.add_(shift.to(bias))
    return None
