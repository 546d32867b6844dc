"""One kind of thing from one prompt, without a recipe; and things made again."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vermilion import hooks
from vermilion.errors import InputError
from vermilion.library import Library
from vermilion.line.brief import language_of
from vermilion.line.crafts import Craft
from vermilion.line.guard import Guard
from vermilion.line.keep import keep
from vermilion.line.languages import require_language
from vermilion.line.plan import derive_seed
from vermilion.line.samples import samples
from vermilion.runtime.engines import OnPiece, TextEncoder
from vermilion.runtime.loader import Loader
from vermilion.types import Asset, Brief, Prompt

SOUND_SUFFIXES = ("wav", "flac", "mp3", "ogg", "m4a")
MOST = 200


def make_one_kind(
    library: Library,
    loader: Loader,
    guard: Guard,
    kind: str,
    text: str,
    *,
    n: int = 1,
    model: str | None = None,
    seed: int | None = None,
    on_piece: OnPiece | None = None,
    settings: Mapping[str, Any],
) -> list[Asset]:
    """Make `n` things of one kind and keep each as soon as it is finished.

    Raises:
        InputError: a setting cannot be used, the prompt is empty, or its language is not the
            model's.
        NotFoundError: the model does not exist or is not pulled.
        RefusedError: the prompt or a result breaks a safety rule that refuses.
    """
    check_order(text, n)
    found = guard.order(text)
    craft: Craft = hooks.resolve(hooks.CRAFTS, kind)()
    values = craft.settings(settings, "settings")
    each = craft.each(values, n)
    name = model or craft.model(values, loader.settings)
    first = choose_seed(seed)
    require_language(loader.store.locate(name)[0], language_of(Brief(subject=text)))
    card, engine = loader.open(name)
    prompts = [
        Prompt(kind=kind, text=text, model=name, seed=seed_of(first, i), settings=each[i])
        for i in range(n)
    ]
    kept: dict[int, Asset] = {}
    for index, sample in engine.generate(prompts, on_piece):
        finished = craft.finish(sample)
        notes = {**found, **guard.result(craft.text(finished))}
        kept[index] = keep(library, finished, craft, card, engine, index=index, notes=notes)
    return [kept[index] for index in range(n)]


def remake(library: Library, loader: Loader, ref: str) -> tuple[Asset, bool]:
    """Make an asset again from its recipe; see `Line.remake`."""
    old = library.get(ref)
    if "prompt" not in old.recipe:
        raise InputError(f"{old.id}: it has no recipe; it was not made here")
    prompt = Prompt(**old.recipe["prompt"])
    craft: Craft = hooks.resolve(hooks.CRAFTS, prompt.kind)()
    card, engine = loader.open(prompt.model)
    ((_, sample),) = samples(engine, [prompt], library)
    finished = craft.finish(sample)
    if sha256(craft.encode(finished).content).hexdigest() == old.sha256:
        return old, True
    return keep(library, finished, craft, card, engine, parents=[old.id]), False


def check_order(text: str, n: int) -> None:
    """See that there is something to make, and not too much of it.

    Raises:
        InputError: the text is empty, or `n` is out of its range.
    """
    if not text.strip():
        raise InputError("prompt: it is empty; write what should be made")
    if not 1 <= n <= MOST:
        raise InputError(f"n: must be 1 to {MOST} (found {n})")


def choose_seed(seed: int | None) -> int:
    """The seed that is given, or a fresh one, small enough to be typed again.

    Raises:
        InputError: it is out of its range.
    """
    if seed is None:
        return secrets.randbelow(2**32)
    if not 0 <= seed < 2**63:
        raise InputError(f"seed: must be between 0 and 2**63 - 1 (found {seed})")
    return seed


def check_sound_file(path: Path) -> str:
    """The format that a file's ending names.

    Raises:
        InputError: it is not one that can be written.
    """
    suffix = path.suffix.removeprefix(".").lower()
    if suffix not in SOUND_SUFFIXES:
        known = ", ".join(f".{name}" for name in SOUND_SUFFIXES)
        raise InputError(f"out: {path} should end in one of {known}")
    return suffix


def seed_of(first: int, index: int) -> int:
    """The first of several has the seed itself: alone, it comes out the same."""
    return first if index == 0 else derive_seed(first, "", index, 0)


def embed_texts(loader: Loader, texts: Sequence[str], model: str | None) -> NDArray[np.float32]:
    """Turn texts into vectors; see `Line.embed`."""
    if isinstance(texts, str) or not all(isinstance(text, str) for text in texts):
        raise InputError("texts: must be a list of strings")
    name = loader.settings.text_encoder if model is None else model
    card, engine = loader.open(name)
    if not isinstance(engine, TextEncoder):
        raise InputError(f"model: {name} makes {card.kind} and no vectors; name an encoder")
    return engine.embed(texts)
