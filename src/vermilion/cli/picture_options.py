"""The options of `paint`: what it starts from, how it is painted and finished."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Count = Annotated[int, typer.Option("--n", "-n", help="How many.")]
Best = Annotated[
    int | None, typer.Option(help="Keep so many of them, where a model can rank them.")
]
Model = Annotated[str | None, typer.Option(help="Name of a model, or path of one.")]
Steps = Annotated[int | None, typer.Option("--steps", help="Denoising steps, 1 to 1000.")]
Guidance = Annotated[float | None, typer.Option(help="How much the words count, 0 to 50.")]
Sampler = Annotated[
    str | None, typer.Option(help="ddim, euler, euler_ancestral, heun, dpmpp_2m, ...")
]
Negative = Annotated[str, typer.Option(help="What to stay away from.")]
Style = Annotated[str | None, typer.Option(help="A style word of the model's.")]
Size = Annotated[
    int | None, typer.Option(help="Longer side of the finished file in px, 16 to 4096.")
]
Svg = Annotated[bool, typer.Option("--svg", help="Make a drawing (SVG) of each, too.")]
Width = Annotated[int | None, typer.Option(help="Painted width in px.")]
Height = Annotated[int | None, typer.Option(help="Painted height in px.")]
From = Annotated[str, typer.Option("--from", metavar="PICTURE|ID", help="Picture to start from.")]
Mask = Annotated[str, typer.Option(metavar="PICTURE|ID", help="Its light parts are painted anew.")]
Strength = Annotated[float | None, typer.Option(help="With --from: how far to go from it, 0 to 1.")]
Vary = Annotated[str, typer.Option(metavar="ID", help="Paint a kept picture again.")]
Blend = Annotated[
    tuple[str, str] | None,
    typer.Option(metavar="ID ID", help="Lead one picture over into another."),
]
Amount = Annotated[float | None, typer.Option(help="0 to 1, of --vary (0.4) and --blend (0.5).")]
Lora = Annotated[
    list[str] | None, typer.Option(metavar="NAME:WEIGHT", help="Adapter; may be repeated.")
]
ClipSkip = Annotated[int | None, typer.Option(help="Last layers of the text encoder to leave out.")]
Fast = Annotated[bool, typer.Option("--fast", help="Sooner, and nearly as good.")]
Where = Annotated[
    Path | None,
    typer.Option("--out", "-o", metavar="FILE|FOLDER", help="Where to, sealed: .png, .svg ..."),
]
