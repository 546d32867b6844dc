"""`vermilion make`: a finished set from a brief."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.progress import Progress
from rich.table import Table

import vermilion as vm
from vermilion.cli import notes
from vermilion.cli.sealing import Mark, Public, Reason, SpokenMark, seal_options
from vermilion.cli.show import AsJson, Quiet, Seed, out, print_json, shown, work_bar


def make(
    brief: Annotated[
        str, typer.Argument(help="A sentence, a .toml or .json file, or - for standard input.")
    ],
    recipe: Annotated[
        str | None, typer.Option("--recipe", "-r", help="launch, story, lesson, or a .toml file.")
    ] = None,
    seed: Seed = None,
    folder: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Folder for the files.  [default: out/<subject>]"),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the set that --out holds.")
    ] = False,
    model: Annotated[str | None, typer.Option(help="Model that writes.")] = None,
    voice: Annotated[str | None, typer.Option(help="Model that speaks.")] = None,
    painter: Annotated[str | None, typer.Option(help="Model that paints.")] = None,
    mark: Mark = True,
    reason: Reason = "",
    public: Public = False,
    spoken: SpokenMark = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Make a finished set from one brief: texts, pictures, a voice; every file sealed."""
    options = seal_options(mark, reason, public, spoken=spoken)
    named = {"text": model, "speech": voice, "picture": painter}
    models = {kind: name for kind, name in named.items() if name}
    with vm.Line() as line, work_bar(shown(quiet, as_json)) as progress:
        finished = line.make(
            brief,
            recipe=recipe,
            seed=seed,
            out=folder,
            out_parent=Path("out"),
            overwrite=overwrite,
            models=models,
            watcher=bar_watcher(progress),
            stdin=sys.stdin.buffer.read(1_000_000) if brief == "-" else None,
            options=options,
        )
    if as_json:
        print_json(finished.to_json())
    elif quiet:
        for item in finished.items:
            out.print(str(item.file or item.asset.path), soft_wrap=True, markup=False)
    else:
        _show(finished)
        notes.warn(item.asset for item in finished.items)


def bar_watcher(progress: Progress) -> vm.Watcher:
    """Shows the steps of a set on a bar."""

    class Bar(vm.Watcher):
        def __init__(self) -> None:
            self.task = progress.add_task("reading the brief", total=None)
            self.what, self.pieces = "", 0

        def planned(self, steps: Sequence[str]) -> None:
            progress.update(self.task, total=len(steps))

        def opening(self, model: str) -> None:
            progress.update(self.task, description=f"opening {model}")

        def step(self, name: str, kind: str, count: int) -> None:
            self.what, self.pieces = name, 0
            progress.update(self.task, description=name)

        def round(self, attempt: int, draws: int) -> None:
            again = "" if attempt == 0 else f", round {attempt + 1}"
            self.what = f"{self.what.split(':')[0]}: {draws} drafts{again}"

        def piece(self, number: int, piece: Any) -> None:
            self.pieces += 1
            progress.update(self.task, description=f"{self.what}, {self.pieces} pieces")

        def done(self, name: str) -> None:
            progress.advance(self.task)

    return Bar()


def _show(finished: vm.FinishedSet) -> None:
    """The set, for a person: every text in full, then where each file lies."""
    for item in finished.items:
        if item.asset.kind == "text":
            number = f" {item.asset.index + 1}" if len(finished[item.asset.step or ""]) > 1 else ""
            out.print(f"\n[bold]{item.asset.step}{number}[/]")
            out.print(item.asset.text, markup=False, soft_wrap=True)
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for heading in ("made", "id", "seconds", "file"):
        table.add_column(
            heading, justify="right" if heading == "seconds" else "left", overflow="fold"
        )
    for item in finished.items:
        name = f"{item.asset.step} {item.asset.index + 1}"
        file = item.file.name if item.file is not None else str(item.asset.path)
        table.add_row(name, item.asset.id, f"{item.seconds:.1f}", escape(file))
    out.print()
    out.print(table)
    for item in finished.items:
        if item.failures:
            what = f"{item.asset.step} {item.asset.index + 1}"
            failed = escape("; ".join(item.failures))
            out.print(f"[yellow]look at {what}:[/] after {item.draws} drafts it still {failed}")
    out.print(
        f"\n{len(finished.items)} things in {finished.seconds:.1f} s, recipe {finished.recipe},"
        f" seed {finished.brief.seed}, kept in the library as set {finished.id}",
        soft_wrap=True,
    )
    for sentence in finished.left_out:
        out.print(f"[yellow]note:[/] {escape(sentence)}", soft_wrap=True)
    out.print(f"the files lie in {finished.folder}", markup=False, soft_wrap=True)
    if finished.page is not None:
        out.print(f"look at it: {finished.page}", markup=False, soft_wrap=True)
