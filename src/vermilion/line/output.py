"""The folder that a finished set is copied into, under names that people can read."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vermilion.errors import InputError, StorageError
from vermilion.line.keep import slug, write_file
from vermilion.line.release import write_sealed
from vermilion.line.verify import BESIDE, FOLDER, MANIFEST
from vermilion.seal.order import Sealed
from vermilion.types import Asset


class OutputFolder:
    """A folder for one set: its files, its page, and `set.json`, which describes them.

    Args:
        path: of the folder; made when the first file is written.
        overwrite: whether it may hold an earlier set. That stays until the new one is
            finished; what the new one did not replace is removed then.

    Raises:
        InputError: the folder holds other things, or a set and `overwrite` is False.
        StorageError: it cannot be made or written.
    """

    def __init__(self, path: Path, *, overwrite: bool = False) -> None:
        self.path = path
        if path.is_file():
            raise InputError(f"out: {path} is a file; name a folder")
        there = next(place for place in (path, *path.absolute().parents) if place.exists())
        if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
            raise StorageError(f"out: {path} cannot be made in {there}; name another place")
        here = [entry.name for entry in path.iterdir()] if path.exists() else []
        if here and MANIFEST not in here:
            raise InputError(f"out: {path} is not empty; name a new folder")
        if here and not overwrite:
            raise InputError(f"out: {path} holds a finished set; name another or add --overwrite")
        self._earlier = _listed(path / MANIFEST) if here else []
        self._written: set[str] = set()

    def add(self, asset: Asset, sealed: Sealed, of: int) -> Path:
        """Write an asset's sealed file, named by its step, with a number where there are several.

        A credential that is not inside goes into the folder `credentials`.
        """
        stem = asset.step or slug(asset.text)
        number = f"-{asset.index + 1}" if of > 1 else ""
        return self.write(f"{stem}{number}.{sealed.form.suffix}", sealed)

    def write(self, name: str, sealed: Sealed) -> Path:
        """Write a sealed file under a name."""
        path = self.path / name
        write_sealed(path, sealed, FOLDER)
        self._written.add(path.name)
        return path

    def finish(self, description: Mapping[str, Any]) -> None:
        """Write `set.json`, and remove what only an earlier set had."""
        text = json.dumps(description, indent=2, ensure_ascii=False)
        write_file(self.path / MANIFEST, (text + "\n").encode())
        for name in set(self._earlier) - self._written:
            (self.path / name).unlink(missing_ok=True)
            (self.path / FOLDER / (name + BESIDE)).unlink(missing_ok=True)


def free_folder(parent: Path, name: str) -> Path:
    """A path below `parent` that does not exist yet: `name`, or `name-2`, `name-3`, ..."""
    path, number = parent / name, 2
    while path.exists():
        path, number = parent / f"{name}-{number}", number + 1
    return path


def _listed(manifest: Path) -> list[str]:
    """Names of the files of an earlier set; nothing outside its own folder."""
    try:
        described = json.loads(manifest.read_text(encoding="utf-8"))
        names = [str(item["file"]) for item in described["items"]]
        names += [str(page)] if (page := described.get("page")) else []
    except (OSError, ValueError, KeyError, TypeError):
        raise InputError(f"out: {manifest} is not of a finished set; name a new folder") from None
    return [name for name in names if Path(name).name == name]
