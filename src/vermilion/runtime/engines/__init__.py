"""Engines run models. One interface for all of them, built in or from a plug-in."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from vermilion.runtime.cards import Card
from vermilion.settings import Settings
from vermilion.types import Prompt, Sample

# Which tokens are green after those that stand there, (V,); see `seal.watermark.text`.
GreenTokens = Callable[[Sequence[int]], NDArray[np.bool_]]

# Called with a prompt's number and a part of its result: some text, a waveform, or a preview.
OnPiece = Callable[[int, str | NDArray[np.float32] | NDArray[np.uint8]], None]

# Called with a prompt's number, how many of its steps are done, and how many there are.
OnStep = Callable[[int, int, int], None]


class Engine(Protocol):
    """A model, opened. Registered in the group `vermilion.engines` under its family's name.

    Attributes:
        device: where it runs, e.g. "cpu".
        parameters: how many weights the model has.
        versions: of the packages that decide its results, by name.
    """

    device: str
    parameters: int
    versions: Mapping[str, str]

    @classmethod
    def memory(cls, card: Card, path: Path) -> int:
        """About how many bytes the opened model takes."""
        ...

    @classmethod
    def open(cls, card: Card, path: Path, settings: Settings) -> Engine:
        """Open a model's files.

        Raises:
            ModelError: they are broken or not supported.
            MissingExtraError: a package that is needed is not installed.
        """
        ...

    def generate(
        self, prompts: Sequence[Prompt], on_piece: OnPiece | None = None
    ) -> Iterator[tuple[int, Sample]]:
        """Yield each prompt's number and sample, in the order in which they are finished.

        What a prompt gives depends on nothing but the prompt and the model. Closing the
        iterator stops the work.

        Raises:
            InputError: a prompt's setting cannot be used.
        """
        ...


class PaintingEngine(Engine, Protocol):
    """What the engines of models of the kind "picture" are."""

    def generate(
        self,
        prompts: Sequence[Prompt],
        on_piece: OnPiece | None = None,
        *,
        pictures: Mapping[str, NDArray[np.uint8]] | None = None,
        on_step: OnStep | None = None,
    ) -> Iterator[tuple[int, Sample]]:
        """As `Engine.generate`; samples are uint8 (H, W, 3) or (H, W, 4), straight alpha.

        Args:
            prompts: see `types.PictureSettings`; what is said of the finished file (size, svg)
                is not for the engine.
            on_piece: called with previews, uint8 (H, W, C).
            pictures: those that the settings image, mask and blend name, by asset id: (H, W, 4)
                of any size, straight alpha.
            on_step: called after each step.
        """
        ...


@runtime_checkable
class TextEncoder(Protocol):
    """What an engine offers besides where its model turns texts into vectors."""

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """A vector for each text, (N, C)."""
        ...


@runtime_checkable
class PictureEncoder(TextEncoder, Protocol):
    """What an engine offers besides where pictures and texts become vectors in one space."""

    def embed_pictures(self, pictures: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """A vector of length 1 for each picture, uint8 (H, W, 3 or 4): (N, C)."""
        ...

    def probabilities(
        self, pictures: NDArray[np.float32], texts: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """How likely each text belongs to each picture: (N, C), (M, C) → (N, M)."""
        ...


@runtime_checkable
class Watermarked(Protocol):
    """What an engine offers besides where it can hide a watermark in the texts that it writes."""

    def use_watermark(self, greens: Callable[[int], GreenTokens]) -> None:
        """Take what makes green tokens of a vocabulary's size."""
        ...


def rank(
    engine: PictureEncoder, pictures: Sequence[NDArray[np.uint8]], text: str
) -> NDArray[np.float32]:
    """How well pictures fit a text.

    Args:
        engine: what compares them.
        pictures: N of them, uint8 (H, W, 3 or 4).
        text: what they shall show.

    Returns:
        (N,), the cosines; higher fits better.

    Raises:
        InputError: one is no picture, or the model knows no words.
    """
    scores: NDArray[np.float32] = engine.embed_pictures(pictures) @ engine.embed([text])[0]
    return scores
