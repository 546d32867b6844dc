"""The public door: train a diffusion model and put it where models live."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

import torch

from vermilion.errors import InputError
from vermilion.models.diffusion.manifest import Manifest
from vermilion.models.diffusion.parts import STEM
from vermilion.runtime.cards import Card
from vermilion.runtime.device import choose_device
from vermilion.runtime.store import Store
from vermilion.settings import get_settings
from vermilion.train.diffusion import learnt
from vermilion.train.diffusion.dataset import OnPicture, look
from vermilion.train.diffusion.estimate import Estimate, estimate
from vermilion.train.diffusion.options import (
    ALIASES,
    KINDS,
    OF_DIT,
    OF_UNET,
    Adapters,
    Autoencoder,
    Noising,
    Shape,
    usual,
)
from vermilion.train.diffusion.prepare import prepare
from vermilion.train.diffusion.request import Request
from vermilion.train.diffusion.run import train
from vermilion.train.distributed import World
from vermilion.train.loop import Watch
from vermilion.train.options import resolve
from vermilion.train.run import Base, Run, Trained, card_of, free_name, located, train_and_publish


def train_diffusion(
    data: str | Path,
    *,
    name: str | None = None,
    text: str | None = None,
    classes: bool = False,
    latent: bool = False,
    vae: str | None = None,
    base: str | None = None,
    lora: bool = False,
    settings: Mapping[str, Any] | None = None,
    licence: str | None = None,
    out: Path | None = None,
    watch: Watch | None = None,
    on_picture: OnPicture | None = None,
) -> Trained:
    """Train a diffusion model, or go on with the run of that name, and publish it.

    Args:
        data: a folder of pictures, or a file that lists or holds them, see `data.pictures.read`.
        name: of the model and the run; by default the data's.
        text: where captions come from: "name", "txt", "none" or a table; None: captions are told
            where the data have any.
        classes: whether classes are told.
        latent: whether a new model works on the latents of an autoencoder.
        vae: name or path of the model whose autoencoder that is; None: one is trained first.
        base: name or path of a model that is trained on; None: a new one.
        lora: whether adapters are trained beside its frozen weights.
        settings: fields of `train.diffusion.options` and `train.options`, or other spellings.
        licence: of the model, an SPDX expression; by default that of the base.
        out: folder of the run; by default HOME/runs/NAME.
        watch: told what happens.
        on_picture: told of what comes before the steps, such as (12, 400, "pictures").

    Raises:
        InputError: something that was asked for cannot be used.
        NotFoundError: there are no such files, or a model is not here.
        ModelError: a model or a checkpoint is broken.
        StorageError: the disk is full.
    """
    order = _ordered(data, name, text, classes, latent, vae, base, lora, settings)
    return train_and_publish(
        order.name,
        out,
        watch,
        partial(train, order.request, on_picture=on_picture),
        lambda run: _card(order, run, licence),
        beside=lambda model, run: learnt.publish(run, model),
    )


def plan_diffusion(
    data: str | Path,
    *,
    text: str | None = None,
    classes: bool = False,
    latent: bool = False,
    vae: str | None = None,
    base: str | None = None,
    lora: bool = False,
    settings: Mapping[str, Any] | None = None,
    on_picture: OnPicture | None = None,
) -> Estimate:
    """What `train_diffusion` would need; trains nothing but a few steps that are thrown away.

    Pictures are decoded and kept. For the arguments and errors see `train_diffusion`.
    """
    order = _ordered(data, None, text, classes, latent, vae, base, lora, settings)
    house = get_settings()
    device = choose_device(house)
    prepared = prepare(order.request, house.home / "cache", device, on_picture)
    return estimate(prepared, order.request, World(torch.device(device)))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Order:
    name: str
    request: Request
    origin: Card | None


def _ordered(
    data: str | Path,
    name: str | None,
    text: str | None,
    classes: bool,
    latent: bool,
    vae: str | None,
    base: str | None,
    lora: bool,
    settings: Mapping[str, Any] | None,
) -> _Order:
    """What a person asks for, looked at."""
    data = Path(data).expanduser()
    store = Store(get_settings().models_dir)
    name = free_name(store, name, data)
    given = dict(settings or {})
    names = {ALIASES.get(key, key) for key in given}
    given |= usual(names, tuned=base is not None, lora=lora)
    shape, dataset, noising, objective, autoencoder, adapters, training = resolve(
        given, KINDS, ALIASES
    )
    _check(names, shape.network, base=base, lora=lora, latent=latent or vae is not None, vae=vae)
    origin, started = None, None
    reads = noising.text_encoder
    if base is not None:
        origin, started = located(store, base)
        manifest = Manifest.read(started.path) if started.path.is_dir() else None
        reads = "" if manifest is None else manifest.text_encoder
    pictures, told = look(data, text, classes, dataset)
    encoder = located(store, reads)[1] if told == "captions" and reads else None
    request = Request(
        data=data,
        pictures=pictures,
        told=told,
        base=started,
        latent=latent or vae is not None,
        vae=None if vae is None else _autoencoder(store, vae),
        encoder=encoder,
        adapters=adapters if lora else None,
        shape=shape,
        dataset=dataset,
        noising=noising,
        objective=objective,
        autoencoder=autoencoder,
        training=training,
    )
    return _Order(name=name, request=request, origin=origin)


def _autoencoder(store: Store, name: str) -> Base:
    """The model whose autoencoder is used; also the folder of an autoencoder alone."""
    weights = Path(name).expanduser() / f"{STEM}.safetensors"
    if not weights.is_file():
        return located(store, name)[1]
    with weights.open("rb") as file:
        return Base(
            name=name, path=weights.parent, sha256=hashlib.file_digest(file, "sha256").hexdigest()
        )


def _check(
    names: set[str],
    network: str,
    *,
    base: str | None,
    lora: bool,
    latent: bool,
    vae: str | None,
) -> None:
    """See that nothing is asked for that would have no effect."""
    if lora and base is None:
        raise InputError("lora: adapters need a model to stand beside; name one with --from")
    if base is not None and latent:
        raise InputError(f"latent: {base} has its own autoencoder or none; leave --latent out")
    for wrong, one, other, word in (
        (OF_DIT, "DiT", "UNet", "dit"),
        (OF_UNET, "UNet", "DiT", "unet"),
    ):
        strange = names & wrong if base is None and network != word else set()
        if strange:
            raise InputError(
                f"set: {min(strange)} is for a {one}, and a {other} is trained; leave it out, or"
                f" set network={word}"
            )
    own = names & {f.name for kind in (Shape, Noising) for f in fields(kind)}
    if base is not None and own:
        raise InputError(
            f"set: {min(own)} belongs to a new model and {base} has its own; leave it out"
        )
    first = names & {f.name for f in fields(Autoencoder)}
    if first and (not latent or vae is not None):
        raise InputError(
            f"set: {min(first)} is for an autoencoder that is trained first; add --latent, and"
            " no --vae"
        )
    if "patch" in names and latent:
        raise InputError("set: patch is for models on pixels; leave it or --latent out")
    drawn = names & {"latent_sample", "cache_latents"}
    if drawn and base is None and not latent:
        raise InputError(f"set: {min(drawn)} is for models on latents; add --latent or --vae")
    useless = names & {f.name for f in fields(Adapters)}
    if useless and not lora:
        raise InputError(f"set: {min(useless)} is for adapters; add --lora")
    if names & {"sharding"}:
        raise InputError("set: sharding is for language models; leave it out")


def _card(order: _Order, run: Run, licence: str | None) -> Card:
    figures, request = run.outcome.figures, order.request
    data, lora = request.data.name, request.adapters is not None
    base = None if request.base is None else request.base.name
    heard = f", validation loss {figures['loss']:.4g}" if "loss" in figures else ""
    return card_of(
        run,
        name=order.name,
        kind="adapter" if lora else "picture",
        family="lora" if lora else "diffusion",
        data=data,
        licence=licence,
        good_for=f"trained on {data}{'' if base is None else f' from {base}'}{heard}",
        recipe={"base": base},
        origin=order.origin,
    )
