"""What pictures show: their vectors, and which of several fits best.

N pictures, M texts, C features of a vector, H W of a picture.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from vermilion.data.pictures import Decoding, decode
from vermilion.errors import InputError, NotFoundError
from vermilion.line.single import embed_texts
from vermilion.runtime.cards import Card
from vermilion.runtime.engines import PictureEncoder, rank
from vermilion.runtime.loader import Loader
from vermilion.seal.formats import FORMATS
from vermilion.types import Sample

Pixels = NDArray[np.uint8]
Vectors = NDArray[np.float32]

SUFFIXES = tuple(f".{name}" for name, form in FORMATS.items() if form.medium == "picture")
USUAL = ("search", "clip-vit-b-32")
"""Models that are taken where none is named, the first that is there."""


def encoder_name(loader: Loader, model: str | None = None) -> str | None:
    """The model that turns pictures into vectors; None: there is none yet.

    Args:
        loader: where models are.
        model: its name; None: that of the settings, else the first usual one that is here.
    """
    named = model or loader.settings.picture_encoder
    if named:
        return named
    here = {listing.name for listing in loader.store.list() if listing.state == "ready"}
    return next((name for name in USUAL if name in here), None)


def open_encoder(loader: Loader, model: str | None = None) -> tuple[Card, PictureEncoder]:
    """Open it.

    Raises:
        NotFoundError: there is none; the message has the command that pulls one.
        InputError: it does not know pictures.
        ModelError: it is broken or too large.
    """
    name = encoder_name(loader, model)
    if name is None:
        raise NotFoundError(
            "no model that knows pictures is here; pull one: vermilion models pull clip-vit-b-32"
        )
    card, engine = loader.open(name)
    if not isinstance(engine, PictureEncoder):
        raise InputError(f"model: {name} makes {card.kind} and does not know pictures; name a CLIP")
    return card, engine


def best_of(
    loader: Loader, drawn: Iterable[tuple[int, Sample]], text: str, best: int
) -> Iterator[tuple[int, Sample, dict[str, Any]]]:
    """Of pictures that were painted those that fit their prompt best, the best first.

    Args:
        loader: where models are; one that knows pictures is there.
        drawn: numbers and samples.
        text: what they shall show.
        best: how many of them to give.

    Yields:
        Number, sample, and notes: how well it fits and what said so.

    Raises:
        InputError: the model knows no words.
    """
    card, engine = open_encoder(loader)
    engine.embed([text])  # so that one without words says so before anything is painted
    made = list(drawn)
    pictures = [cast(Pixels, sample.content) for _, sample in made]
    scores = rank(engine, pictures, text)  # (N,)
    for place in np.argsort(-scores, kind="stable")[:best].tolist():
        notes = {"fit": round(float(scores[place]), 4), "ranked_by": card.name, "of": len(made)}
        yield *made[place], notes


def read_picture(path: str | Path, largest: int) -> Pixels:
    """A picture from a file, (H, W, 4), straight alpha, upright; of a moving one the first frame.

    Args:
        path: of the file.
        largest: bytes that are read at most.

    Raises:
        NotFoundError: there is no such file.
        InputError: it is no picture, damaged or too large.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise NotFoundError(f"picture: there is no file {path}; name a picture")
    if path.stat().st_size > largest:
        raise InputError(f"picture: {path} has more than {largest:,} bytes; name a smaller one")
    try:
        return decode(path.read_bytes(), None, Decoding(channels=4))
    except InputError as error:
        raise InputError(f"picture: {path}: {error}") from None


def embed_pictures(
    loader: Loader, pictures: Sequence[str | Path | Pixels], model: str | None = None
) -> Vectors:
    """Vectors of pictures; see `Line.embed_pictures`."""
    if isinstance(pictures, str | Path | np.ndarray):
        raise InputError("pictures: must be a list of files or arrays")
    _, engine = open_encoder(loader, model)
    return engine.embed_pictures(read_all(loader, pictures))


def is_picture(text: str) -> bool:
    """Whether it is the name of a picture's file, by its ending.

    Raises:
        NotFoundError: it is one word that ends so and there is no such file.
    """
    if Path(text).suffix.lower() not in SUFFIXES or "\n" in text:
        return False
    if Path(text).is_file():
        return True
    if " " not in text:
        raise NotFoundError(f"there is no file {text}; name a picture, or a text")
    return False


def embed_mixed(loader: Loader, inputs: Sequence[str], model: str | None = None) -> Vectors:
    """Vectors of pictures' files and of texts, in one space.

    Args:
        loader: where models are.
        inputs: N names of files, see `is_picture`, and texts.
        model: that knows both; None: the usual one, for texts by themselves that of texts.

    Returns:
        (N, C), float32, of length 1.

    Raises:
        InputError, NotFoundError: an input or the model cannot be used.
    """
    seen = [is_picture(text) for text in inputs]
    empty = next((n for n, text in enumerate(inputs, 1) if not text.strip()), None)
    if empty is not None:
        raise InputError(f"text: number {empty} is empty; leave it out")
    if not any(seen):
        return embed_texts(loader, inputs, model)
    _, engine = open_encoder(loader, model)
    pictures = [text for text, one in zip(inputs, seen, strict=True) if one]
    texts = [text for text, one in zip(inputs, seen, strict=True) if not one]
    found = iter(engine.embed_pictures(read_all(loader, pictures)))
    words = iter(engine.embed(texts) if texts else ())
    return np.stack([next(found) if one else next(words) for one in seen])  # (N, C)


def read_all(loader: Loader, pictures: Sequence[str | Path | Pixels]) -> list[Pixels]:
    """Pictures from files; arrays stay as they are.

    Raises:
        InputError, NotFoundError: as `read_picture`.
    """
    largest = loader.settings.max_file_bytes
    return [p if isinstance(p, np.ndarray) else read_picture(p, largest) for p in pictures]
