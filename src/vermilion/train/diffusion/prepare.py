"""From what a person asks for to a network, a codec, a path, and what the network is told."""

from __future__ import annotations

import math
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from vermilion.errors import InputError
from vermilion.models.diffusion import io
from vermilion.models.diffusion.dit import DiT
from vermilion.models.diffusion.manifest import Manifest
from vermilion.models.diffusion.net import UNet
from vermilion.models.diffusion.pixels import PixelCodec
from vermilion.models.diffusion.vae import AutoencoderKL
from vermilion.train.diffusion.dataset import Data, OnPicture, decode
from vermilion.train.diffusion.networks import (
    check_sides,
    dit_config,
    scheduler_config,
    unet_config,
    vae_config,
)
from vermilion.train.diffusion.options import Objective
from vermilion.train.diffusion.request import Codec, Prepared, Request
from vermilion.train.diffusion.task import Teller
from vermilion.train.diffusion.towers import Words, words_of
from vermilion.train.diffusion.tuned import SIZE, opened, side_of, tuned
from vermilion.train.diffusion.words import Reader
from vermilion.train.run import Base


def prepare(
    request: Request, cache: Path, device: str, on_picture: OnPicture | None = None
) -> Prepared:
    """Decode the pictures, or find them in the cache, and make or open the networks.

    Args:
        request: what is asked for.
        cache: folder of all caches.
        device: where captions are read.
        on_picture: told of progress.

    Raises:
        InputError: data or sizes that cannot be used.
        ModelError: a model is broken.
        StorageError: there is no room.
    """
    found = None if request.base is None else opened(request.base)
    size = request.dataset.size or (SIZE if found is None else side_of(found))
    training = replace(request.training, sharding="off")
    data = decode(
        request.pictures,
        request.told,
        request.dataset,
        size,
        training.batch_size,
        training.seed,
        cache,
        on_picture,
    )
    made = (
        _new(request, data, size, device) if found is None else tuned(request, found, data, device)
    )
    check_sides(made.net, made.codec, data.train.shapes)
    if training.epochs is not None:
        per_epoch = len(data.train.cache) / training.batch_size
        training = replace(training, max_steps=max(1, math.ceil(training.epochs * per_epoch)))
    made.training = training
    made.config = _resolved(request, made, size)
    return made


def _new(request: Request, data: Data, size: int, device: str) -> Prepared:
    """A new model."""
    seed, channels = request.training.seed, request.dataset.channels
    codec = _codec(request, channels, size)
    words, teller = _telling(request, data, device)
    net = _network(request, codec, size, words, teller)
    net.init_weights(seed)
    manifest = Manifest(
        text_encoder="" if words is None else words.name,
        max_tokens=request.noising.max_tokens,
        pooled=words is not None and words.pooled,
        classes=data.classes if teller.labels is not None else (),
        null_class=teller.null,
        num_inference_steps=request.objective.num_inference_steps,
        guidance_scale=None if data.told == "nothing" else _guidance(request.objective),
    )
    return Prepared(
        net=net.train(),
        codec=codec,
        first_stage=request.latent and request.vae is None,
        scheduler=scheduler_config(request.noising, pixels=isinstance(codec, PixelCodec)),
        data=data,
        teller=teller,
        manifest=manifest,
        texts={} if words is None else words.parts,
        training=request.training,
        config={},
    )


def _codec(request: Request, channels: int, size: int) -> Codec:
    """What lies between pictures and a new network."""
    if request.vae is not None:
        inner = request.vae.path / "vae"
        vae = io.open_vae(inner if inner.is_dir() else request.vae.path)
        if vae.config.in_channels != channels:
            raise InputError(
                f"vae: {request.vae.name} is for pictures of {vae.config.in_channels} channels;"
                f" set channels={vae.config.in_channels}"
            )
        return vae
    if request.latent:
        vae = AutoencoderKL(vae_config(request.autoencoder, channels, size))
        vae.init_weights(request.training.seed)
        return vae
    return PixelCodec(request.shape.patch, channels)


def _network(
    request: Request, codec: Codec, size: int, words: Words | None, teller: Teller
) -> UNet | DiT:
    """A new network, not yet drawn."""
    context = None if words is None else words.size
    pooled = words.size if words is not None and words.pooled else None
    classes = None if teller.labels is None else len(teller.labels)
    try:
        if request.shape.network == "dit":
            return DiT(
                dit_config(
                    request.shape, codec, size, context=context, pooled=pooled, classes=classes
                )
            )
        if classes is not None:
            classes += teller.null is not None
        return UNet(
            unet_config(request.shape, codec, size, context=context, pooled=pooled, classes=classes)
        )
    except ValueError as error:
        raise InputError(f"set: {error}") from None


def _guidance(objective: Objective) -> float:
    """Of a model that was told when it is to do without a condition, and else none."""
    return objective.guidance_scale if objective.condition_dropout > 0 else 1.0


def _telling(request: Request, data: Data, device: str) -> tuple[Words | None, Teller]:
    """Of a new model: what reads captions, and what is told."""
    if request.noising.whiten_text is not None and data.told != "captions":
        raise InputError("whiten_text: is for captions, and none are told here; leave it out")
    if data.told == "captions":
        assert request.encoder is not None  # noqa: S101 - for the type
        words = words_of(request.encoder.name, request.encoder.path, request.noising, device)
        return words, Teller(Reader(words.tower))
    if data.told == "classes":
        count = len(data.classes)
        null = count if request.objective.condition_dropout > 0 else None
        return None, Teller(labels=range(count), null=null)
    return None, Teller()


def _resolved(request: Request, made: Prepared, size: int) -> dict[str, Any]:
    """The config of a run, JSON values."""

    def named(base: Base | None) -> Any:
        return None if base is None else {"name": base.name, "sha256": base.sha256}

    vae = made.codec.config.to_diffusers() if isinstance(made.codec, AutoencoderKL) else None
    tuned = request.base is not None
    return {
        "family": "diffusion",
        "data": {
            "path": str(request.data.resolve()),
            "fingerprint": made.data.fingerprint,
            "told": made.data.told,
            **asdict(request.dataset),
            "size": size,
        },
        "from": named(request.base),
        "text_encoder": named(request.encoder),
        "vae": named(request.vae),
        "network": made.net.config.to_diffusers(),
        "autoencoder": vae,
        "first_stage": asdict(request.autoencoder) if made.first_stage else None,
        "patch": None if vae is not None or tuned else request.shape.patch,
        "scheduler": made.scheduler.to_json(),
        "reading": None
        if tuned or made.data.told != "captions"
        else {
            "max_tokens": request.noising.max_tokens,
            "pooled": made.manifest.pooled,
            "whiten_text": request.noising.whiten_text,
        },
        "objective": asdict(request.objective),
        "adapters": None if request.adapters is None else asdict(request.adapters),
        "training": asdict(made.training),
    }
