"""What lies in a model's folder or file: its parts, by their configs and headers, not opened."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, NamedTuple, Self, TypeVar

import torch
from torch import nn

from vermilion.errors import ModelError
from vermilion.models.diffusion.config import UNetConfig, VAEConfig
from vermilion.models.diffusion.dit import THEIRS, DiT, DiTConfig
from vermilion.models.diffusion.manifest import Manifest
from vermilion.models.diffusion.names import (
    TEXT,
    UNET,
    VAE,
    OneEmbedding,
    Renamed,
    dit_from_diffusers,
    older_names,
    unet_to_ldm,
    vae_to_ldm,
)
from vermilion.models.diffusion.net import UNet
from vermilion.models.diffusion.pixels import PixelCodec
from vermilion.models.diffusion.scheduler_config import SchedulerConfig
from vermilion.models.diffusion.single_file import SCHEDULER, Layout
from vermilion.models.diffusion.vae import AutoencoderKL
from vermilion.models.files import TensorFiles, read_json
from vermilion.models.weights import Part, Tensors, fill, laid_out

STEM = "diffusion_pytorch_model"
INDEX = "model_index.json"

N = TypeVar("N", bound=nn.Module)
C = TypeVar("C")
Rename = Callable[[Any, Iterable[str]], dict[str, str]]
"""A config and our names → theirs."""


class TextTower(NamedTuple):
    """The text tower that belongs to a pipeline, not yet opened.

    Attributes:
        config: its config.json.
        tensors: its weights, under transformers' names.
    """

    config: Mapping[str, Any]
    tensors: Tensors


@dataclass(frozen=True, slots=True)
class Network(Generic[N]):
    """A network that can be opened.

    Attributes:
        net: laid out, without weights.
        tensors: its weights, under our names.
        where: it lies, for messages.
    """

    net: N
    tensors: Tensors
    where: str

    def opened(self, device: str, dtype: torch.dtype) -> N:
        """The network with its weights, in evaluation mode; it is opened once."""
        fill(self.net, self.tensors, self.where, device, dtype)
        return self.net.eval().requires_grad_(requires_grad=False)


@dataclass(frozen=True, slots=True)
class Parts:
    """What lies in a folder or file, described and not yet opened."""

    net: Network[UNet] | Network[DiT]
    vae: Network[AutoencoderKL] | None
    scheduler: SchedulerConfig
    manifest: Manifest
    text: TextTower | None = None
    tokenizer: Path | None = None
    safety_checker: Path | None = None

    @property
    def pixels(self) -> PixelCodec:
        """What lies between pictures and the network where there is no autoencoder."""
        return PixelCodec(self.manifest.patch, self.manifest.channels)

    def checked(self, path: Path) -> Self:
        """Itself.

        Raises:
            ModelError: the network sees other channels than the codec makes.
        """
        codec, config = self.pixels if self.vae is None else self.vae.net, self.net.net.config
        channels = codec.latent_channels
        # A network that is told a picture sees more, one that tells its variance says twice.
        out = config.out_channels or config.in_channels
        if config.in_channels < channels or out not in (channels, 2 * channels):
            raise ModelError(
                f"{path}: the network goes from {config.in_channels} channels to"
                f" {out} where there are {channels} between it and pictures;"
                " the model's files do not belong together"
            )
        return self


def in_folder(path: Path) -> Parts:
    """What a diffusers folder describes; errors as of `io.open_pipeline`."""
    index = read_json(path / INDEX)
    # A part that is there is listed with the library and the class that open it.
    listed = {
        name
        for name, value in index.items()
        if isinstance(value, list) and len(value) == 2 and value[0] is not None
    }
    net: Network[UNet] | Network[DiT]
    if "unet" in listed:
        net = unet_in(path / "unet")
    elif "transformer" in listed:
        net = dit_in(path / "transformer")
    else:
        raise ModelError(f"{path / INDEX}: there is no unet and no transformer; pull it again")
    text, checker = path / "text_encoder", path / "safety_checker"
    has_text = "text_encoder" in listed
    return Parts(
        net=net,
        vae=vae_in(path / "vae") if "vae" in listed else None,
        scheduler=SchedulerConfig.read(path / "scheduler" / "scheduler_config.json"),
        manifest=Manifest.read(path) or Manifest(channels=net.net.config.in_channels),
        text=TextTower(read_json(text / "config.json"), TensorFiles(text)) if has_text else None,
        tokenizer=path / "tokenizer" if "tokenizer" in listed else None,
        safety_checker=checker if "safety_checker" in listed and checker.is_dir() else None,
    ).checked(path)


def in_file(path: Path) -> Parts:
    """What a single file of Stable Diffusion describes; errors as of `io.open_pipeline`."""
    found = Layout(path)
    unet, vae = (Part(found.tensors, prefix) for prefix in (UNET, VAE))
    text = None if found.text is None else TextTower(found.text, Part(found.tensors, TEXT))
    beside = path.parent / "tokenizer"
    return Parts(
        net=_unet(found.unet, unet, str(path), unet_to_ldm),
        vae=_vae(found.vae, vae, str(path), vae_to_ldm),
        scheduler=SchedulerConfig.from_json(SCHEDULER),
        manifest=Manifest(),
        text=text,
        tokenizer=beside if beside.is_dir() else None,
    ).checked(path)


def unet_in(folder: Path) -> Network[UNet]:
    """What a folder with a UNet alone describes; errors as of `io.open_pipeline`."""
    config = _read(UNetConfig.from_diffusers, folder)
    return _unet(
        config, TensorFiles(folder, STEM), str(folder), lambda _, names: older_names(names)
    )


def dit_in(folder: Path) -> Network[DiT]:
    """What a folder with a DiT alone describes; errors as of `io.open_pipeline`."""
    config = _read(DiTConfig.from_diffusers, folder)
    tensors = OneEmbedding(TensorFiles(folder, STEM))
    net = laid_out(lambda: DiT(config), config.num_layers, tensors, str(folder))
    names = dit_from_diffusers(net.state_dict()) if config.class_name == THEIRS else {}
    return Network(net, Renamed(tensors, names), str(folder))


def vae_in(folder: Path) -> Network[AutoencoderKL]:
    """What a folder with an autoencoder alone describes; errors as of `io.open_pipeline`."""
    config = _read(VAEConfig.from_diffusers, folder)
    return _vae(config, TensorFiles(folder, STEM), str(folder), lambda _, names: older_names(names))


def _unet(config: UNetConfig, tensors: Tensors, where: str, rename: Rename) -> Network[UNet]:
    layers = sum(config.each_level("layers_per_block"))
    layers += sum(config.each_level("transformer_layers_per_block"))
    net = laid_out(lambda: UNet(config), layers, tensors, where)
    return Network(net, Renamed(tensors, rename(config, net.state_dict())), where)


def _vae(config: VAEConfig, tensors: Tensors, where: str, rename: Rename) -> Network[AutoencoderKL]:
    layers = config.layers_per_block * len(config.block_out_channels)
    net = laid_out(lambda: AutoencoderKL(config), layers, tensors, where)
    return Network(net, Renamed(tensors, rename(config, net.state_dict())), where)


def _read(parse: Callable[[Mapping[str, Any]], C], folder: Path) -> C:
    try:
        return parse(read_json(folder / "config.json"))
    except (ValueError, TypeError) as error:
        raise ModelError(f"{folder / 'config.json'}: {error}") from None
