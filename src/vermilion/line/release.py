"""Assets → files that people take away: sealed, with the credential inside or beside them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from vermilion.disk import storage
from vermilion.errors import InputError, NotFoundError
from vermilion.library import Library
from vermilion.line.brief import language_of
from vermilion.line.keep import slug, write_file
from vermilion.line.verify import BESIDE
from vermilion.seal import carriers
from vermilion.seal.claims import Parent
from vermilion.seal.formats import FORMATS, Format, format_of
from vermilion.seal.labels import EDITED_WITH_AI, MADE_BY_AI, Label, Statement
from vermilion.seal.order import About, Sealed, SealOptions
from vermilion.seal.seal import Sealer
from vermilion.types import Asset, Brief

MOST_SOURCES = 8


def form_of(asset: Asset) -> Format:
    """The format of an asset's file.

    Raises:
        InputError: it cannot be sealed.
    """
    return format_of(asset.path.suffix)


def about(
    library: Library,
    sealer: Sealer,
    asset: Asset,
    generations: int = 3,
    *,
    private: bool = True,
) -> About:
    """What the seal says of an asset.

    What it was made from is signed for it, with what that was made from, so that its credential
    tells the whole way; but not a file from elsewhere that nothing says AI made, which is named
    unsigned. Parents that were removed are left out, and of many all but the first
    `MOST_SOURCES`. A file that came from elsewhere is its own source: it was only labelled here.

    Args:
        library: where it lies.
        sealer: who seals.
        asset: what it is said of.
        generations: of ancestors that are named.
        private: whether the names of files from elsewhere, which may be their prompts, stay out.

    Raises:
        InputError: a file that came from elsewhere has a damaged label.
    """
    if is_from_elsewhere(asset):
        return _about_guest(library, sealer, asset, generations, private)
    prompt = _part(asset.recipe, "prompt")
    model = _part(asset.recipe, "model")
    sources = _sources(library, sealer, asset, generations, private)
    photo = _person_s(library, sealer, prompt)
    return About(
        asset_id=asset.id,
        title=_title(asset),
        language=language_of(Brief(subject=asset.text)),
        model=str(model.get("name", "")),
        licence=asset.licence,
        training_data=str(model.get("training_data", "")),
        prompt=str(prompt.get("text", "")),
        recipe=asset.recipe,
        family=asset.parents,
        sources=sources,
        edited=photo != "" and sources != () and asset.parents[0] == photo,
        source_type=EDITED_WITH_AI if photo else "",
    )


def _person_s(library: Library, sealer: Sealer, prompt: Mapping[str, Any]) -> str:
    """The id of the picture that was painted over, where a person made that; else empty."""
    ref = _part(prompt, "settings").get("image")
    if not ref:
        return ""
    try:
        image = library.get(str(ref))
    except NotFoundError:  # it was removed since
        return ""
    if not is_from_elsewhere(image) or image.path.suffix[1:] not in FORMATS:
        return ""
    said = _stated(library.read(image), form_of(image), image)
    return "" if _is_ais(sealer, image, said) else image.id


def is_from_elsewhere(asset: Asset) -> bool:
    """Whether an asset was taken in by `files.add_file`, not made here."""
    return "prompt" not in asset.recipe and "origin" in asset.recipe


def _about_guest(
    library: Library, sealer: Sealer, asset: Asset, generations: int, private: bool
) -> About:
    content, form = library.read(asset), form_of(asset)
    said = _stated(content, form, asset)
    title = f"original {asset.id}" if private else _origin(asset)
    itself = Parent(content=content, form=form, title=title)
    return About(
        asset_id=asset.id,
        title=_title(asset),
        language=language_of(Brief(subject=asset.text)),
        licence=asset.licence,
        recipe=asset.recipe,
        edited=True,
        source_type=said.source_type or MADE_BY_AI,
        sources=(itself, *_sources(library, sealer, asset, generations, private)),
        family=asset.parents,
        said=said,
    )


def _stated(content: bytes, form: Format, asset: Asset) -> Statement:
    """What a file from elsewhere says; of one that cannot hold its label, what lay beside it."""
    said = carriers.read(content, form)
    if said.label is None and isinstance(label := asset.notes.get("label"), str):
        return replace(said, label=Label.parse(label))
    return said


def _check_guest(sealer: Sealer, asset: Asset, said: About) -> None:
    """Nobody's photograph becomes AI's work because it lies in the library."""
    if said.said is not None and not _is_ais(sealer, asset, said.said):
        raise InputError(
            f"{asset.id}: it came from elsewhere and nothing says that AI made it; if it did, say"
            " so: vermilion seal FILE"
        )


def _is_ais(sealer: Sealer, asset: Asset, said: Statement) -> bool:
    """Whether a file from elsewhere, or a person who sealed it here, says that AI made it."""
    if said.label is not None or said.source_type in (MADE_BY_AI, EDITED_WITH_AI):
        return True
    return "made_with" in asset.recipe or bool(sealer.ledger.find(asset_id=asset.id))


def _title(asset: Asset) -> str:
    return f"{asset.step or asset.kind} {asset.id}"


def _origin(asset: Asset) -> str:
    """The name that a file from elsewhere came with."""
    return str(_part(asset.recipe, "origin").get("file", "")) or _title(asset)


def _part(recipe: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    part = recipe.get(name)
    return part if isinstance(part, Mapping) else {}


def _sources(
    library: Library, sealer: Sealer, asset: Asset, generations: int, private: bool
) -> tuple[Parent, ...]:
    if generations == 0 or not asset.parents:
        return ()
    family = library.lineage(asset.id).ancestors[:MOST_SOURCES]
    return tuple(
        _source(library, sealer, relative.asset, generations - 1, private)
        for relative in family
        if relative.asset is not None and relative.asset.path.suffix[1:] in FORMATS
    )


def _source(
    library: Library, sealer: Sealer, asset: Asset, generations: int, private: bool
) -> Parent:
    """An asset as something that another was made from.

    A person's photograph stays as it came: a claim of ours would call it AI's work.
    """
    content, form = library.read(asset), form_of(asset)
    said = about(library, sealer, asset, generations, private=private)
    if said.said is not None and not _is_ais(sealer, asset, said.said):
        return said.sources[0]
    return sealer.source(content, form, said)


def seal(
    library: Library,
    sealer: Sealer,
    asset: Asset,
    options: SealOptions | None = None,
    suffix: str | None = None,
) -> Sealed:
    """An asset's file, sealed.

    Args:
        library: where it lies.
        sealer: who seals.
        asset: what to seal.
        options: how; None: with a mark, private.
        suffix: another format of the same medium, e.g. "mp3"; None keeps its own.

    Raises:
        InputError: it cannot be sealed or turned into that format, or it came from elsewhere and
            nothing says that AI made it.
        SealError: it did not read back.
    """
    form = form_of(asset)
    target = form if suffix is None else format_of(suffix)
    private = options is None or options.private
    said = about(library, sealer, asset, private=private)
    _check_guest(sealer, asset, said)
    return sealer.seal(library.read(asset), form, said, options, target)


def write_sealed(path: Path, sealed: Sealed, folder: str = "") -> list[Path]:
    """Write a sealed file and, where the credential is not inside, that beside it.

    Args:
        path: of the file.
        sealed: what to write.
        folder: name of a folder beside the file that takes the credential; empty: none.

    Returns:
        What was written, the file first.

    Raises:
        StorageError: the folder cannot be written.
    """
    written = [path]
    beside = path.parent / folder / (path.name + BESIDE)
    if sealed.sidecar is not None:
        write_file(beside, sealed.sidecar)
        written.append(beside)
    write_file(path, sealed.content)
    if sealed.sidecar is None:
        with storage(beside.parent):
            beside.unlink(missing_ok=True)  # it was that of a file which lay there before
    return written


def export(
    library: Library,
    sealer: Sealer,
    asset: Asset,
    folder: Path,
    suffix: str | None = None,
    options: SealOptions | None = None,
) -> list[Path]:
    """Write an asset's file, sealed, into a folder, under a name that people can read.

    Args:
        library: where it lies.
        sealer: who seals.
        asset: what to write.
        folder: where to; made if it is not there.
        suffix: another format of the same medium, e.g. "mp3"; None keeps its own.
        options: how it is sealed; None: with a mark, private.

    Returns:
        Of the file, `<words>-<id>.<suffix>`, and of its credential where that lies beside it. The
        words of a file from elsewhere are those of its own name: its text may be a prompt.

    Raises:
        InputError: the asset cannot be turned into that format.
        SealError: it did not read back; nothing was written.
        StorageError: the folder cannot be written.
    """
    sealed = seal(library, sealer, asset, options, suffix)
    words = Path(_origin(asset)).stem if is_from_elsewhere(asset) else asset.text
    return write_sealed(folder / f"{slug(words)}-{asset.id}.{sealed.form.suffix}", sealed)
