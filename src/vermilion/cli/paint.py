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
from vermilion.cli import picture_options as opts
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
    n: opts.Count = 1,
    best: opts.Best = None,
    model: opts.Model = None,
    seed: Seed = None,
    steps: opts.Steps = None,
    guidance: opts.Guidance = None,
    sampler: opts.Sampler = None,
    negative: opts.Negative = "",
    style: opts.Style = None,
    size: opts.Size = None,
    svg: opts.Svg = False,
    width: opts.Width = None,
    height: opts.Height = None,
    from_: opts.From = "",
    mask: opts.Mask = "",
    strength: opts.Strength = None,
    vary: opts.Vary = "",
    blend: opts.Blend = None,
    amount: opts.Amount = None,
    lora: opts.Lora = None,
    clip_skip: opts.ClipSkip = None,
    fast: opts.Fast = False,
    where: opts.Where = None,
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
