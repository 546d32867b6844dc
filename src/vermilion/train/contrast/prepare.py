"""From what a person asks for to networks, decoded pictures and texts."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from vermilion.data.pictures import Batches, Cache, CacheSettings, Decoding, Fields, Pictures, read
from vermilion.errors import InputError
from vermilion.models.contrast.augment import Augmentation
from vermilion.models.contrast.net import CLIP, TextTransformer, VisionTransformer
from vermilion.models.contrast.preprocess import Preprocess
from vermilion.models.contrast.resnet import ResNet
from vermilion.models.contrast.simclr import SimCLR
from vermilion.models.contrast.tokenizer import Tokenizer
from vermilion.runtime.engines import TextEncoder
from vermilion.runtime.shipped import WEIGHTS
from vermilion.train.contrast.options import Pairs, TextTower, Tower, Views, text_config
from vermilion.train.contrast.task import ClipTask, Prepare, SimclrTask
from vermilion.train.contrast.texts import vectors_of
from vermilion.train.contrast.views import Changes
from vermilion.train.options import Training

OnProgress = Callable[[str, int, int], None]
"""Told what is done, such as "decoding", how much of it, and how much there is."""

_ROOM = 3 / 2  # side of the pictures that SimCLR's views are cut out of, in sides of a view


@dataclass(frozen=True, slots=True, kw_only=True)
class Locked:
    """A text tower that is not trained.

    Attributes:
        name: of its model.
        sha256: of its weights.
        encoder: the model, opened.
    """

    name: str
    sha256: str
    encoder: TextEncoder


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a person asks for.

    Attributes:
        data: file or folder, see `data.pictures.read`.
        tower: sizes of the picture tower.
        learning: CLIP: the text tower and how pairs are read; SimCLR: how views are made.
        locked: CLIP: a text tower that is not trained; None: a new one is.
        student: folder of a student of it, for other languages; it is laid beside the model.
        training: how it is trained.
    """

    data: Path
    tower: Tower
    learning: tuple[TextTower, Pairs] | Views
    locked: Locked | None = None
    student: Path | None = None
    training: Training

    @property
    def kind(self) -> Literal["clip", "simclr"]:
        """What is trained."""
        return "simclr" if isinstance(self.learning, Views) else "clip"


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """All that a run is made of.

    Attributes:
        task: what is trained on what.
        tokenizer: of a new text tower; None: there is none.
        pictures: that are trained on.
        held: that are held back.
        faults: what was left out, in words; empty: nothing.
        training: with max_steps settled.
        config: the resolved config, JSON values; with it a run is taken up again.
    """

    task: ClipTask | SimclrTask
    tokenizer: Tokenizer | None
    pictures: int
    held: int
    faults: str
    training: Training
    config: dict[str, Any]


def prepare(request: Request, cache: Path, on_progress: OnProgress | None = None) -> Prepared:
    """Decode the pictures, or find them in the cache, and make the networks.

    Args:
        request: what is asked for.
        cache: folder that keeps decoded pictures and vectors of texts.
        on_progress: told how far it is.

    Raises:
        InputError: data or sizes that cannot be used.
        StorageError: there is no room.
    """
    tell = on_progress or (lambda what, done, total: None)
    pictures = _read(request)
    training = settled(request.training, len(pictures.part("train")))
    train, held = _batches(request, pictures, training, cache, tell)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(training.seed)
        if isinstance(request.learning, Views):
            task: ClipTask | SimclrTask = _simclr(request, request.learning, train, held)
            tokenizer = None
        else:
            task, tokenizer = _clip(request, *request.learning, train, held, cache, tell)
    parts = [part.cache.faults.report() for part in (train, held) if part is not None]
    found = [pictures.faults.report(), *parts]
    return Prepared(
        task=task,
        tokenizer=tokenizer,
        pictures=len(train.cache),
        held=0 if held is None else len(held.cache),
        faults="\n".join(dict.fromkeys(text for text in found if text)),
        training=training,
        config=_resolved(request, training, pictures),
    )


def _read(request: Request) -> Pictures:
    """The data: for CLIP with captions, for SimCLR with classes where there are any."""
    learning = request.learning
    if isinstance(learning, Views):
        return read(request.data, captions="none", validation=learning.validation)
    options = learning[1]
    alpha = options.background == "random"
    return read(
        request.data,
        captions=None if request.data.is_file() else _captions(request.data),
        how=Decoding(channels=4 if alpha else 3),
        fields=Fields(caption=options.captions),
        validation=options.validation,
    )


def _captions(folder: Path) -> str | None:
    """How a folder's pictures are named in words: as it says itself, else by their files' names."""
    known = read(folder)
    return None if known.captioned else "name"


def _batches(
    request: Request, pictures: Pictures, training: Training, cache: Path, tell: OnProgress
) -> tuple[Batches, Batches | None]:
    side = request.tower.image_size
    if request.kind == "simclr":
        side = math.ceil(side * _ROOM)
    settings = CacheSettings(size=side)

    def opened(part: str, apart_from: Cache | None) -> Cache:
        return Cache.open(
            pictures.part(part),
            settings,
            cache / "pictures",
            on_picture=lambda done, total: tell("decoding", done, total),
            apart_from=apart_from,
        )

    train = opened("train", None)
    if len(train) < training.batch_size:
        raise InputError(
            f"batch_size: {training.batch_size} is more than the {len(train)} pictures that are"
            " trained on; use a lower one, or more pictures"
        )
    there = any(name.partition("-")[0] == "validation" for name in pictures.splits)
    held = opened("validation", train) if there else None
    size, seed = training.batch_size, training.seed
    kept = Batches(held, size, seed=seed) if held is not None and len(held) else None
    return Batches(train, size, seed=seed), kept


