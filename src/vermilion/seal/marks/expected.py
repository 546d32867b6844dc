"""Marks that were drawn or added, looked for again in the encoded file.

What is known of a mark when it is put in is kept here, so that the decoded file can be held against
it: the letters' shape for pictures and films, the wave for sound, the group for drawings. The
limits lie between what was measured on marked and on unmarked files, down to JPEG 10, MP3 at 8 and
Opus at 6 kbit/s.

Shape letters: N frames, H W of a picture, h w of the box that a mark covers, S samples, C channels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib import import_module

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from vermilion.seal.findings import Finding
from vermilion.seal.marks import drawing
from vermilion.seal.marks.stamp import Stamp

LIKE = 0.45  # correlation of letters: JPEG 10 leaves 0.59 at least, what has no mark 0.30 at most
APART = 40.0  # grey levels between letters and what lies beside them: 81 at least, and 32 at most
HEARD = 0.5  # correlation of waves: Opus at 6 kbit/s leaves 0.88, what has no mark 0.15 at most
_DRIFT = 0.3  # seconds by which an encoder may move or fill up a sound
_GREY = np.array([0.299, 0.587, 0.114], np.float32)
_FINE = 0.02  # coverage from which a pixel is part of a letter
_NOT_FOUND = Finding("mark", "absent", "the mark is not in the encoded file")


def likeness(stamp: Stamp, part: NDArray[np.uint8]) -> tuple[float, float]:
    """How much a part of a picture looks like the letters that were drawn there.

    Args:
        stamp: what was drawn.
        part: uint8 (h, w) grey, or (h, w, 3 or 4): what lies in the stamp's area.

    Returns:
        The correlation of brightness with the letters' coverage, -1 to 1, over the letters and the
        pixels beside them, and the difference between the two in grey levels. Both are positive
        where the letters stand out as they should, light or dark.
    """
    near = stamp.ring | (stamp.letters > _FINE)  # (h, w)
    wanted, seen = stamp.letters[near], _brightness(part)[near]  # (n,)
    if sum(stamp.ink) < 384:
        seen = 255 - seen
    wanted, seen = wanted - wanted.mean(), seen - seen.mean()
    product, power = float(wanted @ seen), float(wanted @ wanted)
    return product / float(np.sqrt(power * (seen @ seen)) + 1e-6), product / (power + 1e-6)


def _brightness(part: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Grey levels (h, w) of a part of a picture; clear parts lie on mid grey."""
    values = part.astype(np.float32)
    if values.ndim == 2:
        return values
    grey: NDArray[np.float32] = values[..., :3] @ _GREY
    if part.shape[-1] == 4:
        alpha = values[..., 3] / np.float32(255)
        grey = grey * alpha + np.float32(128) * (1 - alpha)
    return grey


def _stands_out(stamp: Stamp, frame: NDArray[np.uint8]) -> bool:
    x0, y0, x1, y1 = stamp.area
    part = frame[y0:y1, x0:x1]
    if part.shape[:2] != stamp.letters.shape:
        return False
    like, apart = likeness(stamp, part)
    return like >= LIKE and apart >= APART


@dataclass(frozen=True, slots=True)
class InPicture:
    """Words in a picture.

    Attributes:
        words: that it says.
        stamp: what was drawn on every frame.
    """

    words: str
    stamp: Stamp

    def look(self, frames: NDArray[np.uint8]) -> Finding:
        """Whether all frames of the decoded file have them: uint8 (N, H, W, 4)."""
        if all(_stands_out(self.stamp, frame) for frame in frames):
            return Finding("mark", "good", f"it shows: {self.words}")
        return _NOT_FOUND


@dataclass(frozen=True, slots=True)
class InFilm:
    """Words on a film's opening frames.

    Attributes:
        words: that it says.
        stamp: what is drawn on a frame of that height and width.
        seconds: for how long they have to be seen.
    """

    words: str
    stamp: Callable[[int, int], Stamp]
    seconds: float

    def look(self, frames: Iterable[tuple[NDArray[np.uint8], float]]) -> Finding:
        """Whether all frames of the opening have them.

        Args:
            frames: of the decoded film, upright and grey, uint8 (H, W), with their times in
                seconds; no more of them are taken than are needed.
        """
        begin: float | None = None
        for frame, time in frames:
            begin = time if begin is None else begin
            if time - begin >= self.seconds:
                break
            if not _stands_out(self.stamp(*frame.shape), frame):
                return _NOT_FOUND
        if begin is None:
            return _NOT_FOUND
        return Finding("mark", "good", f"its opening shows: {self.words}")


@dataclass(frozen=True, slots=True)
class InSound:
    """Tones or a spoken sentence at the end of a sound.

    Attributes:
        words: what it says, for people.
        wave: the mark, float32 (S,).
        sample_rate: of it, in Hz.
    """

    words: str
    wave: NDArray[np.float32]
    sample_rate: int

    def look(self, wave: NDArray[np.float32], sample_rate: int) -> Finding:
        """Whether a decoded sound ends with it.

        Args:
            wave: float32 (S, C).
            sample_rate: in Hz; an encoder may have changed it.
        """
        if self.correlation(wave, sample_rate) >= HEARD:
            return Finding("mark", "good", f"it ends with {self.words}")
        return _NOT_FOUND

    def correlation(self, wave: NDArray[np.float32], sample_rate: int) -> float:
        """The largest correlation of the mark with a stretch near the end, -1 to 1."""
        mark = self.wave.astype(np.float64)
        if sample_rate != self.sample_rate:
            # It takes long to load, and Opus alone needs it.
            signal = import_module("scipy.signal")
            mark = signal.resample_poly(mark, sample_rate, self.sample_rate)
        drift = round(_DRIFT * sample_rate)
        tail = wave[-len(mark) - drift :].mean(axis=1, dtype=np.float64)  # (S,)
        # An encoder may also cut a little off the end.
        tail = np.pad(tail, (len(mark) + drift - len(tail), drift))
        size = fft.next_fast_len(len(tail) + len(mark), real=True)
        spectrum = fft.rfft(tail, size) * np.conj(fft.rfft(mark, size))
        products = fft.irfft(spectrum, size)[: 2 * drift + 1]
        sums = np.cumsum(np.concatenate([[0.0], tail**2]))
        powers = (sums[len(mark) :] - sums[: -len(mark)])[: 2 * drift + 1]
        own = float(mark @ mark)
        # A stretch far below the mark's level is not the mark, whatever its shape.
        norms = np.sqrt(np.maximum(powers, own / 100) * own)
        return float((products / norms).max())


@dataclass(frozen=True, slots=True)
class InDrawing:
    """Words as paths in a drawing.

    Attributes:
        words: that it says.
        group: the element that was written, byte for byte.
    """

    words: str
    group: bytes

    def look(self, content: bytes) -> Finding:
        """Whether the file has the element, as the last that is painted."""
        if drawing.mark_of(content) == self.group:
            return Finding("mark", "good", f"it shows: {self.words}")
        return _NOT_FOUND


Expected = InPicture | InFilm | InSound | InDrawing
