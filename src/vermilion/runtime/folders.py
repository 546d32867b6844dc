"""Models that lie in a folder, or are one file: used where they are, never copied."""

from __future__ import annotations

from pathlib import Path

from vermilion.errors import InputError, ModelError, NotFoundError
from vermilion.runtime.cards import Card
from vermilion.runtime.pipelines import INDEX, family_of_tensors, select_pipeline
from vermilion.runtime.sources import Fetched, Plan, Progress, facts_of
from vermilion.runtime.weights import PICKLES, POOLING, check_file, select, unsafe


def find(card: Card) -> Fetched | None:
    """Nothing: a path becomes a model when it is pulled."""
    return None


def plan(card: Card) -> Plan:
    """The size of the files; nothing is ever fetched or copied."""
    folder, names = _files(Path(card.source))
    size = sum((folder / name).stat().st_size for name in names)
    return Plan(
        name=card.name, source=card.source, download_bytes=0, disk_bytes=size, note="used in place"
    )


def fetch(card: Card, incoming: Path, progress: Progress) -> Fetched:
    """Look at the files and hash them, where they are."""
    folder, names = _files(Path(card.source))
    return Fetched(folder=folder, files=facts_of(card.name, folder, names, progress), in_place=True)


def _files(path: Path) -> tuple[Path, tuple[str, ...]]:
    """The folder and the names in it that make up the model at a path."""
    if (path / INDEX).is_file():
        # One folder deep: what lies further down is no part of a pipeline.
        found = (file for file in (*path.glob("*"), *path.glob("*/*")) if file.is_file())
        every = [file.relative_to(path).as_posix() for file in found]
        return path, select_pipeline(every, str(path), half=False)
    if path.is_dir():
        names = [found.name for found in path.iterdir() if found.is_file()]
        if (path / POOLING).is_file():
            names.append(POOLING)
        return path, select(names, str(path))
    if not path.is_file():
        raise NotFoundError(f"{path} does not exist; name a folder with a model or a .gguf file")
    if path.suffix in PICKLES:
        raise unsafe(str(path))
    if path.suffix == ".safetensors":
        check_file(path, "copy it there again")
        if not any(family_of_tensors(path)):
            raise InputError(f"{path} is only a part of a model; name the folder that it lies in")
    elif path.suffix != ".gguf":
        check_file(path, "name a folder with a model")
        raise ModelError(f"{path} is not a model; name a folder with safetensors, or a .gguf file")
    return path.parent, (path.name,)
