"""The public door: train a language model and put it where models live."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

import torch

from vermilion.errors import InputError
from vermilion.runtime.cards import Card
from vermilion.runtime.device import choose_device
from vermilion.runtime.store import Store
from vermilion.settings import get_settings
from vermilion.train.distributed import World
from vermilion.train.lm.estimate import Estimate, estimate
from vermilion.train.lm.learnt import index
from vermilion.train.lm.options import ALIASES, KINDS, Adapters, Shape
from vermilion.train.lm.prepare import KINDS_OF_TOKENIZERS, Request, prepare
from vermilion.train.lm.run import train
from vermilion.train.loop import Watch
from vermilion.train.options import resolve
from vermilion.train.run import Run, Trained, card_of, free_name, located, train_and_publish


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
    request = order.request
    return train_and_publish(
        order.name,
        out,
        watch,
        partial(train, request, on_tokens=on_tokens),
        lambda run: _card(order, run, licence),
        beside=lambda model, run: index(request.data, request.field, model),
    )


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
    name = free_name(store, name, data)
    given = dict(settings or {})
    _check(given, base, lora)
    shape, corpus, tuning, adapters, training = resolve(given, KINDS, ALIASES)
    origin, started = None, None
    if base is not None:
        origin, started = located(store, base)
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
    figures, data = run.outcome.figures, order.request.data.name
    base = None if order.request.base is None else order.request.base.name
    heard = f", perplexity {figures['perplexity']:.4g}" if "perplexity" in figures else ""
    return card_of(
        run,
        name=order.name,
        kind="text",
        family="lm",
        data=data,
        licence=licence,
        good_for=f"trained on {data}{'' if base is None else f' from {base}'}{heard}",
        recipe={"base": base},
        origin=order.origin,
    )
