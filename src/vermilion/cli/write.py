"""`vermilion write`: text from one prompt."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer

import vermilion as vm
from vermilion.cli.show import AsJson, Quiet, Seed, asset_json, err, print_json, shown, spinner
from vermilion.types import TextSettings

_SENTENCE_END = re.compile(r"[.!?。！？…][\"”’')\]]*(?=\s|$)")
_GUARD = 60  # pieces before the limit, from which on only whole sentences are shown


class Stream:
    """Prints a text as it is made, but never a sentence that the limit may cut off."""

    def __init__(self, limit: int, begin: Callable[[], None]) -> None:
        self.limit, self.begin = limit, begin
        self.pieces, self.held, self.started = 0, "", False

    def __call__(self, number: int, piece: Any) -> None:
        """Take the next piece; see `OnPiece`."""
        if self.pieces == 0:
            self.begin()
        self.pieces += 1
        self.held += piece
        if not self.started:
            self.held = self.held.lstrip()
        show = self.held
        if self.pieces > self.limit - _GUARD:
            ends = list(_SENTENCE_END.finditer(self.held))
            show = self.held[: ends[-1].end()] if ends else ""
        self.held = self.held[len(show) :]
        self.started = self.started or bool(show)
        sys.stdout.write(show)
        sys.stdout.flush()


def write(
    prompt: Annotated[str, typer.Argument(help="What to write, or - for standard input.")],
    n: Annotated[int, typer.Option("--n", "-n", help="How many.")] = 1,
    model: Annotated[str | None, typer.Option(help="Name of a model, or path of one.")] = None,
    seed: Seed = None,
    temperature: Annotated[float | None, typer.Option(help="0 takes the likeliest words.")] = None,
    max_new_tokens: Annotated[
        int | None, typer.Option(help="Most tokens of one text.  [default: 256]")
    ] = None,
    system: Annotated[
        str | None, typer.Option(help="Instruction that stands before the prompt.")
    ] = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Write texts and keep them in the library."""
    text = sys.stdin.read(1_000_000) if prompt == "-" else prompt
    given = {"temperature": temperature, "max_new_tokens": max_new_tokens, "system": system}
    settings = {name: value for name, value in given.items() if value is not None}
    live = n == 1 and not as_json and sys.stdout.isatty()
    with vm.Line() as line, spinner(shown(quiet, as_json), "writing") as progress:
        stream = Stream(max_new_tokens or TextSettings().max_new_tokens, progress.stop)
        assets = line.write(
            text,
            n=n,
            model=model,
            seed=seed,
            on_piece=stream if live else None,
            **settings,
        )
    if as_json:
        print_json([asset_json(asset) for asset in assets])
        return
    if stream.pieces:
        sys.stdout.write("\n")
    else:
        sys.stdout.write("\n\n".join(asset.text for asset in assets) + "\n")
    if not quiet:
        err.print(f"[dim]kept as {', '.join(asset.id for asset in assets)}[/]")
