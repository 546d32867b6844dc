"""Which fields of a table hold a picture's path, its captions, its class and its split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from vermilion.data.pictures.rows import Label, captions_in, label_of
from vermilion.errors import InputError

PICTURE = (
    "file",
    "file_name",
    "filename",
    "filepath",
    "image",
    "image_path",
    "image_file",
    "img",
    "path",
    "picture",
    "url",
)
CAPTION = (
    "caption",
    "captions",
    "text",
    "title",
    "sentence",
    "sentences",
    "prompt",
    "description",
)
LABEL = ("label", "class", "cls", "category", "class_name")
SPLIT = ("split",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fields:
    """Which fields of a table hold what; "" is the first of the usual names that is there.

    Attributes:
        picture: path of the picture, such as "file", "file_name", "image", "path".
        caption: its caption or a list of them, such as "caption", "text"; several with commas.
        label: its class, such as "label", "class".
        split: "split".
    """

    picture: str = ""
    caption: str = ""
    label: str = ""
    split: str = ""

    def names(self, there: Sequence[str], where: str, wanted: bool, classes: bool) -> Found:
        """The fields that are there.

        Args:
            there: names of the table's fields.
            where: for messages.
            wanted: whether captions are read.
            classes: whether a class has to be there.

        Raises:
            InputError: a field that was named, or is needed, is not there.
        """
        picture = _one(self.picture, PICTURE, there, where, "picture")
        if picture is None:
            raise _unknown("picture", there, where)
        captions: list[str] = []
        if wanted and self.caption:
            parts = [part.strip() for part in self.caption.split(",")]
            captions = [_named(part, there, where, "caption") for part in parts]
        elif wanted and (usual := _one("", CAPTION, there, where, "caption")) is not None:
            captions = [usual]
        label = _one(self.label, LABEL, there, where, "label")
        if classes and label is None:
            raise _unknown("label", there, where)
        split = _one(self.split, SPLIT, there, where, "split")
        return Found(picture, tuple(captions), label, split)

    def said(self, record: Mapping[str, Any]) -> tuple[list[str] | None, Label]:
        """Captions and class of a record that need not have any; None: a caption is no text."""
        names = [part.strip() for part in self.caption.split(",") if part.strip()]
        usual = next((name for name in CAPTION if name in record), None)
        captions: list[str] = []
        for name in names or ([] if usual is None else [usual]):
            texts = captions_in(record.get(name))
            if texts is None:
                return None, None
            captions += texts
        label = self.label or next((name for name in LABEL if name in record), "")
        return captions, label_of(record.get(label))

    def given(self) -> set[str]:
        """The names that a person has given."""
        names = [self.picture, *self.caption.split(","), self.label, self.split]
        return {name.strip() for name in names if name.strip()}


@dataclass(frozen=True, slots=True)
class Found:
    """Names of the fields of one table; None: there is none."""

    picture: str
    captions: tuple[str, ...]
    label: str | None
    split: str | None


def _one(
    name: str, usual: Sequence[str], there: Sequence[str], where: str, role: str
) -> str | None:
    if name:
        return _named(name, there, where, role)
    by_lower = {field.strip().lower(): field for field in reversed(there)}
    return next((by_lower[word] for word in usual if word in by_lower), None)


def _named(name: str, there: Sequence[str], where: str, role: str) -> str:
    if name in there:
        return name
    near = get_close_matches(name, there, 1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise InputError(f"fields.{role}: {where} has no field {name!r} among {', '.join(there)}{hint}")


def _unknown(role: str, there: Sequence[str], where: str) -> InputError:
    return InputError(
        f"fields.{role}: {where} has none of the usual fields for the {role} among"
        f" {', '.join(map(str, there))}; name the one that is"
    )
