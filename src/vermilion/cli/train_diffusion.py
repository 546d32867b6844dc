"""`vermilion train diffusion`: a picture model from one's own pictures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import typer

import vermilion as vm
from vermilion.cli import train
from vermilion.cli.show import AsJson, Quiet, err, out, print_json
from vermilion.disk import human_size


def diffusion(
    data: Annotated[
        Path,
        typer.Option(help="A folder of pictures, or a .jsonl, .csv, .tsv, .json, .tar, .parquet."),
    ] = Path(),
    settings: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY=VALUE]...", help="More settings, as after --set."),
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Of the model and its run.  [default: the data's]")
    ] = None,
    text: Annotated[
        str | None,
        typer.Option(help="Captions: name, txt, none or a table.  [default: where there are any]"),
    ] = None,
    classes: Annotated[
        bool, typer.Option("--classes", help="Tell it the folder, or the label, of each picture.")
    ] = False,
    latent: Annotated[
        bool, typer.Option("--latent", help="On latents of an autoencoder, which is trained first.")
    ] = False,
    vae: Annotated[
        str | None, typer.Option(help="Model whose autoencoder is used: a name or a path.")
    ] = None,
    base: Annotated[
        str | None, typer.Option("--from", help="Model to train on: a name or a path.")
    ] = None,
    lora: Annotated[
        bool, typer.Option("--lora", help="Train adapters beside its frozen weights.")
    ] = False,
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
    listed: Annotated[
        bool, typer.Option("--settings", help="List what --set can change, and stop.")
    ] = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Train a picture model, or go on with the run of that name. Ctrl-C saves and stops."""
    if listed:
        train.show_settings(vm.diffusion_settings(), as_json)
        return
    if data == Path():
        raise vm.InputError("data: name a folder or a file of pictures with --data")
    given = {} if config is None else vm.read_settings(config)
    given |= vm.parse_set([*(pairs or ()), *(settings or ())])
    order: dict[str, Any] = {
        "text": text, "classes": classes, "latent": latent, "vae": vae, "base": base, "lora": lora,
    }  # fmt: skip
    if dry_run:
        with train.watching(quiet, as_json) as (_, on_read):
            order["on_picture"] = _progress(on_read)
            needs = vm.plan_diffusion(data, settings=given, **order)
        _show_needs(needs, as_json)
        return
    with train.watching(quiet, as_json) as (watch, on_read):
        order |= {"name": name, "licence": licence, "out": folder, "watch": watch}
        order["on_picture"] = _progress(on_read)
        trained = vm.train_diffusion(data, settings=given, **order)
    _show_outcome(trained, base, as_json)
    if trained.run.outcome.state == "stopped":
        raise typer.Exit(train.STOPPED)


def _progress(on_read: Callable[..., None]) -> Callable[[int, int], None]:
    """Shows how many pictures are decoded."""
    return lambda done, total: on_read(done, "pictures", total)


def _show_outcome(trained: Any, base: str | None, as_json: bool) -> None:
    """How a run ended, what of the data was of no use, and what to do next."""
    run, card = trained.run, trained.card
    if as_json:
        told = {"name": trained.name, "folder": run.folder, "data": run.report}
        print_json(told | asdict(run.outcome))
        return
    if run.report:
        err.print(run.report, markup=False, soft_wrap=True)
    if run.outcome.state == "stopped":
        err.print(
            f"stopped after step {run.outcome.step}, which is saved;"
            " the same command goes on from there",
            markup=False,
        )
    elif card is not None:
        best = run.outcome.best
        heard = "" if best is None else f", validation loss {best:.4f}"
        model = f"--model {card.name}"
        if card.family == "lora":
            model = f"--model {base} --lora {card.name}"
        out.print(
            f'{card.name} is ready: {human_size(card.size)}{heard}; vermilion paint "…" {model}',
            markup=False,
            soft_wrap=True,
        )


def _show_needs(needs: Any, as_json: bool) -> None:
    """What a training would need."""
    if as_json:
        print_json(asdict(needs))
        return
    print_json(needs.config)
    first = ""
    if needs.first_stage_seconds:
        first = f" and {timedelta(seconds=round(needs.first_stage_seconds))} for the autoencoder"
    lines = (
        needs.report,
        f"parameters {needs.parameters:,}, of which {needs.trained:,} are trained",
        f"{needs.pictures:,} pictures, gone over {needs.epochs:.3g} times, with {needs.told} said"
        f" of them; {needs.validation_pictures:,} held back",
        f"memory about {human_size(needs.memory_bytes)};"
        f" {human_size(needs.memory_free_bytes)} are free",
        f"time about {timedelta(seconds=round(needs.seconds))}:"
        f" {needs.seconds_per_step:.2f} s a step{first}, measured now",
    )
    for line in filter(None, lines):
        out.print(line, markup=False, soft_wrap=True)
