"""A file's content, decoded once for all that looks at it: mark, watermark, fingerprints."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from vermilion.errors import InputError, MissingExtraError
from vermilion.seal import fingerprints
from vermilion.seal.findings import Finding
from vermilion.seal.formats import Format
from vermilion.seal.marks import drawing, text
from vermilion.seal.marks.expected import Expected, InDrawing, InFilm, InPicture, InSound
from vermilion.seal.media import drawings, pictures
from vermilion.seal.originality import Prints
from vermilion.seal.watermark import picture as picture_watermark


class Watermark(Protocol):
    """What a detector found, in a picture, a sound or a text."""

    @property
    def present(self) -> bool:
        """Whether this is taken for ours."""

    @property
    def probability(self) -> float:
        """That it is found by chance."""

    @property
    def asset_id(self) -> str | None:
        """The asset that it names; None: it cannot be read, or this kind names none."""

    @property
    def names_asset(self) -> bool:
        """Whether watermarks of this kind name an asset."""


Hidden = Callable[[str], Watermark | None]
"""Looks for the watermark of a text that our engine wrote."""

_NO_KEY = "nothing was sealed here yet"
_SHORTEST, _SLOWEST = 0.2, 8000  # seconds and Hz, below which a sound has no fingerprint


@dataclass(frozen=True, slots=True)
class Seen:
    """A file's content, decoded once for all that looks at it.

    Attributes:
        watermark: what the detector found; None: nothing of this kind can be looked for.
        why: why not, in words.
        prints: its fingerprints.
        mark: whether the mark that was put in is there; None: it was not looked for.
    """

    watermark: Watermark | None
    why: str
    prints: Prints
    mark: Finding | None = None


def look(
    content: bytes,
    form: Format,
    key: bytes | None,
    hidden: Hidden | None = None,
    *,
    thorough: bool = True,
    expected: Expected | None = None,
) -> Seen:
    """Decode a file once: its mark, its watermark and its fingerprints.

    Args:
        content: its bytes.
        form: its format.
        key: of our watermarks; None: there are none yet.
        hidden: looks for the watermark of a text; None: nobody does.
        thorough: a picture's watermark is also looked for where it is after a crop, and
            fingerprints are made. A file that was written a moment ago needs neither.
        expected: the mark that was put in; None: it is not known here.

    Raises:
        InputError: it is damaged.
    """
    if form.medium == "picture":
        return _picture(content, form, key, thorough, expected)
    if form.medium == "sound":
        return _sound(content, form, key, thorough, expected)
    if form.medium in ("text", "document"):
        return _words(content, form, hidden, thorough)
    mark, prints = None, Prints()
    if isinstance(expected, InDrawing):
        mark = expected.look(content)
    elif isinstance(expected, InFilm):
        films = import_module("vermilion.seal.media.films")
        mark = expected.look(films.opening(content))
    why = f"a .{form.suffix} holds none"
    if thorough and form.medium == "drawing":
        prints = prints_of(content, form)
    elif thorough:
        try:
            prints = prints_of(content, form)
        except (InputError, MissingExtraError) as error:
            # Whether a broken film is as it was signed can still be told.
            why = str(error).rstrip(".")
    return Seen(None, why, prints, mark)


def prints_of(content: bytes, form: Format) -> Prints:
    """A file's fingerprints; those of formats that have none are all None.

    Raises:
        InputError: it is damaged.
        MissingExtraError: sound or film needs a part that is not installed.
    """
    if form.medium == "picture":
        return Prints(picture=fingerprints.phash(pictures.decode(content, form).frames[0]))
    if form.medium == "drawing":
        pixels = drawings.rendered(drawing.without(content))
        return Prints(picture=None if pixels is None else fingerprints.phash(pixels))
    if form.medium == "sound":
        sound = import_module("vermilion.seal.media.sounds").decode(content, form)
        return Prints(sound=soundprint(sound.wave, sound.sample_rate))
    if form.medium == "film":
        frames = import_module("vermilion.seal.media.film_frames")
        shown = frames.at_shares(content, fingerprints.FRAMES)
        return Prints(film=None if shown is None else fingerprints.filmprint(shown))
    if form.medium in ("text", "document"):
        return Prints(text=fingerprints.minhash(_said(content, form)))
    return Prints()


def soundprint(wave: NDArray[np.float32], sample_rate: int) -> bytes | None:
    """A sound's fingerprint; None: it is too short to have one."""
    short = len(wave) < _SHORTEST * sample_rate or sample_rate < _SLOWEST
    return None if short else fingerprints.soundprint(wave, sample_rate)


def _picture(
    content: bytes, form: Format, key: bytes | None, thorough: bool, expected: Expected | None
) -> Seen:
    frames = pictures.decode(content, form).frames
    frame = frames[0]
    prints = Prints(picture=fingerprints.phash(frame)) if thorough else Prints()
    mark = expected.look(frames) if isinstance(expected, InPicture) else None
    if key is None:
        return Seen(None, _NO_KEY, prints, mark)
    smallest = picture_watermark.SMALLEST
    if min(frame.shape[:2]) < smallest:
        return Seen(None, f"pictures below {smallest} pixels hold none", prints, mark)
    return Seen(picture_watermark.detect(frame, key, search=thorough), "", prints, mark)


def _sound(
    content: bytes, form: Format, key: bytes | None, thorough: bool, expected: Expected | None
) -> Seen:
    try:
        sounds = import_module("vermilion.seal.media.sounds")
        sound = sounds.decode(content, form)
    except MissingExtraError as error:
        return Seen(None, str(error), Prints())
    watermark = import_module("vermilion.seal.watermark.sound")
    wave, rate = sound.wave, sound.sample_rate
    mark = expected.look(wave, rate) if isinstance(expected, InSound) else None
    prints = Prints(sound=soundprint(wave, rate)) if thorough else Prints()
    if key is None:
        return Seen(None, _NO_KEY, prints, mark)
    if len(wave) < watermark.SHORTEST * rate:
        why = f"sound below {watermark.SHORTEST:g} s holds none"
        return Seen(None, why, prints, mark)
    return Seen(watermark.detect(wave, rate, key), "", prints, mark)


def _words(content: bytes, form: Format, hidden: Hidden | None, thorough: bool) -> Seen:
    said = _said(content, form)
    prints = Prints(text=fingerprints.minhash(said)) if thorough else Prints()
    found = hidden(said) if hidden is not None and said and form.medium == "text" else None
    return Seen(found, "a text needs the name of its model for that: --model NAME", prints)


def _said(content: bytes, form: Format) -> str:
    """The words of a text or a document, without what the seal added."""
    return text.text_of(content, form).decode("utf-8", "replace")
