"""From what a person asks for to a network, a codec, a path, and what the network is told."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from vermilion.data.pictures import Pictures
from vermilion.errors import InputError
from vermilion.models.diffusion import io
from vermilion.models.diffusion.config import UNetConfig
from vermilion.models.diffusion.manifest import Manifest
from vermilion.models.diffusion.net import UNet
from vermilion.models.diffusion.pixels import PixelCodec
from vermilion.models.diffusion.scheduler_config import SchedulerConfig
from vermilion.models.diffusion.vae import AutoencoderKL
from vermilion.train.diffusion.dataset import Data, OnPicture, Told, decode
from vermilion.train.diffusion.lora import adapt
from vermilion.train.diffusion.networks import (
    check_sides,
    scheduler_config,
    unet_config,
    vae_config,
)
from vermilion.train.diffusion.options import (
    Adapters,
    Autoencoder,
    Dataset,
    Noising,
    Objective,
    Shape,
)
from vermilion.train.diffusion.task import DiffusionTask, Teller
from vermilion.train.diffusion.towers import Words, words_in, words_of
from vermilion.train.diffusion.words import Reader
from vermilion.train.options import Training
from vermilion.train.run import Base

Codec = AutoencoderKL | PixelCodec
_SIZE = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a person asks for.

    Attributes:
        data: file or folder.
        pictures: what there is, see `dataset.look`.
        told: likewise.
        base: the model that is trained on; None: a new one.
        latent: whether a new model works on latents.
        vae: model that has the autoencoder for that; None: it is trained first.
        encoder: what reads captions; None: none are read.
        adapters: LoRA, where that is wanted; None: all weights are trained.
        shape: of a new network.
        dataset: how files become pictures.
        noising: path of a new model.
        objective: what is minimised.
        autoencoder: of a new autoencoder.
        training: how it is trained.
    """

    data: Path
    pictures: Pictures
    told: Told
    base: Base | None = None
    latent: bool = False
    vae: Base | None = None
    encoder: Base | None = None
    adapters: Adapters | None = None
    shape: Shape
    dataset: Dataset
    noising: Noising
    objective: Objective
    autoencoder: Autoencoder
    training: Training


@dataclass(slots=True, kw_only=True)
class Prepared:
    """All that a run is made of.

    Attributes:
        net: with its first weights.
        codec: what lies between pictures and it.
        first_stage: whether the codec is an autoencoder that is still to be trained.
        scheduler: the path.
        data: the pictures.
        teller: what the network is told.
        manifest: what is written of it beside diffusers' files.
        texts: the parts that read captions, as `io.save_pipeline` takes them.
        training: with max_steps settled.
        config: the resolved config, JSON values; with it a run is taken up again.
    """

    net: UNet
    codec: Codec
    first_stage: bool
    scheduler: SchedulerConfig
    data: Data
    teller: Teller
    manifest: Manifest
    texts: Mapping[str, tuple[str, Callable[[Path], None]]] = field(default_factory=dict)
    training: Training
    config: dict[str, Any]

    def task(self, objective: Objective, device: Any) -> DiffusionTask:
        """The task, with all networks on a device."""
        if isinstance(self.codec, AutoencoderKL):
            self.codec.to(device).eval().requires_grad_(requires_grad=False)
        return DiffusionTask(
            self.net.to(device),
            self.codec,
            self.scheduler,
            self.data.train,
            self.data.validation,
            self.teller,
            objective,
            self.training.seed,
        )


