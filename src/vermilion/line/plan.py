"""Brief and recipe → prompts."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vermilion import hooks
from vermilion.errors import InputError
from vermilion.line.brief import language_of
from vermilion.line.checks import key_words
from vermilion.line.crafts import Craft
from vermilion.line.languages import require_language
from vermilion.line.phrases import without_order
from vermilion.line.template import names_in, render
from vermilion.runtime.store import Store
from vermilion.settings import Settings
from vermilion.types import Brief, Prompt, Recipe, Step

_FIELDS = ("subject", "audience", "tone", "style", "facts", "must_mention")
_ASK_FOR = {"zh": "只用中文写。", "en": "Write in English."}
_OF_ITEM = ("language", "tags", "item", "number", "count")


@dataclass(frozen=True, slots=True)
class Result:
    """What a step made, as later steps' templates see it.

    Attributes:
        texts: the words of each.
        data: the parsed answer of the first, where it is structured.
    """

    texts: tuple[str, ...]
    data: Any = None

    @property
    def text(self) -> str:
        """All words, a paragraph each."""
        return "\n\n".join(self.texts)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedStep:
    """A step with everything looked up: its craft, its settings, its model.

    Attributes:
        settings: for a model of usual size.
        small: for one that has fewer than `SMALL_MODEL` parameters.
        count: how many the brief asks for; None where `each` decides.
    """

    step: Step
    craft: Craft
    settings: Mapping[str, Any]
    small: Mapping[str, Any]
    model: str
    count: int | None


def plan(
    brief: Brief, recipe: Recipe, settings: Settings, models: Mapping[str, str]
) -> list[PlannedStep]:
    """See that the recipe can be followed for this brief, before any work is done.

    Args:
        brief: what the person wants.
        recipe: its steps; those whose count is 0 are left out.
        settings: names the models to use by default.
        models: by kind, models that the person named.

    Raises:
        InputError: a kind that no engine makes, a setting that cannot be used, a template
            that uses a value nobody gives, a count for a step that does not exist.
    """
    where = f"recipe {recipe.name}"
    unknown = set(brief.counts) - {step.name for step in recipe.steps}
    if unknown:
        names = ", ".join(step.name for step in recipe.steps)
        raise InputError(f"brief: counts.{min(unknown)} is no step of {where}; there is: {names}")
    for step in recipe.steps:
        if step.kind not in hooks.names(hooks.CRAFTS):
            known = ", ".join(hooks.names(hooks.CRAFTS))
            raise InputError(
                f"{where}: steps.{step.name} asks for {step.kind!r}, which no engine makes yet;"
                f" there is: {known}"
            )
    planned: list[PlannedStep] = []
    given = {*_FIELDS, *_OF_ITEM, *brief.variables}
    for step in recipe.steps:
        count = brief.counts.get(step.name, step.count)
        if count == 0:
            continue
        place = f"{where}: steps.{step.name}"
        missing = [need for need in step.needs if need not in {p.step.name for p in planned}]
        if missing:
            raise InputError(f"brief: {place} needs {missing[0]}, which counts leaves out")
        unknown_names = names_in(step.template, place) - given - set(step.needs)
        if unknown_names:
            raise InputError(
                f"{place}.template uses {min(unknown_names)!r}, which nothing gives; put it in"
                " the brief's variables or the step's needs"
            )
        craft: Craft = hooks.resolve(hooks.CRAFTS, step.kind)()
        values = craft.settings(step.settings, f"{place}.settings")
        if values.get("image"):
            raise InputError(
                f"{place}.settings.image: a recipe cannot name a picture; leave it out"
            )
        small = craft.settings(_tightened(step), f"{place}.small")
        if language_of(brief) not in recipe.languages:
            # The templates are read in their own language; patterns of it would be in the way.
            values = small = _asking_for(language_of(brief), values)
        model = models.get(step.kind) or step.model or craft.model(values, settings)
        planned.append(
            PlannedStep(
                step=step,
                craft=craft,
                settings=values,
                small=small,
                model=model,
                count=None if step.each and step.name not in brief.counts else count,
            )
        )
    if not planned:
        raise InputError(f"brief: counts leaves out every step of {where}; keep one")
    return planned


def possible(
    steps: Sequence[PlannedStep], store: Store, language: str
) -> tuple[list[PlannedStep], list[str]]:
    """The steps whose model is here and knows the language, and why others are left out.

    Raises:
        NotFoundError: the model of a step that may not be missing is not here.
        InputError: it does not know the language.
    """
    kept, gone = [], set[str]()
    reasons: dict[str, list[str]] = {}
    for planned in steps:
        step = planned.step
        if gone & set(step.needs):
            gone.add(step.name)
            continue
        try:
            require_language(store.locate(planned.model)[0], language)
        except InputError as error:  # NotFoundError is one too
            if not step.optional:
                raise
            reasons.setdefault(str(error), []).append(step.name)
            gone.add(step.name)
        else:
            kept.append(planned)
    return kept, [without(names, reason) for reason, names in reasons.items()]


def without(names: Sequence[str], reason: str) -> str:
    """A sentence on steps that are left out."""
    return f"{' and '.join(names)} {'was' if len(names) == 1 else 'were'} left out: {reason}"


def _asking_for(language: str, settings: dict[str, Any]) -> dict[str, Any]:
    """Settings of text that say which language to write; others as they are."""
    if "system" not in settings:
        return settings
    asked = _ASK_FOR.get(language, f"Write in the language whose code is {language}.")
    return {**settings, "system": f"{settings['system']} {asked}".strip()}


def _tightened(step: Step) -> dict[str, Any]:
    """A step's settings for a small model; what that one's text follows takes its place."""
    settings = dict(step.settings)
    led = [name for name in ("schema", "pattern", "grammar") if step.small.get(name)]
    for name in ("schema", "pattern", "grammar"):
        if led and name not in led:
            settings.pop(name, None)
    if led and "schema" not in led:
        settings.pop("render", None)
    return settings | dict(step.small)


def prompts(
    planned: PlannedStep,
    brief: Brief,
    results: Mapping[str, Result],
    seed: int,
    *,
    small: bool = False,
) -> list[Prompt]:
    """The prompts of one step, with the seed of each one's first draw.

    Args:
        planned: the step.
        brief: what the person wants.
        results: of the steps before it, by name.
        seed: of the whole set.
        small: whether the model is a small one.

    Raises:
        InputError: a template cannot be rendered, or comes out empty.
    """
    step = planned.step
    settings = planned.small if small else planned.settings
    shared = {
        **{name: getattr(brief, name) for name in _FIELDS},
        "language": language_of(brief),
        "tags": tags(brief),
        **brief.variables,
        **results,
    }
    items = _items(step, shared)
    if planned.count is not None:
        items = items[: planned.count] if step.each else [""] * planned.count
    made = []
    for number, item in enumerate(items):
        values = {**shared, "item": item, "number": number + 1, "count": len(items)}
        text = render(step.template, values, f"steps.{step.name}.template")
        if not text:
            raise InputError(f"steps.{step.name}.template: it comes out empty; write what to make")
        made.append(
            Prompt(
                kind=step.kind,
                text=text,
                model=planned.model,
                seed=derive_seed(seed, text, number, 0),
                settings=_filled(settings, values, f"steps.{step.name}.settings"),
            )
        )
    return made


def _filled(settings: Mapping[str, Any], values: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Settings with what a grammar takes from the brief or from earlier steps put in.

    A pattern may be a template; a part of a schema may say {"x-from": "tags"}, which becomes
    an enum of that list.
    """
    filled = dict(settings)
    if filled.get("pattern"):
        filled["pattern"] = render(filled["pattern"], values, f"{where}.pattern")
    if filled.get("schema") is not None:
        filled["schema"] = _filled_schema(filled["schema"], values, f"{where}.schema")
    return filled


