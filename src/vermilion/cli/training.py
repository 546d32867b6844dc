"""What the commands of `vermilion train` share: options, how a run is shown, how it ended."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

import vermilion as vm
from vermilion.cli.show import err, out, print_json, shown
from vermilion.disk import human_size

STOPPED = 130  # 128 + SIGINT, as shells have it

More = Annotated[
    list[str] | None,
    typer.Argument(metavar="[KEY=VALUE]...", help="More settings, as after --set."),
]
Name = Annotated[str | None, typer.Option(help="Of the model and its run.  [default: the data's]")]
Base = Annotated[str | None, typer.Option("--from", help="Model to train on: a name or a path.")]
Lora = Annotated[bool, typer.Option("--lora", help="Train adapters beside its frozen weights.")]
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


def given(
    config: Path | None, pairs: Sequence[str] | None, more: Sequence[str] | None
) -> dict[str, Any]:
    """The settings that a person gave; those on the command line come before the file's."""
    found = {} if config is None else dict(vm.read_settings(config))
    return found | dict(vm.parse_set([*(pairs or ()), *(more or ())]))


def pictures_at(data: Path) -> Path:
    """The data of a training of pictures, whose option may be left out to list settings."""
    if data == Path():
        raise vm.InputError("data: name a folder or a file of pictures with --data")
    return data


def show_settings(rows: Sequence[tuple[str, str, str]], as_json: bool) -> None:
    """What can be set: names, defaults, sentences."""
    if as_json:
        print_json([dict(zip(("name", "default", "about"), row, strict=True)) for row in rows])
        return
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for heading in ("setting", "default", "what it is"):
        table.add_column(heading, no_wrap=heading == "setting")
    for row in rows:
        table.add_row(*map(escape, row))
    out.print(table)


def heard(outcome: Any) -> str:
    """The best validation, as the end of a sentence."""
    return "" if outcome.best is None else f", validation loss {outcome.best:.4f}"


def show_outcome(
    trained: Any, then: str, as_json: bool, more: Mapping[str, Any] | None = None
) -> None:
    """How a run ended, what of the data was of no use, and what to do next.

    Args:
        trained: see `vm.train_lm`.
        then: what is said of a finished model after its size.
        as_json: whether machines read it.
        more: what they are told besides.

    Raises:
        typer.Exit: it was stopped.
    """
    run, card = trained.run, trained.card
    stopped = run.outcome.state == "stopped"
    if as_json:
        print_json(
            {"name": trained.name, "folder": run.folder, **(more or {}), **asdict(run.outcome)}
        )
    else:
        if run.report:
            err.print(run.report, markup=False, soft_wrap=True)
        if stopped:
            err.print(
                f"stopped after step {run.outcome.step}, which is saved;"
                " the same command goes on from there",
                markup=False,
            )
        elif card is not None:
            line = f"{card.name} is ready: {human_size(card.size)}{then}"
            out.print(line, markup=False, soft_wrap=True)
    if stopped:
        raise typer.Exit(STOPPED)


def needed(needs: Any, about: str, besides: str = "") -> list[str]:
    """What a training would need, in lines.

    Args:
        needs: see `vm.plan_lm`.
        about: the line on the data.
        besides: what else takes time.
    """
    return [
        f"parameters {needs.parameters:,}, of which {needs.trained:,} are trained",
        about,
        f"memory about {human_size(needs.memory_bytes)};"
        f" {human_size(needs.memory_free_bytes)} are free",
        f"time about {timedelta(seconds=round(needs.seconds))}:"
        f" {needs.seconds_per_step:.2f} s a step{besides}, measured now",
    ]


def show_needs(needs: Any, lines: Sequence[str], as_json: bool) -> None:
    """The resolved config, and the lines that say something."""
    if as_json:
        print_json(asdict(needs))
        return
    print_json(needs.config)
    for line in filter(None, lines):
        out.print(line, markup=False, soft_wrap=True)


@contextmanager
def watching(quiet: bool, as_json: bool) -> Iterator[tuple[Any, Any]]:
    """Shows a run: a bar on a terminal, a line now and then elsewhere."""
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed}/{task.total}"),
        TextColumn("{task.fields[figures]}"),
        TimeRemainingColumn(),
        console=err,
        disable=not shown(quiet, as_json),
    )
    reading = bar.add_task("reading", total=None, figures="")
    training = bar.add_task("training", total=None, figures="", visible=False)
    plain = bar.disable and not quiet and not as_json

    def on_tokens(count: int, what: str = "tokens", total: int | None = None) -> None:
        visible = total is None or count < total  # what comes after it has a bar of its own
        bar.update(reading, completed=count, total=total, figures=what, visible=visible)

    def say(text: str) -> None:
        if plain:
            err.print(text, markup=False, soft_wrap=True)
        elif not bar.disable:
            bar.console.print(escape(text), soft_wrap=True)

    def watch(event: Any) -> None:
        figures = event.figures
        if event.kind == "begin":
            bar.update(reading, visible=False)
            bar.update(training, visible=True, total=figures["max_steps"], completed=event.step)
            if event.step:
                say(f"going on after step {event.step}")
        elif event.kind == "step":
            line = f"loss {figures['loss']:.4f}, {figures['per_second']:,.0f} {event.text}/s"
            bar.update(training, completed=event.step, figures=line)
        elif event.kind == "validation":
            named = ", ".join(f"{k.replace('_', ' ')} {v:.4f}" for k, v in figures.items())
            say(f"step {event.step}: {named}")
        elif event.picture is not None:
            say(f"step {event.step} paints {event.picture}")
        elif event.kind == "sample":
            say(f"step {event.step} writes:\n{event.text}")

    with bar:
        yield watch, on_tokens
