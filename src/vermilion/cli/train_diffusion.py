"""`vermilion train diffusion`: a picture model from one's own pictures."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import typer

import vermilion as vm
from vermilion.cli import training
from vermilion.cli.show import AsJson, Quiet


def diffusion(
    data: Annotated[
        Path,
        typer.Option(help="A folder of pictures, or a .jsonl, .csv, .tsv, .json, .tar, .parquet."),
    ] = Path(),
    settings: training.More = None,
    name: training.Name = None,
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
    base: training.Base = None,
    lora: training.Lora = False,
    pairs: training.Pairs = None,
    config: training.Config = None,
    licence: training.Licence = None,
    folder: training.Folder = None,
    dry_run: training.DryRun = False,
    listed: Annotated[
        bool, typer.Option("--settings", help="List what --set can change, and stop.")
    ] = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Train a picture model, or go on with the run of that name. Ctrl-C saves and stops."""
    if listed:
        training.show_settings(vm.diffusion_settings(), as_json)
        return
    data = training.pictures_at(data)
    given = training.given(config, pairs, settings)
    order: dict[str, Any] = {
        "text": text, "classes": classes, "latent": latent, "vae": vae, "base": base, "lora": lora,
    }  # fmt: skip
    with training.watching(quiet, as_json) as (watch, on_read):
        order |= {"settings": given, "on_picture": _progress(on_read)}
        if dry_run:
            needs = vm.plan_diffusion(data, **order)
        else:
            order |= {"name": name, "licence": licence, "out": folder, "watch": watch}
            trained = vm.train_diffusion(data, **order)
    if dry_run:
        training.show_needs(needs, _needed(needs), as_json)
        return
    training.show_outcome(trained, _then(trained, base), as_json, {"data": trained.run.report})


def _progress(on_read: Callable[..., None]) -> Callable[[int, int, str], None]:
    """Shows how many pictures are decoded or encoded, or captions read."""
    return lambda done, total, what: on_read(done, what, total)


def _then(trained: Any, base: str | None) -> str:
    """How good it is, and how it is used."""
    model = f"--model {trained.name}"
    if trained.card is not None and trained.card.family == "lora":
        model = f"--model {base} --lora {trained.name}"
    return f'{training.heard(trained.run.outcome)}; vermilion paint "…" {model}'


def _needed(needs: Any) -> list[str]:
    """What a training would need."""
    parts = (
        (needs.first_stage_seconds, "for the autoencoder"),
        (needs.latents_seconds, "to encode the pictures"),
    )
    first = "".join(
        f" and {timedelta(seconds=round(seconds))} {what}" for seconds, what in parts if seconds
    )
    pictures = (
        f"{needs.pictures:,} pictures, gone over {needs.epochs:.3g} times, with {needs.told} said"
        f" of them; {needs.validation_pictures:,} held back"
    )
    return [needs.report, *training.needed(needs, pictures, first)]
