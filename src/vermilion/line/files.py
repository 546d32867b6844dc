"""Files that come from outside: taken into the library, sealed."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from vermilion.errors import InputError, NotFoundError
from vermilion.library import Library
from vermilion.line.guard import Guard
from vermilion.line.release import about, write_sealed
from vermilion.line.verify import read_file, read_sidecar
from vermilion.seal import carriers, credentials, foreign, verify
from vermilion.seal.formats import Format, format_of
from vermilion.seal.labels import EDITED_WITH_AI, Statement
from vermilion.seal.marks import text
from vermilion.seal.media import pictures
from vermilion.seal.order import About, SealOptions
from vermilion.seal.seal import Sealer
from vermilion.seal.verify import Verdict
from vermilion.types import Asset

KINDS = {"picture": "picture", "drawing": "picture", "document": "text"}
"""The kind of an asset from outside, by its medium; others are called as their medium."""

_LANGUAGE = re.compile(r"[a-z]{2,3}(-[A-Za-z0-9]{2,8})*")


def add_file(
    library: Library, sealer: Sealer, path: Path, largest: int, *, guard: Guard
) -> tuple[Asset, bool]:
    """Take a file into the library, with what other tools wrote into it about its making.

    Args:
        library: where to.
        sealer: tells our own sealed files, whose assets may be here already.
        path: of the file.
        largest: bytes that are read at most.
        guard: looks at pictures; what it finds stands in the asset's notes.

    Returns:
        The asset, and whether it is new: the same bytes are not kept twice, nor is a sealed copy
        of what is here. Its recipe has no `prompt`, since it cannot be made again here, but
        `made_with` where a tool is known: A1111, ComfyUI, InvokeAI or Fooocus, with prompt and
        settings.

    Raises:
        InputError, NotFoundError, StorageError: as `read_file`, or the file is damaged.
        RefusedError: it is a picture that breaks a safety rule which refuses.
    """
    content, form = read_file(path, largest)
    known = _here(library, sealer, content, form, path)
    if known is not None:
        return known, False
    asset = _add(library, content, form, path, (), _judged(guard, content, form))
    if sealer.known is not None and sealer.folder.exists():
        sealer.known.shelf()  # now, while a bar moves, and not at the next export
    return asset, True


def _judged(guard: Guard, content: bytes, form: Format) -> dict[str, Any]:
    """What the safety rules say of a picture; decoding tells too whether it is one."""
    if form.medium != "picture":
        return {}
    return guard.picture(pictures.decode(content, form).frames)


def _here(
    library: Library, sealer: Sealer, content: bytes, form: Format, path: Path
) -> Asset | None:
    """The asset that a file is, or is a sealed copy of, if it is here."""
    same = _same(library, content)
    if same is not None or not sealer.folder.exists():
        return same
    credential = credentials.read(content, form, read_sidecar(path), sealer.authority)
    if credential.state != "ours":
        return None
    try:
        return library.get(credential.asset_id)
    except NotFoundError:
        return None


def _same(library: Library, content: bytes) -> Asset | None:
    """The asset with these very bytes, if it is here."""
    same = library.list(sha256=hashlib.sha256(content).hexdigest(), limit=1)
    return same[0] if same else None


def _add(
    library: Library,
    content: bytes,
    form: Format,
    path: Path,
    parents: Sequence[str],
    notes: Mapping[str, Any],
) -> Asset:
    statement = _stated(content, form, path)
    label, found = statement.label, foreign.of(statement)
    name = _name(path)
    recipe: dict[str, Any] = {"origin": {"file": name}}
    words = Path(name).stem.replace("_", " ").replace("-", " ")
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
        parents=parents,
        notes={**notes, **({} if label is None else {"label": label.inner()})},
    )


def _stated(content: bytes, form: Format, path: Path) -> Statement:
    """What a file says of itself, or the credential beside one that cannot hold a label."""
    if form.labels:
        return carriers.read(content, form)
    return verify.stated(content, form, credentials.read(content, form, read_sidecar(path)))


def seal_file(
    library: Library,
    sealer: Sealer,
    path: Path,
    largest: int,
    *,
    guard: Guard,
    out: Path | None = None,
    overwrite: bool = False,
    language: str | None = None,
    composite: bool = False,
    options: SealOptions | None = None,
) -> tuple[Asset, list[Path]]:
    """Seal a file that was made elsewhere, by one who has the right to label it.

    It is taken into the library first, so that its number leads somewhere. A label that it has
    stays as its producer's, and ours says who spreads it; a credential stays in the chain. A copy
    of an asset of our own that lost its seal, told by its watermark, becomes that one's child.

    Args:
        library: where it is kept, as it came.
        sealer: who seals.
        path: of the file.
        largest: bytes that are read at most.
        guard: as of `add_file`.
        out: where to, a file or a folder that is there; None: beside it, as `NAME-sealed`.
        overwrite: whether another file may lie there already, which is replaced.
        language: of the mark, ISO 639-1; None: that of its words.
        composite: whether it is a person's work with parts by AI, not made by AI alone.
        options: how; None: with a mark, private.

    Returns:
        The asset, and what was written.

    Raises:
        InputError, NotFoundError, StorageError: as `add_file`, it is sealed already, it cannot
            be marked, or something else lies where it shall go.
        RefusedError: as `add_file`.
        SealError: it did not read back; nothing was written.
    """
    if language is not None and _LANGUAGE.fullmatch(language) is None:
        raise InputError(f"language: {language!r} is no code such as en or zh")
    content, form = read_file(path, largest)
    target = _target(path, out, overwrite)
    wanted = format_of(target.suffix)
    sidecar = read_sidecar(path)
    verdict = sealer.verify(content, form, sidecar)
    _refuse_ours(path, verdict)
    notes = _judged(guard, content, form)
    asset = _same(library, content)
    if asset is None:
        asset = _add(library, content, form, path, _parents(library, verdict), notes)
    private = options is None or options.private
    said = about(library, sealer, asset, private=private)
    if said.said is not None:  # else it was made here, and given out without its seal
        said = _as_ordered(said, path, sidecar, language, private=private, composite=composite)
    sealed = sealer.seal(content, form, said, options, wanted)
    return asset, write_sealed(target, sealed)


def _refuse_ours(path: Path, verdict: Verdict) -> None:
    if verdict.credential.state == "ours":
        name = verdict.credential.asset_id
        raise InputError(
            f"file: {path} is sealed already, as {name}; in another way:"
            f" vermilion library export {name} FOLDER"
        )


def _as_ordered(
    said: About,
    path: Path,
    sidecar: bytes | None,
    language: str | None,
    *,
    private: bool,
    composite: bool,
) -> About:
    """What is said of a file from elsewhere, with what the person says who seals it."""
    before, *others = said.sources
    before = replace(before, title=before.title if private else _name(path), sidecar=sidecar)
    return replace(
        said,
        sources=(before, *others),
        source_type=EDITED_WITH_AI if composite else said.source_type,
        language=said.language if language is None else language,
    )


def _parents(library: Library, verdict: Verdict) -> list[str]:
    """The asset whose watermark a file has: it was made from that, and lost its seal."""
    watermark = verdict["watermark"]
    if watermark is None or watermark.state != "good" or not watermark.facts["asset_id"]:
        return []
    try:
        return [library.get(watermark.facts["asset_id"]).id]
    except NotFoundError:
        return []


def _target(path: Path, out: Path | None, overwrite: bool) -> Path:
    """Where a sealed file goes; never over the file that it is made from."""
    beside = f"{path.stem}-sealed{path.suffix}"
    folder = path.parent if out is None else out
    target = folder / beside if folder.is_dir() else folder
    if not target.suffix:
        raise InputError(f"out: {target} has no ending that tells its kind, such as {path.suffix}")
    if target.exists():
        if target.samefile(path):
            raise InputError(f"out: {target} is the file itself, which stays; name another")
        if target.is_dir() or not overwrite:
            raise InputError(f"out: {target} is there already; name another or add --overwrite")
    return target


def _name(path: Path) -> str:
    """A file's name in characters that can be shown and signed."""
    name = os.fsencode(path.name).decode("utf-8", "replace")
    return "".join(character if character.isprintable() else "\ufffd" for character in name)


def _prompt_of(recipe: Any) -> str:
    prompt = recipe.get("prompt")
    return str(prompt.get("text", "")) if isinstance(prompt, dict) else ""
