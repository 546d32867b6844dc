"""`vermilion train`: models from one's own data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

import vermilion as vm
from vermilion.cli import training
from vermilion.cli.show import AsJson, Quiet

app = typer.Typer(no_args_is_help=True, help="Train models on your own data.")


@app.command()
def lm(
    data: Annotated[
        Path,
        typer.Option(help="A text file, a folder of texts, or a .jsonl, .csv or .parquet file."),
    ],
    settings: training.More = None,
    name: training.Name = None,
    base: training.Base = None,
    lora: training.Lora = False,
    field: Annotated[
        str | None, typer.Option(help="Field or column.  [default: text or messages]")
    ] = None,
    tokenizer: Annotated[str, typer.Option(help="Of a new model: bpe or characters.")] = "bpe",
    pairs: training.Pairs = None,
    config: training.Config = None,
    licence: training.Licence = None,
    folder: training.Folder = None,
    dry_run: training.DryRun = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Train a language model, or go on with the run of that name. Ctrl-C saves and stops.

    `vermilion train settings` lists what --set can change.
    """
    given = training.given(config, pairs, settings)
    order: dict[str, Any] = {"base": base, "lora": lora, "field": field, "tokenizer": tokenizer}
    with training.watching(quiet, as_json) as (watch, on_tokens):
        order |= {"settings": given, "on_tokens": on_tokens}
        if dry_run:
            needs = vm.plan_lm(data, **order)
        else:
            order |= {"name": name, "licence": licence, "out": folder, "watch": watch}
            trained = vm.train_lm(data, **order)
    if dry_run:
        text = (
            f"text of {needs.train_tokens:,} tokens, gone over {needs.epochs:.3g} times;"
            f" {needs.validation_tokens:,} held back"
        )
        training.show_needs(needs, training.needed(needs, text), as_json)
        return
    then = f'{training.heard(trained.run.outcome)}; vermilion write "…" --model {trained.name}'
    training.show_outcome(trained, then, as_json)


@app.command()
def settings(as_json: AsJson = False) -> None:
    """List what --set can change, with the defaults."""
    training.show_settings(vm.training_settings(), as_json)
