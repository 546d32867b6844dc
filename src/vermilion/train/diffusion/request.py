"""What a person asks for, and all that a run of it is made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vermilion.data.pictures import Pictures
from vermilion.models.diffusion.dit import DiT
from vermilion.models.diffusion.manifest import Manifest
from vermilion.models.diffusion.net import UNet
from vermilion.models.diffusion.pixels import PixelCodec
from vermilion.models.diffusion.scheduler_config import SchedulerConfig
from vermilion.models.diffusion.vae import AutoencoderKL
from vermilion.train.diffusion.dataset import Data, Told
from vermilion.train.diffusion.latents import Latents
from vermilion.train.diffusion.options import (
    Adapters,
    Autoencoder,
    Dataset,
    Noising,
    Objective,
    Shape,
)
from vermilion.train.diffusion.task import DiffusionTask, Teller
from vermilion.train.options import Training
from vermilion.train.run import Base

Codec = AutoencoderKL | PixelCodec


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

    net: UNet | DiT
    codec: Codec
    first_stage: bool
    scheduler: SchedulerConfig
    data: Data
    teller: Teller
    manifest: Manifest
    texts: Mapping[str, tuple[str, Callable[[Path], None]]] = field(default_factory=dict)
    training: Training
    config: dict[str, Any]

    def task(
        self,
        objective: Objective,
        device: Any,
        latents: Latents | None = None,
        held: Latents | None = None,
    ) -> DiffusionTask:
        """The task, with all networks on a device.

        Args:
            objective: what is minimised.
            device: where.
            latents: of what is trained on; None: it is encoded at every step.
            held: of what is held back, likewise.
        """
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
            latents,
            held,
        )
