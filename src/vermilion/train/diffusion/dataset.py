"""From files to batches of pictures, and what is said of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from vermilion.data.pictures import (
    Batches,
    Cache,
    CacheSettings,
    Decoding,
    Fields,
    Pictures,
    read,
)
from vermilion.errors import InputError
from vermilion.train.diffusion.options import Dataset

Told = Literal["nothing", "classes", "captions"]
"""What a network is told of a picture."""

OnPicture = Callable[[int, int, str], None]
"""Told how many are done, of how many, and of what: pictures decoded, latents, or captions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Data:
    """Decoded pictures.

    Attributes:
        train: what is trained on.
        validation: what is held back; None: nothing is.
        classes: names of the classes.
        told: what is said of each picture.
        report: what could not be used, with the files' names; empty where all could.
        fingerprint: of all files.
    """

    train: Batches
    validation: Batches | None
    classes: tuple[str, ...]
    told: Told
    report: str
    fingerprint: str


def _tell(on_picture: OnPicture, done: int, total: int) -> None:
    on_picture(done, total, "pictures")


def look(data: Path, text: str | None, classes: bool, options: Dataset) -> tuple[Pictures, Told]:
    """Read what there is of pictures; none is decoded yet.

    Args:
        data: folder or file.
        text: where captions come from, see `data.pictures.read`; None: where there are any.
        classes: whether classes are told, and no captions.
        options: see there.

    Raises:
        NotFoundError: there are no such files.
        InputError: they cannot be used.
    """
    if classes and text not in (None, "none"):
        raise InputError("classes: a network is told classes or captions; leave one of them out")
    pictures = read(
        data,
        captions="none" if classes else text,
        classes=classes,
        how=Decoding(channels=options.channels),
        fields=Fields(caption=options.caption_field, label=options.label_field),
        validation=options.validation,
        max_faults=options.max_faults,
    )
    if classes:
        return pictures, "classes"
    if text == "none" or not pictures.captioned:
        if text not in (None, "none"):
            raise InputError(f"text: {data} has no captions there; use --text none, or name others")
        return pictures, "nothing"
    return pictures, "captions"


def decode(
    pictures: Pictures,
    told: Told,
    options: Dataset,
    size: int,
    batch_size: int,
    seed: int,
    cache: Path,
    on_picture: OnPicture | None = None,
) -> Data:
    """Decode them, or find them in the cache.

    Args:
        pictures: of `look`.
        told: likewise.
        options: see there.
        size: side in px.
        batch_size: items of a step.
        seed: of their order.
        cache: folder of all caches.
        on_picture: told of progress.

    Raises:
        InputError: too many cannot be decoded, or none can.
        StorageError: there is no room.
    """
    tell = None if on_picture is None else partial(_tell, on_picture)
    held = any(name.partition("-")[0] == "validation" for name in pictures.splits)

    def opened(part: str, least: int, apart_from: Cache | None = None) -> Cache:
        settings = CacheSettings(
            size=size, buckets=options.buckets, step=options.bucket_step, least=least
        )
        return Cache.open(
            pictures.part(part) if pictures.splits != (part,) else pictures,
            settings,
            cache / "pictures",
            on_picture=tell,
            apart_from=apart_from,
        )

    train = opened("train", batch_size if options.buckets else 1)
    caches = [train]
    if held:
        caches.append(opened("validation", 1, apart_from=train))
    reports = [pictures.faults.report(), *(each.faults.report() for each in caches)]
    return Data(
        train=Batches(train, batch_size, seed=seed, flip=options.flip),
        validation=Batches(caches[1], batch_size, seed=seed) if held else None,
        classes=pictures.classes,
        told=told,
        report=" ".join(report for report in reports if report),
        fingerprint=pictures.fingerprint(),
    )
