"""A training set's index: fingerprints of all that is in it, which go with the model.

    folder of files → fingerprints → prints.safetensors in the model's folder

The file is safetensors: an array for each measure (`picture` uint64 (N, 1), `sound` and
`film` uint64 (N, 8), `text` uint32 (N, 128)), and in its metadata `source`, the training set's
name, and `names`, JSON of measure to the N names. It holds no content, and nothing of the content
can be made from it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from vermilion.errors import InputError, NotFoundError
from vermilion.seal import fingerprints
from vermilion.seal.formats import Format, format_of
from vermilion.seal.looking import prints_of
from vermilion.seal.marks import text
from vermilion.seal.originality import Index, Prints

_GAP = re.compile(r"\n[ \t\r]*\n")


def index_of(
    folder: Path, source: str, on_file: Callable[[int, int], None] = lambda done, of: None
) -> Index:
    """The index of a folder of training files, those below it included.

    A text is known as a whole, and each of its paragraphs as `NAME#3`, since what a model writes is
    seldom as long as what it read.

    Args:
        folder: of files; those that cannot be sealed are passed over.
        source: the training set's name, for people.
        on_file: told how many files are done, and of how many.

    Raises:
        NotFoundError: the folder has no file that has a fingerprint.
        InputError: a file is damaged; it is named.
    """
    paths = [path for path in sorted(folder.rglob("*")) if _form(path) is not None]
    index = Index(source)
    for done, path in enumerate(paths, 1):
        name = path.relative_to(folder).as_posix()
        form = _form(path)
        if form is None:
            continue
        try:
            content = path.read_bytes()
            if form.medium in ("text", "document"):
                add_text(index, name, text.text_of(content, form).decode("utf-8", "replace"))
            else:
                index.add(name, prints_of(content, form))
        except InputError as error:
            raise InputError(f"{path}: {error}") from None
        on_file(done, len(paths))
    if len(index) == 0:
        raise NotFoundError(
            f"folder: {folder} has no picture, film, text or sound to take prints of"
        )
    return index


def add_text(index: Index, name: str, words: str) -> None:
    """Learn a text as a whole, and each of its paragraphs, where it has several."""
    index.add(name, Prints(text=fingerprints.minhash(words)))
    paragraphs = _GAP.split(words.strip())
    for number, paragraph in enumerate(paragraphs if len(paragraphs) > 1 else (), 1):
        index.add(f"{name}#{number}", Prints(text=fingerprints.minhash(paragraph)))


def _form(path: Path) -> Format | None:
    """A file's format, if files of it have fingerprints."""
    suffix = path.suffix.removeprefix(".").lower()
    if path.name.startswith(".") or not path.is_file():
        return None
    try:
        form = format_of(suffix)
    except InputError:
        return None
    return form
