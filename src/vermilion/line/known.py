"""What a sealed file is compared with: all that the library keeps, and what its model learnt from.

    library, models → fingerprints → `seal.resemblance`

Nothing is loaded for it unless the library has changed since its fingerprints were taken.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from vermilion.disk import storage
from vermilion.errors import InputError, MissingExtraError, NotFoundError
from vermilion.seal.formats import FORMATS, format_of
from vermilion.seal.looking import prints_of
from vermilion.seal.originality import PRINTS_FILE, Index, Prints
from vermilion.seal.shelf import Kept, Shelf
from vermilion.seal.training_set import index_of
from vermilion.settings import Settings

if TYPE_CHECKING:
    from vermilion.library import Library
    from vermilion.types import Asset

SHELF = "prints.db"


class LibraryPrints:
    """See `seal.resemblance.Known`, which this is.

    Args:
        settings: where library and models lie.
        library: the library where it is open; None: it is opened when it is needed.
    """

    def __init__(self, settings: Settings, library: Library | None = None) -> None:
        self._settings, self._library = settings, library
        self._shelf = Shelf(settings.library_dir / SHELF)

    def shelf(self, but: str = "") -> Shelf | None:
        """Fingerprints of all that the library keeps, as it is now; None: there is no library.

        Those of assets that are new are taken first. A library that cannot be written is read as it
        was when they were taken last.

        Args:
            but: id of an asset whose fingerprints somebody is about to take.

        Raises:
            StorageError: the library or the fingerprints cannot be read.
        """
        folder = self._settings.library_dir
        if not (folder / "library.db").exists():
            return None
        state = _state(folder)
        if state != self._shelf.state and os.access(folder, os.W_OK):
            if self._library is not None:
                self._update(self._library, state, but)
            else:
                # It loads SQLAlchemy, which whoever looks at a file need not wait for.
                with import_module("vermilion.library").Library.open(folder) as library:
                    self._update(library, state, but)
                # Opening and closing it writes its files too.
                self._shelf.state = _state(folder)
        return self._shelf

    def trained_on(self, model: str) -> Index | None:
        """Fingerprints of what a model was trained on, from `prints.safetensors` in its folder.

        Args:
            model: its name in the store, or the path of its folder.

        Raises:
            InputError: the file is damaged.
        """
        folder = _folder_of(self._settings.models_dir, model)
        if folder is None:
            return None
        path = folder / PRINTS_FILE
        try:
            return _read(path, path.stat().st_mtime_ns)
        except FileNotFoundError:
            return None

    def keep(self, asset_id: str, prints: Prints) -> None:
        """Take over the fingerprints of an asset, which somebody has just taken."""
        if self._library is None:
            return
        try:
            asset = self._library.get(asset_id)
        except NotFoundError:
            return  # what was sealed is no asset of this library
        self._shelf.put(_kept(asset), prints)

    def _update(self, library: Library, state: str, but: str) -> None:
        def describe(asset_id: str) -> tuple[Kept, Prints] | None:
            try:
                asset = library.get(asset_id)
            except NotFoundError:
                return None
            return _kept(asset), _prints(library, asset)

        self._shelf.update("" if but else state, library.ids(), describe, but)


def index_training_set(
    settings: Settings,
    folder: Path,
    model: str,
    source: str = "",
    on_file: Callable[[int, int], None] = lambda done, of: None,
) -> tuple[Path, int]:
    """Write the index of a training set into a model's folder.

    Args:
        settings: where models lie.
        folder: the training files.
        model: its name in the store, or the path of its folder.
        source: the set's name; empty: the folder's.
        on_file: as `training_set.index_of`.

    Returns:
        Where it lies, and how many fingerprints it has.

    Raises:
        NotFoundError: there is no such model, or nothing in the folder has a fingerprint.
        InputError: a file is damaged.
    """
    place = _folder_of(settings.models_dir, model)
    if place is None:
        raise NotFoundError(f"model: there is no folder of {model!r}; vermilion models list")
    if not folder.is_dir():
        raise NotFoundError(f"folder: there is no folder {folder}")
    index = index_of(folder, source or folder.absolute().name, on_file)
    with storage(place):
        index.write(place / PRINTS_FILE)
    return place / PRINTS_FILE, len(index)


def _kept(asset: Asset) -> Kept:
    return Kept(
        asset_id=asset.id,
        sha256=asset.sha256,
        time=asset.created_at.isoformat(timespec="microseconds"),
        made_here="prompt" in asset.recipe,
        parents=asset.parents,
    )


def _prints(library: Library, asset: Asset) -> Prints:
    """An asset's fingerprints; none where its kind has none or it cannot be decoded here."""
    if asset.path.suffix.removeprefix(".").lower() not in FORMATS:
        return Prints()
    try:
        return prints_of(library.read(asset), format_of(asset.path.suffix))
    except (InputError, MissingExtraError):
        return Prints()


def _state(folder: Path) -> str:
    """What changes whenever the library's database is written."""
    found = []
    for name in ("library.db", "library.db-wal"):
        try:
            facts = (folder / name).stat()
            found.append(f"{facts.st_mtime_ns}-{facts.st_size}")
        except FileNotFoundError:
            found.append("")
    return " ".join(found)


def _folder_of(models: Path, model: str) -> Path | None:
    """A model's own folder; None: it has none here."""
    cards = import_module("vermilion.runtime.cards")
    if cards.is_name(model):
        folder = models / model
        return folder if folder.is_dir() else None
    path = Path(model)
    return path if path.is_dir() else None


@lru_cache(maxsize=8)
def _read(path: Path, changed: int) -> Index:
    """An index; read again where the file has changed, which `changed` tells."""
    del changed
    return Index.read(path)
