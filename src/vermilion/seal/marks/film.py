"""A mark on a film's opening frames: the words of `picture`, on a plate, for at least 2 seconds.

Words and plate stand out from whatever comes to lie under them: on white, where it is lowest, the
contrast is 7.7:1. They stay the same while they are shown.

Shape letters: H W of a frame.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vermilion.errors import InputError
from vermilion.seal.marks import PLACES, Place, checked
from vermilion.seal.marks.font import require
from vermilion.seal.marks.stamp import LIGHT, Stamp, Style, lay_out, outline, plate

LEAST = 2.0  # seconds, which the standard asks for
SECONDS = 2.5  # a player may take a moment to begin
_OPACITY = 0.72

Frame = NDArray[np.uint8]


def over(
    words: str, *, place: Place = "bottom-right", style: Style = "auto", seconds: float = SECONDS
) -> Opening:
    """What writes words over a film's opening frames; make a new one for each film.

    Args:
        words: one line that names AI and the act.
        place: an edge or corner.
        style: "plate", or "outline", light words with a dark line around them; "auto" is a plate.
        seconds: for how long, from the first frame on; at least 2. A shorter film has it
            throughout.

    Returns:
        A function of a frame, uint8 (H, W, 3), and its time in seconds; it gives a new frame, or
        the same one after the opening.

    Raises:
        InputError: a value is not allowed. The function: the frames are too small.
    """
    words = require(checked(words))
    if place not in PLACES:
        raise InputError(f"mark: place must be one of {', '.join(PLACES)} (found {place!r})")
    if not seconds >= LEAST:
        raise InputError(f"mark: a film shows it for at least 2 seconds (found {seconds})")
    return Opening(words, place, style, seconds)


class Opening:
    """See `over`."""

    def __init__(self, words: str, place: Place, style: Style, seconds: float) -> None:
        self._words, self._place, self._seconds = words, place, seconds
        self._style = style
        self._begin: float | None = None
        self._stamps: dict[tuple[int, int], Stamp] = {}

    def __call__(self, frame: Frame, seconds: float) -> Frame:
        """A frame with the mark; the same frame after the opening."""
        if self._begin is None:
            self._begin = seconds
        if seconds - self._begin >= self._seconds:
            return frame
        return self.stamp(*frame.shape[:2]).onto(frame)

    def stamp(self, height: int, width: int) -> Stamp:
        """What is drawn on frames of this size."""
        stamp = self._stamps.get((height, width))
        if stamp is None:
            layout = lay_out(width, height, self._words, self._place)
            lined = self._style == "outline"
            stamp = outline(layout, LIGHT, 1.0, 1.0) if lined else plate(layout, _OPACITY)
            self._stamps[height, width] = stamp
        return stamp
