"""A model that exists, as a run trains it on: with its own path and its own way of reading."""

from __future__ import annotations

from vermilion.errors import InputError
from vermilion.models.diffusion import io
from vermilion.models.diffusion.dit import DiT
from vermilion.models.diffusion.manifest import Manifest
from vermilion.models.diffusion.net import UNet
from vermilion.models.diffusion.pixels import PixelCodec
from vermilion.train.diffusion.dataset import Data
from vermilion.train.diffusion.lora import adapt
from vermilion.train.diffusion.request import Prepared, Request
from vermilion.train.diffusion.task import Teller
from vermilion.train.diffusion.towers import words_in
from vermilion.train.diffusion.words import Reader
from vermilion.train.run import Base

SIZE = 64
"""Side of pictures in px where nothing says another."""


def opened(base: Base) -> io.Pipeline:
    """The model that is trained on.

    Raises:
        InputError: it is of a kind that cannot be.
        ModelError: it is broken.
    """
    found = io.open_pipeline(base.path)
    config, channels = found.net.config, found.codec.latent_channels
    if (config.in_channels, config.out_channels or config.in_channels) != (channels, channels):
        raise InputError(
            f"from: {base.name} is told a picture or says its variance; such models cannot be"
            " trained on, name another"
        )
    return found


def side_of(found: io.Pipeline) -> int:
    """Side of the pictures that a model was trained on, in px."""
    side = found.net.config.sample_size or SIZE
    return (min(side) if isinstance(side, tuple) else side) * found.codec.factor


def tuned(request: Request, found: io.Pipeline, data: Data, device: str) -> Prepared:
    """A run that trains a model on.

    Args:
        request: what is asked for.
        found: the model.
        data: the pictures.
        device: where captions are read.

    Raises:
        InputError: the data do not suit the model.
        ModelError: a part of it is broken.
    """
    base, manifest = request.base, found.manifest
    assert base is not None  # noqa: S101 - for the type
    channels = _channels(found)
    if request.dataset.channels != channels:
        raise InputError(f"channels: {base.name} is for {channels}; set channels={channels}")
    words, teller, net = None, Teller(), found.net
    if found.text_encoder is not None or manifest.text_encoder:
        if data.told != "captions":
            raise InputError(f"text: {base.name} reads captions; give them with --text")
        encoder = None if request.encoder is None else request.encoder.path
        words = words_in(found, base.path, encoder, device)
        teller = Teller(Reader(words.tower))
    elif _knows_classes(net):
        teller = Teller(labels=_known(base, manifest, data), null=_null(net, manifest))
    elif data.told == "classes":
        raise InputError(f"classes: {base.name} knows none; leave --classes out")
    net.train()
    if request.adapters is None:
        net.requires_grad_(requires_grad=True)
    else:
        adapt(net, request.adapters, request.training.seed)
    return Prepared(
        net=net,
        codec=found.codec,
        first_stage=False,
        scheduler=found.scheduler,
        data=data,
        teller=teller,
        manifest=manifest,
        texts={} if words is None else words.parts,
        training=request.training,
        config={},
    )


def _channels(found: io.Pipeline) -> int:
    codec = found.codec
    return codec.channels if isinstance(codec, PixelCodec) else codec.config.in_channels


def _knows_classes(net: UNet | DiT) -> bool:
    if isinstance(net, DiT):
        return net.config.num_embeds_ada_norm is not None
    return net.config.num_class_embeds is not None


def _null(net: UNet | DiT, manifest: Manifest) -> int | None:
    """The label that stands for none; of a DiT always the last."""
    if manifest.null_class is None and isinstance(net, DiT):
        return net.config.num_embeds_ada_norm
    return manifest.null_class


def _known(base: Base, manifest: Manifest, data: Data) -> list[int]:
    """The network's label of each class of the data."""
    if data.told != "classes":
        raise InputError(f"classes: {base.name} is told classes; add --classes")
    strange = [name for name in data.classes if name not in manifest.classes]
    if strange:
        raise InputError(
            f"classes: {base.name} knows no {strange[0]!r}; it knows"
            f" {', '.join(manifest.classes[:20])}"
        )
    return [manifest.classes.index(name) for name in data.classes]
