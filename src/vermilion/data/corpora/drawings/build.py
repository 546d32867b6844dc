"""The corpus of drawings: pictures, captions and credits in one folder."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from vermilion.data.corpora.drawings import readers, tags
from vermilion.data.corpora.drawings.credits import credits_text, notice_text
from vermilion.data.corpora.drawings.names import bare_code, read_emoji
from vermilion.data.corpora.drawings.raster import Picture, picture, rasteriser
from vermilion.data.corpora.drawings.readers import Drawing, Words
from vermilion.data.corpora.drawings.sets import SETS
from vermilion.data.corpora.drawings.sources import (
    EMOJIBASE,
    GROUPS,
    ICON_PARK,
    ICONIFY,
    OPENCLIPART,
    DrawingSet,
)
from vermilion.data.corpora.drawings.split import SPLITS, assign
from vermilion.data.corpora.drawings.words import glossary, other_names, table
from vermilion.data.corpora.packages import Package, obtain
from vermilion.errors import InputError

PICTURES, CAPTIONS, CREDITS, NOTICE = "pictures", "captions.jsonl", "CREDITS.txt", "NOTICE"
WORDS, NAMES = "words.zh.tsv", "words.en.tsv"
LEFT_OUT = "left-out.txt"
SIZES = (16, 512)  # least and largest side in px
PROCESSES, _NICE, _CHUNK = 2, 10, 32


@dataclass(slots=True)
class Report:
    """What came of a set.

    Attributes:
        pictures: kept.
        chinese: of them with a Chinese label.
        copies: left out, since an earlier picture has the same pixels.
        near: kept, though one of another set looks the same from afar.
        broken: left out, since they cannot be drawn.
        splits: kept pictures by split.
    """

    pictures: int = 0
    chinese: int = 0
    copies: int = 0
    near: int = 0
    broken: int = 0
    splits: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class Drawings:
    """What was built.

    Attributes:
        path: of captions.jsonl.
        sets: reports by a set's name.
        labels: different English labels.
        concepts: different concepts.
    """

    path: Path
    sets: dict[str, Report]
    labels: int
    concepts: int

    @property
    def lines(self) -> list[str]:
        """The report as a table, ready to be shown."""
        heads = ("pictures", "Chinese", "copies", "alike", "broken", *SPLITS)
        rows = [f"{'set':<28}" + "".join(f"{head:>{len(head) + 3}}" for head in heads)]
        total = Report()
        for name, report in (*self.sets.items(), ("all", total)):
            values = (report.pictures, report.chinese, report.copies, report.near, report.broken)
            every = (*values, *(report.splits[split] for split in SPLITS))
            cells = (f"{value:>{len(head) + 3},}" for head, value in zip(heads, every, strict=True))
            rows.append(f"{name:<28}" + "".join(cells))
            for fact in ("pictures", "chinese", "copies", "near", "broken"):
                setattr(total, fact, getattr(total, fact) + getattr(report, fact))
            total.splits += report.splits
        return [*rows, f"{self.labels:,} labels, {self.concepts:,} concepts"]


def choose(names: Sequence[str]) -> tuple[DrawingSet, ...]:
    """The sets of those names or groups, in their own order; all where none is named.

    Raises:
        InputError: there is no such set or group.
    """
    known = {drawn.name for drawn in SETS} | set(GROUPS)
    if unknown := sorted(set(names) - known):
        raise InputError(
            f"--sets: there is no {unknown[0]}; choose among {', '.join(GROUPS)},"
            f" {', '.join(drawn.name for drawn in SETS)}"
        )
    return tuple(s for s in SETS if not names or s.name in names or s.group in names)


def build(
    packages: Path,
    out: Path,
    *,
    download: bool = False,
    size: int = 64,
    sets: Sequence[str] = (),
    processes: int = PROCESSES,
    quiet: bool = False,
) -> Drawings:
    """Build the corpus of drawings; an earlier one in the folder is replaced.

    Args:
        packages: folder of the packages' files.
        out: folder to write pictures/, captions.jsonl, CREDITS.txt, NOTICE, left-out.txt,
            words.zh.tsv and words.en.tsv into.
        download: fetch the packages that are not there.
        size: side of a picture in px, 16 to 512.
        sets: names of sets or groups; none for all.
        processes: that draw at once.
        quiet: show no progress.

    Raises:
        InputError: the size, a set or the folder cannot be used.
        NotFoundError, FetchError: see `obtain`; or a package is not what it was.
        MissingExtraError: the rasteriser is not installed.
    """
    if not SIZES[0] <= size <= SIZES[1]:
        raise InputError(f"--size: {size} px; it must be from {SIZES[0]} to {SIZES[1]}")
    chosen = choose(sets)
    rasteriser()
    if (out / PICTURES).exists() and not (out / CAPTIONS).is_file():
        raise InputError(f"{out / PICTURES} is no part of a corpus; name an empty folder")
    needed = _packages(chosen)
    paths = {package: obtain(package, packages, download=download) for package in needed}
    part = out / f"{PICTURES}.part"
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    icons = tags.json_members(
        paths[ICONIFY],
        {s.name: f"package/json/{s.name}.json" for s in SETS if s.package is ICONIFY},
    )
    known = _known(chosen, paths, icons)
    reports: dict[str, Report] = {}
    kept: list[Drawing] = []
    left_out: list[str] = []
    exact: dict[str, str] = {}
    near: dict[str, str] = {}
    with _bar(quiet) as bar, _workers(processes) as run:
        for drawn in chosen:
            # Of copies the one with the plainest label is kept: France, not Clipperton Island.
            drawings = sorted(
                _read(drawn, paths, icons, known), key=lambda d: (len(d.subject.label), d.id)
            )
            report = reports[drawn.name] = Report()
            task = bar.add_task(drawn.name, total=len(drawings))
            for drawing, made in zip(drawings, run(size, drawings), strict=True):
                bar.advance(task)
                if isinstance(made, str):
                    report.broken += 1
                    left_out.append(f"{drawing.id}: {made}")
                elif made.exact in exact:
                    report.copies += 1
                    left_out.append(f"{drawing.id}: the same pixels as {exact[made.exact]}")
                else:
                    exact[made.exact] = drawing.id
                    report.near += near.setdefault(made.near, drawn.name) != drawn.name
                    (part / f"{drawing.id}.png").write_bytes(made.png)
                    kept.append(drawing)
    order = {drawn.name: number for number, drawn in enumerate(chosen)}
    kept.sort(key=lambda drawing: (order[drawing.set.name], drawing.id))
    lines = list(_captions(kept, reports))
    _publish(out, part, lines, left_out)
    labels = {drawing.subject.label for drawing in kept}
    concepts = {drawing.subject.concept for drawing in kept}
    result = Drawings(out / CAPTIONS, reports, len(labels), len(concepts))
    _credit(out, size, result, chosen, needed, kept)
    return result


def _packages(chosen: Iterable[DrawingSet]) -> list[Package]:
    """What the sets need: Iconify's names and the labels always."""
    needed = dict.fromkeys((ICONIFY, EMOJIBASE, ICON_PARK))
    for drawn in chosen:
        needed[drawn.package] = None
        if drawn.tags is not None:
            needed[drawn.tags] = None
    return list(needed)


