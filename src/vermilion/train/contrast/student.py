"""A small student that gives texts of another language the vectors of a known encoder.

Pairs of texts go in: one that the encoder knows, and what means the same in the other language.

    loss = 1 - cos(v(student), target) + InfoNCE(v, targets; 1/20)

N texts, C features of a vector.
"""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from vermilion.errors import InputError, NotFoundError
from vermilion.models.contrast.bag import Bag
from vermilion.models.contrast.evaluate import retrieval
from vermilion.models.contrast.loss import info_nce
from vermilion.train.contrast.prepare import Locked, OnProgress, settled
from vermilion.train.contrast.texts import vectors_of
from vermilion.train.distributed import World
from vermilion.train.folder import claim, take
from vermilion.train.loop import Trainer, Watch
from vermilion.train.options import Training, about
from vermilion.train.run import Run

_TEMPERATURE = 1 / 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Student:
    """Sizes of the student, and where its pairs are."""

    buckets: Annotated[int, about("Rows for runs of characters.", ge=16, le=1 << 24)] = 16384
    width: Annotated[int, about("Features of a run.", ge=2, le=8192)] = 192
    known: Annotated[str, about("Field of the text that the encoder knows.")] = "label"
    other: Annotated[
        str, about("Fields of what means the same in the other language, with commas.")
    ] = "label_zh"
    drop: Annotated[float, about("Part of the runs that is left out.", ge=0, lt=1)] = 0.2


STUDENT_KINDS = (Student, Training)


@dataclass(frozen=True, slots=True)
class Pairs:
    """Texts of the other language and those that the encoder knows, one each."""

    other: tuple[str, ...]
    known: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.other)


Batch = tuple[Tensor, Tensor, Tensor, tuple[str, ...]]
"""Runs, (R,), their beginnings, (N,), targets, (N, C), and the known texts."""


class StudentTask:
    """The student as the loop sees it; see `train.task.Task`."""

    unit = "texts"
    per_item = 1
    columns: tuple[str, ...] = ("found@1", "found@10")

    def __init__(
        self,
        bag: Bag,
        train: Pairs,
        held: Pairs,
        targets: Mapping[str, int],
        vectors: NDArray[np.float32],
        *,
        seed: int,
        drop: float,
        batch_size: int,
    ) -> None:
        self.model: nn.Module = bag
        self.bag, self.train, self.held = bag, train, held
        self.targets, self.vectors = targets, vectors
        self.seed, self.drop, self.at_once = seed, drop, batch_size
        self._seen: list[tuple[Tensor, Tensor, tuple[str, ...]]] = []
        self._order = lru_cache(maxsize=2)(self._draw)

    def _draw(self, epoch: int) -> NDArray[np.int64]:
        """The order of a round."""
        return np.random.default_rng((self.seed, epoch)).permutation(len(self.train))

    def batch(self, first: int, size: int, device: torch.device) -> Batch:
        """Pairs number `first` to `first + size - 1`; each comes once in a round."""
        chosen = []
        for number in range(first, first + size):
            epoch, at = divmod(number, len(self.train))
            chosen.append(int(self._order(epoch)[at]))
        ids, starts, targets, known = self._batch(self.train, chosen)
        draw = np.random.default_rng((self.seed, first, 1))
        kept = torch.from_numpy(draw.random(len(ids)) >= self.drop)
        kept[starts] = True  # so that no text is left without any
        places = torch.cumsum(kept, 0) - 1
        return ids[kept].to(device), places[starts].to(device), targets.to(device), known

    def _batch(self, pairs: Pairs, chosen: Sequence[int]) -> Batch:
        known = tuple(pairs.known[n] for n in chosen)
        rows = self.vectors[[self.targets[text] for text in known]]
        ids, starts = self.bag.ids([pairs.other[n] for n in chosen])
        return ids, starts, torch.from_numpy(rows), known

    def weight(self, batch: Batch) -> float:
        """How many texts there are."""
        return float(len(batch[1]))

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """The loss times the number of texts, ()."""
        ids, starts, targets, known = batch
        found = F.normalize(model(ids, starts), dim=-1)  # (N, C)
        if not model.training:
            self._seen.append((found.cpu(), targets.cpu(), known))
        apart = (1 - (found * targets).sum(-1)).mean()
        across = model.training
        contrast = info_nce(found, targets, temperature=_TEMPERATURE, across=across)
        return (apart + contrast) * len(found)

    def held_back(self, batches: int, device: torch.device) -> Iterator[Batch]:
        """Batches of what is held back."""
        self._seen = []
        size = self.at_once
        for number, first in enumerate(range(0, len(self.held), size)):
            if number < batches:
                last = min(first + size, len(self.held))
                ids, starts, targets, known = self._batch(self.held, range(first, last))
                yield ids.to(device), starts.to(device), targets.to(device), known

    def figures(self, loss: float) -> dict[str, float]:
        """How often a text finds what means the same, among one of each that is held back."""
        known = [text for part in self._seen for text in part[2]]
        once = list({text: n for n, text in reversed(list(enumerate(known)))}.values())
        found = torch.cat([part[0] for part in self._seen]).numpy()
        targets = torch.cat([part[1] for part in self._seen]).numpy()
        recall = retrieval(targets[once], found[once], ks=(1, 10))
        return {"loss": loss, **{f"found@{k}": recall[f"text_to_picture@{k}"] for k in (1, 10)}}

    def samples(self, model: nn.Module, step: int) -> str:
        """None."""
        return ""


