"""Token ids turned into text as they come."""

from __future__ import annotations

from tokenizers.decoders import DecodeStream

from vermilion.models.lm.tokenizer import Tokenizer


class TextStream:
    """Token ids turned into text piece by piece, up to a stop string.

    Nothing is shown that might have to be taken back: the beginning of a stop string, or of a
    character of several tokens.

    Args:
        tokenizer: reads the ids.
        stop: strings that end the text, none empty.
    """

    def __init__(self, tokenizer: Tokenizer, stop: tuple[str, ...]) -> None:
        self._tokenizer, self._stop = tokenizer, stop
        self._stream = DecodeStream(skip_special_tokens=True)
        self._undecoded: list[int] = []
        self._held = ""

    def add(self, token: int) -> tuple[str, bool]:
        """The text that can be shown now, and whether a stop string was reached."""
        self._undecoded.append(token)
        new = self._stream.step(self._tokenizer.fast, token)  # None within a character
        if new:
            self._held += new
            self._undecoded.clear()
        at = min((i for s in self._stop if (i := self._held.find(s)) >= 0), default=-1)
        if at >= 0:
            text, self._held = self._held[:at], ""
            return text, True
        keep = max((_overlap(self._held, s) for s in self._stop), default=0)
        text = self._held[: len(self._held) - keep]
        self._held = self._held[len(text) :]
        return text, False

    def rest(self) -> str:
        """What was held back because it might have become a stop string or a character."""
        text = self._held + self._tokenizer.decode(self._undecoded).rstrip(
            "\N{REPLACEMENT CHARACTER}"
        )
        self._held = ""
        return text


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of `text` that is a beginning of `stop`."""
    longest = min(len(text), len(stop) - 1)
    return next((n for n in range(longest, 0, -1) if text.endswith(stop[:n])), 0)
