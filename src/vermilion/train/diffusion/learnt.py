"""What a diffusion model learnt from, as fingerprints beside it: near copies of that are then told.

decoded pictures → prints.safetensors in the run's folder → the same in the published model's
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np

from vermilion.data.pictures import Batches
from vermilion.disk import storage
from vermilion.seal.fingerprints import phash
from vermilion.seal.originality import PRINTS_FILE, Index, Prints

MOST = 1_000_000  # pictures; a search among more would take longer than sealing
MIRRORED = " (mirrored)"


def index(data: Batches, source: str) -> Index:
    """The fingerprints of all that is trained on, as it is cut and scaled for the training.

    Args:
        data: the pictures; where half of them are mirrored, both ways are known.
        source: the training set's name, for people.
    """
    found, cache = Index(source), data.cache
    for place, item in enumerate(cache.items.tolist()):
        name, pixels = cache.pictures.name(item), np.asarray(cache.pixels(place))  # (H, W, C)
        found.add(name, Prints(picture=phash(pixels)))
        if data.flip:
            mirrored = np.ascontiguousarray(pixels[:, ::-1])
            found.add(name + MIRRORED, Prints(picture=phash(mirrored)))
    return found


def write(data: Batches, source: str, run: Path) -> bool:
    """Write the index into a run's folder.

    Args:
        data: see `index`.
        source: likewise.
        run: the folder.

    Returns:
        Whether it was written. It is not of more than `MOST` pictures; one from before is removed
        then.

    Raises:
        StorageError: it cannot be written.
    """
    path = run / PRINTS_FILE
    with storage(run):
        if len(data.cache) > MOST:
            path.unlink(missing_ok=True)
            return False
        index(data, source).write(path)
    return True


def publish(run: Path, model: Path) -> None:
    """Put a run's index beside its published model, and remove one from before.

    Args:
        run: folder of the run.
        model: folder of the published model.

    Raises:
        StorageError: it cannot be written.
    """
    with storage(model):
        (model / PRINTS_FILE).unlink(missing_ok=True)
        if (run / PRINTS_FILE).exists():
            shutil.copyfile(run / PRINTS_FILE, model / PRINTS_FILE)