def _known(
    chosen: Iterable[DrawingSet], paths: dict[Package, Path], icons: dict[str, Any]
) -> Words:
    emoji = read_emoji(paths[EMOJIBASE])
    for name, code in readers.shared_names(icons).items():
        if emoji.coded(code) is not None:
            emoji.by_name.setdefault(name, emoji.by_code[bare_code(code)].concept)
    return Words(
        emoji,
        names=(n for s in SETS if s.group in ("icons", "line") for n in icons[s.name]["icons"]),
        tags={
            s.name: tags.TAGS[s.name](paths[s.tags])
            for s in chosen
            if s.name in tags.TAGS and s.tags is not None
        },
        chinese=tags.chinese_titles(paths[ICON_PARK]),
    )


def _read(
    drawn: DrawingSet, paths: dict[Package, Path], icons: dict[str, Any], known: Words
) -> Iterator[Drawing]:
    if drawn.package is ICONIFY:
        return readers.iconify(drawn, icons[drawn.name], known)
    read = readers.clip_art if drawn.package is OPENCLIPART else readers.three_dimensional
    return read(drawn, paths[drawn.package], known)


def _draw(size: int, content: bytes, trimmed: bool) -> Picture | str:
    return picture(content, size, trimmed=trimmed)


@contextmanager
def _workers(processes: int) -> Iterator[Any]:
    """A call that draws many, in order: here, or in processes that leave others the way."""
    if processes == 1:
        yield lambda size, drawings: (_draw(size, d.content, d.trimmed) for d in drawings)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, context, _step_back) as pool:
        yield lambda size, drawings: pool.map(
            partial(_draw, size),
            [d.content for d in drawings],
            [d.trimmed for d in drawings],
            chunksize=_CHUNK,
        )


