"""How often a model's texts pass the checks of the shipped recipes, on fifty briefs.

    python benchmarks/recipes.py [--model smollm2-135m] [--recipe launch] [--drafts 1] [--json]

Every brief of `tests/line/data/briefs` is made with its recipe and one seed, without speech, in a
library that is thrown away. Each step of a recipe draws several drafts; where none passes its
checks it is re-rolled, and what still fails after that is kept and said. This counts how often
either happens. It is a floor and not a grade: a text can pass all checks and be dull or wrong, so
read some (`--json` has them all).

With `--drafts 1` a step without a re-roll is one whose first drafts all passed, which tells models
apart that are alike when the best of many is taken. With `--free` a small model has to do without
the patterns that hold it, as a larger one does.

A long run can be made in pieces: `--json` of each into a file, then `--add` those files.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import vermilion as vm
from harness import machine
from vermilion.errors import InputError
from vermilion.line import recipe as recipes
from vermilion.line.brief import read_brief
from vermilion.settings import get_settings
from vermilion.types import Brief, Recipe

BRIEFS = Path(__file__).parents[1] / "tests/line/data/briefs/briefs.json"
HEAD = (
    "| recipe | sets | no re-roll | steps | no re-roll | sets that fail | steps that fail"
    " | fails most | seconds a set |\n| --- | --- | --- | --- | --- | --- | --- | --- | --- |"
)


def order(row: dict[str, Any], given: argparse.Namespace) -> tuple[Recipe, Brief]:
    """The recipe of a row and its brief, as `make` or `write` would read it, without speech."""
    answer = recipes.answering(row["brief"]) if isinstance(row["brief"], str) else None
    if answer is not None:
        recipe, brief, amount = answer
        counts = {recipe.steps[0].name: amount}
    else:
        recipe, brief, counts = recipes.find(row["recipe"]), read_brief(row["brief"]), {}
    counts |= {step.name: 0 for step in recipe.steps if step.kind == "speech"}
    steps = recipe.steps
    if given.drafts is not None:
        steps = tuple(replace(step, candidates=given.drafts) for step in steps)
    if given.free:
        steps = tuple(replace(step, small={}, small_requires=()) for step in steps)
    return replace(recipe, steps=steps), replace(brief, counts={**brief.counts, **counts})


def made(line: vm.Line, row: dict[str, Any], given: argparse.Namespace) -> dict[str, Any]:
    """One set, as JSON values: its texts, failures and seconds, or why it is refused."""
    recipe, brief = order(row, given)
    result: dict[str, Any] = {"name": row["name"], "recipe": recipe.name}
    candidates = {step.name: step.candidates for step in recipe.steps}
    try:
        finished = line.make(brief, recipe=recipe, models={"text": given.model}, seed=given.seed)
    except InputError as error:
        return {**result, "refused": str(error)}
    items = [
        {
            "step": item.asset.step,
            "text": item.asset.text,
            "rerolled": item.draws > candidates[item.asset.step or ""],
            "failures": list(item.failures),
        }
        for item in finished.items
    ]
    return {**result, "seconds": round(finished.seconds, 2), "items": items}


def figures(sets: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """What is counted of the sets of one recipe.

    A step counts as re-rolled or failing where one of its texts is; a set where one of its
    steps is. A failure's quoted words and numbers are left out, so that its kind can be counted.
    """
    sets = list(sets)
    done = [s for s in sets if "items" in s]
    steps = [
        [item for item in s["items"] if item["step"] == step]
        for s in done
        for step in dict.fromkeys(item["step"] for item in s["items"])
    ]
    kinds = Counter(
        f"{item['step']}: " + re.sub(r"(['\"]).*?\1|\d+", "…", failure)
        for s in done
        for item in s["items"]
        for failure in item["failures"]
    )
    return {
        "refused": len(sets) - len(done),
        "sets": len(done),
        "sets_without_reroll": sum(not any(i["rerolled"] for i in s["items"]) for s in done),
        "steps": len(steps),
        "steps_without_reroll": sum(not any(i["rerolled"] for i in items) for items in steps),
        "sets_failing": sum(any(i["failures"] for i in s["items"]) for s in done),
        "steps_failing": sum(any(i["failures"] for i in items) for items in steps),
        "failures": dict(kinds.most_common()),
        "seconds": round(median(s["seconds"] for s in done), 1) if done else None,
    }


def table_row(name: str, counted: dict[str, Any]) -> str:
    """A line of the table."""
    refused = f" (+{counted['refused']} refused)" if counted["refused"] else ""
    most = "; ".join(f"{kind} ({n})" for kind, n in list(counted["failures"].items())[:2]) or "-"
    took = "-" if counted["seconds"] is None else f"{counted['seconds']:.1f}"
    return (
        f"| {name} | {counted['sets']}{refused} | {counted['sets_without_reroll']} |"
        f" {counted['steps']} | {counted['steps_without_reroll']} | {counted['sets_failing']} |"
        f" {counted['steps_failing']} | {most} | {took} |"
    )


def earlier(files: Sequence[Path], about: dict[str, Any]) -> list[dict[str, Any]]:
    """The sets of earlier pieces, which must be of the same model, numbers, seed and drafts."""
    pieces = [json.loads(file.read_text(encoding="utf-8")) for file in files]
    for file, piece in zip(files, pieces, strict=True):
        found = {name: piece[name] for name in about}
        if found != about:
            sys.exit(f"{file}: is of {found}, not of {about}; run it again")
    return [s for piece in pieces for s in piece["made"]]


def chosen(given: argparse.Namespace) -> list[dict[str, Any]]:
    """The briefs that are asked for; the limit is one for each recipe."""
    rows: list[dict[str, Any]] = json.loads(given.briefs.read_text(encoding="utf-8"))
    names = [given.recipe] if given.recipe else list(dict.fromkeys(r["recipe"] for r in rows))
    found = []
    for name in names:
        these = [r for r in rows if r["recipe"] == name][given.offset :]
        found += these if given.limit is None else these[: given.limit]
    return found


def arguments() -> argparse.Namespace:
    """What the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--model", default=get_settings().text_model)
    parser.add_argument("--briefs", type=Path, default=BRIEFS)
    parser.add_argument("--recipe", help="this one alone")
    parser.add_argument("--offset", type=int, default=0, help="briefs of a recipe to pass over")
    parser.add_argument("--limit", type=int, help="briefs of a recipe; 0 makes none")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--drafts", type=int, help="in place of the recipes' candidates")
    parser.add_argument("--free", action="store_true", help="without patterns for small models")
    parser.add_argument("--add", type=Path, nargs="*", default=[], help="--json of earlier pieces")
    parser.add_argument("--json", action="store_true", help="everything, texts too, as JSON")
    return parser.parse_args()


