"""Seeing that a model knows the language it is asked for, before any work is done."""

from __future__ import annotations

from vermilion.errors import InputError
from vermilion.runtime.cards import Card

CHINESE_MODEL = "qwen2.5-0.5b"
_NAMES = {"en": "English", "zh": "Chinese"}


def require_language(card: Card, language: str) -> None:
    """See that a model knows a language; a card that names none is believed to know all.

    Args:
        card: of the model.
        language: code of two letters.

    Raises:
        InputError: it does not; the message says what to do.
    """
    if not card.languages or language in card.languages:
        return
    wanted = _NAMES.get(language, language)
    known = " and ".join(_NAMES.get(code, code) for code in card.languages)
    if card.kind == "speech":
        raise InputError(
            f"language: {card.name} speaks {known}, not {wanted}; leave its step out with a 0 in"
            " the brief's counts, or name a voice that speaks it"
        )
    if card.kind == "picture":
        raise InputError(
            f"language: {card.name} understands {known}, not {wanted}; say in {known} what to"
            " paint, or name a model that understands it"
        )
    remedy = "name a model that does"
    if language == "zh":
        remedy = (
            f"pull one that does (vermilion models pull {CHINESE_MODEL}) and name it with"
            f" --model {CHINESE_MODEL}"
        )
    raise InputError(f"language: {card.name} writes {known}, not {wanted}; {remedy}")