def _step_back() -> None:
    if hasattr(os, "nice"):
        os.nice(_NICE)


def _bar(quiet: bool) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    return Progress(
        *columns, TimeElapsedColumn(), console=Console(stderr=True), transient=True, disable=quiet
    )


def _captions(kept: Sequence[Drawing], reports: dict[str, Report]) -> Iterator[dict[str, Any]]:
    """A line for each picture; counts them."""
    pairs = [(drawing.subject.family, drawing.set.kin or drawing.set.name) for drawing in kept]
    for drawing, (family, _), split in zip(kept, pairs, assign(pairs), strict=True):
        report, subject, drawn = reports[drawing.set.name], drawing.subject, drawing.set
        report.pictures += 1
        report.chinese += bool(subject.label_zh)
        report.splits[split] += 1
        yield {
            "file": f"{PICTURES}/{drawing.id}.png",
            "caption": f"{subject.label}, {drawing.style}",
            "set": drawn.name,
            "group": drawn.group,
            "style": drawing.style,
            "concept": subject.concept,
            "family": family,
            "label": subject.label,
            "tags": list(subject.tags),
            "label_zh": subject.label_zh,
            "tags_zh": list(subject.tags_zh),
            "licence": drawn.licence,
            "credit": drawing.author or drawn.author,
            "split": split,
        }


def _publish(out: Path, part: Path, lines: list[dict[str, Any]], left_out: list[str]) -> None:
    """The captions last: a folder that has them is whole."""
    (out / CAPTIONS).unlink(missing_ok=True)
    shutil.rmtree(out / PICTURES, ignore_errors=True)
    part.replace(out / PICTURES)
    (out / LEFT_OUT).write_text("".join(f"{line}\n" for line in left_out), encoding="utf-8")
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    (out / f"{CAPTIONS}.part").write_text(text, encoding="utf-8")
    (out / f"{CAPTIONS}.part").replace(out / CAPTIONS)


def _credit(
    out: Path,
    size: int,
    built: Drawings,
    chosen: Sequence[DrawingSet],
    needed: Sequence[Package],
    kept: Sequence[Drawing],
) -> None:
    counts = [(drawn, built.sets[drawn.name].pictures) for drawn in chosen]
    authors: dict[str, Counter[str]] = {}
    for drawing in kept:
        if drawing.author:
            authors.setdefault(drawing.set.title, Counter())[drawing.author] += 1
    facts = [f"{CAPTIONS}: {len(kept):,} pictures of {size} x {size} px, {built.labels:,} labels"]
    text = credits_text(facts, counts, needed, authors)
    (out / CREDITS).write_text(text, encoding="utf-8")
    (out / NOTICE).write_text(notice_text(chosen, needed), encoding="utf-8")
    with (out / CAPTIONS).open(encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    (out / WORDS).write_text(table(glossary(rows)), encoding="utf-8")
    (out / NAMES).write_text(table(other_names(rows)), encoding="utf-8")