def main() -> None:
    """Make the sets and print what was counted."""
    given, settings = arguments(), get_settings()
    about = {"model": given.model, "dtype": settings.dtype, "seed": given.seed}
    about |= {"drafts": given.drafts, "free": given.free}
    sets = earlier(given.add, about)
    rows = chosen(given)
    with tempfile.TemporaryDirectory() as home:
        (Path(home) / "models").symlink_to(settings.models_dir.absolute())
        with vm.Line(settings.model_copy(update={"home": Path(home)})) as line:
            if rows:
                line.load(given.model)  # so that no set's seconds have it
            for number, brief in enumerate(rows, start=1):
                print(f"{number}/{len(rows)} {brief['name']}", file=sys.stderr, flush=True)
                sets.append(made(line, brief, given))
    by_recipe = {
        name: figures(s for s in sets if s["recipe"] == name)
        for name in dict.fromkeys(s["recipe"] for s in sets)
    }
    if given.json:
        whole = {**about, "machine": machine(), "recipes": by_recipe, "made": sets}
        print(json.dumps(whole, indent=2, ensure_ascii=False))
        return
    options = "; ".join(f"{name} {value}" for name, value in about.items() if value is not None)
    print(f"{machine()}; {options}\n\n{HEAD}")
    for name, counted in by_recipe.items():
        print(table_row(name, counted))
    print(table_row("all", figures(sets)))


if __name__ == "__main__":
    main()
