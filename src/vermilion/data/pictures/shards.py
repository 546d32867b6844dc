"""WebDataset: tar archives whose neighbours of one name are one item (Aizman et al. 2019).

    000042.jpg  000042.txt  000042.json  000042.cls

The key of a member is its path up to the first dot of its last part; the rest is its kind. An
archive is gone through once, for offsets and texts; pictures are read where they lie.
"""

from __future__ import annotations

import json
import re
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from vermilion.data.pictures.decoding import SUFFIXES
from vermilion.data.pictures.fields import Fields
from vermilion.data.pictures.rows import Label, captions_in, label_of, split_in_name
from vermilion.data.pictures.stores import name_below
from vermilion.data.pictures.taker import Taker
from vermilion.errors import InputError

_MEMBER = re.compile(r"^((?:.*/)?[^/.]+)\.([^/]+)$")
_TEXTS = ("txt", "text", "caption", "json", "cls")
_LARGEST_TEXT = 4_000_000  # bytes


@dataclass(slots=True)
class Sample:
    """Members of an archive that have one key.

    Attributes:
        picture: member's name, offset and size in bytes; None: there is none.
        texts: contents of members that are texts, by kind.
    """

    picture: tuple[str, int, int] | None = None
    texts: dict[str, bytes] = field(default_factory=dict)


def read_shards(shards: Sequence[Path], fields: Fields, taker: Taker) -> None:
    """Items of archives, in order.

    A caption is the .txt, or else a field of the .json; a class is the .cls, or else a field.

    Args:
        shards: the archives. One whose name begins with train, val or test is a split.
        fields: which fields of a .json hold caption and class.
        taker: takes the items.

    Raises:
        InputError: an archive is compressed, so that nothing in it can be reached by itself.
    """
    for number, shard in enumerate(shards):
        name = name_below(taker.root, shard)
        status = shard.stat()
        stamp, split = (status.st_size, status.st_mtime_ns), split_in_name(shard.name)
        for key, sample in _samples(shard, name, taker).items():
            if sample.picture is None:
                taker.fault("no picture", f"{name}/{key}", "the sample has no picture")
                continue
            member, offset, size = sample.picture
            where = f"{name}/{member}"
            if offset + size > status.st_size:
                taker.fault("damaged", where, "the archive ends within the picture")
                continue
            said = _said(sample.texts, where, fields, taker)
            if said is not None:
                captions, label = said
                place = (number, offset, size)
                taker.item(where, captions, label, split, where, place, stamp)


def _samples(shard: Path, name: str, taker: Taker) -> dict[str, Sample]:
    samples: dict[str, Sample] = {}
    with shard.open("rb") as file:
        try:
            with tarfile.open(fileobj=file, mode="r:") as archive:
                while (member := archive.next()) is not None:
                    archive.members = []  # type: ignore[attr-defined]  # it would hold all
                    if member.isreg():
                        _sort(member, archive, samples, name, taker)
        except (tarfile.TarError, EOFError, OSError, ValueError) as error:
            file.seek(0)
            if _compressed(file.read(6)):
                raise InputError(
                    f"data: {shard} is compressed, so that pictures in it cannot be reached one"
                    " by one; unpack it to a plain .tar"
                ) from None
            taker.fault("damaged", name, f"the archive cannot be read to its end ({error})")
    return samples


def _compressed(start: bytes) -> bool:
    return start.startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"(\xb5/\xfd"))


def _sort(
    member: tarfile.TarInfo,
    archive: tarfile.TarFile,
    samples: dict[str, Sample],
    shard: str,
    taker: Taker,
) -> None:
    """Put a member to its sample."""
    matched = _MEMBER.match(member.name)
    if matched is None or matched[1].rpartition("/")[2].startswith("."):
        return
    key, kind = matched[1], matched[2].lower()
    if key.startswith("__") and key.endswith("__"):  # the archive's own notes
        return
    if f".{kind}" in SUFFIXES:
        sample = samples.setdefault(key, Sample())
        if sample.picture is not None:
            taker.fault("malformed", f"{shard}/{member.name}", "the sample has a picture already")
            return
        sample.picture = (member.name, member.offset_data, member.size)
    elif kind in _TEXTS:
        sample = samples.setdefault(key, Sample())
        content: IO[bytes] | None = archive.extractfile(member)
        sample.texts[kind] = b"" if content is None else content.read(_LARGEST_TEXT)


def _said(
    texts: dict[str, bytes], where: str, fields: Fields, taker: Taker
) -> tuple[list[str], Label] | None:
    """Captions and class of a sample; None: a fault was counted."""
    try:
        plain = {kind: content.decode("utf-8-sig") for kind, content in texts.items()}
    except UnicodeDecodeError:
        taker.fault("encoding", where, "a text of its sample is not UTF-8")
        return None
    record: Any = {}
    if "json" in plain:
        try:
            record = json.loads(plain["json"])
        except (ValueError, RecursionError):
            record = None
        if not isinstance(record, dict):
            taker.fault("malformed", where, "the .json of its sample is no JSON object")
            return None
    captions, label = fields.said(record)
    beside = next((plain[kind] for kind in _TEXTS[:3] if kind in plain), None)
    if beside is not None and not fields.caption:
        captions = captions_in(beside.splitlines())
    if captions is None:
        taker.fault("malformed", where, "the caption is no text")
        return None
    if "cls" in plain:
        label = label_of(plain["cls"])
    return captions, label
