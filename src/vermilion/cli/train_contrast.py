"""`vermilion train simclr` and `vermilion train clip`: pictures and words as vectors."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

import vermilion as vm
from vermilion.cli import training
from vermilion.cli.show import AsJson, Quiet, out

Data = Annotated[
    Path,
    typer.Option(
        help="A folder of pictures, or a .jsonl, .csv, .tsv, .json (COCO), .tar or .parquet file."
    ),
]
Settings = Annotated[bool, typer.Option("--settings", help="List what --set can change.")]


def simclr(
    data: Data = Path(),
    settings: training.More = None,
    name: training.Name = None,
    pairs: training.Pairs = None,
    config: training.Config = None,
    licence: training.Licence = None,
    folder: training.Folder = None,
    dry_run: training.DryRun = False,
    list_settings: Settings = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Train a picture tower on pictures without words, or go on with the run of that name.

    Ctrl-C saves and stops.
    """
    if list_settings:
        training.show_settings(vm.contrast_settings("simclr"), as_json)
        return
    order: dict[str, Any] = {"settings": training.given(config, pairs, settings)}
    if dry_run:
        _plan(vm.plan_simclr, data, order, as_json, quiet)
        return
    order |= {"name": name, "licence": licence, "out": folder}
    _train(vm.train_simclr, training.pictures_at(data), order, as_json, quiet)


def clip(
    data: Data = Path(),
    settings: training.More = None,
    name: training.Name = None,
    text_tower: Annotated[
        str | None,
        typer.Option(help="Model of texts to learn beside, such as all-minilm-l6-v2."),
    ] = None,
    lock_text: Annotated[
        bool, typer.Option("--lock-text", help="Leave the text tower as it is.")
    ] = False,
    student: Annotated[
        str | None, typer.Option(help="Model of train student: words of another language.")
    ] = None,
    pairs: training.Pairs = None,
    config: training.Config = None,
    licence: training.Licence = None,
    folder: training.Folder = None,
    dry_run: training.DryRun = False,
    list_settings: Settings = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Train a CLIP on pictures with captions, or go on with the run of that name.

    Ctrl-C saves and stops.
    """
    if list_settings:
        training.show_settings(vm.contrast_settings("clip"), as_json)
        return
    order: dict[str, Any] = {"settings": training.given(config, pairs, settings)}
    order |= {"text_tower": text_tower, "lock_text": lock_text}
    if dry_run:
        _plan(vm.plan_clip, data, order, as_json, quiet)
        return
    order |= {"name": name, "licence": licence, "out": folder, "student": student}
    _train(vm.train_clip, training.pictures_at(data), order, as_json, quiet)


def student(
    data: Annotated[Path, typer.Option(help="A .jsonl or .tsv file of pairs of texts.")],
    text_tower: Annotated[
        str, typer.Option(help="The encoder whose vectors it learns.")
    ] = "all-minilm-l6-v2",
    settings: training.More = None,
    name: training.Name = None,
    pairs: training.Pairs = None,
    config: training.Config = None,
    licence: training.Licence = None,
    folder: training.Folder = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Train a small model that gives words of another language the vectors of an encoder.

    Which fields are paired is said by known= and other=. Ctrl-C saves and stops.
    """
    order: dict[str, Any] = {"settings": training.given(config, pairs, settings), "name": name}
    order |= {"licence": licence, "out": folder, "text_tower": text_tower}
    _train(vm.train_student, data, order, as_json, quiet)


def _train(
    train: Callable[..., Any], data: Path, order: dict[str, Any], as_json: bool, quiet: bool
) -> None:
    """Train, show how it ended, and how well pictures and words find one another."""
    with training.watching(quiet, as_json) as (watch, on_read):
        trained = train(data, watch=watch, on_progress=_progress(on_read), **order)
    then = f"; vermilion embed PICTURE --model {trained.name}"
    training.show_outcome(trained, then, as_json, {"left_out": trained.run.report})
    figures = {k: v for k, v in trained.run.outcome.figures.items() if "@" in k or k == "knn"}
    if as_json or trained.card is None or not figures:
        return
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    for key, value in figures.items():
        table.add_row(key.replace("_", " "), f"{value:.1%}")
    out.print(table)


def _plan(
    plan: Callable[..., Any], data: Path, order: dict[str, Any], as_json: bool, quiet: bool
) -> None:
    """Show what a training would need."""
    with training.watching(quiet, as_json) as (_, on_read):
        needs = plan(training.pictures_at(data), on_progress=_progress(on_read), **order)
    pictures = (
        f"{needs.pictures:,} pictures, gone over {needs.epochs:.3g} times; {needs.held:,} held back"
    )
    training.show_needs(needs, [*training.needed(needs, pictures), needs.faults], as_json)


def _progress(on_read: Callable[..., None]) -> Callable[[str, int, int], None]:
    """Shows what is done before the training."""
    return lambda what, done, total: on_read(done, what, total)
