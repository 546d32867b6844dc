"""Whom a corpus of drawings is owed to: CREDITS.txt for it, NOTICE for what is made of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from vermilion.data.corpora.drawings.sources import LICENCES, DrawingSet
from vermilion.data.corpora.packages import Package

_CHANGES = "drawn as pictures of few pixels; drawings in skin tones, trademarks and copies left out"


def credits_text(
    facts: Iterable[str],
    sets: Iterable[tuple[DrawingSet, int]],
    packages: Iterable[Package],
    authors: Mapping[str, Counter[str]],
) -> str:
    """CREDITS.txt: every set with its licence, every package with its hash, single authors.

    Args:
        facts: what the corpus is, a line each.
        sets: how many drawings are from each.
        packages: that they are taken from.
        authors: by a set's name, how many drawings are by each of its authors.
    """
    title = "Drawings with their labels"
    lines = [title, "=" * len(title), "", *facts, "", "Drawings", ""]
    for drawn, count in sets:
        lines += [f"{drawn.title} ({drawn.name}): {count:,} drawings by {drawn.author}"]
        lines += [f"    licence {drawn.licence}, {LICENCES[drawn.licence]}"]
        lines += [f"    from {drawn.url}", f"    in {drawn.package.name} {drawn.package.version}"]
        lines += [f"    changes: {_CHANGES}", ""]
    for name, counts in authors.items():
        lines += [f"Authors of {name}, with the number of their drawings", ""]
        lines += [f"    {author} ({count})" for author, count in sorted(counts.items())] + [""]
    lines += ["Taken from", "", *(package.credit + "\n" for package in packages)]
    return "\n".join(lines)


def notice_text(sets: Iterable[DrawingSet], packages: Iterable[Package]) -> str:
    """NOTICE: what must stand beside a model that was trained on the drawings.

    Args:
        sets: that it was trained on.
        packages: that labels and tags are from.
    """
    lines = ["Trained on drawings and labels of these sets, each under its own licence:", ""]
    for drawn in sets:
        lines += [f"{drawn.title}, {drawn.author}, {drawn.licence}", f"    {drawn.url}"]
        if drawn.licence.startswith("CC-BY"):
            lines += [f"    {LICENCES[drawn.licence]}; {_CHANGES}"]
    lines += ["", "Labels and tags:", ""]
    lines += [f"{p.name} {p.version}, {p.author}, {p.licence}" for p in packages]
    return "\n".join(lines) + "\n"
