"""CLIP and SimCLR as the loop sees them; see `train.task.Task`.

N items, C channels, S side of a picture, P features of a vector.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vermilion.data.pictures import Batch, Batches
from vermilion.models.contrast.augment import Augmentation
from vermilion.models.contrast.evaluate import nearest_neighbours, retrieval
from vermilion.models.contrast.loss import clamp, clip_loss, nt_xent, sigmoid_loss
from vermilion.models.contrast.net import CLIP
from vermilion.models.contrast.preprocess import Preprocess
from vermilion.models.contrast.simclr import SimCLR
from vermilion.train.contrast.views import Changes, flattened, inputs

Prepare = Callable[[Sequence[str]], Tensor]
_WHITE = 255
_HELD = 1 << 40  # numbers of the views of what is held back, beyond those of training
_VIEWS = ("first", "second")


@dataclass(frozen=True, slots=True)
class Pairs:
    """Pictures as a tower takes them, (N, C, S, S), and what the text tower takes of each.

    Attributes:
        pictures: of the batch.
        texts: token ids, (N, T), int64, or vectors, (N, P).
        captions: of them.
    """

    pictures: Tensor
    texts: Tensor
    captions: tuple[str, ...]


class ClipTask:
    """A CLIP that is trained on pictures with captions.

    Args:
        clip: what is trained.
        preprocess: of pictures.
        prepare: of captions.
        train: pictures that are trained on.
        held: pictures that are held back; None: none.
        changes: of pictures in training.
        first_caption: how often a picture's first caption is taken, 0 to 1.
    """

    unit = "pictures"
    per_item = 1
    columns: tuple[str, ...] = (
        "text_to_picture@1", "text_to_picture@5", "text_to_picture@10",
        "picture_to_text@1", "picture_to_text@5", "picture_to_text@10",
    )  # fmt: skip

    def __init__(
        self,
        clip: CLIP,
        preprocess: Preprocess,
        prepare: Prepare,
        train: Batches,
        held: Batches | None,
        changes: Changes,
        *,
        first_caption: float = 0.0,
    ) -> None:
        self.model: nn.Module = clip
        self.clip, self.preprocess, self.prepare = clip, preprocess, prepare
        self.train, self.held, self.changes = train, held, changes
        self.first_caption = first_caption
        self.at_once = train.batch_size  # each is compared with all others of the step
        self._seen: list[tuple[Tensor, Tensor]] = []
        self._captions: list[str] = []

    def batch(self, first: int, size: int, device: torch.device) -> Pairs:
        """Pictures number `first` to `first + size - 1`."""
        found = self.train.batch(first, size)
        return self._pairs(self.changes(found), self._chosen(found), device)

    def _chosen(self, batch: Batch) -> tuple[str, ...]:
        """A caption of each: the first one, or the one that the batch has drawn."""
        if self.first_caption <= 0:
            return batch.captions
        cache, captions = self.train.cache, list(batch.captions)
        for n, (item, epoch) in enumerate(zip(batch.items, batch.epochs, strict=True)):
            draw = np.random.default_rng((self.changes.seed, int(epoch), int(item), 1))
            if draw.random() < self.first_caption:
                captions[n] = cache.pictures.captions(int(cache.items[item]))[0]
        return tuple(captions)

    def _pairs(self, pixels: Any, captions: tuple[str, ...], device: torch.device) -> Pairs:
        texts = self.prepare(captions).to(device)
        return Pairs(inputs(pixels, self.preprocess, device), texts, captions)

    def weight(self, batch: Pairs) -> float:
        """How many pictures there are."""
        return float(len(batch.pictures))

    def loss(self, model: nn.Module, batch: Pairs) -> Tensor:
        """The contrastive loss times the number of pictures, ()."""
        clip, training = self.clip, model.training
        if training:
            clamp(clip.logit_scale)
        pictures, texts = model(batch.pictures, batch.texts)  # (N, P) each
        if not training:
            self._seen.append((pictures.float().cpu(), texts.float().cpu()))
            self._captions += batch.captions
        if clip.logit_bias is None:
            loss = clip_loss(pictures, texts, clip.logit_scale, across=training)
        else:
            loss = sigmoid_loss(pictures, texts, clip.logit_scale, clip.logit_bias, across=training)
        return loss * len(pictures)

    def held_back(self, batches: int, device: torch.device) -> Iterator[Pairs]:
        """Batches of what is held back, unchanged, with their first captions."""
        self._seen, self._captions = [], []
        if self.held is None:
            return
        for found in self.held.in_order(self.at_once, batches):
            yield self._pairs(_on_white(found), found.captions, device)

    def figures(self, loss: float) -> dict[str, float]:
        """Mean loss, and recall both ways among one picture of each caption of all batches."""
        once = list({text: n for n, text in reversed(list(enumerate(self._captions)))}.values())
        pictures = torch.cat([part[0] for part in self._seen]).numpy()[once]
        texts = torch.cat([part[1] for part in self._seen]).numpy()[once]
        return {"loss": loss, **retrieval(pictures, texts), "among": float(len(once))}

    def samples(self, model: nn.Module, step: int) -> str:
        """None."""
        return ""


@dataclass(frozen=True, slots=True)
class TwoViews:
    """Two views of each picture, (N, C, S, S) each, and their classes, (N,), -1: none."""

    first: Tensor
    second: Tensor
    labels: Tensor


class SimclrTask:
    """SimCLR on pictures without words.

    Args:
        net: what is trained.
        preprocess: of views.
        train: pictures that are trained on.
        held: pictures that are held back; None: none.
        views: how views are made.
        seed: of the run.
        temperature: τ.
        neighbours: k of the k-NN, where pictures have classes.
    """

    unit = "pictures"
    per_item = 1
    columns: tuple[str, ...] = ("pair@1", "knn")

    def __init__(
        self,
        net: SimCLR,
        preprocess: Preprocess,
        train: Batches,
        held: Batches | None,
        views: Augmentation,
        *,
        seed: int,
        temperature: float,
        neighbours: int,
    ) -> None:
        self.model: nn.Module = net
        self.net, self.preprocess, self.train, self.held = net, preprocess, train, held
        self.views, self.seed, self.temperature = views, seed, temperature
        self.neighbours, self.at_once = neighbours, train.batch_size
        self._seen: list[tuple[Tensor, Tensor]] = []

    def batch(self, first: int, size: int, device: torch.device) -> TwoViews:
        """Views of pictures number `first` to `first + size - 1`."""
        found = self.train.batch(first, size)
        return self._views(found, list(range(first, first + size)), device)

    def _views(self, batch: Batch, numbers: list[int], device: torch.device) -> TwoViews:
        pixels = _on_white(batch)
        made = [
            torch.stack(
                [
                    self.views(picture, self.seed, number, view)
                    for picture, number in zip(pixels, numbers, strict=True)
                ]
            )
            for view in range(len(_VIEWS))
        ]  # (N, 3, S, S), uint8, each
        first, second = (self.preprocess.normalise(view.to(device)) for view in made)
        return TwoViews(first, second, torch.from_numpy(batch.labels))

    def weight(self, batch: TwoViews) -> float:
        """How many pictures there are."""
        return float(len(batch.first))

    def loss(self, model: nn.Module, batch: TwoViews) -> Tensor:
        """NT-Xent times the number of pictures, ()."""
        first, second = model(batch.first, batch.second)  # (N, P) each
        if not model.training:
            with torch.no_grad():
                self._seen.append((self.net.encoder(batch.first).float().cpu(), batch.labels))
        loss = nt_xent(first, second, temperature=self.temperature, across=model.training)
        return loss * len(first)

    def held_back(self, batches: int, device: torch.device) -> Iterator[TwoViews]:
        """Batches of what is held back; their views are the same each time."""
        self._seen = []
        if self.held is None:
            return
        number = _HELD
        for found in self.held.in_order(self.at_once, batches):
            yield self._views(found, list(range(number, number + len(found.pixels))), device)
            number += len(found.pixels)

    def figures(self, loss: float) -> dict[str, float]:
        """Mean loss; with classes, how often those of the nearest others say the right one."""
        if not self._seen:
            return {"loss": loss}
        vectors = torch.cat([part[0] for part in self._seen]).numpy()
        labels = torch.cat([part[1] for part in self._seen]).numpy()
        vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
        known = labels >= 0
        vectors, labels = vectors[known], labels[known]
        if len(labels) < 4:
            return {"loss": loss}
        even, odd = slice(0, None, 2), slice(1, None, 2)
        k = min(self.neighbours, len(labels[even]))
        found = nearest_neighbours(vectors[even], labels[even], vectors[odd], k=k)
        return {"loss": loss, "knn": float((found == labels[odd]).mean())}

    def samples(self, model: nn.Module, step: int) -> str:
        """None."""
        return ""


def _on_white(batch: Batch) -> Any:
    return flattened(batch.pixels, np.full((len(batch.pixels), 3), _WHITE, np.uint8))
