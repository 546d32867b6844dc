"""The public door: train SimCLR or CLIP and put the model where models live."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from vermilion.errors import InputError
from vermilion.runtime.cards import Card
from vermilion.runtime.device import choose_device
from vermilion.runtime.engines import TextEncoder
from vermilion.runtime.loader import Loader
from vermilion.runtime.store import Store
from vermilion.settings import get_settings
from vermilion.train.contrast.options import ALIASES, CLIP_KINDS, SIMCLR_KINDS
from vermilion.train.contrast.prepare import Locked, OnProgress, Request, prepare
from vermilion.train.contrast.run import train
from vermilion.train.contrast.student import STUDENT_KINDS
from vermilion.train.contrast.student import train_student as student_run
from vermilion.train.distributed import World
from vermilion.train.loop import Watch
from vermilion.train.measure import measure
from vermilion.train.options import resolve
from vermilion.train.run import Run, Trained, card_of, free_name, train_and_publish


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """What a training would need.

    Attributes:
        config: the resolved config.
        parameters: of the model.
        trained: how many of them are trained.
        pictures: that are trained on.
        held: that are held back.
        faults: what of the data was left out, in words.
        epochs: how often all steps go over the pictures.
        memory_bytes: see `train.measure`.
        memory_free_bytes: on the device now.
        seconds_per_step: measured on this machine, with real steps that are thrown away.
        seconds: of all steps, validations left out.
    """

    config: Mapping[str, Any]
    parameters: int
    trained: int
    pictures: int
    held: int
    faults: str
    epochs: float
    memory_bytes: int
    memory_free_bytes: int
    seconds_per_step: float
    seconds: float


def train_clip(
    data: str | Path,
    *,
    name: str | None = None,
    text_tower: str | None = None,
    lock_text: bool = False,
    student: str | None = None,
    settings: Mapping[str, Any] | None = None,
    licence: str | None = None,
    out: Path | None = None,
    watch: Watch | None = None,
    on_progress: OnProgress | None = None,
) -> Trained:
    """Train a CLIP on pictures with captions, or go on with the run of that name; publish it.

    Args:
        data: see `data.pictures.read`; the pictures of a folder that says nothing of them have
            their files' names as captions.
        name: of the model and the run; by default the data's.
        text_tower: model whose vectors of texts are learnt from, such as all-minilm-l6-v2; None:
            a new text tower is trained as well.
        lock_text: that the text tower is not trained (LiT, Zhai et al. 2022); has to be said.
        student: model of `train_student`, whose words the finished model knows besides.
        settings: fields of `train.contrast.options` and `train.options`.
        licence: of the model, an SPDX expression.
        out: folder of the run; by default HOME/runs/NAME.
        watch: told what happens.
        on_progress: told how far the preparation is.

    Raises:
        InputError: something that was asked for cannot be used.
        ModelError: the text tower or a checkpoint is broken.
        NotFoundError: the data or the text tower are not there.
        StorageError: the disk is full.
    """
    request = _clip_request(data, text_tower, lock_text, settings)
    if student is not None:
        request = replace(request, student=_student(student, request.locked))
    return _train(request, name, licence, out, watch, on_progress)


def train_simclr(
    data: str | Path,
    *,
    name: str | None = None,
    settings: Mapping[str, Any] | None = None,
    licence: str | None = None,
    out: Path | None = None,
    watch: Watch | None = None,
    on_progress: OnProgress | None = None,
) -> Trained:
    """Train a picture tower on pictures without words; see `train_clip`."""
    return _train(_simclr_request(data, settings), name, licence, out, watch, on_progress)


def train_student(
    data: str | Path,
    *,
    text_tower: str,
    name: str | None = None,
    settings: Mapping[str, Any] | None = None,
    licence: str | None = None,
    out: Path | None = None,
    watch: Watch | None = None,
    on_progress: OnProgress | None = None,
) -> Trained:
    """Train a small student that gives texts of another language the vectors of an encoder.

    Args:
        data: a .jsonl or .tsv file of pairs, see `train.contrast.student.read_pairs`.
        text_tower: the encoder, such as all-minilm-l6-v2.
        name: of the model and the run; by default the data's.
        settings: fields of `Student` and of `Training`.
        licence: of the model, an SPDX expression.
        out: folder of the run; by default HOME/runs/NAME.
        watch: told what happens.
        on_progress: told how far the preparation is.

    Raises:
        InputError, NotFoundError, ModelError, StorageError: as `train_clip`.
    """
    data = Path(data).expanduser()
    student, training = resolve(dict(settings or {}), STUDENT_KINDS, ALIASES)
    chosen = free_name(Store(get_settings().models_dir), name, data)
    good_for = f"words of another language with the vectors of {text_tower}"
    return train_and_publish(
        chosen,
        out,
        watch,
        partial(student_run, data, student, training, _locked(text_tower), on_progress=on_progress),
        lambda run: _described(run, chosen, "bag", data.name, licence, good_for),
    )


def plan_clip(
    data: str | Path,
    *,
    text_tower: str | None = None,
    lock_text: bool = False,
    settings: Mapping[str, Any] | None = None,
    on_progress: OnProgress | None = None,
) -> Estimate:
    """What `train_clip` would need. Pictures are decoded and kept; nothing else stays."""
    return _plan(_clip_request(data, text_tower, lock_text, settings), on_progress)


def plan_simclr(
    data: str | Path,
    *,
    settings: Mapping[str, Any] | None = None,
    on_progress: OnProgress | None = None,
) -> Estimate:
    """What `train_simclr` would need; see `plan_clip`."""
    return _plan(_simclr_request(data, settings), on_progress)


def _clip_request(
    data: str | Path, text_tower: str | None, lock_text: bool, settings: Mapping[str, Any] | None
) -> Request:
    if lock_text != (text_tower is not None):
        raise InputError(
            "text-tower: a model of texts stays as it is; add --lock-text"
            if text_tower is not None
            else "lock-text: name the text tower that is locked, such as"
            " --text-tower all-minilm-l6-v2"
        )
    tower, texts, pairs, training = resolve(dict(settings or {}), CLIP_KINDS, ALIASES)
    return Request(
        data=Path(data).expanduser(),
        tower=tower,
        learning=(texts, pairs),
        locked=None if text_tower is None else _locked(text_tower),
        training=training,
    )


def _simclr_request(data: str | Path, settings: Mapping[str, Any] | None) -> Request:
    tower, views, training = resolve(dict(settings or {}), SIMCLR_KINDS, ALIASES)
    return Request(data=Path(data).expanduser(), tower=tower, learning=views, training=training)


def _student(name: str, locked: Locked | None) -> Path:
    """The folder of a student of the locked text tower."""
    card, path = Store(get_settings().models_dir).locate(name)
    if card.family != "bag":
        raise InputError(f"student: {name} is none; train one with vermilion train student")
    teacher = card.options.get("recipe", {}).get("config", {}).get("teacher", {})
    if locked is None or teacher.get("sha256") != locked.sha256:
        raise InputError(
            f"student: {name} learnt the vectors of {teacher.get('name', 'another model')}; give"
            " that one with --text-tower and --lock-text"
        )
    return path


def _locked(name: str) -> Locked:
    """A text encoder of the store."""
    house = get_settings()
    card, engine = Loader(Store(house.models_dir), house).open(name)
    if not isinstance(engine, TextEncoder):
        raise InputError(
            f"text-tower: {name} does not turn texts into vectors; use all-minilm-l6-v2"
        )
    return Locked(name=card.name, sha256=card.weights_sha256, encoder=engine)


def _train(
    request: Request,
    name: str | None,
    licence: str | None,
    out: Path | None,
    watch: Watch | None,
    on_progress: OnProgress | None,
) -> Trained:
    chosen = free_name(Store(get_settings().models_dir), name, request.data)
    return train_and_publish(
        chosen,
        out,
        watch,
        partial(train, request, on_progress=on_progress),
        lambda run: _card(chosen, request, run, licence),
    )


def _plan(request: Request, on_progress: OnProgress | None) -> Estimate:
    house = get_settings()
    prepared = prepare(request, house.home / "cache", on_progress)
    world = World(torch.device(choose_device(house)))
    prepared.task.model.to(world.device)
    found = measure(prepared.task, prepared.training, world)
    steps = prepared.training.max_steps
    return Estimate(
        config=prepared.config,
        parameters=found.parameters,
        trained=found.trained,
        pictures=prepared.pictures,
        held=prepared.held,
        faults=prepared.faults,
        epochs=steps * prepared.training.batch_size / prepared.pictures,
        memory_bytes=found.memory_bytes,
        memory_free_bytes=found.memory_free_bytes,
        seconds_per_step=found.seconds_per_step,
        seconds=found.seconds_per_step * steps,
    )


def _card(name: str, request: Request, run: Run, licence: str | None) -> Card:
    data = request.data.name
    recall = run.outcome.figures.get("text_to_picture@10")
    heard = "" if recall is None else f", recall at 10 {recall:.0%}"
    words = "" if request.locked is None else f", beside the words of {request.locked.name}"
    good_for = f"{request.kind} trained on {data}{words}{heard}"
    return _described(run, name, "clip", data, licence, good_for)


def _described(
    run: Run, name: str, family: str, data: str, licence: str | None, good_for: str
) -> Card:
    return card_of(
        run,
        name=name,
        kind="embedding",
        family=family,
        data=data,
        licence=licence,
        good_for=good_for,
        recipe={"left_out": run.report},
    )
