"""Options of every command that seals, and how a verdict is shown."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import click
import typer
from rich.markup import escape

import vermilion as vm
from vermilion.cli.show import err

Mark = Annotated[bool, typer.Option("--mark/--no-mark", help="The mark that people see or hear.")]
Reason = Annotated[str, typer.Option(help="Why there is no mark; kept in the ledger.")]
Public = Annotated[
    bool, typer.Option("--public", help="Write the prompt and the settings into the file too.")
]
PlaceName = Literal["top-left", "top", "top-right", "bottom-left", "bottom", "bottom-right"]
StyleName = Literal["auto", "plate", "outline"]
Place = Annotated[PlaceName, typer.Option(help="Of a visible mark.")]
Style = Annotated[StyleName, typer.Option(help="Of a visible mark.")]
SpokenMark = Annotated[
    bool, typer.Option("--spoken", help="Say the mark of a sound in words, instead of tones.")
]


def seal_options(
    mark: bool,
    reason: str,
    public: bool,
    place: PlaceName = "bottom-right",
    style: StyleName = "auto",
    commercial: bool = False,
    spoken: bool = False,
) -> Any:
    """The options as the seal takes them; what it notices is told unless --quiet or --json."""
    return vm.SealOptions(
        mark=mark,
        reason=reason,
        private=not public,
        commercial=commercial,
        place=place,
        style=style,
        spoken=spoken,
        tell=_tell,
    )


def _tell(words: str) -> None:
    context = click.get_current_context(silent=True)
    given = {} if context is None else context.params
    if not given.get("quiet") and not given.get("as_json"):
        err.print(f"[yellow]note:[/] {escape(words)}", soft_wrap=True)
