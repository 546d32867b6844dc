"""`vermilion train`: models from one's own data."""

from __future__ import annotations

from collections.abc import Iterator
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
from vermilion.cli.show import AsJson, Quiet, err, out, print_json, shown
from vermilion.disk import human_size

STOPPED = 130  # 128 + SIGINT, as shells have it

app = typer.Typer(no_args_is_help=True, help="Train models on your own data.")


@app.command()
def lm(
    data: Annotated[
        Path,
        typer.Option(help="A text file, a folder of texts, or a .jsonl, .csv or .parquet file."),
    ],
    settings: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY=VALUE]...", help="More settings, as after --set."),
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Of the model and its run.  [default: the data's]")
    ] = None,
    base: Annotated[
        str | None, typer.Option("--from", help="Model to train on: a name or a path.")
    ] = None,
    lora: Annotated[
        bool, typer.Option("--lora", help="Train adapters beside its frozen weights.")
    ] = False,
    field: Annotated[
        str | None, typer.Option(help="Field or column.  [default: text or messages]")
    ] = None,
    tokenizer: Annotated[str, typer.Option(help="Of a new model: bpe or characters.")] = "bpe",
    pairs: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="A setting.")
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="TOML file with settings; --set comes before it.")
    ] = None,
    licence: Annotated[
        str | None, typer.Option(help="Of the model, an SPDX expression such as CC0-1.0.")
    ] = None,
    folder: Annotated[
        Path | None, typer.Option("--out", help="Of the run.  [default: HOME/runs/NAME]")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the config and what it needs; train nothing.")
    ] = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Train a language model, or go on with the run of that name. Ctrl-C saves and stops.

    `vermilion train settings` lists what --set can change.
    """
    given = {} if config is None else vm.read_settings(config)
    given |= vm.parse_set([*(pairs or ()), *(settings or ())])
    order: dict[str, Any] = {"base": base, "lora": lora, "field": field, "tokenizer": tokenizer}
    if dry_run:
        with watching(quiet, as_json) as (_, on_tokens):
            needs = vm.plan_lm(data, settings=given, on_tokens=on_tokens, **order)
        _show_needs(needs, as_json)
        return
    with watching(quiet, as_json) as (watch, on_tokens):
        order |= {"name": name, "licence": licence, "out": folder, "watch": watch}
        trained = vm.train_lm(data, settings=given, on_tokens=on_tokens, **order)
    _show_outcome(trained, as_json)
    if trained.run.outcome.state == "stopped":
        raise typer.Exit(STOPPED)


@app.command()
def settings(as_json: AsJson = False) -> None:
    """List what --set can change, with the defaults."""
    show_settings(vm.training_settings(), as_json)


def show_settings(rows: list[tuple[str, str, str]], as_json: bool) -> None:
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


def _show_outcome(trained: Any, as_json: bool) -> None:
    """How a run ended, and what to do next."""
    outcome, card = trained.run.outcome, trained.card
    if as_json:
        print_json({"name": trained.name, "folder": trained.run.folder, **asdict(outcome)})
    elif outcome.state == "stopped":
        err.print(
            f"stopped after step {outcome.step}, which is saved;"
            " the same command goes on from there",
            markup=False,
        )
    elif card is not None:
        heard = "" if outcome.best is None else f", validation loss {outcome.best:.4f}"
        out.print(
            f"{card.name} is ready: {human_size(card.size)}{heard};"
            f' vermilion write "…" --model {card.name}',
            markup=False,
            soft_wrap=True,
        )


def _show_needs(needs: Any, as_json: bool) -> None:
    """What a training would need."""
    if as_json:
        print_json(asdict(needs))
        return
    print_json(needs.config)
    lines = (
        f"parameters {needs.parameters:,}, of which {needs.trained:,} are trained",
        f"text of {needs.train_tokens:,} tokens, gone over {needs.epochs:.3g} times;"
        f" {needs.validation_tokens:,} held back",
        f"memory about {human_size(needs.memory_bytes)};"
        f" {human_size(needs.memory_free_bytes)} are free",
        f"time about {timedelta(seconds=round(needs.seconds))}:"
        f" {needs.seconds_per_step:.2f} s a step, measured now",
    )
    for line in lines:
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
        bar.update(reading, completed=count, total=total, figures=what)

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
