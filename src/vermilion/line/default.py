"""The functions of the package itself: they work on one line, opened when it is first needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vermilion.line import files, finding, release, sight
from vermilion.line import verify as looking
from vermilion.line.finished import FinishedSet
from vermilion.line.run import Line
from vermilion.runtime.engines import Engine
from vermilion.seal.order import SealOptions
from vermilion.seal.verify import Verdict
from vermilion.settings import get_settings
from vermilion.types import Asset, Brief, Hit


@cache
def default_line() -> Line:
    """The line that the functions below work on."""
    return Line()


def make(brief: str | Path | Brief | Mapping[str, Any], **options: Any) -> FinishedSet:
    """Make a finished set of texts and sounds from a brief; see `Line.make`."""
    return default_line().make(brief, **options)


def write(prompt: str, n: int = 1, **options: Any) -> list[Asset]:
    """Write `n` texts; see `Line.write`."""
    return default_line().write(prompt, n=n, **options)


def speak(text: str, out: str | Path | None = None, **options: Any) -> Asset:
    """Speak a text; see `Line.speak`."""
    return default_line().speak(text, out=out, **options)


def paint(prompt: str = "", n: int = 1, **options: Any) -> list[Asset]:
    """Paint `n` pictures; see `Line.paint`."""
    return default_line().paint(prompt, n=n, **options)


def embed(texts: Sequence[str], **options: Any) -> NDArray[np.float32]:
    """Turn texts into vectors; see `Line.embed`."""
    return default_line().embed(texts, **options)


def embed_pictures(
    pictures: Sequence[str | Path | NDArray[np.uint8]], *, model: str | None = None
) -> NDArray[np.float32]:
    """Turn pictures into vectors of length 1, (N, C), that lie close to those of their words.

    Args:
        pictures: files, or uint8 arrays (H, W, 3 or 4).
        model: name of a model that knows pictures; None: the usual one.

    Raises:
        InputError: one is no picture, or the model does not know pictures.
        NotFoundError: a file or a model is not there.
    """
    return sight.embed_pictures(default_line().loader, pictures, model)


def embed_mixed(inputs: Sequence[str], *, model: str | None = None) -> NDArray[np.float32]:
    """Turn names of pictures' files and texts into vectors; see `line.sight.embed_mixed`."""
    return sight.embed_mixed(default_line().loader, inputs, model)


def find(query: str, *, kind: str | None = None, limit: int = 20) -> list[Hit]:
    """Find assets by their words, and pictures by what they show where a model knows that.

    Pictures that it has not looked at are looked at first.

    Args:
        query: words in any language.
        kind: only assets of this kind.
        limit: how many at most, 1 or more.

    Raises:
        InputError: the query is empty, or limit is out of its range.
    """
    line = default_line()
    hits, missing = finding.find(line.library, line.loader, query, kind, limit)
    if missing:
        finding.index_pictures(line.library, line.loader)
        hits, _ = finding.find(line.library, line.loader, query, kind, limit)
    return hits


def remake(ref: str) -> tuple[Asset, bool]:
    """Make an asset again; see `Line.remake`."""
    return default_line().remake(ref)


def load(name: str) -> Engine:
    """Open a model; see `Line.load`."""
    return default_line().load(name)


def export(
    ref: str,
    folder: str | Path,
    *,
    suffix: str | None = None,
    options: SealOptions | None = None,
) -> list[Path]:
    """Write an asset's sealed file into a folder; see `line.release.export`."""
    line = default_line()
    asset = line.library.get(ref)
    return release.export(line.library, line.sealer, asset, Path(folder), suffix, options)


def verify(path: str | Path, *, model: str | None = None) -> Verdict:
    """What a file says about itself, and whether it is true; see `line.verify.verify_file`.

    Args:
        path: of the file.
        model: that may have written a text, whose watermark is then looked for; None: it is not.
    """
    settings = get_settings()
    sealer = looking.sealer_of(settings)
    hidden = None if model is None else looking.hidden_words(settings, sealer, model)
    return looking.verify_file(sealer, Path(path), settings.max_file_bytes, hidden)


def add(path: str | Path) -> Asset:
    """Take a file into the library; see `line.files.add_file`."""
    line = default_line()
    largest = line.settings.max_file_bytes
    return files.add_file(line.library, line.sealer, Path(path), largest, guard=line.guard)[0]


def seal_copy(
    path: str | Path, out: str | Path | None = None, **options: Any
) -> tuple[Asset, list[Path]]:
    """Write a sealed copy of a file that was made elsewhere; see `line.files.seal_file`."""
    line = default_line()
    largest = line.settings.max_file_bytes
    target = None if out is None else Path(out)
    options = {"guard": line.guard, "out": target, **options}
    return files.seal_file(line.library, line.sealer, Path(path), largest, **options)