def prepare(
    request: Request, cache: Path, device: str, on_picture: OnPicture | None = None
) -> Prepared:
    """Decode the pictures, or find them in the cache, and make or open the networks.

    Args:
        request: what is asked for.
        cache: folder of all caches.
        device: where captions are read.
        on_picture: told how many pictures are decoded, and of how many.

    Raises:
        InputError: data or sizes that cannot be used.
        ModelError: a model is broken.
        StorageError: there is no room.
    """
    found = None if request.base is None else _opened(request.base)
    size = request.dataset.size or (_SIZE if found is None else _side(found))
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
        _new(request, data, size, device) if found is None else _tuned(request, found, data, device)
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
    codec: Codec = PixelCodec(request.shape.patch, channels)
    if request.vae is not None:
        inner = request.vae.path / "vae"
        codec = io.open_vae(inner if inner.is_dir() else request.vae.path)
        if codec.config.in_channels != channels:
            raise InputError(
                f"vae: {request.vae.name} is for pictures of {codec.config.in_channels} channels;"
                f" set channels={codec.config.in_channels}"
            )
    elif request.latent:
        codec = AutoencoderKL(vae_config(request.autoencoder, channels, size))
        codec.init_weights(seed)
    words, teller, classes, null = _telling(request, data, device)
    config = unet_config(
        request.shape,
        codec,
        size,
        context=None if words is None else words.size,
        pooled=words.size if words is not None and words.pooled else None,
        classes=classes or None,
    )
    try:
        net = UNet(config)
    except ValueError as error:
        raise InputError(f"set: {error}") from None
    net.init_weights(seed)
    manifest = Manifest(
        text_encoder="" if words is None else words.name,
        max_tokens=request.noising.max_tokens,
        pooled=words is not None and words.pooled,
        classes=data.classes if classes else (),
        null_class=null,
        num_inference_steps=request.objective.num_inference_steps,
        guidance_scale=_guidance(request.objective) if teller.guides else None,
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


def _guidance(objective: Objective) -> float:
    """Of a model that was told when it is to do without a condition, and else none."""
    return objective.guidance_scale if objective.condition_dropout > 0 else 1.0


def _telling(
    request: Request, data: Data, device: str
) -> tuple[Words | None, Teller, int, int | None]:
    """Of a new model: what reads captions, what is told, how many labels, and which is none."""
    if data.told == "captions":
        assert request.encoder is not None  # noqa: S101 - for the type
        words = words_of(request.encoder.name, request.encoder.path, request.noising, device)
        return words, Teller(Reader(words.tower)), 0, None
    if data.told == "classes":
        count = len(data.classes)
        null = count if request.objective.condition_dropout > 0 else None
        return None, Teller(labels=range(count), null=null), count + (null is not None), null
    return None, Teller(), 0, None


def _opened(base: Base) -> io.Pipeline:
    """The model that is trained on."""
    found = io.open_pipeline(base.path)
    net, codec = found.net, found.codec
    if not isinstance(net, UNet):
        raise InputError(f"from: {base.name} is no UNet, and others cannot be trained on")
    config: UNetConfig = net.config
    if config.in_channels != codec.latent_channels or config.out_channels != config.in_channels:
        raise InputError(
            f"from: {base.name} is told a picture or says its variance; such models cannot be"
            " trained on, name another"
        )
    return found


def _side(found: io.Pipeline) -> int:
    """Side of the pictures that a model was trained on, in px."""
    side = found.net.config.sample_size or _SIZE
    return (min(side) if isinstance(side, tuple) else side) * found.codec.factor


def _tuned(request: Request, found: io.Pipeline, data: Data, device: str) -> Prepared:
    """A model that is trained on, with its own path and its own way of reading."""
    base, manifest = request.base, found.manifest
    assert base is not None  # noqa: S101 - for the type
    assert isinstance(found.net, UNet)  # noqa: S101 - `_opened` has seen to it
    channels = _channels(found)
    if request.dataset.channels != channels:
        raise InputError(f"channels: {base.name} is for {channels}; set channels={channels}")
    words, teller = None, Teller()
    if found.text_encoder is not None or manifest.text_encoder:
        if data.told != "captions":
            raise InputError(f"text: {base.name} reads captions; give them with --text")
        encoder = None if request.encoder is None else request.encoder.path
        words = words_in(found, base.path, encoder, device)
        teller = Teller(Reader(words.tower))
    elif found.net.config.num_class_embeds is not None:
        teller = Teller(labels=_known(base, manifest, data), null=manifest.null_class)
    elif data.told == "classes":
        raise InputError(f"classes: {base.name} knows none; leave --classes out")
    net = found.net.train()
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
        else {"max_tokens": request.noising.max_tokens, "pooled": made.manifest.pooled},
        "objective": asdict(request.objective),
        "adapters": None if request.adapters is None else asdict(request.adapters),
        "training": asdict(made.training),
    }
