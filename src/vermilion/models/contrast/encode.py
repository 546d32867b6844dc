"""Pictures and texts to vectors of length 1, in batches.

N items, P features of a vector.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TypeAlias, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from vermilion.models.contrast.io import load_clip, load_preprocess
from vermilion.models.contrast.net import CLIP
from vermilion.models.contrast.preprocess import Picture, Preprocess
from vermilion.models.contrast.tokenizer import Tokenizer

Vectors: TypeAlias = NDArray[np.float32]
Prepare: TypeAlias = Callable[[Sequence[str]], "Tensor | tuple[Tensor, ...]"]
"""Texts to what the text tower takes: token ids, or vectors that are made already."""

_T = TypeVar("_T")


class ContrastEncoder:
    """A CLIP with what stands before its towers.

    Args:
        clip: the model, in evaluation mode.
        preprocess: of pictures.
        prepare: of texts.
        batch_size: items that are computed at once.
    """

    def __init__(
        self, clip: CLIP, preprocess: Preprocess, prepare: Prepare, *, batch_size: int = 16
    ) -> None:
        self.clip, self.preprocess, self.prepare = clip, preprocess, prepare
        self.batch_size = batch_size

    @classmethod
    def from_folder(
        cls,
        folder: Path,
        device: str = "cpu",
        dtype: torch.dtype = torch.float32,
        *,
        text: Prepare | None = None,
        text_model: nn.Module | None = None,
    ) -> ContrastEncoder:
        """Open a model.

        Args:
            folder: see `io.load_clip`.
            device: where its weights go.
            dtype: of its weights.
            text: prepares texts; None: CLIP's tokenizer, which is in the folder.
            text_model: the text tower, where that is none of CLIP. None with `text` given: the
                vectors that `text` gives are the tower's.

        Raises:
            ModelError: a file is missing or broken, or the text tower has to be given.
        """
        given = nn.Identity() if text_model is None and text is not None else text_model
        clip = load_clip(folder, device, dtype, text_model=given)
        prepare = Tokenizer.from_folder(folder).encode if text is None else text
        return cls(clip, load_preprocess(folder), prepare)

    @property
    def size(self) -> int:
        """P, the features of a vector."""
        return self.clip.projection_dim

    def pictures(self, pictures: Iterable[Picture]) -> Vectors:
        """A vector for each picture.

        Args:
            pictures: N of them, see `preprocess.Picture`; taken a batch at a time, so that they
                may be opened one after the other.

        Returns:
            (N, P), float32, of length 1.

        Raises:
            InputError: one is no picture.
        """
        weight = self.clip.visual_projection.weight

        def features(batch: list[Picture]) -> Tensor:
            x = self.preprocess(batch).to(weight.device, weight.dtype)  # (N, C, S, S)
            return self.clip.get_image_features(x)

        return self._collect(pictures, features)

    def texts(self, texts: Iterable[str]) -> Vectors:
        """A vector for each text: N of them → (N, P), float32, of length 1."""
        weight = self.clip.visual_projection.weight

        def features(batch: list[str]) -> Tensor:
            prepared = self.prepare(batch)
            inputs = prepared if isinstance(prepared, tuple) else (prepared,)
            moved = (x.to(weight.device) for x in inputs)
            return self.clip.get_text_features(
                *(x.to(weight.dtype) if x.is_floating_point() else x for x in moved)
            )

        return self._collect(texts, features)

    def probabilities(self, pictures: Vectors, texts: Vectors) -> Vectors:
        """How likely each text belongs to each picture, among the texts.

        Args:
            pictures: (N, P), of length 1.
            texts: (M, P), of length 1.

        Returns:
            (N, M), float32; each row sums to 1 (Radford et al. 2021, sec. 3.1).
        """
        scale = float(self.clip.logit_scale.detach().exp())
        logits = torch.from_numpy(scale * pictures @ texts.T)
        return np.asarray(logits.softmax(-1).numpy(), dtype=np.float32)

    def _collect(self, items: Iterable[_T], features: Callable[[list[_T]], Tensor]) -> Vectors:
        found = [np.empty((0, self.size), dtype=np.float32)]
        with torch.inference_mode():
            for batch in _batches(items, self.batch_size):
                found.append(F.normalize(features(batch).float(), dim=-1).cpu().numpy())
        return np.concatenate(found)


def _batches(items: Iterable[_T], size: int) -> Iterator[list[_T]]:
    rest = iter(items)
    while batch := list(islice(rest, size)):
        yield batch
