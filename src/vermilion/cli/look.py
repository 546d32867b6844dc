"""`vermilion look`: what a picture shows."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

import vermilion as vm
from vermilion.cli.show import AsJson, Quiet, out, print_json, shown, spinner

_WIDE = 24  # characters of the longest bar


def look(
    picture: Annotated[Path, typer.Argument(metavar="PICTURE", help="A file.")],
    labels: Annotated[
        str, typer.Option(help='What it may show, such as "a photo of a cat, a photo of a dog".')
    ],
    ensemble: Annotated[
        bool,
        typer.Option("--ensemble", help="Labels are names, which are put into several sentences."),
    ] = False,
    model: Annotated[
        str | None, typer.Option(help="Model that knows pictures, such as clip-vit-b-32.")
    ] = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Say how likely each label fits a picture, among those that are given."""
    with spinner(shown(quiet, as_json), "looking"):
        guesses = vm.look(picture, labels.split(","), ensemble=ensemble, model=model)
    if as_json:
        print_json([asdict(guess) for guess in guesses])
        return
    if quiet:
        out.print(guesses[0].label, markup=False)
        return
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for guess in guesses:
        bar = "█" * round(guess.probability * _WIDE)
        table.add_row(f"{guess.probability:6.1%}", escape(guess.label), f"[dim]{bar}[/]")
    out.print(table)
