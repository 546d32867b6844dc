"""The options of `write`: how a text is chosen, and what it follows."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Stopping(StrEnum):
    """Values of `TextSettings.early_stopping`, as they are written on a command line."""

    true = "true"
    false = "false"
    never = "never"


STOPPING: dict[Stopping, bool | str] = {
    Stopping.true: True,
    Stopping.false: False,
    Stopping.never: "never",
}


Count = Annotated[int, typer.Option("--n", "-n", help="How many.")]
Model = Annotated[str | None, typer.Option(help="Name of a model, or path of one.")]
Temperature = Annotated[float | None, typer.Option(help="0 takes the likeliest words.")]
TopK = Annotated[int | None, typer.Option(help="Draw from the k likeliest tokens.")]
TopP = Annotated[
    float | None, typer.Option(help="Draw from the likeliest that reach this probability.")
]
MinP = Annotated[
    float | None, typer.Option(help="Least share of the likeliest token's probability.")
]
RepetitionPenalty = Annotated[
    float | None, typer.Option(help="Above 1, what was said becomes less likely.")
]
PresencePenalty = Annotated[
    float | None, typer.Option(help="Taken off what the new text has; -2 to 2.")
]
FrequencyPenalty = Annotated[
    float | None, typer.Option(help="Taken off for each time it has it; -2 to 2.")
]
NoRepeatNgramSize = Annotated[
    int | None, typer.Option(help="No run of so many tokens comes twice.")
]
NumBeams = Annotated[
    int | None, typer.Option(help="Search for the likeliest text with so many beams.")
]
LengthPenalty = Annotated[float | None, typer.Option(help="Of beams: above 0 favours long texts.")]
EarlyStopping = Annotated[Stopping | None, typer.Option(help="Of beams: when the search ends.")]
MinNewTokens = Annotated[int | None, typer.Option(help="Fewest tokens of one text.")]
MaxNewTokens = Annotated[int | None, typer.Option(help="Most tokens of one text.  [default: 256]")]
Stop = Annotated[list[str] | None, typer.Option(help="String that ends the text; may be repeated.")]
StopTokenId = Annotated[
    list[int] | None, typer.Option(help="Token that ends the text; may be repeated.")
]
Schema = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="File with a JSON schema that the text follows."),
]
Pattern = Annotated[str | None, typer.Option(help="Regular expression that the text follows.")]
Grammar = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="File with a Lark grammar that the text follows."),
]
Logprobs = Annotated[
    int | None,
    typer.Option(help="With --json: tokens' log-probabilities, and so many alternatives."),
]
System = Annotated[str | None, typer.Option(help="Instruction that stands before the prompt.")]
Watermark = Annotated[
    float | None, typer.Option(help="Hide a watermark, 0 (none) to 10; 1 or 2 is usual.")
]
Folder = Annotated[
    Path | None, typer.Option("--out", "-o", help="Folder for the texts as sealed files.")
]
