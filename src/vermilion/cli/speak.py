"""`vermilion speak`: a text, spoken."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

import vermilion as vm
from vermilion.cli import notes
from vermilion.cli.sealing import Mark, Public, Reason, SpokenMark, seal_options
from vermilion.cli.show import AsJson, Quiet, Seed, asset_json, out, print_json, shown, work_bar
from vermilion.errors import InputError


def speak(
    text: Annotated[str, typer.Argument(help="What to say, or - for standard input.")],
    file: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="File to write, sealed: .wav, .flac, .mp3, .ogg or .m4a."),
    ] = None,
    voice: Annotated[str, typer.Option(help="heart, emma, fable, fenrir or kore.")] = "",
    speed: Annotated[float, typer.Option(help="0.5 to 2; 1 is the voice's own pace.")] = 1.0,
    loudness: Annotated[float, typer.Option(help="In LUFS, -40 to -10.")] = -16.0,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace what lies there already.")
    ] = False,
    seed: Seed = None,
    mark: Mark = True,
    reason: Reason = "",
    public: Public = False,
    spoken: SpokenMark = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Speak a text and keep the recording in the library."""
    options = seal_options(mark, reason, public, spoken=spoken)
    if file is not None and file.exists() and (file.is_dir() or not overwrite):
        raise InputError(f"out: {file} is there already; name another or add --overwrite")
    words = sys.stdin.read(1_000_000) if text == "-" else text
    with vm.Line() as line, work_bar(shown(quiet, as_json)) as progress:
        task = progress.add_task("speaking, sentence", total=None)

        def on_piece(number: int, piece: Any) -> None:
            progress.advance(task)

        asset = line.speak(
            words,
            out=file,
            seed=seed,
            on_piece=on_piece,
            options=options,
            voice=voice,
            speed=speed,
            loudness=loudness,
        )
    where = asset.path if file is None else file
    if as_json:
        print_json({**asset_json(asset), "file": str(where)})
    elif quiet:
        out.print(str(where), markup=False, soft_wrap=True)
    else:
        notes.warn([asset])
        seconds, level = asset.notes["duration"], asset.notes["lufs"]
        out.print(
            f"{where}: {seconds:.1f} s at {level} LUFS, kept as {asset.id}",
            markup=False,
            soft_wrap=True,
        )
