"""What all commands share: options, and how things are shown to people and to machines."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
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
def _progress(visible: bool, *columns: ProgressColumn) -> Iterator[Progress]:
    """Behind a spinner and what is being done; leaves no trace when it is over."""
    start = (SpinnerColumn(), TextColumn("{task.description}"))
    with Progress(*start, *columns, console=err, transient=True, disable=not visible) as progress:
        yield progress


def work_bar(visible: bool) -> AbstractContextManager[Progress]:
    """A bar that counts steps."""
    return _progress(visible, BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())


def byte_bar(visible: bool) -> AbstractContextManager[Progress]:
    """A bar that counts bytes."""
    columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    return _progress(visible, *columns)


@contextmanager
def spinner(visible: bool, what: str) -> Iterator[Progress]:
    """Shows that work goes on whose end is not known."""
    with _progress(visible, TimeElapsedColumn()) as progress:
        progress.add_task(what, total=None)
        yield progress


def one_line(text: str, width: int = 60) -> str:
    """A text's beginning on one line."""
    flat = " ".join(text.split())
    return flat if len(flat) <= width else flat[: width - 1] + "…"
