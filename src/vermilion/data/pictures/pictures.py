"""A set of pictures with random access, whatever form its files have.

Shape letters: N items, H W of a picture, C channels.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vermilion.data.pictures.decoding import Decoding, Pixels, decode, measure
from vermilion.data.pictures.faults import Faults, printable
from vermilion.data.pictures.geometry import Shape
from vermilion.data.pictures.rows import Rows, indexed
from vermilion.data.pictures.stores import Store
from vermilion.errors import InputError

_HEAD = 1 << 16  # bytes in which a picture's size nearly always stands


class Item(NamedTuple):
    """A picture with what is said of it.

    Attributes:
        pixels: uint8 (H, W, C).
        caption: the first of its captions, or "".
        label: index of its class, or None.
        name: of its file.
    """

    pixels: Pixels
    caption: str
    label: int | None
    name: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Index:
    """All that is known of the items of a set, shared by its parts."""

    rows: Rows
    starts: NDArray[np.int64]  # (N + 1,) into order
    order: NDArray[np.int64]  # captions, item after item
    classes: tuple[str, ...]
    labels: NDArray[np.int64]  # (N,), -1: none
    places: NDArray[np.int64]  # (N, 3)
    stamps: NDArray[np.int64]  # (N, 2)
    splits: NDArray[np.str_]  # (N,)
    store: Store


class Pictures:
    """Items of a set or of a part of it.

    Attributes:
        classes: names of the classes; empty where there are no labels.
        faults: what was left out when the set was read; of the whole set.
        how: channels, background, filter and limit of the decoding.
        shape: H and W of what `item` gives; None: as large as each picture is.
        items: which items of the whole set these are, int64 (N,).
    """

    def __init__(
        self,
        index: Index,
        faults: Faults,
        how: Decoding,
        shape: Shape | None,
        items: NDArray[np.int64] | None = None,
    ) -> None:
        self.index, self.faults, self.classes = index, faults, index.classes
        self.how, self.shape = how, shape
        self.items = np.arange(len(index.rows)) if items is None else items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, i: int) -> Item:
        return self.item(i)

    def item(self, i: int) -> Item:
        """Decode a picture.

        Raises:
            InputError: it cannot be used; the message names it.
        """
        label = int(self.labels[i])
        captions = self.captions(i)
        try:
            pixels = decode(self.content(i), self.shape, self.how)
        except (InputError, OSError) as error:
            raise InputError(f"data: {printable(self.name(i))}: {error}") from None
        return Item(
            pixels, captions[0] if captions else "", None if label < 0 else label, self.name(i)
        )

    def name(self, i: int) -> str:
        """The path of a picture below the folder of the data, or its place in an archive."""
        return self.index.rows.names[self._at(i)]

    def captions(self, i: int) -> tuple[str, ...]:
        """All captions of a picture, each once, in the order of the data."""
        at = self._at(i)
        span = self.index.order[self.index.starts[at] : self.index.starts[at + 1]]
        return tuple(dict.fromkeys(self.index.rows.captions[n] for n in span.tolist()))

    @property
    def labels(self) -> NDArray[np.int64]:
        """Indices into `classes`, int64 (N,); -1: none."""
        return self.index.labels[self.items]

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of the parts that there are."""
        return tuple(sorted(set(self.index.splits[self.items].tolist())))

    @property
    def captioned(self) -> bool:
        """Whether there are captions."""
        return len(self.index.order) > 0

    def content(self, i: int) -> bytes:
        """The bytes of a picture's file.

        Raises:
            OSError: they cannot be read.
            InputError: there are none, or too many.
        """
        at = self._at(i)
        return self.index.store.read(self.index.rows.names[at], self._place(at))

    def measure(self, i: int) -> Shape:
        """H and W of a picture as it stands upright, from its header alone where that is enough.

        Raises:
            OSError: it cannot be read.
            InputError: it is damaged.
        """
        at = self._at(i)
        head = self.index.store.head(self.index.rows.names[at], self._place(at), _HEAD)
        try:
            return measure(head)
        except InputError:
            if len(head) < _HEAD:
                raise
            return measure(self.content(i))

    def part(self, split: str) -> Pictures:
        """The items of a split.

        Args:
            split: "train", "validation" or another name that is in the data. A name also stands
                for all that begin with it and a hyphen: "validation" for "validation-style".

        Raises:
            InputError: there is none.
        """
        found = self.index.splits[self.items]
        chosen = (found == split) | np.char.startswith(found, f"{split}-")
        if not chosen.any():
            raise InputError(
                f"split: {split!r} has no pictures; there are {', '.join(self.splits) or 'none'}"
            )
        return self._taking(self.items[chosen])

    def take(self, which: Sequence[int] | NDArray[np.int64]) -> Pictures:
        """Some of the items, in the order that is given."""
        return self._taking(self.items[np.asarray(which, np.int64)])

    def decoded(self, how: Decoding, shape: Shape | None) -> Pictures:
        """The same items, decoded in another way."""
        return Pictures(self.index, self.faults, how, shape, self.items)

    def fingerprint(self) -> str:
        """Hash of names, sizes and times of change of all files, in order; hexadecimal."""
        digest = hashlib.sha256()
        for i in range(len(self)):
            name = self.name(i).encode("utf-8", "surrogateescape")
            digest.update(len(name).to_bytes(4, "little") + name)
        digest.update(np.ascontiguousarray(self.index.places[self.items], "<i8").tobytes())
        digest.update(np.ascontiguousarray(self.index.stamps[self.items], "<i8").tobytes())
        return digest.hexdigest()

    def _taking(self, items: NDArray[np.int64]) -> Pictures:
        return Pictures(self.index, self.faults, self.how, self.shape, items)

    def _at(self, i: int) -> int:
        if not 0 <= i < len(self.items):
            raise IndexError(i)
        return int(self.items[i])

    def _place(self, at: int) -> tuple[int, int, int]:
        file, first, second = self.index.places[at].tolist()
        return file, first, second

    def __iter__(self) -> Iterator[Item]:
        return (self.item(i) for i in range(len(self)))


