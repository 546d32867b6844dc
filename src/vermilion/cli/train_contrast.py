"""`vermilion train simclr` and `vermilion train clip`: pictures and words as vectors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.table import Table

import vermilion as vm
from vermilion.cli import train
from vermilion.cli.show import AsJson, Quiet, err, out, print_json
from vermilion.disk import human_size

Data = Annotated[
    Path,
    typer.Option(
        help="A folder of pictures, or a .jsonl, .csv, .tsv, .json (COCO), .tar or .parquet file."
    ),
]
More = Annotated[
    list[str] | None,
    typer.Argument(metavar="[KEY=VALUE]...", help="More settings, as after --set."),
]
Name = Annotated[str | None, typer.Option(help="Of the model and its run.  [default: the data's]")]
Pairs = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="A setting.")]
Config = Annotated[
    Path | None, typer.Option(help="TOML file with settings; --set comes before it.")
]
Licence = Annotated[
    str | None, typer.Option(help="Of the model, an SPDX expression such as CC0-1.0.")
]
Folder = Annotated[
    Path | None, typer.Option("--out", help="Of the run.  [default: HOME/runs/NAME]")
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Print the config and what it needs; train nothing.")
]
Settings = Annotated[bool, typer.Option("--settings", help="List what --set can change.")]


def simclr(
    data: Data = Path(),
    settings: More = None,
    name: Name = None,
    pairs: Pairs = None,
    config: Config = None,
    licence: Licence = None,
    folder: Folder = None,
    dry_run: DryRun = False,
    list_settings: Settings = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Train a picture tower on pictures without words, or go on with the run of that name.

    Ctrl-C saves and stops.
    """
    if list_settings:
        _show_settings("simclr", as_json)
        return
    given = _given(config, pairs, settings)
    order: dict[str, Any] = {"settings": given}
    if dry_run:
        with train.watching(quiet, as_json) as (_, on_read):
            needs = vm.plan_simclr(_there(data), on_progress=_progress(on_read), **order)
        _show_needs(needs, as_json)
        return
    order |= {"name": name, "licence": licence, "out": folder}
    with train.watching(quiet, as_json) as (watch, on_read):
        order |= {"watch": watch, "on_progress": _progress(on_read)}
        trained = vm.train_simclr(_there(data), **order)
    _show_outcome(trained, as_json)


def clip(
    data: Data = Path(),
    settings: More = None,
    name: Name = None,
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
    pairs: Pairs = None,
    config: Config = None,
    licence: Licence = None,
    folder: Folder = None,
    dry_run: DryRun = False,
    list_settings: Settings = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Train a CLIP on pictures with captions, or go on with the run of that name.

    Ctrl-C saves and stops.
    """
    if list_settings:
        _show_settings("clip", as_json)
        return
    given = _given(config, pairs, settings)
    order: dict[str, Any] = {"settings": given, "text_tower": text_tower, "lock_text": lock_text}
    if dry_run:
        with train.watching(quiet, as_json) as (_, on_read):
            needs = vm.plan_clip(_there(data), on_progress=_progress(on_read), **order)
        _show_needs(needs, as_json)
        return
    order |= {"name": name, "licence": licence, "out": folder, "student": student}
    with train.watching(quiet, as_json) as (watch, on_read):
        order |= {"watch": watch, "on_progress": _progress(on_read)}
        trained = vm.train_clip(_there(data), **order)
    _show_outcome(trained, as_json)


def student(
    data: Annotated[Path, typer.Option(help="A .jsonl or .tsv file of pairs of texts.")],
    text_tower: Annotated[
        str, typer.Option(help="The encoder whose vectors it learns.")
    ] = "all-minilm-l6-v2",
    settings: More = None,
    name: Name = None,
    pairs: Pairs = None,
    config: Config = None,
    licence: Licence = None,
    folder: Folder = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Train a small model that gives words of another language the vectors of an encoder.

    Which fields are paired is said by known= and other=. Ctrl-C saves and stops.
    """
    order: dict[str, Any] = {"settings": _given(config, pairs, settings), "name": name}
    order |= {"licence": licence, "out": folder, "text_tower": text_tower}
    with train.watching(quiet, as_json) as (watch, on_read):
        order |= {"watch": watch, "on_progress": _progress(on_read)}
        trained = vm.train_student(data, **order)
    _show_outcome(trained, as_json)


def _there(data: Path) -> Path:
    if data == Path():
        raise vm.InputError("data: name a folder or a file of pictures with --data")
    return data


def _given(
    config: Path | None, pairs: list[str] | None, more: list[str] | None
) -> Mapping[str, Any]:
    given = {} if config is None else vm.read_settings(config)
    return given | vm.parse_set([*(pairs or ()), *(more or ())])


def _show_settings(kind: Literal["clip", "simclr"], as_json: bool) -> None:
    train.show_settings(vm.contrast_settings(kind), as_json)


def _show_outcome(trained: Any, as_json: bool) -> None:
    """How a run ended, what was left out, and what to do next."""
    outcome, card = trained.run.outcome, trained.card
    if trained.run.faults and not as_json:
        err.print(trained.run.faults, markup=False, soft_wrap=True)
    if as_json:
        found = {"name": trained.name, "folder": trained.run.folder, **asdict(outcome)}
        print_json(found | {"left_out": trained.run.faults})
    elif outcome.state == "stopped":
        err.print(
            f"stopped after step {outcome.step}, which is saved;"
            " the same command goes on from there",
            markup=False,
        )
    elif card is not None:
        out.print(
            f"{card.name} is ready: {human_size(card.size)};"
            f" vermilion embed PICTURE --model {card.name}",
            markup=False,
            soft_wrap=True,
        )
        figures = [(k, v) for k, v in outcome.figures.items() if "@" in k or k == "knn"]
        table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
        for key, value in figures:
            table.add_row(key.replace("_", " "), f"{value:.1%}")
        if figures:
            out.print(table)
    if outcome.state == "stopped":
        raise typer.Exit(train.STOPPED)


def _show_needs(needs: Any, as_json: bool) -> None:
    """What a training would need."""
    if as_json:
        print_json(asdict(needs))
        return
    print_json(needs.config)
    lines = [
        f"parameters {needs.parameters:,}, of which {needs.trained:,} are trained",
        f"{needs.pictures:,} pictures, gone over {needs.epochs:.3g} times;"
        f" {needs.held:,} held back",
        f"memory about {human_size(needs.memory_bytes)};"
        f" {human_size(needs.memory_free_bytes)} are free",
        f"time about {timedelta(seconds=round(needs.seconds))}:"
        f" {needs.seconds_per_step:.2f} s a step, measured now",
    ]
    for line in [*lines, *([needs.faults] if needs.faults else [])]:
        out.print(line, markup=False, soft_wrap=True)


def _progress(on_read: Callable[..., None]) -> Callable[[str, int, int], None]:
    """Shows what is done before the training."""
    return lambda what, done, total: on_read(done, what, total)