def _filled_schema(node: Any, values: Mapping[str, Any], where: str) -> Any:
    if isinstance(node, list):
        return [_filled_schema(part, values, where) for part in node]
    if not isinstance(node, dict):
        return render(node, values, where) if isinstance(node, str) and "{{" in node else node
    if "x-from" in node:
        choices = _look_up(node["x-from"], values)
        if not choices:
            raise InputError(f"{where}: x-from names {node['x-from']!r}, which is no list")
        return {"enum": choices}
    return {key: _filled_schema(part, values, where) for key, part in node.items()}


def _look_up(path: str, values: Mapping[str, Any]) -> list[Any] | None:
    """A list by its name, or by a path into what a step made: "outline.points"."""
    name, *parts = path.split(".")
    found = values.get(name)
    if isinstance(found, Result):
        found = found.data
    for part in parts:
        found = found.get(part) if isinstance(found, dict) else None
    return list(found) if isinstance(found, list | tuple) else None


def _joined(text: str) -> str:
    """A text's letters and digits, at most 12, as one hashtag."""
    return re.sub(r"\W", "", text)[:12]


def tags(brief: Brief) -> list[str]:
    """Hashtags that fit the brief, without the sign: its names and the words of its subject."""
    about = without_order(brief.subject)
    names = re.findall(r"[A-Z][\w'’]*(?: [A-Z][\w'’]*)+", about)
    subject = [
        word
        for word in key_words(about)
        if word.isalpha() and len(word) > 3 and word not in ("called", "named", "small")
    ]
    pairs = re.findall(r"(?=\b([a-z]{3,}) ([a-z]{4,})\b)", about)
    both = [a + b for a, b in pairs if {a, b} <= set(subject)]
    found = [re.sub(r"\W", "", name).lower() for name in [*names, *brief.must_mention]]
    found = list(dict.fromkeys([*found, *both]))
    rest = [word for word in subject if not any(word in tag for tag in found)]
    good = list(dict.fromkeys([*found, *rest]))
    # A word that is a part of another tag only where there are too few.
    return (good if len(good) > 2 else list(dict.fromkeys([*good, *subject])))[:12] or [
        _joined(brief.subject)
    ]


def _items(step: Step, values: Mapping[str, Any]) -> Sequence[Any]:
    """What `each` stands for: its own list, or the one that it names."""
    if not isinstance(step.each, str):
        return step.each
    if not step.each:
        return []
    found = _look_up(step.each, values)
    if found is None:
        raise InputError(f"steps.{step.name}.each: {step.each} is not a list that was made")
    return found


def derive_seed(seed: int, text: str, number: int, draw: int) -> int:
    """The seed of one draw, 0 <= seed < 2**63: a hash, so that no two draws share their noise.

    Args:
        seed: of the whole set.
        text: of the prompt, so that two briefs of one seed differ in more than their words.
        number: of the prompt among those of its step.
        draw: 0 for the first.
    """
    key = f"{seed}/{number}/{draw}/{text}".encode()
    return int.from_bytes(hashlib.sha256(key).digest()[:8], "big") >> 1
