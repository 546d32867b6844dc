"""A folder of pictures: captions by their names, in a text file beside each, or classes."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from vermilion.data.pictures.decoding import SUFFIXES
from vermilion.data.pictures.faults import Faults
from vermilion.data.pictures.rows import Rows, captions_in, parted, split_in_name
from vermilion.data.pictures.stores import confined

Captions = Literal["name", "txt", "none"]
CAPTIONS = ("name", "txt", "none")
LARGEST_TEXT = 1_000_000  # bytes of a text file beside a picture
_COPY = re.compile(r"\s*\(\d+\)$")


def read_folder(root: Path, captions: Captions, classes: bool, faults: Faults) -> Rows:
    """Items of a folder and the folders in it, by name.

    Args:
        root: the folder. Folders in it that are named train, val, validation or test are splits.
        captions: "name": the file's name in words; "txt": the lines of the text file of the same
            name; "none".
        classes: whether the first folder below the root, or below its splits, names a class.
        faults: told of what is left out.
    """
    rows, inside = Rows(), confined(root)
    top = {entry.name for entry in os.scandir(root) if entry.is_dir()}
    divided = bool(top) and all(split_in_name(name) for name in top if name[:1] != ".")
    for name, entry in files_below(root):
        suffix = parted(name)[1]
        if suffix not in SUFFIXES:
            if suffix == ".txt" and captions == "txt":
                _alone(root, name, faults)
            continue
        faults.rows += 1
        if entry.is_symlink() and inside(name) is None:
            faults.add("outside", name, "the link leads out of the folder")
            continue
        folders = name.split("/")[:-1]
        split = split_in_name(folders[0]) if divided and folders else ""
        folders = folders[1:] if split else folders
        if classes and not folders:
            faults.add("no label", name, "lies in no folder that names its class")
            continue
        try:
            status = entry.stat()
            found = _captions(root, name, captions)
        except OSError as error:
            faults.add("missing", name, f"cannot be read ({error.strerror or error})")
            continue
        except UnicodeError:
            faults.add("encoding", name, "its caption is not UTF-8")
            continue
        stamp = (status.st_size, status.st_mtime_ns)
        rows.add(name, found, folders[0] if classes else None, split, stamp=stamp)
    return rows


def has_texts(root: Path) -> bool:
    """Whether a text file lies beside any picture of a folder."""
    for name, _ in files_below(root):
        stem, suffix = parted(name)
        if suffix in SUFFIXES and (root / f"{stem}.txt").is_file():
            return True
    return False


def files_below(root: Path) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Paths of all files below a folder, with slashes, folder by folder; no hidden ones."""
    pending = [("", root)]
    while pending:
        prefix, folder = pending.pop()
        with os.scandir(folder) as entries:
            found = sorted(entries, key=lambda entry: entry.name)
        below = []
        for entry in found:
            if entry.name.startswith((".", "__MACOSX")):
                continue
            # A link to a folder is not followed: it may lead round in a ring.
            if entry.is_dir(follow_symlinks=False):
                below.append((f"{prefix}{entry.name}/", Path(entry.path)))
            elif entry.is_file() or entry.is_symlink():
                yield prefix + entry.name, entry
        pending += reversed(below)


def words_of(name: str) -> str:
    """The caption that a file's name is: its words, without the number of a copy in brackets.

    Underscores part words; hyphens do so where nothing else does.

    Raises:
        UnicodeEncodeError: the name is not UTF-8.
    """
    stem = parted(name.rpartition("/")[2])[0]
    stem.encode("utf-8")
    stem = _COPY.sub("", stem).replace("_", " ").strip()
    return " ".join((stem if " " in stem else stem.replace("-", " ")).split())


def _captions(root: Path, name: str, captions: Captions) -> list[str]:
    if captions == "name":
        return captions_in(words_of(name)) or []
    if captions == "none":
        return []
    beside = root / f"{parted(name)[0]}.txt"
    try:
        with beside.open("rb") as file:
            text = file.read(LARGEST_TEXT).decode("utf-8-sig")
    except FileNotFoundError:
        return []
    return captions_in(text.splitlines()) or []


def _alone(root: Path, name: str, faults: Faults) -> None:
    """Count a caption whose picture is missing."""
    stem = parted(name)[0]
    if any((root / (stem + suffix)).exists() for end in SUFFIXES for suffix in (end, end.upper())):
        return
    faults.rows += 1
    faults.add("no picture", name, "has no picture of the same name beside it")
