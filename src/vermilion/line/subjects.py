"""What a text is about, as a thing that can be drawn: a word or two that a small model knows."""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files

from vermilion.line.phrases import head_of

_WORD = re.compile(r"[a-z]+")


@cache
def _part(name: str) -> str:
    text = (files("vermilion") / "recipes" / "drawable.txt").read_text(encoding="utf-8")
    part = text.partition(f"[{name}]\n")[2].partition("\n[")[0]
    return " ".join(line for line in part.splitlines() if not line.startswith("#"))


@cache
def _things() -> frozenset[str]:
    return frozenset(_part("things").split())


@cache
def _instead() -> dict[str, str]:
    pairs = (entry.strip().partition(" ") for entry in _part("instead").split(","))
    return {word: drawn for word, _, drawn in pairs}


@cache
def _colours() -> frozenset[str]:
    return frozenset(_part("colours").split())


def drawable(subject: str) -> str:
    """A thing to draw for a subject, with its colour where that is said.

    What the subject is about comes first, then what else it names, from the front.

    "Night Shift, a dark roast coffee" → "coffee"; "a red fox who cannot sleep" → "red fox"; what
    names nothing that is known gives its own noun.
    """
    head = head_of(subject).lower()
    found = _thing(head)
    if found:
        return _coloured(subject, head, found)
    return seen(subject) or head or subject.strip()


def seen(text: str, besides: str = "") -> str:
    """The first thing that a text names and that can be drawn; "" where it names none.

    Args:
        text: in English.
        besides: a subject whose own thing does not count.
    """
    own = drawable(besides).split()[-1] if besides else ""
    words = _WORD.findall(text.lower())
    for known in (_things(), _instead()):
        for word in words:
            found = _thing(word)
            if found and found != own and any(form in known for form in _forms(word)):
                return _coloured(text, word, found)
    return ""


def _thing(word: str) -> str:
    """What is drawn for a word, in the singular; "" where it is not known."""
    for form in _forms(word):
        if form in _things():
            return form
    return next((_instead()[form] for form in _forms(word) if form in _instead()), "")


def _forms(word: str) -> list[str]:
    """A word, and what it may be in the singular."""
    forms = [word]
    if word.endswith("ies"):
        forms.append(word[:-3] + "y")
    if word.endswith("es"):
        forms.append(word[:-2])
    if word.endswith("s"):
        forms.append(word[:-1])
    return forms


def _coloured(text: str, word: str, thing: str) -> str:
    before = re.search(rf"\b(\w+) {re.escape(word)}\b", text.lower())
    colour = before[1] if before and before[1] in _colours() else ""
    return f"{colour} {thing}" if colour and colour != thing else thing


FILTERS = {"drawable": drawable, "seen": seen}
