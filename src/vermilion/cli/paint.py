"""`vermilion paint`: pictures from words and from other pictures."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.progress import Progress

import vermilion as vm
from vermilion.cli import notes
from vermilion.cli.sealing import Mark, Public, Reason, seal_options
from vermilion.cli.show import (
    AsJson,
    Quiet,
    Seed,
    asset_json,
    err,
    out,
    print_json,
    shown,
    work_bar,
)
from vermilion.errors import InputError


def paint(
    text: Annotated[
        str, typer.Argument(help="What to paint, or - for standard input.", show_default=False)
    ] = "",
    n: Annotated[int, typer.Option("--n", "-n", help="How many.")] = 1,
    best: Annotated[
        int | None, typer.Option(help="Keep so many of them, where a model can rank them.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="Name of a model, or path of one.")] = None,
    seed: Seed = None,
    steps: Annotated[
        int | None, typer.Option("--steps", help="Denoising steps, 1 to 1000.")
    ] = None,
    guidance: Annotated[
        float | None, typer.Option(help="How much the words count, 0 to 50.")
    ] = None,
    sampler: Annotated[
        str | None, typer.Option(help="ddim, euler, euler_ancestral, heun, dpmpp_2m, ...")
    ] = None,
    negative: Annotated[str, typer.Option(help="What to stay away from.")] = "",
    style: Annotated[str | None, typer.Option(help="A style word of the model's.")] = None,
    size: Annotated[
        int | None, typer.Option(help="Longer side of the finished file in px, 16 to 4096.")
    ] = None,
    svg: Annotated[bool, typer.Option("--svg", help="Make a drawing (SVG) of each, too.")] = False,
    width: Annotated[int | None, typer.Option(help="Painted width in px.")] = None,
    height: Annotated[int | None, typer.Option(help="Painted height in px.")] = None,
    from_: Annotated[
        str, typer.Option("--from", metavar="PICTURE|ID", help="Picture to start from.")
    ] = "",
    mask: Annotated[
        str, typer.Option(metavar="PICTURE|ID", help="Its light parts are painted anew.")
    ] = "",
    strength: Annotated[
        float | None, typer.Option(help="With --from: how far to go from it, 0 to 1.")
    ] = None,
    vary: Annotated[str, typer.Option(metavar="ID", help="Paint a kept picture again.")] = "",
    blend: Annotated[
        tuple[str, str] | None,
        typer.Option(metavar="ID ID", help="Lead one picture over into another."),
    ] = None,
    amount: Annotated[
        float | None, typer.Option(help="0 to 1, of --vary (0.4) and --blend (0.5).")
    ] = None,
    lora: Annotated[
        list[str] | None, typer.Option(metavar="NAME:WEIGHT", help="Adapter; may be repeated.")
    ] = None,
    clip_skip: Annotated[
        int | None, typer.Option(help="Last layers of the text encoder to leave out.")
    ] = None,
    fast: Annotated[bool, typer.Option("--fast", help="Sooner, and nearly as good.")] = False,
    where: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FILE|FOLDER", help="Where to, sealed: .png, .svg ..."),
    ] = None,
    mark: Mark = True,
    reason: Reason = "",
    public: Public = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Paint pictures and keep them in the library.

    A picture that --from or --mask names is taken into the library first; what is painted from it
    is its child.
    """
    options = seal_options(mark, reason, public)
    target = None if where is None else vm.PaintTarget.of(where, n)
    given: dict[str, Any] = {
        "num_inference_steps": steps,
        "guidance_scale": guidance,
        "sampler": sampler,
        "style": style,
        "size": size,
        "width": width,
        "height": height,
        "strength": strength,
        "clip_skip": clip_skip,
        "loras": [_adapter(word) for word in lora] if lora else None,
        "svg": True if svg or (target is not None and target.suffix == "svg") else None,
        "fast": True if fast else None,
    }
    with vm.Line() as line, work_bar(shown(quiet, as_json)) as progress:
        made = line.paint(
            sys.stdin.read(1_000_000) if text == "-" else text,
            n=n,
            best=best,
            model=model,
            seed=seed,
            negative_text=negative,
            image=from_,
            mask=mask,
            vary=vary,
            blend=blend,
            amount=amount,
            on_step=step_bar(progress, n),
            **{name: value for name, value in given.items() if value is not None},
        )
        files = {} if target is None else target.write(line.library, line.sealer, made, options)
    if as_json:
        print_json(
            [{**asset_json(a), "files": [str(p) for p in files.get(a.id, ())]} for a in made]
        )
        return
    for asset in made:
        _say(asset, files.get(asset.id, [asset.path])[0], quiet)
    if not quiet:
        notes.warn(made)
        if ranking := made[0].notes.get("ranking"):
            err.print(f"[yellow]note:[/] {escape(ranking)}", soft_wrap=True)


def _say(asset: Any, path: Path, quiet: bool) -> None:
    sides = "x".join(map(str, asset.notes["finished"]))
    drawn = ", a drawing" if asset.path.suffix == ".svg" else ""
    line = str(path) if quiet else f"{path}: {sides} px{drawn}, kept as {asset.id}"
    out.print(line, markup=False, soft_wrap=True)


def _adapter(word: str) -> list[Any]:
    """NAME:WEIGHT, or NAME alone, whose weight is 1."""
    name, _, weight = word.rpartition(":")
    if not name:
        return [word, 1.0]
    try:
        return [name, float(weight)]
    except ValueError:
        raise InputError(
            f"lora: {weight!r} is no number; write NAME:WEIGHT, as in {name}:0.8"
        ) from None


def step_bar(progress: Progress, n: int) -> Any:
    """What shows denoising steps of `n` pictures on a bar."""
    task = progress.add_task("painting", total=None)
    done: dict[int, int] = {}

    def on_step(number: int, step: int, of: int) -> None:
        done[number] = step
        what = "painting" if n == 1 else f"painting, {n} pictures, step"
        progress.update(task, description=what, completed=sum(done.values()), total=n * of)

    return on_step
