"""The engine of the hibari voices: English text to speech, 24 kHz."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from vermilion.errors import InputError, MissingExtraError, ModelError
from vermilion.runtime.cards import Card
from vermilion.runtime.engines import OnPiece
from vermilion.settings import Settings
from vermilion.types import Prompt, Sample, SpeechSettings

if TYPE_CHECKING:
    from hibari import Hibari


class HibariEngine:
    """A voice, opened. It runs on one CPU thread, sentence by sentence."""

    device = "cpu"

    def __init__(self, voice: Hibari, parameters: int) -> None:
        self._voice, self.parameters = voice, parameters
        packages = ("hibari-tts", "onnxruntime", "numpy")
        self.versions: Mapping[str, str] = {name: version(name) for name in packages}

    @classmethod
    def memory(cls, card: Card, path: Path) -> int:
        """About how many bytes it takes: the network several times over, and the lexicon."""
        return 4 * path.stat().st_size + 100_000_000

    @classmethod
    def open(cls, card: Card, path: Path, settings: Settings) -> Self:
        """Open a voice's ONNX file.

        Raises:
            MissingExtraError: hibari-tts is not installed.
            ModelError: the file is broken.
        """
        try:
            from hibari import Hibari  # noqa: PLC0415 - an optional extra
        except ImportError:
            raise MissingExtraError("speech", "speech") from None
        try:
            # The voice's name chooses between American and British pronunciation; with a path
            # of our own nothing is downloaded.
            voice = Hibari(voice=card.options.get("voice", "heart"), model=str(path))
            return cls(voice, parameters=path.stat().st_size)  # int8: about a byte each
        except RuntimeError as error:  # onnxruntime's errors are RuntimeErrors
            raise ModelError(
                f"{path}: the voice cannot be opened ({error}); pull it again"
            ) from None

    def generate(
        self, prompts: Sequence[Prompt], on_piece: OnPiece | None = None
    ) -> Iterator[tuple[int, Sample]]:
        """Yield (number, sample) for each text in turn; see `Engine.generate`.

        Pieces are sentences, as soon as each is spoken. A sample's notes: "sentences".

        Raises:
            InputError: a text holds nothing that can be spoken.
        """
        for number, prompt in enumerate(prompts):
            settings = SpeechSettings(**prompt.settings)
            pieces: list[Any] = []
            # Signs alone would be spoken as a breath.
            text = prompt.text if any(map(str.isalnum, prompt.text)) else ""
            for piece in self._voice.stream(text, speed=settings.speed, seed=prompt.seed):
                pieces.append(piece)
                if on_piece is not None:
                    on_piece(number, piece)
            if not pieces:
                raise InputError("text: there is nothing in it that can be spoken; write words")
            yield (
                number,
                Sample(
                    prompt=prompt,
                    content=np.concatenate(pieces).astype(np.float32),
                    sample_rate=self._voice.sample_rate,
                    notes={"sentences": len(pieces)},
                ),
            )
