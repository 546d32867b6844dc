"""What a language model learnt from, as fingerprints beside it: near copies of that are then told.

training data → prints.safetensors in the published model's folder
"""

from __future__ import annotations

from pathlib import Path

from vermilion.data import documents
from vermilion.disk import storage
from vermilion.seal.originality import PRINTS_FILE, Index
from vermilion.seal.training_set import add_text

LARGEST = 16_000_000  # bytes of data; the index of more would be as large as the data


def index(data: Path, field: str | None, model: Path) -> bool:
    """Write the index of a training set into its model's folder.

    Args:
        data: as `documents.read`.
        field: likewise.
        model: the published model's folder.

    Returns:
        Whether it was written. It is not where the data are larger than `LARGEST`, or where
        nothing in them is long enough to have a fingerprint; one from before is removed then.

    Raises:
        StorageError: it cannot be written.
    """
    files = documents.files_of(data)
    found = Index(data.name)
    if sum(file.stat().st_size for file in files) <= LARGEST:
        for file in files:
            name = file.name if file == data else file.relative_to(data).as_posix()
            for number, piece in enumerate(documents.read(file, field), 1):
                said = [message["content"] for message in piece.messages]
                add_text(found, f"{name}:{number}", piece.text or "\n\n".join(said))
    with storage(model):
        if len(found) == 0:
            (model / PRINTS_FILE).unlink(missing_ok=True)
            return False
        found.write(model / PRINTS_FILE)
    return True
