"""Files that come from outside: looked at, taken into the library, sealed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from vermilion.errors import InputError, NotFoundError
from vermilion.library import Library
from vermilion.line.release import about, sidecar_of, write_sealed
from vermilion.seal import carriers, foreign
from vermilion.seal.claims import Parent
from vermilion.seal.formats import Format, format_of
from vermilion.seal.labels import EDITED_WITH_AI, MADE_BY_AI
from vermilion.seal.marks import text
from vermilion.seal.media import pictures
from vermilion.seal.order import SealOptions
from vermilion.seal.seal import Sealer
from vermilion.seal.verify import Verdict, examine
from vermilion.seal.watermark.text import Found
from vermilion.types import Asset

KINDS = {"picture": "picture", "drawing": "picture", "document": "text"}
"""The kind of an asset from outside, by its medium; others are called as their medium."""

_LARGEST_SIDECAR = 16_000_000


def read_file(path: Path, largest: int) -> tuple[bytes, Format]:
    """A file's bytes and format.

    Args:
        path: of the file.
        largest: bytes that are read at most.

    Raises:
        NotFoundError: there is no such file.
        InputError: it is too large, cannot be read, or is of a kind that cannot be sealed.
    """
    if not path.is_file():
        raise NotFoundError(f"file: there is no file {path}")
    form = format_of(path.suffix)
    size = path.stat().st_size
    if size > largest:
        raise InputError(
            f"file: {path} has {size:,} bytes; at most {largest:,} are read; raise"
            " VERMILION_MAX_FILE_BYTES"
        )
    try:
        return path.read_bytes(), form
    except OSError as error:
        raise InputError(f"file: {path} cannot be read: {error.strerror or error}") from None


def verify_file(
    sealer: Sealer,
    path: Path,
    largest: int,
    hidden: Callable[[str], Found | None] | None = None,
) -> Verdict:
    """What a file says about itself, and whether it is true.

    Args:
        sealer: who we are.
        path: of the file; its credential may lie beside it, as `NAME.c2pa`.
        largest: bytes that are read at most.
        hidden: looks for the watermark of a text; None: nobody does.

    Raises:
        InputError, NotFoundError: as `read_file`, or the file is damaged.
    """
    content, form = read_file(path, largest)
    return examine(
        content,
        form,
        _sidecar(path),
        authority=sealer.authority,
        key=sealer.key,
        ledger=sealer.ledger,
        hidden=hidden,
    )


def add_file(library: Library, path: Path, largest: int) -> Asset:
    """Take a file into the library, with what other tools wrote into it about its making.

    Args:
        library: where to.
        path: of the file.
        largest: bytes that are read at most.

    Returns:
        The asset. Its recipe has no `prompt`, since it cannot be made again here, but `made_with`
        where a tool is known: A1111, ComfyUI, InvokeAI or Fooocus, with prompt and settings.

    Raises:
        InputError, NotFoundError: as `read_file`, or the file is damaged.
    """
    content, form = read_file(path, largest)
    if form.medium == "picture":
        pictures.decode(content, form)  # whether it is one
    statement = carriers.read(content, form)
    found = foreign.read(content, form)
    recipe: dict[str, Any] = {"origin": {"file": path.name}}
    words = path.stem.replace("_", " ").replace("-", " ")
    if found is not None:
        recipe["made_with"] = asdict(found)
        words = found.prompt or words
    elif statement.recipe:
        recipe["made_with"] = {"tool": "Vermilion", "recipe": dict(statement.recipe)}
        words = _prompt_of(statement.recipe) or words
    if form.medium == "text":
        words = text.text_of(content, form).decode("utf-8", "replace")
    return library.keep(
        content,
        kind=KINDS.get(form.medium, form.medium),
        media_type=form.media_type,
        suffix=form.suffix,
        text=words,
        recipe=recipe,
        notes={} if statement.label is None else {"label": statement.label.inner()},
    )


def seal_file(
    library: Library,
    sealer: Sealer,
    path: Path,
    largest: int,
    *,
    out: Path | None = None,
    language: str | None = None,
    composite: bool = False,
    options: SealOptions | None = None,
) -> tuple[Asset, list[Path]]:
    """Seal a file that was made elsewhere, by one who has the right to label it.

    It is taken into the library first, so that its number leads somewhere. A label that it has
    stays as its producer's, and ours says who spreads it; a credential stays in the chain.

    Args:
        library: where it is kept, as it came.
        sealer: who seals.
        path: of the file.
        largest: bytes that are read at most.
        out: where to; None: beside it, as `NAME-sealed`.
        language: of the mark; None: that of its words.
        composite: whether it is a person's work with parts by AI, not made by AI alone.
        options: how; None: with a mark, private.

    Returns:
        The asset, and what was written.

    Raises:
        InputError, NotFoundError: as `add_file`, or it cannot be marked.
        SealError: it did not read back; nothing was written.
        StorageError: `out` cannot be written.
    """
    target = path.with_name(f"{path.stem}-sealed{path.suffix}") if out is None else out
    wanted = format_of(target.suffix)
    content, form = read_file(path, largest)
    asset = add_file(library, path, largest)
    before = Parent(content=content, form=form, title=path.name, sidecar=_sidecar(path))
    statement = carriers.read(content, form)
    said = replace(
        about(library, sealer, asset),
        sources=(before,),
        edited=True,
        source_type=EDITED_WITH_AI if composite else statement.source_type or MADE_BY_AI,
        producer=statement.label,
    )
    if language is not None:
        said = replace(said, language=language)
    sealed = sealer.seal(content, form, said, options, wanted)
    return asset, write_sealed(target, sealed)


def _prompt_of(recipe: Any) -> str:
    prompt = recipe.get("prompt")
    return str(prompt.get("text", "")) if isinstance(prompt, dict) else ""


def _sidecar(path: Path) -> bytes | None:
    beside = sidecar_of(path)
    if beside is None:
        return None
    if beside.stat().st_size > _LARGEST_SIDECAR:
        raise InputError(f"sidecar: {beside} is too large to be a credential; remove it")
    return beside.read_bytes()
