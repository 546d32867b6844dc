"""Where painted pictures go: one file, or a folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vermilion.errors import InputError
from vermilion.library import Library
from vermilion.line.release import export, seal, write_sealed
from vermilion.seal.formats import FORMATS
from vermilion.seal.order import SealOptions
from vermilion.seal.seal import Sealer
from vermilion.types import Asset

SUFFIXES = tuple(name for name, form in FORMATS.items() if form.medium in ("picture", "drawing"))


@dataclass(frozen=True, slots=True)
class Target:
    """What `out` asks for.

    Attributes:
        path: of the file or the folder.
        suffix: of the file, "svg" where a drawing is wanted; None: it is a folder.
    """

    path: Path
    suffix: str | None

    @classmethod
    def of(cls, path: Path, n: int) -> Target:
        """Read a path for `n` pictures, before anything is painted.

        Raises:
            InputError: its ending is none of pictures, or it is one file for several.
        """
        suffix = path.suffix.removeprefix(".").lower()
        suffix = {"jpeg": "jpg", "tif": "tiff"}.get(suffix, suffix)
        if not suffix or path.is_dir():
            return cls(path, None)
        if suffix not in SUFFIXES:
            known = ", ".join(f".{name}" for name in SUFFIXES)
            raise InputError(f"out: {path} should end in one of {known}, or be a folder")
        if n > 1:
            raise InputError(f"out: {path} is one file for {n} pictures; name a folder")
        return cls(path, suffix)

    def write(
        self,
        library: Library,
        sealer: Sealer,
        made: Sequence[Asset],
        options: SealOptions | None = None,
    ) -> dict[str, list[Path]]:
        """Write what was painted, sealed.

        A file takes the picture, and its drawing lies beside it under the same name; a file that
        ends in .svg is the drawing alone.

        Returns:
            The files of each asset that was written, by its id.

        Raises:
            SealError: one did not read back.
            StorageError: it cannot be written.
        """
        written: dict[str, list[Path]] = {}
        for asset in made:
            is_drawing = asset.path.suffix == ".svg"
            if self.suffix is None:
                written[asset.id] = export(library, sealer, asset, self.path, None, options)
            elif is_drawing:
                sealed = seal(library, sealer, asset, options)
                written[asset.id] = write_sealed(self.path.with_suffix(".svg"), sealed)
            elif self.suffix != "svg":
                sealed = seal(library, sealer, asset, options, self.suffix)
                written[asset.id] = write_sealed(self.path, sealed)
        return written
