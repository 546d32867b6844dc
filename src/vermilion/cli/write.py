"""`vermilion write`: text from one prompt."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

import vermilion as vm
from vermilion.cli import notes
from vermilion.cli import text_options as opts
from vermilion.cli.sealing import Mark, Public, Reason, seal_options
from vermilion.cli.show import AsJson, Quiet, Seed, asset_json, err, print_json, shown, spinner
from vermilion.errors import InputError
from vermilion.types import TextSettings

_SENTENCE_END = re.compile(r"[.!?。！？…][\"”’')\]]*(?=\s|$)")
_GUARD = 60  # pieces before the limit, from which on only whole sentences are shown


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
    n: opts.Count = 1,
    model: opts.Model = None,
    seed: Seed = None,
    temperature: opts.Temperature = None,
    top_k: opts.TopK = None,
    top_p: opts.TopP = None,
    min_p: opts.MinP = None,
    repetition_penalty: opts.RepetitionPenalty = None,
    presence_penalty: opts.PresencePenalty = None,
    frequency_penalty: opts.FrequencyPenalty = None,
    no_repeat_ngram_size: opts.NoRepeatNgramSize = None,
    num_beams: opts.NumBeams = None,
    length_penalty: opts.LengthPenalty = None,
    early_stopping: opts.EarlyStopping = None,
    min_new_tokens: opts.MinNewTokens = None,
    max_new_tokens: opts.MaxNewTokens = None,
    stop: opts.Stop = None,
    stop_token_id: opts.StopTokenId = None,
    schema: opts.Schema = None,
    pattern: opts.Pattern = None,
    grammar: opts.Grammar = None,
    logprobs: opts.Logprobs = None,
    system: opts.System = None,
    watermark: opts.Watermark = None,
    folder: opts.Folder = None,
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
        "early_stopping": None if early_stopping is None else opts.STOPPING[early_stopping],
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
            **{name: value for name, value in given.items() if value is not None},
        )
        files = {
            asset.id: vm.export_asset(line.library, line.sealer, asset, folder, options=options)
            for asset in assets
            if folder is not None
        }
    if as_json:
        print_json([{**asset_json(a), **_files(files.get(a.id, ()))} for a in assets])
        return
    if stream.pieces:
        stream.end(assets[0].text)
    else:
        sys.stdout.write("\n\n".join(asset.text for asset in assets) + "\n")
    _say(assets, text.strip(), files, quiet)


def _files(paths: Sequence[Path]) -> dict[str, list[str]]:
    return {"files": [str(path) for path in paths]} if paths else {}


def _say(
    assets: Sequence[Any], prompt: str, files: Mapping[str, Sequence[Path]], quiet: bool
) -> None:
    """What a person should know of the texts besides: where they are, what to look at."""
    for asset in assets:
        if not asset.notes.get("whole", True) and asset.text in ("", prompt):
            err.print(f"{asset.id} is empty: the model ended it at once; try --min-new-tokens 20")
    if quiet:
        return
    notes.warn(assets)
    kept = ", ".join(asset.id for asset in assets)
    err.print(f"[dim]AI-generated; kept as {kept}[/]", soft_wrap=True)
    for paths in files.values():
        err.print(f"[dim]{escape(str(paths[0]))}[/]", soft_wrap=True)
