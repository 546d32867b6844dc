"""What is known of a set of pictures before any is decoded, held in few bytes a picture.

N items.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import overload

import numpy as np
from numpy.typing import NDArray

from vermilion.errors import InputError


class Strings(Sequence[str]):
    """Many strings in one block of memory; what is not UTF-8 in names of files is kept."""

    def __init__(self, strings: Iterable[str] = ()) -> None:
        self._text, self._ends = bytearray(), array("q")
        for string in strings:
            self.append(string)

    def append(self, string: str) -> None:
        """Add one at the end."""
        self._text += string.encode("utf-8", "surrogateescape")
        self._ends.append(len(self._text))

    def __len__(self) -> int:
        return len(self._ends)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[str]: ...
    def __getitem__(self, index: int | slice) -> str | Sequence[str]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if index < 0:
            index += len(self)
        if not 0 <= index < len(self):
            raise IndexError(index)
        start = self._ends[index - 1] if index else 0
        return bytes(self._text[start : self._ends[index]]).decode("utf-8", "surrogateescape")


Place = tuple[int, int, int]
"""Where a picture's bytes are: which file, and two numbers that its store understands."""

Label = int | str | None


@dataclass(slots=True)
class Rows:
    """Items as they are found: what the readers of all forms give.

    A picture that is named again gets the further captions and stays one item.

    Attributes:
        names: of the pictures, each once.
        captions: of all items, in the order of the data.
        owners: the item of each caption.
        labels: as they stand in the data; None: there is none.
        splits: "train", "validation", … or "" where the data do not say.
        places: three numbers an item.
        stamps: size in bytes and time of change in ns of what holds the picture, two an item.
    """

    names: Strings = field(default_factory=Strings)
    captions: Strings = field(default_factory=Strings)
    owners: array[int] = field(default_factory=lambda: array("q"))
    labels: list[Label] = field(default_factory=list)
    splits: list[str] = field(default_factory=list)
    places: array[int] = field(default_factory=lambda: array("q"))
    stamps: array[int] = field(default_factory=lambda: array("q"))
    _numbers: dict[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.names)

    def add(
        self,
        name: str,
        captions: Iterable[str] = (),
        label: Label = None,
        split: str = "",
        place: Place = (0, 0, 0),
        stamp: tuple[int, int] = (0, 0),
    ) -> None:
        """Add an item, or captions to one that is there."""
        number = self._numbers.get(name)
        if number is None:
            number = self._numbers[name] = len(self.names)
            self.names.append(name)
            self.labels.append(label)
            self.splits.append(split)
            self.places.extend(place)
            self.stamps.extend(stamp)
        for caption in captions:
            self.owners.append(number)
            self.captions.append(caption)


def indexed(
    labels: Sequence[Label], known: Mapping[int, str] | None = None
) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """Names of classes, and each item's index in them, int64 (N,), -1 where there is no label.

    Numbers are kept as they are where all labels are numbers; names are sorted.

    Args:
        labels: as they stand in the data.
        known: names of numbers, where the data have them.

    Raises:
        InputError: a number is negative or above a million.
    """
    numbers = [label for label in labels if isinstance(label, int)]
    strings = sorted({label for label in labels if isinstance(label, str)})
    if strings:
        names = tuple(sorted({*strings, *(str(number) for number in set(numbers))}))
        places = {name: place for place, name in enumerate(names)}
        found = [-1 if label is None else places[str(label)] for label in labels]
        return names, np.asarray(found, np.int64)
    if numbers and not 0 <= min(numbers) <= max(numbers) < 1_000_000:
        raise InputError(
            f"label: numbers of classes must be from 0 to 999,999 (found {min(numbers)} to"
            f" {max(numbers)}); count them from 0, or write names"
        )
    known = known or {}
    top = max([*numbers, *known], default=-1) + 1
    names = tuple(known.get(number, str(number)) for number in range(top))
    return names, np.asarray([-1 if label is None else label for label in labels], np.int64)


def label_of(value: object) -> Label:
    """A label from a table: whole numbers are indices, other words names, nothing is None."""
    if value is None or isinstance(value, bool):
        return None if value is None else str(value).lower()
    if isinstance(value, int):
        return value
    text = str(value).strip()
    if text.isascii() and text.isdecimal() and len(text) < 10:
        return int(text)
    return text or None


_SPLITS = {"val": "validation", "valid": "validation", "dev": "validation", "eval": "validation"}


def split_of(value: object) -> str:
    """The name of a split, with the usual short forms of "validation" written out."""
    text = "" if value is None else str(value).strip().lower()
    return _SPLITS.get(text, text)


def split_in_name(name: str) -> str:
    """The split that the name of a file or folder tells, such as train-00000-of-00002, val2017."""
    word = name.lower()
    for known in ("train", "validation", "valid", "val", "dev", "test"):
        rest = word.removeprefix(known)
        if rest != word and (not rest or not rest[0].isalpha()):
            return split_of(known)
    return ""


def captions_in(value: object) -> list[str] | None:
    """The captions that a field holds, empty ones left out; None: it is no text."""
    values = value if isinstance(value, list | tuple) else [value]
    texts = [text for text in values if text is not None]
    if not all(isinstance(text, str | int | float) for text in texts):
        return None
    return [tidy for text in texts if (tidy := " ".join(str(text).split()))]


def parted(name: str) -> tuple[str, str]:
    """A path with slashes without its suffix, and the suffix, with its dot, in small letters."""
    stem, dot, end = name.rpartition(".")
    return (stem, f".{end.lower()}") if dot and "/" not in end else (name, "")
