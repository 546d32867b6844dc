"""COCO's annotations: captions and instances in JSON (Lin et al. 2014; Chen et al. 2015).

images[].id, file_name    annotations[].image_id, caption | category_id, area, bbox
categories[].id, name
"""

from __future__ import annotations

import json
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vermilion.data.pictures.rows import split_in_name
from vermilion.data.pictures.taker import Taker
from vermilion.errors import InputError

Key = tuple[str, Hashable]
"""What the file's name says after its first underscore, such as "train2017", and an id."""


@dataclass(slots=True)
class Noted:
    """What is said of one picture.

    Attributes:
        file_name: its path.
        file: the annotations that list it.
        captions: in their order.
        areas: pixels of each category, by its place among the classes.
    """

    file_name: str
    file: Path
    captions: list[Any] = field(default_factory=list)
    areas: dict[int, float] = field(default_factory=dict)


def is_coco(content: Any) -> bool:
    """Whether a JSON document has COCO's form."""
    return (
        isinstance(content, dict)
        and isinstance(content.get("images"), list)
        and isinstance(content.get("annotations"), list)
    )


def read_coco(files: Sequence[Path], taker: Taker) -> dict[int, str]:
    """Items of annotation files: a picture with all its captions.

    Of instances the category that covers the largest area is the class, and the names of all
    categories, largest first, are the caption of a picture that has no other.

    Args:
        files: captions_*.json, instances_*.json or both.
        taker: takes the items.

    Returns:
        Names of the classes: COCO's categories in the order of their ids, counted from 0.

    Raises:
        InputError: a file is not of this form.
    """
    contents = {file: _loaded(file) for file in files}
    places, names = _categories(contents.values())
    noted: dict[Key, Noted] = {}
    for file, content in contents.items():
        part = file.stem.partition("_")[2]
        for image in content["images"]:
            _list(image, part, file, noted, taker)
    for file, content in contents.items():
        part = file.stem.partition("_")[2]
        for note in content["annotations"]:
            _add(note, part, file, noted, places, taker)
    folders: dict[Path, str] = {}
    for (part, _), about in noted.items():
        folder = folders.get(about.file)
        if folder is None and (folder := _folder(about, part, taker.root)) is not None:
            folders[about.file] = folder
        largest = sorted(about.areas, key=lambda place: (-about.areas[place], place))
        texts = about.captions or [", ".join(names[place] for place in largest)]
        taker.file(
            f"{folder}/{about.file_name}" if folder else about.file_name,
            texts,
            largest[0] if largest else None,
            split_in_name(part),
            about.file.name,
        )
    return names


def _loaded(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict) or not is_coco(content):
        raise InputError(
            f"data: {file} is not COCO's JSON, an object with images and annotations; name a"
            " file of objects, one a line, .jsonl"
        )
    return content


def _categories(
    contents: Sequence[Mapping[str, Any]] | Any,
) -> tuple[dict[Hashable, int], dict[int, str]]:
    """Places of categories among the classes by their ids, and names by places."""
    found = {
        category["id"]: str(category["name"])
        for content in contents
        for category in content.get("categories") or ()
        if isinstance(category, dict) and isinstance(category.get("id"), int) and "name" in category
    }
    ids = sorted(found)
    return {key: place for place, key in enumerate(ids)}, dict(enumerate(found[key] for key in ids))


def _list(image: Any, part: str, file: Path, noted: dict[Key, Noted], taker: Taker) -> None:
    name = image.get("file_name") if isinstance(image, dict) else None
    number = image.get("id") if isinstance(image, dict) else None
    if not isinstance(name, str) or not isinstance(number, int | str):
        taker.fault("malformed", file.name, f"an image has no id or file_name ({image!r:.60})")
        return
    noted.setdefault((part, number), Noted(name, file))


def _add(
    note: Any,
    part: str,
    file: Path,
    noted: Mapping[Key, Noted],
    places: Mapping[Hashable, int],
    taker: Taker,
) -> None:
    number = note.get("image_id") if isinstance(note, dict) else None
    if not isinstance(number, int | str):
        taker.fault("malformed", file.name, f"an annotation has no image_id ({note!r:.60})")
        return
    about = noted.get((part, number))
    if about is None:
        text = f"an annotation is about picture {number}, which is not in the list"
        taker.fault("no picture", file.name, text)
    elif "caption" in note:
        about.captions.append(note["caption"])
    elif (place := places.get(note.get("category_id"))) is not None:
        about.areas[place] = about.areas.get(place, 0.0) + _area(note)


def _area(note: Mapping[str, Any]) -> float:
    """Pixels of an instance: its area, or that of its box (x, y, width, height)."""
    area, box = note.get("area"), note.get("bbox")
    if isinstance(area, int | float):
        return float(area)
    if isinstance(box, list) and len(box) == 4 and all(isinstance(v, int | float) for v in box):
        return float(box[2]) * float(box[3])
    return 0.0


def _folder(about: Noted, part: str, root: Path) -> str | None:
    """Where below the root COCO's pictures lie, told by one of them; None: it is nowhere."""
    beside = about.file.parent
    near = beside.relative_to(root).as_posix() if beside.is_relative_to(root) else ""
    for folder in (near, part, "", f"images/{part}", "images", f"{near}/images"):
        folder = folder.strip("/").removeprefix("./")
        folder = "" if folder == "." else folder
        if (root / folder / about.file_name).is_file():
            return folder
    return None
