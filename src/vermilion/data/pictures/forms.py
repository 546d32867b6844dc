"""One door to pictures: which form a folder or file has, and who reads it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from vermilion.data.pictures.coco import read_coco
from vermilion.data.pictures.columns import read_columns
from vermilion.data.pictures.decoding import SUFFIXES, Decoding
from vermilion.data.pictures.faults import LIMIT, Faults
from vermilion.data.pictures.fields import Fields
from vermilion.data.pictures.folders import CAPTIONS, Captions, files_below, has_texts, read_folder
from vermilion.data.pictures.geometry import Shape, whole_shape
from vermilion.data.pictures.pictures import Pictures, gather
from vermilion.data.pictures.rows import parted
from vermilion.data.pictures.shards import read_shards
from vermilion.data.pictures.stores import FileStore, Store, TarStore
from vermilion.data.pictures.tables import read_csv, read_jsonl
from vermilion.data.pictures.taker import Taker
from vermilion.errors import InputError, NotFoundError

TABLES = (".jsonl", ".ndjson", ".csv", ".tsv", ".json", ".parquet", ".tar")
# A table of one of these names in a folder describes the pictures of that folder.
USUAL_TABLES = ("captions.jsonl", "metadata.jsonl", "metadata.csv", "captions.csv", "captions.tsv")


def read(
    path: str | Path,
    *,
    captions: str | Path | None = None,
    classes: bool = False,
    size: int | Shape | None = None,
    how: Decoding | None = None,
    fields: Fields | None = None,
    validation: float = 0.05,
    max_faults: float = LIMIT,
) -> Pictures:
    """Read what there is of pictures, captions and classes; no picture is decoded yet.

    Rows and files that cannot be used are counted in `faults` of what is returned, and left out.

    Args:
        path: a folder, or a .jsonl, .csv, .tsv, .json (COCO), .parquet or .tar file, whose
            pictures lie beside it or below. A folder is read by the first of these that it has:
            a table of a usual name, COCO's annotations, pictures, .tar files, .parquet files.
        captions: "name", "txt" or "none", for the pictures of a folder: from their names, from a
            text file beside each, or none; or a table that tells them. None: the table of the
            folder, text files where there are any, else none.
        classes: whether each picture has to have a class. In a folder the folders are classes.
        size: side, or H and W, of what `item` gives; None: as large as each picture is.
        how: channels, background, filter and limit of the decoding.
        fields: which fields of a table hold what; by default the usual names.
        validation: the part that is held back for the split "validation", where the data name
            none themselves, 0 to below 1.
        max_faults: the part that may be left out, 0 to 1; one alone always may.

    Raises:
        NotFoundError: there is no such path.
        InputError: it has no form that is known, nothing in it can be used, or more than
            `max_faults` of it cannot.
        MissingExtraError: Parquet, and pyarrow is not installed.
    """
    path, faults, fields = Path(path), Faults(max_faults), fields or Fields()
    if not path.exists():
        raise NotFoundError(f"data: {path} does not exist; name a folder or a file of pictures")
    if not 0 <= validation < 1:
        raise InputError(f"validation: must be from 0 to below 1 (found {validation})")
    shape = None if size is None else whole_shape(size)
    root, files, mode = _form(path, captions)
    known: dict[int, str] = {}
    store: Store = FileStore(root)
    taker = Taker(root, faults, captions != "none", classes)
    kind = files[0].suffix.lower() if files else ""
    if not files:
        taker.rows = read_folder(root, mode, classes, faults)
    elif kind == ".tar":
        store = TarStore(files)
        read_shards(files, fields, taker)
    elif kind == ".parquet":
        store, known = read_columns(files, fields, taker)
    elif kind == ".json":
        known = read_coco(files, taker)
    elif kind in (".csv", ".tsv"):
        read_csv(files[0], fields, taker)
    else:
        read_jsonl(files[0], fields, taker)
    if len(taker.rows) > 0:
        index = gather(taker.rows, store, validation, known)
        pictures = _captioned(Pictures(index, faults, how or Decoding(), shape), faults)
        faults.check()
        return pictures
    faults.check()
    first = f", such as {faults.sentences[0]}" if faults.sentences else ""
    raise InputError(f"data: {path} has no picture that can be used{first}")


def _form(path: Path, captions: str | Path | None) -> tuple[Path, list[Path], Captions]:
    """The folder of the pictures, the files that list them, if any, and how a folder is read."""
    named = captions in ("name", "txt")
    if path.is_file():
        suffix = path.suffix.lower()
        if suffix not in TABLES:
            raise InputError(
                f"data: {path} is of a kind that is not known; name a folder of pictures, or a"
                f" file of {', '.join(TABLES)}"
            )
        if captions is not None and captions != "none":
            raise InputError(
                f"captions: {path} has its own; {captions} is for folders, so leave it out"
            )
        beside = path.parent
        coco = suffix == ".json" and beside.name == "annotations"
        return beside.parent if coco else beside, [path], "none"
    if captions is None or captions == "none":
        files = _listed(path)
        if files is not None:
            return path, files, "none"
        return path, [], "txt" if captions is None and has_texts(path) else "none"
    if named:
        return path, [], "name" if captions == "name" else "txt"
    table = next((f for f in (Path(captions), path / captions) if f.is_file()), None)
    if table is None or table.suffix.lower() not in TABLES or table.suffix.lower() == ".tar":
        what = "does not exist" if table is None else "is no table of captions"
        raise InputError(
            f"captions: {captions} {what}; write {', '.join(CAPTIONS)}, or name a file of"
            f" {', '.join(TABLES[:-1])}"
        )
    return path, [table], "none"


def _listed(root: Path) -> list[Path] | None:
    """The files in a folder that list its pictures, or hold them; None: there are only pictures."""
    for name in USUAL_TABLES:
        if (root / name).is_file():
            return [root / name]
    for folder in (root / "annotations", root):
        found = sorted([*folder.glob("captions_*.json"), *folder.glob("instances_*.json")])
        if found:
            return found
    holding: dict[str, list[Path]] = {".tar": [], ".parquet": []}
    for name, _ in files_below(root):
        suffix = parted(name)[1]
        if suffix in SUFFIXES:
            return None
        if suffix in holding:
            holding[suffix].append(root / name)
    return holding[".tar"] or holding[".parquet"] or None


def _captioned(pictures: Pictures, faults: Faults) -> Pictures:
    """Leave out what has no caption, where others have one."""
    counts = np.diff(pictures.index.starts)  # (N,)
    if not counts.any():
        return pictures
    for i in np.flatnonzero(counts == 0).tolist():
        faults.add("no caption", pictures.name(i), "has no caption, or an empty one")
    return pictures.take(np.flatnonzero(counts))
