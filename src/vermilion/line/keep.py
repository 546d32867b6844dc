"""Samples → assets: into the library with all that makes them again, and out into folders."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from vermilion import __version__
from vermilion.disk import write_atomically
from vermilion.errors import StorageError
from vermilion.library import Library
from vermilion.line.crafts import Craft
from vermilion.runtime.cards import Card
from vermilion.runtime.engines import Engine
from vermilion.types import Asset, Sample


def keep(
    library: Library,
    sample: Sample,
    craft: Craft,
    card: Card,
    engine: Engine,
    *,
    notes: Mapping[str, Any] | None = None,
    origin: Mapping[str, Any] | None = None,
    parents: Sequence[str] = (),
    set_id: str | None = None,
    step: str | None = None,
    index: int = 0,
) -> Asset:
    """Write a finished sample into the library.

    Args:
        library: where to.
        sample: finished.
        craft: of its kind.
        card: of the model that made it.
        engine: that made it.
        notes: to keep beside the sample's own.
        origin: what it was made for: the brief and the recipe's name.
        parents: ids of the assets that its prompt used.
        set_id: of the finished set.
        step: of the recipe.
        index: among the step's results.

    Raises:
        StorageError: the disk is full or read-only.
    """
    encoded = craft.encode(sample)
    recipe = {
        "prompt": asdict(sample.prompt),
        "model": {
            "name": card.name,
            "source": card.source,
            "weights": card.weights_sha256,
            "training_data": card.training_data,
        },
        "versions": {"vermilion": __version__, **engine.versions},
        "device": engine.device,
        **({"origin": dict(origin)} if origin is not None else {}),
    }
    return library.keep(
        encoded.content,
        kind=sample.prompt.kind,
        media_type=encoded.media_type,
        suffix=encoded.suffix,
        text=encoded.text,
        recipe=recipe,
        notes={**sample.notes, **(notes or {})},
        parents=parents,
        set_id=set_id,
        step=step,
        index=index,
        licence=card.licence,
    )


def slug(text: str, longest: int = 40) -> str:
    """Words fit for a file name: small letters, digits, Chinese characters, joined by "-"."""
    words = re.findall(r"[a-z0-9]+|[\u3400-\u9fff]+", text.lower().replace("'", ""))
    name = ""
    for word in words:
        longer = f"{name}-{word}" if name else word[:longest]
        if len(longer) > longest:
            break
        name = longer
    return name or "untitled"


def write_file(path: Path, content: bytes) -> None:
    """Write a file as a whole or not at all.

    Raises:
        StorageError: its folder cannot be made or written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, content)
    except OSError as error:
        reason = error.strerror or error
        raise StorageError(f"out: {path} cannot be written: {reason}; name another place") from None