def _tower(options: Tower) -> VisionTransformer | ResNet:
    try:
        config = options.config()
    except ValueError as error:
        raise InputError(f"set: {error}") from None
    if options.picture_tower == "resnet":
        return ResNet(config)  # type: ignore[arg-type]
    return VisionTransformer(config)  # type: ignore[arg-type]


def _simclr(request: Request, views: Views, train: Batches, held: Batches | None) -> SimclrTask:
    tower = request.tower
    net = SimCLR(_tower(tower), tower.projection_dim)
    strength = views.color_strength
    augment = Augmentation(
        size=tower.image_size,
        scale=(views.min_scale, 1.0),
        strength=strength,
        jitter=0.8 if strength else 0.0,
        flip=views.view_flip,
        blur=views.blur,
    )
    return SimclrTask(
        _trainable(net),
        Preprocess.for_size(tower.image_size),
        train,
        held,
        augment,
        seed=request.training.seed,
        temperature=views.temperature,
        neighbours=views.neighbours,
    )


def _clip(
    request: Request,
    texts: TextTower,
    pairs: Pairs,
    train: Batches,
    held: Batches | None,
    cache: Path,
    tell: OnProgress,
) -> tuple[ClipTask, Tokenizer | None]:
    tower, locked = request.tower, request.locked
    tokenizer: Tokenizer | None = None
    if locked is not None:
        prepare_texts = _bank(locked, [train, held], cache, tell)
        size = int(prepare_texts(["a"]).shape[1])
        text_model: nn.Module = nn.Identity()
        projection = tower.projection_dim if texts.project_text else None
    else:
        tokenizer = Tokenizer.from_folder(WEIGHTS / "clip-tokenizer")
        text_model = _text_tower(texts, tokenizer)
        prepare_texts, size = tokenizer.encode, texts.text_hidden_size
        projection = tower.projection_dim
    clip = CLIP(
        _tower(tower),
        text_model,
        text_size=size,
        projection_dim=projection,
        logit_bias=texts.contrast == "sigmoid",
    )
    changes = Changes(
        seed=request.training.seed,
        background=pairs.background,
        shift=pairs.shift,
        flip=pairs.flip,
    )
    task = ClipTask(
        _trainable(clip),
        Preprocess.for_size(tower.image_size),
        prepare_texts,
        train,
        held,
        changes,
        first_caption=pairs.first_caption,
    )
    return task, tokenizer


def _text_tower(options: TextTower, tokenizer: Tokenizer) -> TextTransformer:
    try:
        config = text_config(
            options,
            len(tokenizer),
            tokenizer.bos_id,
            tokenizer.eos_id,
            tokenizer.max_length,
        )
    except ValueError as error:
        raise InputError(f"set: text_{error}") from None
    return TextTransformer(config)


def _bank(locked: Locked, parts: list[Batches | None], cache: Path, tell: OnProgress) -> Prepare:
    """Vectors of all captions, made once."""
    found: set[str] = {"a"}
    for part in parts:
        if part is not None:
            for item in part.cache.items:
                found.update(part.cache.pictures.captions(int(item)))
    texts = sorted(found)
    vectors = vectors_of(
        texts,
        locked.encoder,
        locked.sha256,
        cache / "texts",
        lambda done, total: tell("reading captions", done, total),
    )
    place = {text: n for n, text in enumerate(texts)}

    def prepare_texts(captions: Any) -> Tensor:
        return torch.from_numpy(vectors[[place[text] for text in captions]])  # (N, C)

    return prepare_texts


def _trainable(net: Any) -> Any:
    return net.train().requires_grad_(requires_grad=True).to(memory_format=torch.channels_last)


def settled(training: Training, pictures: int) -> Training:
    """With max_steps worked out where epochs are given.

    Raises:
        InputError: a step is to be cut into parts.
    """
    if training.micro_batch is not None:
        raise InputError(
            "micro_batch: the pictures of a step are compared with one another, so that it cannot"
            " be cut; leave it out and set batch_size"
        )
    if training.epochs is None:
        return training
    steps = math.ceil(training.epochs * pictures / training.batch_size)
    return replace(training, max_steps=max(1, steps))


def _resolved(request: Request, training: Training, pictures: Pictures) -> dict[str, Any]:
    """All that bears on the weights, as JSON values."""
    captions = hashlib.sha256()
    for i in range(len(pictures)):
        captions.update("\0".join((*pictures.captions(i), "\n")).encode("utf-8", "surrogatepass"))
    learning = request.learning
    parts = (learning,) if isinstance(learning, Views) else learning
    return {
        "format": 1,
        "family": request.kind,
        "data": {"sha256": pictures.fingerprint(), "captions_sha256": captions.hexdigest()},
        "tower": asdict(request.tower),
        "text_tower": None
        if request.locked is None
        else {"name": request.locked.name, "sha256": request.locked.sha256},
        **{type(part).__name__.lower(): asdict(part) for part in parts},
        "training": asdict(training),
    }
