"""The public door: train a language model and put it where models live."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch

from vermilion.errors import InputError
from vermilion.runtime.cards import TRAINED_HERE, UNKNOWN_LICENCE, Card, check_name
from vermilion.runtime.device import choose_device
from vermilion.runtime.store import Store
from vermilion.settings import get_settings
from vermilion.train.distributed import World, joined
from vermilion.train.folder import name_of
from vermilion.train.lm.estimate import Estimate, estimate
from vermilion.train.lm.learnt import index
from vermilion.train.lm.options import ALIASES, KINDS, Adapters, Shape
from vermilion.train.lm.prepare import KINDS_OF_TOKENIZERS, Base, Request, prepare
from vermilion.train.lm.run import Run, train
from vermilion.train.loop import Watch
from vermilion.train.options import resolve


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """What came of a training.

    Attributes:
        name: of the model and the run.
        run: how it ended.
        card: of the model in the store; None where the run was stopped, and in all processes
            but the first.
    """

    name: str
    run: Run
    card: Card | None


def train_lm(
    data: str | Path,
    *,
    name: str | None = None,
    base: str | None = None,
    lora: bool = False,
    field: str | None = None,
    tokenizer: str = "bpe",
    settings: Mapping[str, Any] | None = None,
    licence: str | None = None,
    out: Path | None = None,
    watch: Watch | None = None,
    on_tokens: Callable[[int], None] | None = None,
) -> Trained:
    """Train a language model, or go on with the run of that name, and publish it.

    Args:
        data: a text file, a folder of texts, or a .jsonl, .csv, .tsv or .parquet file.
        name: of the model and the run; by default the data's.
        base: name or path of a model that is trained on; None: a new one.
        lora: whether adapters are trained beside its frozen weights.
        field: field or column that holds the text.
        tokenizer: of a new model: "bpe" or "characters".
        settings: fields of `train.lm.options` and `train.options`, or other spellings of them.
        licence: of the model, an SPDX expression; by default that of the base.
        out: folder of the run; by default HOME/runs/NAME.
        watch: told what happens.
        on_tokens: told how many tokens are written.

    Raises:
        InputError: something that was asked for cannot be used.
        ModelError: the base or a checkpoint is broken.
        StorageError: the disk is full.
    """
    order = _ordered(data, name, base, lora, field, tokenizer, settings)
    house = get_settings()
    folder = out if out is not None else house.home / "runs" / order.name
    with joined(choose_device(house)) as world:
        silent = watch or (lambda event: None)
        run = train(order.request, folder, house.home / "cache", world, silent, on_tokens)
        card = None
        if run.model is not None and world.first:
            card = Store(house.models_dir).publish(run.model, _card(order, run, licence))
            index(order.request.data, order.request.field, house.models_dir / order.name)
    return Trained(name=order.name, run=run, card=card)


def plan_lm(
    data: str | Path,
    *,
    base: str | None = None,
    lora: bool = False,
    field: str | None = None,
    tokenizer: str = "bpe",
    settings: Mapping[str, Any] | None = None,
    on_tokens: Callable[[int], None] | None = None,
) -> Estimate:
    """What `train_lm` would need; trains nothing but a few steps that are thrown away.

    Tokens are made and kept, since counting them is making them. For the arguments and errors
    see `train_lm`.
    """
    order = _ordered(data, None, base, lora, field, tokenizer, settings)
    house = get_settings()
    prepared = prepare(order.request, house.home / "cache", on_tokens)
    return estimate(prepared, World(torch.device(choose_device(house))))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Order:
    name: str
    request: Request
    origin: Card | None


def _ordered(
    data: str | Path,
    name: str | None,
    base: str | None,
    lora: bool,
    field: str | None,
    tokenizer: str,
    settings: Mapping[str, Any] | None,
) -> _Order:
    """What a person asks for, looked at."""
    data = Path(data).expanduser()
    store = Store(get_settings().models_dir)
    kind = KINDS_OF_TOKENIZERS.get(tokenizer)
    if kind is None:
        raise InputError(f"tokenizer: {tokenizer!r} is not known; use bpe or characters")
    name = check_name(name if name is not None else name_of(data))
    store.check_free(name)
    given = dict(settings or {})
    _check(given, base, lora)
    shape, corpus, tuning, adapters, training = resolve(given, KINDS, ALIASES)
    origin, started = None, None
    if base is not None:
        origin, path = store.locate(base)
        started = Base(name=base, path=path, sha256=origin.weights_sha256)
    request = Request(
        data=data,
        field=field,
        tokenizer=kind,
        base=started,
        shape=shape,
        corpus=corpus,
        tuning=tuning,
        adapters=adapters if lora else None,
        training=training,
    )
    return _Order(name=name, request=request, origin=origin)


def _check(given: Mapping[str, Any], base: str | None, lora: bool) -> None:
    """See that no setting is given that would have no effect."""
    if lora and base is None:
        raise InputError("lora: adapters need a model to stand beside; name one with --from")
    names = {ALIASES.get(key, key) for key in given}
    if base is not None:
        fixed = names & ({f.name for f in fields(Shape)} | {"vocab_size"})
        if fixed:
            hint = "context" if "max_position_embeddings" in fixed else "another setting"
            raise InputError(
                f"set: {min(fixed)} belongs to a new model and {base} has its own; leave it out,"
                f" or set {hint}"
            )
    useless = names & {f.name for f in fields(Adapters)}
    if useless and not lora:
        raise InputError(f"set: {min(useless)} is for adapters; add --lora")


def _card(order: _Order, run: Run, licence: str | None) -> Card:
    figures, origin = run.outcome.figures, order.origin
    base = None if order.request.base is None else order.request.base.name
    inherited = origin.licence if origin is not None else UNKNOWN_LICENCE
    heard = f", perplexity {figures['perplexity']:.4g}" if "perplexity" in figures else ""
    data = order.request.data.name
    return Card(
        name=order.name,
        kind="text",
        family="lm",
        source=TRAINED_HERE,
        licence=licence if licence is not None else inherited,
        training_data=", ".join([*([origin.training_data] if origin else []), data]).strip(", "),
        languages=origin.languages if origin is not None else (),
        good_for=f"trained on {data}{'' if base is None else f' from {base}'}{heard}",
        options={
            "recipe": {
                "config": dict(run.config),
                "data": data,
                "base": base,
                "steps": run.outcome.step,
                "best_step": run.outcome.best_step,
                "validation_loss": run.outcome.best,
                "figures": dict(figures),
            }
        },
    )