def read_pairs(data: Path, options: Student) -> tuple[Pairs, Pairs]:
    """Pairs of a .jsonl or of a .tsv with a first row of names: to train on, and held back.

    Those whose field `split` begins with "validation" are held back, else every twentieth known
    text by its hash.

    Raises:
        NotFoundError: there is no such file.
        InputError: it is no such file, or has no pairs.
    """
    if not data.is_file():
        raise NotFoundError(f"data: there is no file {data}; name a .jsonl or .tsv file of pairs")
    train: dict[tuple[str, str], None] = {}
    held: dict[tuple[str, str], None] = {}
    for row in _rows(data):
        known = str(row.get(options.known) or "").strip()
        split = str(row.get("split") or "")
        if not split and hashlib.sha256(known.encode()).digest()[0] < 256 // 20:
            split = "validation"
        for name in options.other.split(","):
            value = row.get(name.strip()) or ()
            for text in [value] if isinstance(value, str) else value:
                if known and str(text).strip():
                    into = held if split.startswith("validation") else train
                    into[str(text).strip(), known] = None
    if not train:
        raise InputError(
            f"data: {data} has no row with both {options.known} and {options.other}; name the"
            " fields with --set known=... other=..."
        )
    return tuple(  # type: ignore[return-value]
        Pairs(tuple(a for a, _ in part), tuple(b for _, b in part)) for part in (train, held)
    )


def _rows(data: Path) -> Iterator[Mapping[str, Any]]:
    with data.open(encoding="utf-8", newline="") as file:
        if data.suffix == ".tsv":
            yield from csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
            return
        for number, line in enumerate(file, 1):
            try:
                row = json.loads(line)
            except ValueError:
                raise InputError(f"data: {data}: line {number} is no JSON; mend it") from None
            if isinstance(row, dict):
                yield row


def train_student(
    data: Path,
    options: Student,
    training: Training,
    locked: Locked,
    folder: Path,
    cache: Path,
    world: World,
    watch: Watch,
    on_progress: OnProgress | None = None,
) -> Run:
    """Train a student, or go on with a run that was broken off.

    Args:
        data: see `read_pairs`.
        options: sizes and fields.
        training: how.
        locked: the encoder whose vectors it learns.
        folder: of the run.
        cache: folder that keeps vectors of texts.
        world: this process.
        watch: told what happens.
        on_progress: told how far the preparation is.

    Raises:
        InputError: the data cannot be used, or the folder holds another run.
        StorageError: the disk is full.
    """
    train, held = read_pairs(data, options)
    training = settled(training, len(train))
    texts = sorted({*train.known, *held.known})
    tell = on_progress or (lambda what, done, total: None)
    vectors = vectors_of(
        texts,
        locked.encoder,
        locked.sha256,
        cache / "texts",
        lambda done, total: tell("reading texts", done, total),
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(training.seed)
        bag = Bag(options.buckets, options.width, vectors.shape[1])
    digest = hashlib.sha256("\0".join((*train.other, *train.known, *held.other)).encode())
    config = {
        "format": 1,
        "family": "student",
        "data": {"sha256": digest.hexdigest()},
        "student": asdict(options),
        "teacher": {"name": locked.name, "sha256": locked.sha256},
        "training": asdict(training),
    }
    if world.first:
        claim(folder, config)
    world.wait()
    task = StudentTask(
        bag.train().to(world.device),
        train,
        held,
        {text: n for n, text in enumerate(texts)},
        vectors,
        seed=training.seed,
        drop=options.drop,
        batch_size=training.batch_size,
    )
    trainer = Trainer(task, training, folder, world, watch)
    outcome = trainer.run()
    model = None
    if outcome.state != "stopped":
        model = folder / "model"
        take(trainer.learner, folder)
        if world.first:
            bag.cpu().save(model)
        world.wait()
    return Run(folder=folder, model=model, outcome=outcome, config=config)
