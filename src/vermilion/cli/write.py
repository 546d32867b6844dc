"""`vermilion write`: text from one prompt."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

import vermilion as vm
from vermilion.cli import notes
from vermilion.cli.sealing import Mark, Public, Reason, seal_options
from vermilion.cli.show import AsJson, Quiet, Seed, asset_json, err, print_json, shown, spinner
from vermilion.errors import InputError
from vermilion.types import TextSettings

_SENTENCE_END = re.compile(r"[.!?。！？…][\"”’')\]]*(?=\s|$)")
_GUARD = 60  # pieces before the limit, from which on only whole sentences are shown


class Stopping(StrEnum):
    """Values of `TextSettings.early_stopping`, as they are written on a command line."""

    true = "true"
    false = "false"
    never = "never"


_STOPPING: dict[Stopping, Any] = {
    Stopping.true: True,
    Stopping.false: False,
    Stopping.never: "never",
}


class Stream:
    """Prints a text as it is made, but never a sentence that the limit may cut off."""

    def __init__(self, limit: int, begin: Callable[[], None]) -> None:
        self.limit, self.begin = limit, begin
        self.pieces, self.held, self.started = 0, "", False
        self.shown = ""

    def __call__(self, number: int, piece: Any) -> None:
        """Take the next piece; see `OnPiece`."""
        if self.pieces == 0:
            self.begin()
        self.pieces += 1
        self.held += piece
        if not self.started:
            self.held = self.held.lstrip()
        show = self.held
        if self.pieces > self.limit - _GUARD:
            ends = list(_SENTENCE_END.finditer(self.held))
            show = self.held[: ends[-1].end()] if ends else ""
        self.held = self.held[len(show) :]
        self.started = self.started or bool(show)
        self.shown += show
        sys.stdout.write(show)
        sys.stdout.flush()

    def end(self, text: str) -> None:
        """Show what of the kept text was held back."""
        sys.stdout.write(text[len(self.shown) :] if text.startswith(self.shown) else "")
        sys.stdout.write("\n")


def _text(path: Path, what: str) -> str:
    try:
        return path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError):
        raise InputError(f"{what}: {path} cannot be read as UTF-8 text; check the file") from None


def _schema(path: Path) -> Any:
    try:
        return json.loads(_text(path, "schema"))
    except (json.JSONDecodeError, RecursionError) as error:
        raise InputError(f"schema: {path} is not JSON: {error}") from None


def write(
    prompt: Annotated[str, typer.Argument(help="What to write, or - for standard input.")],
    n: Annotated[int, typer.Option("--n", "-n", help="How many.")] = 1,
    model: Annotated[str | None, typer.Option(help="Name of a model, or path of one.")] = None,
    seed: Seed = None,
    temperature: Annotated[float | None, typer.Option(help="0 takes the likeliest words.")] = None,
    top_k: Annotated[int | None, typer.Option(help="Draw from the k likeliest tokens.")] = None,
    top_p: Annotated[
        float | None, typer.Option(help="Draw from the likeliest that reach this probability.")
    ] = None,
    min_p: Annotated[
        float | None, typer.Option(help="Least share of the likeliest token's probability.")
    ] = None,
    repetition_penalty: Annotated[
        float | None, typer.Option(help="Above 1, what was said becomes less likely.")
    ] = None,
    presence_penalty: Annotated[
        float | None, typer.Option(help="Taken off what the new text has; -2 to 2.")
    ] = None,
    frequency_penalty: Annotated[
        float | None, typer.Option(help="Taken off for each time it has it; -2 to 2.")
    ] = None,
    no_repeat_ngram_size: Annotated[
        int | None, typer.Option(help="No run of so many tokens comes twice.")
    ] = None,
    num_beams: Annotated[
        int | None, typer.Option(help="Search for the likeliest text with so many beams.")
    ] = None,
    length_penalty: Annotated[
        float | None, typer.Option(help="Of beams: above 0 favours long texts.")
    ] = None,
    early_stopping: Annotated[
        Stopping | None, typer.Option(help="Of beams: when the search ends.")
    ] = None,
    min_new_tokens: Annotated[int | None, typer.Option(help="Fewest tokens of one text.")] = None,
    max_new_tokens: Annotated[
        int | None, typer.Option(help="Most tokens of one text.  [default: 256]")
    ] = None,
    stop: Annotated[
        list[str] | None, typer.Option(help="String that ends the text; may be repeated.")
    ] = None,
    stop_token_id: Annotated[
        list[int] | None, typer.Option(help="Token that ends the text; may be repeated.")
    ] = None,
    schema: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="File with a JSON schema that the text follows."),
    ] = None,
    pattern: Annotated[
        str | None, typer.Option(help="Regular expression that the text follows.")
    ] = None,
    grammar: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="File with a Lark grammar that the text follows."),
    ] = None,
    logprobs: Annotated[
        int | None,
        typer.Option(help="With --json: tokens' log-probabilities, and so many alternatives."),
    ] = None,
    system: Annotated[
        str | None, typer.Option(help="Instruction that stands before the prompt.")
    ] = None,
    watermark: Annotated[
        float | None, typer.Option(help="Hide a watermark, 0 (none) to 10; 1 or 2 is usual.")
    ] = None,
    folder: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder for the texts as sealed files.")
    ] = None,
    mark: Mark = True,
    reason: Reason = "",
    public: Public = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Write texts and keep them in the library.

    A model without a chat template goes on with the prompt, which then stands before its text.
    With --num-beams, -n gives the n best texts.
    """
    text = sys.stdin.read(1_000_000) if prompt == "-" else prompt
    given = {
        "temperature": temperature,
        "top_k": top_k,
        "top_p": top_p,
        "min_p": min_p,
        "repetition_penalty": repetition_penalty,
        "presence_penalty": presence_penalty,
        "frequency_penalty": frequency_penalty,
        "no_repeat_ngram_size": no_repeat_ngram_size,
        "num_beams": num_beams,
        "length_penalty": length_penalty,
        "early_stopping": None if early_stopping is None else _STOPPING[early_stopping],
        "min_new_tokens": min_new_tokens,
        "max_new_tokens": max_new_tokens,
        "stop": stop or None,
        "stop_token_ids": stop_token_id or None,
        "schema": None if schema is None else _schema(schema),
        "pattern": pattern,
        "grammar": None if grammar is None else _text(grammar, "grammar"),
        "logprobs": logprobs,
        "system": system,
        "watermark": watermark,
    }
    settings = {name: value for name, value in given.items() if value is not None}
    options = seal_options(mark, reason, public)
    live = n == 1 and not as_json and sys.stdout.isatty()
    with vm.Line() as line, spinner(shown(quiet, as_json), "writing") as progress:
        stream = Stream(max_new_tokens or TextSettings().max_new_tokens, progress.stop)
        assets = line.write(
            text,
            n=n,
            model=model,
            seed=seed,
            on_piece=stream if live else None,
            **settings,
        )
        written = [
            []
            if folder is None
            else vm.export_asset(line.library, line.sealer, asset, folder, options=options)
            for asset in assets
        ]
    if as_json:
        files = [{"files": [str(path) for path in paths]} if paths else {} for paths in written]
        pairs = zip(assets, files, strict=True)
        print_json([{**asset_json(asset), **more} for asset, more in pairs])
        return
    if stream.pieces:
        stream.end(assets[0].text)
    else:
        sys.stdout.write("\n\n".join(asset.text for asset in assets) + "\n")
    for asset in assets:
        if not asset.notes.get("whole", True) and asset.text in ("", text.strip()):
            err.print(f"{asset.id} is empty: the model ended it at once; try --min-new-tokens 20")
    if not quiet:
        notes.warn(assets)
        kept = ", ".join(asset.id for asset in assets)
        err.print(f"[dim]AI-generated; kept as {kept}[/]", soft_wrap=True)
        for path in (paths[0] for paths in written if paths):
            err.print(f"[dim]{escape(str(path))}[/]", soft_wrap=True)
