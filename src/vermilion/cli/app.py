"""The commands put together, and errors turned into exit codes."""

from __future__ import annotations

import json
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

import vermilion as vm
from vermilion.cli import (
    doctor,
    embed,
    library,
    look,
    make,
    models,
    paint,
    seal,
    speak,
    train,
    train_contrast,
    train_diffusion,
    write,
)
from vermilion.cli.show import err
from vermilion.errors import VermilionError

INTERRUPTED = 130  # 128 + SIGINT, as shells have it


class House(TyperGroup):
    """Says an error that is meant for people in one sentence, with its exit code."""

    def invoke(self, ctx: Any) -> Any:
        """Run a command."""
        try:
            return super().invoke(ctx)
        except VermilionError as error:
            if "--json" in sys.argv:
                print(json.dumps({"error": str(error), "kind": type(error).__name__}))  # noqa: T201
            else:
                err.print(f"[bold red]error:[/] {_escaped(str(error))}", soft_wrap=True)
            raise typer.Exit(error.exit_code) from None
        except KeyboardInterrupt:
            err.print("stopped; what was finished is kept: vermilion library list", soft_wrap=True)
            raise typer.Exit(INTERRUPTED) from None


app = typer.Typer(
    cls=House,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="One brief in, a finished set out: words, voices and pictures, made on your own machine.",
)


def _escaped(text: str) -> str:
    return text.replace("[", "\\[")


def _version(value: bool) -> None:
    if value:
        print(f"vermilion {vm.__version__}")  # noqa: T201
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Options that stand before the command."""


app.command("make")(make.make)
app.command("write")(write.write)
app.command("speak")(speak.speak)
app.command("paint")(paint.paint)
app.command("look")(look.look)
app.command("embed")(embed.embed)
app.add_typer(library.app, name="library")
app.add_typer(models.app, name="models")
# The word that other tools have taught people; the same command as `models pull`.
app.command("pull")(models.pull)
train.app.command("simclr")(train_contrast.simclr)
train.app.command("clip")(train_contrast.clip)
train.app.command("diffusion")(train_diffusion.diffusion)
train.app.command("student")(train_contrast.student)
app.add_typer(train.app, name="train")
app.command("verify")(seal.verify)
app.add_typer(seal.app, name="seal")
app.command("doctor")(doctor.doctor)


def main() -> None:
    """The entry point of the `vermilion` command."""
    app(prog_name="vermilion")
