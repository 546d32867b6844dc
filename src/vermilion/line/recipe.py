"""Recipes: TOML files of steps, those that come with the package and people's own."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

from vermilion.errors import InputError, NotFoundError
from vermilion.line.checks import validate_checks
from vermilion.line.reading import checked, parse, read_text
from vermilion.line.scores import MEASURES
from vermilion.line.template import compile_template
from vermilion.settings import get_settings
from vermilion.types import Brief, Recipe, Step

_NAME = re.compile(r"[a-z][a-z0-9_]*")
MOST_STEPS = 50
DEFAULT = "launch"
_REQUIRABLE = ("audience", "tone", "style", "facts", "must_mention")


def shipped() -> dict[str, Recipe]:
    """The recipes that come with the package, by name."""
    folder = files("vermilion") / "recipes"
    found = sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(".toml"))
    return {
        name.removesuffix(".toml"): from_text(
            (folder / name).read_text(encoding="utf-8"), name.removesuffix(".toml")
        )
        for name in found
    }


def find(name: str) -> Recipe:
    """A recipe by name, or by the path of a .toml file.

    Raises:
        NotFoundError: there is no such recipe or file.
        InputError: the file is not a recipe.
    """
    if name.endswith(".toml"):
        path = Path(name)
        text = read_text(path, get_settings().max_recipe_bytes, "recipe")
        return from_text(text, path.stem)
    known = shipped()
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there is: {', '.join(known)}"
        raise NotFoundError(f"recipe: {name!r} is not known; {hint}")
    return known[name]


def choose(brief: Brief) -> Recipe:
    """The recipe that the brief names; else the one whose words it uses; else `launch`."""
    if brief.recipe:
        return find(brief.recipe)
    request = f"{brief.variables.get('request', '')} {brief.subject}".lower()
    words = set(re.findall(r"\w+", request))
    recipes = shipped()
    fits = [name for name, recipe in recipes.items() if words & set(recipe.words)]
    return recipes[fits[0] if len(fits) == 1 else DEFAULT]


_AMOUNTS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


def answering(request: str, model: str | None = None) -> tuple[Recipe, Brief, int] | None:
    """The recipe for a request such as "Three taglines for a bookshop", if there is one.

    Args:
        request: what a person wrote.
        model: the model that they named, if they named one.

    Returns:
        The recipe, a brief with its subject, and how many are asked for, 1 to 20.

    Raises:
        InputError: the model is one that a recipe alone can ask, and this is no such request.
    """
    recipes = shipped()
    for recipe in recipes.values():
        found = recipe.asks and re.fullmatch(recipe.asks, request.strip(" ."), re.IGNORECASE)
        if found:
            groups = {name: value or "" for name, value in found.groupdict().items()}
            word = groups.pop("amount", "").lower() or "one"
            amount = _AMOUNTS.index(word) + 1 if word in _AMOUNTS else 1
            amount = min(max(int(word), 1), 20) if word.isdecimal() else amount
            return recipe, Brief(subject=groups.pop("subject"), variables=groups), amount
    for recipe in recipes.values():
        if recipe.example and model in {step.model for step in recipe.steps} - {""}:
            raise InputError(
                f"prompt: {request.strip()[:40]!r} is not what {model} can write;"
                f" ask as in {recipe.example!r} ({recipe.description})"
            )
    return None


def order(
    request: str, n: int, model: str | None, settings: Mapping[str, Any]
) -> tuple[Recipe, Brief] | None:
    """The recipe and the brief that a request for texts becomes, if a recipe answers it.

    With a setting of one's own the model is asked as it is; but a model of a recipe's own is asked
    in that recipe's layout, whatever else is set.

    Args:
        request: what a person wrote.
        n: how many they asked for; the request itself may ask for more.
        model: the model that they named, if they named one.
        settings: fields of `TextSettings` that they set.

    Raises:
        InputError: see `answering`.
    """
    answer = answering(request, model)
    if answer is None:
        return None
    recipe, brief, amount = answer
    first, *others = recipe.steps
    if settings and not first.model:
        return None
    first = replace(first, settings={**first.settings, **settings})
    brief = replace(brief, counts={first.name: max(n, amount)})
    return replace(recipe, steps=(first, *others)), brief


def from_text(text: str, name: str) -> Recipe:
    """Read and check a recipe's TOML.

    Raises:
        InputError: a field is missing, unknown or wrong; a step needs one that does not come
            before it; a template, a check or a kind is not known.
    """
    what = f"recipe {name}"
    table = parse(text, ".toml", what)
    rows = table.pop("steps", [])
    if not isinstance(rows, list) or not 1 <= len(rows) <= MOST_STEPS:
        raise InputError(f"{what}: steps must be a list of 1 to {MOST_STEPS} tables [[steps]]")
    steps: list[Step] = []
    for row in rows:
        steps.append(_step(row, what, {step.name for step in steps}))
    return replace(checked(Recipe, {**table, "name": name, "steps": []}, what), steps=tuple(steps))


def _step(row: Any, what: str, before: set[str]) -> Step:
    if not isinstance(row, dict):
        raise InputError(f"{what}: steps must be tables: [[steps]]")
    step = checked(Step, row, f"{what}: step {row.get('name', '?')}")
    where = f"{what}: steps.{step.name}"
    if not _NAME.fullmatch(step.name) or step.name in before:
        raise InputError(f"{where}: name must be unique, of small letters, digits and _")
    for need in step.needs:
        if need not in before:
            raise InputError(f"{where}: needs names {need!r}, which is no earlier step")
    source = step.each.split(".")[0] if isinstance(step.each, str) else ""
    if source and source not in {*step.needs, "facts"}:
        raise InputError(f"{where}: each reads {step.each!r}, which is not among its needs")
    limits = {"count": (step.count, 0, 200), "candidates": (step.candidates, 1, 64)}
    for field, (value, least, most) in {**limits, "tries": (step.tries, 1, 20)}.items():
        if not least <= value <= most:
            raise InputError(f"{where}: {field} must be {least} to {most} (found {value})")
    compile_template(step.template, f"{where}.template")
    for field in step.small_requires:
        if field not in _REQUIRABLE:
            raise InputError(f"{where}: small_requires must be of {', '.join(_REQUIRABLE)}")
    validate_checks(step.checks, where)
    if step.rank and step.rank not in MEASURES:
        raise InputError(f"{where}: rank must be of {', '.join(MEASURES)} (found {step.rank!r})")
    return step
