"""Crafts: one file per kind of thing made. What the line has to know of a kind stands there.

Registered in the group `vermilion.crafts` under the kind's name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from vermilion.line.checks import Scene
from vermilion.settings import Settings
from vermilion.types import Sample


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoded:
    """A sample as a file.

    Attributes:
        content: the file's bytes.
        media_type: e.g. "audio/wav".
        suffix: of the file's name, without a dot.
        text: the words in it, for people and for search.
    """

    content: bytes
    media_type: str
    suffix: str
    text: str


class Craft(Protocol):
    """How one kind of thing is asked for, finished, judged and written to a file."""

    def settings(self, values: Mapping[str, Any], where: str) -> dict[str, Any]:
        """Check a step's settings and fill in what is not said.

        Raises:
            InputError: one is unknown or out of range.
        """
        ...

    def each(self, values: Mapping[str, Any], n: int) -> list[dict[str, Any]]:
        """The checked settings of each of `n` things that are made from one prompt.

        Raises:
            InputError: there cannot be so many.
        """
        ...

    def model(self, values: Mapping[str, Any], settings: Settings) -> str:
        """Name of the model to use when the person names none."""
        ...

    def finish(self, sample: Sample) -> Sample:
        """What the engine gave, made whole: parsed, trimmed, brought to level.

        The same sample gives the same result, to the bit.
        """
        ...

    def failures(self, sample: Sample, checks: Mapping[str, Any], scene: Scene) -> Sequence[str]:
        """What is wrong with a finished sample, a few words each."""
        ...

    def score(self, sample: Sample) -> float:
        """Which of several samples is better, where none fails a check: higher is better."""
        ...

    def text(self, sample: Sample) -> str:
        """The words in it."""
        ...

    def encode(self, sample: Sample) -> Encoded:
        """The finished sample as a file, the same bytes each time."""
        ...
