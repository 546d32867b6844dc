"""Options of every command that seals, and how a verdict is shown."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import typer

import vermilion as vm

Mark = Annotated[bool, typer.Option("--mark/--no-mark", help="The mark that people see or hear.")]
Reason = Annotated[str, typer.Option(help="Why there is no mark; kept in the ledger.")]
Public = Annotated[
    bool, typer.Option("--public", help="Write the prompt and the settings into the file too.")
]
PlaceName = Literal["top-left", "top", "top-right", "bottom-left", "bottom", "bottom-right"]
StyleName = Literal["auto", "plate", "outline"]
Place = Annotated[PlaceName, typer.Option(help="Of a visible mark.")]
Style = Annotated[StyleName, typer.Option(help="Of a visible mark.")]


def seal_options(
    mark: bool,
    reason: str,
    public: bool,
    place: PlaceName = "bottom-right",
    style: StyleName = "auto",
    commercial: bool = False,
) -> Any:
    """The options as the seal takes them."""
    return vm.SealOptions(
        mark=mark,
        reason=reason,
        private=not public,
        commercial=commercial,
        place=place,
        style=style,
    )
