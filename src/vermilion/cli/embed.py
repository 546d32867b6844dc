"""`vermilion embed`: pictures and texts as vectors."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

import vermilion as vm
from vermilion.cli.show import AsJson, Quiet, one_line, out, print_json, shown, spinner

_SHOWN = 4  # numbers of a vector that is on its own


def embed(
    inputs: Annotated[
        list[str], typer.Argument(metavar="FILE|TEXT...", help="Pictures, or texts, or both.")
    ],
    model: Annotated[
        str | None,
        typer.Option(help="Of pictures and texts, such as clip-vit-b-32, or of texts alone."),
    ] = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Turn pictures and texts into vectors, and show how close they lie to one another.

    A name of a picture's file that is there is a picture, everything else a text. Texts by
    themselves go to the usual encoder of texts.
    """
    pictures = [Path(text) for text in inputs if vm.is_picture(text)]
    with spinner(shown(quiet, as_json), "reading"):
        vectors = vm.embed_mixed(inputs, model=model)
    if as_json:
        print_json(
            [
                {
                    "input": text,
                    "kind": "picture" if Path(text) in pictures else "text",
                    "vector": vector.tolist(),
                }
                for text, vector in zip(inputs, vectors, strict=True)
            ]
        )
    elif len(inputs) == 1 or quiet:
        for vector in vectors:
            numbers = vector if quiet else vector[:_SHOWN]
            words = " ".join(f"{number:.6f}" for number in numbers)
            out.print(words if quiet else f"{words} … {len(vector)} numbers; --json has all")
    else:
        out.print(_near(inputs, vectors @ vectors.T))


def _near(inputs: list[str], cosines: Any) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("cosine")
    for number in range(len(inputs)):
        table.add_column(str(number + 1), justify="right")
    for number, text in enumerate(inputs):
        row = (f"{cosine:.3f}" for cosine in cosines[number])
        table.add_row(f"{number + 1} {escape(one_line(text))}", *row)
    return table
