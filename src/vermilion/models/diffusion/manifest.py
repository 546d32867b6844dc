"""What diffusers' files cannot say of a model that was trained here: vermilion.json.

The file lies beside model_index.json, and diffusers does not look at it. All its fields may be
left out. A model of stickers, for example:

    {
      "patch": 2,
      "channels": 4,
      "text_encoder": "all-minilm-l6-v2",
      "max_tokens": 24,
      "pooled": true,
      "styles": ["flat", "outline"],
      "template": "{text}, {style} style",
      "num_inference_steps": 20,
      "guidance_scale": 4.0
    }
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from vermilion.errors import InputError, ModelError
from vermilion.models.files import write_json

FILE = "vermilion.json"

Count = Annotated[int, Field(ge=1, le=4096)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """The fields of vermilion.json.

    Attributes:
        patch: without a VAE, pixels of so many a side become channels; see `pixels.PixelCodec`.
        channels: of a picture; the fourth says how opaque it is, and the others are premultiplied.
        text_encoder: name of a model of the store that reads the prompts, a BERT; empty: the text
            tower that lies in the folder, or none.
        max_tokens: vectors that the network gets of a text, its two ends included; where a text
            has fewer tokens the rest is 0.
        pooled: whether the network is also told one vector for the whole text, as its label.
        styles: style words that it knows; none: whatever is said is a word as others.
        template: how a text and a style word become a prompt.
        classes: names of what it paints, by label, for a network that knows classes.
        null_class: the label that stands for no class; None: it was never taught one, and cannot
            be guided. (Where there are texts, the empty one stands for none.)
        num_inference_steps: how many steps it takes where nobody says.
        guidance_scale: likewise; 1 does not guide.
        sampler: likewise; empty: that of scheduler_config.json.
    """

    patch: Count = 1
    channels: Annotated[int, Field(ge=1, le=4)] = 3
    text_encoder: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{0,64}$")] = ""
    max_tokens: Annotated[int, Field(ge=3, le=512)] = 32
    pooled: bool = False
    styles: tuple[str, ...] = ()
    template: str = "{text}, {style}"
    classes: tuple[str, ...] = ()
    null_class: Annotated[int, Field(ge=0)] | None = None
    num_inference_steps: Annotated[int, Field(ge=1, le=1000)] | None = None
    guidance_scale: Annotated[float, Field(ge=0, le=50)] | None = None
    sampler: str = ""

    # A field that is misspelt would have no effect, which nobody would notice.
    __pydantic_config__ = ConfigDict(extra="forbid", strict=True)

    @classmethod
    def read(cls, folder: Path) -> Manifest | None:
        """What stands in a model's folder; None where there is no such file.

        Raises:
            ModelError: a field is not known, or has a value that cannot be used.
        """
        path = folder / FILE
        if not path.exists():
            return None
        try:
            return _MANIFEST.validate_json(path.read_bytes())
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            place = ".".join(map(str, first["loc"])) or "the file"
            raise ModelError(f"{path}: {place}: {first['msg']}") from None

    def write(self, folder: Path) -> None:
        """Write it into a model's folder."""
        write_json(folder / FILE, asdict(self))

    def prompt(self, text: str, style: str) -> str:
        """A text with its style word.

        Raises:
            InputError: the model knows styles, and not this one.
        """
        if not style:
            return text
        if self.styles and style not in self.styles:
            known = ", ".join(self.styles)
            raise InputError(f"style: {style!r} is not one that the model knows ({known})")
        return self.template.replace("{text}", text).replace("{style}", style)

    def label(self, text: str) -> int:
        """The class that a prompt names.

        Args:
            text: the class's name, or its number.

        Raises:
            InputError: there is no such class.
        """
        word = text.strip()
        if word in self.classes:
            return self.classes.index(word)
        if word.isdecimal() and int(word) < len(self.classes):
            return int(word)
        some = ", ".join(self.classes[:20])
        raise InputError(f"prompt: the model knows no {word!r}; it knows {some}")


_MANIFEST = TypeAdapter(Manifest)
