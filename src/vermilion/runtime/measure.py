"""Measures a model of the store in int8, and writes what was found into its card."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from vermilion.errors import InputError
from vermilion.models.lm import io
from vermilion.models.lm.measure import measure as measure_net
from vermilion.runtime.device import use_threads
from vermilion.runtime.store import Store
from vermilion.settings import get_settings

_LARGEST = 16_000_000  # bytes; a text of a few hundred kilobytes says it all


def measure(
    name: str, data: str | Path, *, watch: Callable[[int, int], None] | None = None
) -> dict[str, Any]:
    """Measure what int8 costs a language model in quality and gains it in speed.

    Args:
        name: of a model in the store.
        data: a text file, UTF-8, of the kind that the model writes and was not trained on.
        watch: called with the parts done, and with how many there are.

    Returns:
        What now stands in the card under "int8": "perplexity" and "speed" as ratios to float32,
        and "tokens" of the text.

    Raises:
        InputError: the file cannot be used, or the model is no language model.
        NotFoundError: there is no such model here.
        ModelError: there is no int8 here.
    """
    store, path = Store(get_settings().models_dir), Path(data)
    card, entry = store.locate(name)
    if card.family != "lm":
        raise InputError(f"model: {name!r} is of the family {card.family}; int8 is for lm")
    try:
        if path.stat().st_size > _LARGEST:
            raise InputError(f"data: {path} is larger than {_LARGEST // 10**6} MB; give a part")
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"data: {path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise InputError(f"data: {path} is not UTF-8 text; convert it") from None
    use_threads(get_settings())
    found = measure_net(*io.load(entry), text, watch)
    figures = {
        "perplexity": round(found.perplexity, 4),
        "speed": round(found.speed, 2),
        "tokens": found.tokens,
    }
    store.note(name, int8=figures)
    return figures
