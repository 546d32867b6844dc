"""Prompts → samples, whatever the kind; engines that paint are given the pictures they need."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import cast

import numpy as np
from numpy.typing import NDArray

from vermilion.errors import InputError
from vermilion.library import Library
from vermilion.line import drawing
from vermilion.runtime.engines import Engine, OnPiece, OnStep, PaintingEngine
from vermilion.seal.formats import format_of
from vermilion.seal.media import pictures as files
from vermilion.types import Asset, Prompt, Sample

SOURCES = ("image", "mask", "blend")
"""Settings that name an asset whose picture the engine is given."""


def samples(
    engine: Engine,
    prompts: Sequence[Prompt],
    library: Library,
    *,
    on_piece: OnPiece | None = None,
    on_step: OnStep | None = None,
) -> Iterator[tuple[int, Sample]]:
    """What an engine makes of prompts of any kind; painting engines get the pictures they need.

    Raises:
        NotFoundError: a picture was removed from the library.
        InputError: one of them is no picture.
    """
    if not prompts or prompts[0].kind != "picture":
        yield from engine.generate(prompts, on_piece)
        return
    named = {str(p.settings[s]) for p in prompts for s in SOURCES if p.settings.get(s)}
    given = {ref: pixels_of(library, library.get(ref)) for ref in sorted(named)}
    painter = cast(PaintingEngine, engine)
    yield from painter.generate(prompts, on_piece, pictures=given, on_step=on_step)


def pixels_of(library: Library, asset: Asset) -> NDArray[np.uint8]:
    """An asset's picture, (H, W, 4), straight alpha; of a moving one the first frame.

    Raises:
        InputError: it is no picture, or it is damaged.
        MissingExtraError: it is a drawing, and the rasteriser is not installed.
    """
    form, content = format_of(asset.path.suffix), library.read(asset)
    if form.medium == "drawing":
        return drawing.draw(content)
    if form.medium != "picture":
        raise InputError(f"{asset.id}: it is {asset.kind} and no picture; name a picture")
    first: NDArray[np.uint8] = files.decode(content, form).frames[0]
    return first
