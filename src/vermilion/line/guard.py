"""What is asked for and what comes out, held against the safety rules; every decision is kept.

`flag` keeps what breaks a rule and says so in the asset's notes; `refuse` makes nothing of it.
"""

from __future__ import annotations

from dataclasses import asdict
from functools import cached_property
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from vermilion.errors import InputError, MissingExtraError, RefusedError
from vermilion.seal import rights
from vermilion.seal.safety import Decision, Rules, Setting, check_picture, check_text
from vermilion.settings import Settings
from vermilion.types import Brief

_REMEMBERED = 256  # texts whose decision is kept
_MOST_FRAMES = 8  # of a moving picture that are looked at


class Guard:
    """The rules that hold here.

    Args:
        settings: safety, safety_rules and artists.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._decided: dict[str, Decision] = {}

    @cached_property
    def _rules(self) -> Rules:
        try:
            return Rules.load(self._settings.safety_rules)
        except InputError as error:
            raise InputError(f"VERMILION_SAFETY_RULES: {error}") from None

    @cached_property
    def _artists(self) -> Any:
        try:
            return rights.artists(self._settings.artists)
        except InputError as error:
            raise InputError(f"VERMILION_ARTISTS: {error}") from None

    def _decide(self, text: str) -> Decision:
        """Each text is judged once, though a draft that is chosen is asked about again."""
        decision = self._decided.get(text)
        if decision is None:
            decision = check_text(text, self._rules, cast(Setting, self._settings.safety))
            if len(self._decided) >= _REMEMBERED:
                self._decided.clear()
            self._decided[text] = decision
        return decision

    def brief(self, brief: Brief) -> dict[str, Any]:
        """As `order`, for everything that a brief says."""
        words = [str(value) for value in asdict(brief).values() if isinstance(value, str)]
        words += [*brief.facts, *brief.must_mention, *brief.variables.values()]
        return self.order("\n".join(words))

    def order(self, text: str) -> dict[str, Any]:
        """Look at what is asked for.

        Returns:
            Notes for what is made of it: the decision where a rule was broken, and a word where
            a living artist is named; empty: nothing was found.

        Raises:
            RefusedError: it breaks a rule that refuses.
        """
        decision = self._decide(text)
        if decision.action == "refuse":
            raise RefusedError(f"prompt: it breaks a safety rule and is not made; {decision}")
        notes: dict[str, Any] = {}
        if decision.action == "flag":
            notes["prompt_safety"] = decision.to_json()
        artist = rights.artist_note(text, self._artists)
        return {**notes, "artist": artist} if artist else notes

    def faults(self, text: str, content: Any = None) -> tuple[str, ...]:
        """What a result breaks, in words, so that another is drawn; empty: nothing.

        Args:
            text: its words.
            content: a picture is looked at, (H, W, C).
        """
        decisions = [self._decide(text)]
        if _is_picture(content):
            decisions += filter(None, [self._look(content[None])])
        return tuple(f"breaks a safety rule ({d})" for d in decisions if d.action != "pass")

    def made(self, text: str, content: Any) -> dict[str, Any]:
        """As `result` for the words and, of a picture, as `painted`."""
        return self.result(text) | (self.painted(content) if _is_picture(content) else {})

    def result(self, text: str) -> dict[str, Any]:
        """Look at what came out.

        Returns:
            Notes: the decision with its score.

        Raises:
            RefusedError: it breaks a rule that refuses; it is not kept.
        """
        decision = self._decide(text)
        if decision.action == "refuse":
            raise RefusedError(
                f"result: it breaks a safety rule and is not kept; {decision}; try another seed"
            )
        return {"safety": decision.to_json()}

    def picture(self, frames: NDArray[np.uint8]) -> dict[str, Any]:
        """Look at a picture that comes from outside.

        Args:
            frames: (N, H, W, 4), straight alpha; of many, a few from the first on are looked at,
                and the gravest decides.

        Returns:
            Notes: the decision with its score, or that the model for it is not installed.

        Raises:
            RefusedError: it is explicit, and the setting refuses that.
        """
        decision = self._look(frames)
        if decision is not None and decision.action == "refuse":
            raise RefusedError(f"file: it breaks a safety rule and is not taken in; {decision}")
        return _noted(decision)

    def painted(self, pixels: NDArray[np.uint8]) -> dict[str, Any]:
        """Look at a picture that a model painted: (H, W, 3) or (H, W, 4).

        Returns:
            Notes, as `picture`.

        Raises:
            RefusedError: it breaks a rule that refuses; it is not kept.
        """
        decision = self._look(pixels[None])
        if decision is not None and decision.action == "refuse":
            raise RefusedError(
                f"result: it breaks a safety rule and is not kept; {decision}; try another seed"
            )
        return _noted(decision)

    def _look(self, frames: NDArray[np.uint8]) -> Decision | None:
        """The gravest decision on pictures; None: what judges them is not installed."""
        setting = cast(Setting, self._settings.safety)
        step = -(-len(frames) // _MOST_FRAMES)
        try:
            decisions = [check_picture(frame, setting) for frame in frames[::step]]
        except MissingExtraError:
            return None
        return max(decisions, key=lambda one: one.score)


def _is_picture(content: Any) -> bool:
    return isinstance(content, np.ndarray) and content.dtype == np.uint8


def _noted(decision: Decision | None) -> dict[str, Any]:
    if decision is None:
        return {"picture_safety": "not judged: the part is not installed"}
    return {"picture_safety": decision.to_json()}
