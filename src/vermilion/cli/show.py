"""What all commands share: options, and how things are shown to people and to machines."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for machines.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print results only.")]
Seed = Annotated[int | None, typer.Option(help="Same seed, same result. Drawn when left out.")]


def print_json(value: Any) -> None:
    """Print a value as one JSON document."""
    print(json.dumps(value, ensure_ascii=False, indent=2, default=str))  # noqa: T201


def asset_json(asset: Any) -> dict[str, Any]:
    """An asset as JSON values."""
    return {
        "id": asset.id,
        "kind": asset.kind,
        "media_type": asset.media_type,
        "path": str(asset.path),
        "sha256": asset.sha256,
        "size": asset.size,
        "created_at": asset.created_at.isoformat(),
        "text": asset.text,
        "rating": asset.rating,
        "licence": asset.licence,
        "set_id": asset.set_id,
        "step": asset.step,
        "index": asset.index,
        "parents": list(asset.parents),
        "recipe": asset.recipe,
        "notes": asset.notes,
    }


def shown(quiet: bool, as_json: bool) -> bool:
    """Whether progress is shown: to a person who looks, on a terminal."""
    return not quiet and not as_json and sys.stderr.isatty()


@contextmanager
def work_bar(visible: bool) -> Iterator[Progress]:
    """A bar that counts steps."""
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=err, transient=True, disable=not visible) as progress:
        yield progress


@contextmanager
def spinner(visible: bool, what: str) -> Iterator[Progress]:
    """Shows that work goes on whose end is not known."""
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=err, transient=True, disable=not visible) as progress:
        progress.add_task(what, total=None)
        yield progress


@contextmanager
def byte_bar(visible: bool) -> Iterator[Progress]:
    """A bar that counts bytes."""
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=err, transient=True, disable=not visible) as progress:
        yield progress


def one_line(text: str, width: int = 60) -> str:
    """A text's beginning on one line."""
    flat = " ".join(text.split())
    return flat if len(flat) <= width else flat[: width - 1] + "…"


def size(count: int | None) -> str:
    """A number of bytes for people."""
    if count is None:
        return "unknown size"
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"
