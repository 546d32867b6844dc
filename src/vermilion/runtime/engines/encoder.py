"""The engine of text encoders: texts to vectors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray

from vermilion.errors import InputError
from vermilion.models.files import TensorFiles
from vermilion.models.lm.encode import Encoder
from vermilion.runtime.cards import Card
from vermilion.runtime.device import choose_device
from vermilion.runtime.engines import OnPiece
from vermilion.settings import Settings
from vermilion.types import Prompt, Sample


class EncoderEngine:
    """A text encoder of the room `models.lm`, opened.

    Attributes:
        encoder: the model itself.
        size: C, the features of a vector.
    """

    def __init__(self, encoder: Encoder) -> None:
        self.encoder, self.size = encoder, encoder.size
        self.device = str(encoder.net.embedding.weight.device)
        self.parameters = sum(weight.numel() for weight in encoder.net.parameters())
        self.versions: Mapping[str, str] = {
            "torch": torch.__version__,
            "tokenizers": version("tokenizers"),
        }

    @classmethod
    def memory(cls, card: Card, path: Path) -> int:
        """About how many bytes the opened model takes: its weights as float32."""
        return TensorFiles(path).count() * 4

    @classmethod
    def open(cls, card: Card, path: Path, settings: Settings) -> Self:
        """Open a folder of sentence-transformers or of a BERT.

        Raises:
            ModelError: the files are broken or of an architecture that is not supported.
        """
        return cls(Encoder.from_folder(path, device=choose_device(settings)))

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """A vector for each text, (N, C), float32; see `Encoder.encode`."""
        return self.encoder.encode(texts)

    def generate(
        self, prompts: Sequence[Prompt], on_piece: OnPiece | None = None
    ) -> Iterator[tuple[int, Sample]]:
        """Nothing: an encoder makes nothing.

        Raises:
            InputError: always.
        """
        raise InputError(
            "model: this one turns texts into vectors and makes nothing; name another model"
        )
