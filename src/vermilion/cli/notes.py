"""What was noticed about an asset while it was made, in words for people."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from rich.markup import escape

from vermilion.cli.show import err

_MOST_NAMED = 3


def warn(assets: Iterable[Any]) -> None:
    """Say what the safety rules found, and which artist a prompt names; each thing once."""
    said: dict[str, list[str]] = {}
    for asset in assets:
        for words in _warnings(asset.notes):
            said.setdefault(words, []).append(asset.id)
    for words, ids in said.items():
        whose = ", ".join(ids[:_MOST_NAMED]) + (", …" if len(ids) > _MOST_NAMED else "")
        err.print(f"[yellow]note:[/] {escape(words)} [dim]({whose})[/]", soft_wrap=True)


def _warnings(notes: Mapping[str, Any]) -> list[str]:
    found = []
    judged = {
        "prompt_safety": "the prompt",
        "safety": "the result",
        "picture_safety": "the picture",
    }
    for name, what in judged.items():
        decision = notes.get(name)
        if isinstance(decision, dict) and decision.get("rule"):
            found.append(f"{what} breaks a safety rule: {decided(decision)}; it is kept and marked")
    if artist := notes.get("artist"):
        found.append(str(artist))
    return found


def decided(decision: Mapping[str, Any]) -> str:
    """A safety decision as one phrase."""
    if not decision.get("rule"):
        return "nothing found"
    words = ", ".join(str(word) for word in decision.get("found", ()))
    phrase = f"{decision.get('category')}, rule {decision['rule']}, score {decision['score']:.2f}"
    return f"{phrase} ({words})" if words else phrase


def _seed(made: Mapping[str, Any]) -> str:
    return "" if made.get("seed") is None else f"seed {made['seed']}"


def rows(asset: Any) -> dict[str, str]:
    """What is shown of an asset's notes and of the tool that made it, name to words."""
    shown = {}
    made = asset.recipe.get("made_with", {})
    if made:
        facts = [made.get("tool"), made.get("model"), _seed(made)]
        shown["made with"] = ", ".join(str(fact) for fact in facts if fact)
    if made.get("prompt"):
        shown["prompt"] = str(made["prompt"])
    for name, value in asset.notes.items():
        decision = isinstance(value, dict) and "rule" in value
        words = decided(value) if decision else str(value)
        shown[name.replace("_", " ")] = words
    return shown
