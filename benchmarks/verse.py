"""How well the verse model keeps form, tones and rhymes, beside the poems it learned from.

    python benchmarks/verse.py CORPUS [--model verse] [--n 4]

CORPUS is the texts.jsonl that `python -m vermilion.data.corpora verse` builds. Printed are, for
each form: single draws of the model (tones and rhymes as they come), what the recipe chooses
among its drafts, and poems of the corpus, all by the rule in `vermilion.data.prosody`.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from statistics import mean

from vermilion.data import prosody
from vermilion.line import recipe as recipes
from vermilion.line.run import Line
from vermilion.settings import Settings
from vermilion.types import Recipe

TITLES = (
    *("秋思", "春晓", "山居", "怀古", "送别", "江村", "夜雨", "梅花"),
    *("登楼", "边塞", "月夜", "渔父", "寄友", "雪", "中秋", "古寺"),
)


def figures(poems: Iterable[str]) -> dict[str, float]:
    """Shares of poems, and mean scores."""
    measured = [(prosody.form_of(prosody.lines_of(p)), prosody.lines_of(p)) for p in poems]
    scored = [prosody.scores(lines) for form, lines in measured if form]
    return {
        "poems": len(measured),
        "form": mean(bool(form) for form, _ in measured),
        "tone": mean(s.tone for s in scored),
        "rhyme": mean(s.rhyme for s in scored),
        "both": mean(s.tone >= 0.85 and s.rhyme == 1 for s in scored),
    }


def written(line: Line, recipe: Recipe, form: str, model: str, n: int) -> tuple[list[str], float]:
    """The model's poems on each title, and the share that passed all checks."""
    items = [
        item
        for title in TITLES
        for item in line.make(
            {"subject": title, "variables": {"form": form}, "counts": {"poem": n}},
            recipe=recipe,
            models={"text": model},
            seed=1,
        ).items
    ]
    return [i.asset.text for i in items], mean(not i.failures for i in items)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--model", default="verse")
    parser.add_argument("--n", type=int, default=4, help="single draws on each title")
    given = parser.parse_args()
    rows = given.corpus.read_text(encoding="utf-8").splitlines()
    real = [json.loads(row)["text"].split("\n", 1) for row in rows]
    random.Random(0).shuffle(real)
    chosen = recipes.find("verse")
    single = replace(chosen, steps=(replace(chosen.steps[0], candidates=1, tries=1),))
    print("| form | what | poems | form kept | tone | rhyme | tone >= 0.85 and rhyme 1 |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as home, Line(Settings(home=Path(home))) as line:
        for form in prosody.FORMS:
            draws, _ = written(line, single, form, given.model, given.n)
            best, _ = written(line, chosen, form, given.model, 1)
            learned = [body for head, body in real if head.startswith(form)][:1000]
            for what, poems in (("one draw", draws), ("chosen", best), ("real", learned)):
                row = figures(poems)
                print(
                    f"| {form} | {what} | {row['poems']} | {row['form']:.0%} |"
                    f" {row['tone']:.3f} | {row['rhyme']:.3f} | {row['both']:.0%} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