def gather(rows: Rows, store: Store, validation: float, known: Mapping[int, str] | None) -> Index:
    """An index of what a reader has found.

    Args:
        rows: the items.
        store: where their bytes are.
        validation: the part that is held back of items whose split the data do not say, 0 to
            below 1; by a hash of the name, so that it stays when data are added.
        known: names of classes by number.

    Raises:
        InputError: labels cannot be used.
    """
    owners = np.frombuffer(rows.owners, np.int64) if len(rows.owners) else np.zeros(0, np.int64)
    classes, labels = indexed(rows.labels, known)
    return Index(
        rows=rows,
        order=np.argsort(owners, kind="stable"),
        starts=np.concatenate([[0], np.bincount(owners, minlength=len(rows)).cumsum()]),
        classes=classes,
        labels=labels,
        places=np.array(rows.places, np.int64).reshape(-1, 3),
        stamps=np.array(rows.stamps, np.int64).reshape(-1, 2),
        splits=_splits(rows, validation),
        store=store,
    )


def _splits(rows: Rows, validation: float) -> NDArray[np.str_]:
    told = any(split.startswith("validation") for split in rows.splits)
    by_hash = ("",) if told else ("", "train")
    return np.array(
        [
            split if split not in by_hash else "validation" if held(name, validation) else "train"
            for name, split in zip(rows.names, rows.splits, strict=True)
        ],
        dtype=np.str_,
    )


def held(name: str, fraction: float) -> bool:
    """Whether a picture of this name is held back: a pure function of the two."""
    content = name.encode("utf-8", "surrogateescape")
    digest = hashlib.blake2b(content, digest_size=8, person=b"held back").digest()
    return int.from_bytes(digest, "little") < fraction * 2**64
