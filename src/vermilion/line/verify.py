"""Files looked at: read from the disk, with the credential beside them, and judged.

This loads no model, and the library only where it has changed since its fingerprints were taken, so
that a check of many files starts at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from importlib import import_module
from pathlib import Path

from vermilion.errors import InputError, NotFoundError, StorageError
from vermilion.line.known import LibraryPrints
from vermilion.seal.credentials import LARGEST_SIDECAR
from vermilion.seal.formats import Format, format_of
from vermilion.seal.kinds import LOOKED_AT, is_misnamed, kind_of
from vermilion.seal.seal import Sealer
from vermilion.seal.verify import Hidden, Verdict
from vermilion.seal.watermark.text import Found, GreenList
from vermilion.settings import Settings

BESIDE = ".c2pa"  # ending of a credential's file
FOLDER = "credentials"  # where a finished set has them
MANIFEST = "set.json"  # describes a finished set, and is no part of it


def sealer_of(settings: Settings) -> Sealer:
    """Who seals here, with what files are compared with; it opens neither library nor model yet."""
    known = LibraryPrints(settings)
    return Sealer(settings.seal_dir, settings.producer, known=known)


def read_file(path: Path, largest: int) -> tuple[bytes, Format]:
    """A file's bytes and format.

    Args:
        path: of the file.
        largest: bytes that are read at most.

    Raises:
        NotFoundError: there is no such file.
        InputError: it is too large, empty, named as what it is not, or of a kind that cannot be
            sealed.
        StorageError: the disk does not give it.
    """
    if path.is_dir():
        raise InputError(f"file: {path} is a folder; name a file")
    if not path.is_file():
        raise NotFoundError(f"file: there is no file {path}")
    if not path.suffix:
        raise InputError(f"file: {path} has no ending that tells its kind, such as .png or .txt")
    form = format_of(path.suffix)
    try:
        size = path.stat().st_size
        if size > largest:
            raise InputError(
                f"file: {path} has {size:,} bytes; at most {largest:,} are read; raise"
                " VERMILION_MAX_FILE_BYTES"
            )
        content = path.read_bytes()
    except OSError as error:
        raise StorageError(f"file: {path} cannot be read: {error.strerror or error}") from None
    if not content:
        raise InputError(f"file: {path} is empty")
    found = kind_of(content[:LOOKED_AT])
    if found is not None and is_misnamed(form, found):
        right = path.with_suffix(f".{found.suffix}").name
        raise InputError(
            f"file: {path} is no .{form.suffix}, it is a .{found.suffix}; name it {right}"
        )
    return content, form


def sidecar_of(path: Path) -> Path | None:
    """Where a file's credential lies, if one lies beside it."""
    places = (path.parent / (path.name + BESIDE), path.parent / FOLDER / (path.name + BESIDE))
    return next((place for place in places if place.is_file()), None)


def read_sidecar(path: Path) -> bytes | None:
    """The credential beside a file, if one lies there.

    Raises:
        InputError: it is too large to be one.
        StorageError: the disk does not give it.
    """
    beside = sidecar_of(path)
    if beside is None:
        return None
    try:
        if beside.stat().st_size > LARGEST_SIDECAR:
            raise InputError(f"sidecar: {beside} is too large to be a credential; remove it")
        return beside.read_bytes()
    except OSError as error:
        raise StorageError(f"sidecar: {beside} cannot be read: {error.strerror or error}") from None


def verify_file(sealer: Sealer, path: Path, largest: int, hidden: Hidden | None = None) -> Verdict:
    """What a file says about itself, and whether it is true. Nothing is written.

    Args:
        sealer: who we are.
        path: of the file; its credential may lie beside it, as `NAME.c2pa`.
        largest: bytes that are read at most.
        hidden: looks for the watermark of a text, as `hidden_words`; None: nobody does.

    Raises:
        InputError, NotFoundError, StorageError: as `read_file`, or the file is damaged.
    """
    content, form = read_file(path, largest)
    return sealer.verify(content, form, read_sidecar(path), hidden)


def files_in(paths: Iterable[Path]) -> list[Path]:
    """Files, and those in folders and below that can be sealed.

    Passed over in folders: credentials, what describes a set, what is hidden, and files of other
    kinds.

    Raises:
        NotFoundError: a folder has nothing that can be sealed.
    """
    found = []
    for path in paths:
        inside = [path] if not path.is_dir() else sorted(filter(_is_sealable, path.rglob("*")))
        if not inside:
            raise NotFoundError(f"file: {path} has no file in it that can be sealed")
        found += inside
    return found


def _is_sealable(path: Path) -> bool:
    if path.name == MANIFEST or path.name.startswith("."):
        return False
    try:
        format_of(path.suffix)
    except InputError:
        return False
    return path.is_file()


def hidden_words(settings: Settings, sealer: Sealer, model: str) -> Callable[[str], Found | None]:
    """What looks for our watermark in texts that a model wrote; its weights are not read.

    Args:
        settings: where models lie.
        sealer: whose watermark.
        model: name or path of the model that may have written them.

    Raises:
        NotFoundError: it is not here.
        ModelError: its tokenizer is broken, or it has none.
    """
    # Both load torch, which whoever looks at a picture need not wait for.
    store = import_module("vermilion.runtime.store")
    tokenizers = import_module("vermilion.models.lm.tokenizer")
    place: Path = store.Store(settings.models_dir).locate(model)[1]
    if place.suffix == ".gguf":
        header = import_module("vermilion.models.lm.gguf").GGUF(place)
        tokenizer = tokenizers.Tokenizer.from_gguf(header.metadata)
    else:
        tokenizer = tokenizers.Tokenizer.from_folder(place)
    # A token's colour does not depend on the size of the vocabulary.
    greens = GreenList(sealer.key, 1)
    return lambda text: greens.detect(tokenizer.encode_plain(text))
