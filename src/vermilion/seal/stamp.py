"""What people see or hear, and what they do not: mark and watermark, one function for each medium.

bytes → decoded → marked → watermarked → encoded
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vermilion.errors import InputError
from vermilion.seal import fingerprints
from vermilion.seal.formats import Format, Medium
from vermilion.seal.looking import prints_of, soundprint
from vermilion.seal.marks import drawing, picture, text, wording
from vermilion.seal.marks.expected import Expected, InDrawing, InFilm, InPicture, InSound
from vermilion.seal.media import pictures
from vermilion.seal.order import About, SealOptions
from vermilion.seal.originality import Prints
from vermilion.seal.watermark import payload
from vermilion.seal.watermark import picture as picture_watermark

if TYPE_CHECKING:
    from vermilion.seal.marks.sound import Spoken


@dataclass(frozen=True, slots=True)
class Stamped:
    """A file with its mark and its watermark, and without labels yet.

    Attributes:
        content: its bytes, in the format that was asked for.
        notes: what was drawn and hidden, JSON values only.
        prints: its fingerprints, by which a stripped copy is found.
        bare: those of the file as it came, which are compared with what others made.
        expected: the mark, as it has to be found in the encoded file; None: there is none, or
            it is words that anybody can read.
    """

    content: bytes
    notes: Mapping[str, Any] = field(default_factory=dict)
    prints: Prints = field(default_factory=Prints)
    bare: Prints = field(default_factory=Prints)
    expected: Expected | None = None


@dataclass(frozen=True, slots=True)
class Work:
    """What a medium's function is given; see `stamp`."""

    content: bytes
    form: Format
    target: Format
    about: About
    options: SealOptions
    key: bytes
    spoken: Spoken | None = None
    compared: bool = True  # whether anybody asks for the fingerprints of the file as it came

    @property
    def words(self) -> str:
        """What the mark says."""
        return wording(self.about.language)


def stamp(work: Work) -> Stamped:
    """Mark and watermark a file, and bring it into the format that is asked for.

    Raises:
        InputError: the file cannot be read, cannot be marked, or cannot be turned into that
            format.
        MissingExtraError: sound or film needs a part that is not installed.
    """
    form, target = work.form, work.target
    if form != target and (form.medium != target.medium or form.medium not in _CONVERTED):
        raise InputError(f"format: a .{form.suffix} cannot be made a .{target.suffix}")
    return _STAMPS[form.medium](work)


def _picture(work: Work) -> Stamped:
    image = pictures.decode(work.content, work.form)
    if work.target.suffix == "tiff" and len(image.frames) > 1:
        raise InputError(
            f"picture: it has {len(image.frames)} pages, and a signed TIFF holds one; save each"
            " page as a file of its own, or all of them as a PDF"
        )
    notes: dict[str, Any] = {}
    frames, expected = image.frames, None
    bare = Prints(picture=fingerprints.phash(frames[0])) if work.compared else Prints()
    if work.options.mark:
        frames, mark, drawn = picture.draw(
            frames, work.words, place=work.options.place, style=work.options.style
        )
        notes["mark"] = asdict(mark)
        expected = InPicture(mark.words, drawn)
    if min(frames.shape[1:3]) >= picture_watermark.SMALLEST:
        code = payload.pack(work.about.asset_id)
        frames = np.stack([picture_watermark.embed(frame, code, work.key) for frame in frames])
    content = pictures.encode(image.with_frames(frames), work.target)
    prints = Prints(picture=fingerprints.phash(frames[0]))
    return Stamped(content, notes, prints, bare, expected)


def _drawing(work: Work) -> Stamped:
    prints = prints_of(work.content, work.form)
    if not work.options.mark:
        return Stamped(work.content, prints=prints, bare=prints)
    content, mark = drawing.draw(work.content, work.words, place=work.options.place)
    expected = InDrawing(mark.words, drawing.mark_of(content))
    return Stamped(content, {"mark": asdict(mark)}, prints, prints, expected)


def _sound(work: Work) -> Stamped:
    # Sound needs an extra, so these are not imported before there is sound.
    sounds = import_module("vermilion.seal.media.sounds")
    watermark = import_module("vermilion.seal.watermark.sound")
    sound = sounds.decode(work.content, work.form)
    wave, rate = sound.wave, sound.sample_rate
    notes: dict[str, Any] = {}
    bare, expected = Prints(), None
    if work.compared:
        bare = Prints(sound=soundprint(wave, rate))
    if work.options.mark:
        wave, expected = _with_sound_mark(wave, rate, work.spoken)
        notes["mark"] = {"says": expected.words, "place": "end"}
    if len(wave) >= watermark.SHORTEST * rate:
        code = payload.pack(work.about.asset_id)
        wave = watermark.embed(wave, rate, code, work.key)
    like = work.content if work.form == work.target else None
    content = sounds.encode(sounds.Sound(wave, rate), work.target, like)
    return Stamped(content, notes, Prints(sound=soundprint(wave, rate)), bare, expected)


def _with_sound_mark(
    wave: NDArray[np.float32], rate: int, spoken: Spoken | None
) -> tuple[NDArray[np.float32], InSound]:
    marks = import_module("vermilion.seal.marks.sound")
    said = {} if spoken is None else {"spoken": spoken.wave, "spoken_rate": spoken.sample_rate}
    words = f"tones, {marks.RHYTHM}" if spoken is None else f"the spoken words: {spoken.words}"
    mark = marks.made(wave, rate, **said)
    return marks.join(wave, rate, mark), InSound(words, mark, rate)


def _film(work: Work) -> Stamped:
    bare = prints_of(work.content, work.form)
    if not work.options.mark:
        return Stamped(work.content, prints=bare, bare=bare)
    films = import_module("vermilion.seal.media.films")
    marks = import_module("vermilion.seal.marks.film")
    over = marks.over(work.words, place=work.options.place, style=work.options.style)
    content = films.edit(work.content, work.form, picture=over)
    expected = InFilm(work.words, over.stamp, marks.LEAST)
    notes = {"mark": {"words": work.words, "seconds": marks.SECONDS}}
    return Stamped(content, notes, prints_of(content, work.form), bare, expected)


def _text(work: Work) -> Stamped:
    words = text.text_of(work.content, work.form)
    prints = Prints(text=fingerprints.minhash(words.decode("utf-8", "replace")))
    if not work.options.mark:
        return Stamped(work.content, prints=prints, bare=prints)
    content = text.add(work.content, work.form, work.words)
    return Stamped(content, {"mark": {"words": work.words}}, prints, prints)


_CONVERTED = ("picture", "sound")
_STAMPS: Mapping[Medium, Callable[[Work], Stamped]] = {
    "picture": _picture,
    "drawing": _drawing,
    "sound": _sound,
    "film": _film,
    "text": _text,
    "document": _text,
}
