"""Diffusion models in and out: diffusers' folders both ways, Stable Diffusion's single file in.

model_index.json                    which parts there are, and the class that opens them all
vermilion.json                      what diffusers cannot say, see `manifest`
unet/  or  transformer/             config.json, diffusion_pytorch_model.safetensors
vae/                                likewise; a model on pixels has none
scheduler/scheduler_config.json
text_encoder/, tokenizer/           of transformers; opened by whoever reads the prompts
safety_checker/                     likewise
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from torch import Tensor

from vermilion.models.diffusion.config import OUR_VAE, UNET_2D, UNetConfig
from vermilion.models.diffusion.dit import THEIRS, DiT, DiTConfig
from vermilion.models.diffusion.manifest import Manifest
from vermilion.models.diffusion.names import dit_to_diffusers
from vermilion.models.diffusion.net import UNet
from vermilion.models.diffusion.parts import (
    INDEX,
    STEM,
    TextTower,
    in_file,
    in_folder,
    unet_in,
    vae_in,
)
from vermilion.models.diffusion.pixels import PixelCodec
from vermilion.models.diffusion.scheduler_config import SchedulerConfig
from vermilion.models.diffusion.vae import AutoencoderKL
from vermilion.models.files import MAX_SHARD_BYTES, save_tensors, write_json, written_whole

OWN_PIPELINE = "VermilionPipeline"
"""Class that model_index.json names where diffusers has none: its parts open there one by one."""
_DIFFUSERS_VERSION = "0.31.0"  # knows every field that is written here
_SIDE = 64  # of what a network sees, where its config does not say


@dataclass(frozen=True, slots=True)
class Pipeline:
    """An opened diffusion model.

    Attributes:
        net: the network, in evaluation mode.
        codec: what lies between pictures and what the network sees.
        scheduler: along which path it was trained, and what the network says.
        manifest: what diffusers' files do not say; as left alone where there is no such file.
        text_encoder: its text tower; None: it has none, or `manifest` names it.
        tokenizer: folder of its tokenizer; None: there is none, as in a single file.
        safety_checker: folder of its checker; None: there is none.
    """

    net: UNet | DiT
    codec: AutoencoderKL | PixelCodec
    scheduler: SchedulerConfig
    manifest: Manifest
    text_encoder: TextTower | None
    tokenizer: Path | None
    safety_checker: Path | None


class Needs(NamedTuple):
    """Memory that a model takes.

    Attributes:
        parameters: numbers in all its networks.
        weights: their bytes.
        working: bytes that painting takes beside them, about.
    """

    parameters: int
    weights: int
    working: int


def open_pipeline(path: Path, device: str = "cpu", dtype: torch.dtype = torch.float32) -> Pipeline:
    """Open a diffusers folder, or a Stable Diffusion 1.x checkpoint in one safetensors file.

    Args:
        path: of the folder or the file. A folder named tokenizer may lie beside the file.
        device: where the weights go.
        dtype: of the weights.

    Raises:
        UnsafeModelError: the weights are there as a pickle.
        ModelError: a part is missing, broken, or has a field that is not supported; it names it.
    """
    parts = in_folder(path) if path.is_dir() else in_file(path)
    vae = parts.vae
    return Pipeline(
        net=parts.net.opened(device, dtype),
        codec=parts.pixels if vae is None else vae.opened(device, dtype),
        scheduler=parts.scheduler,
        manifest=parts.manifest,
        text_encoder=parts.text,
        tokenizer=parts.tokenizer,
        safety_checker=parts.safety_checker,
    )


def open_unet(folder: Path, device: str = "cpu", dtype: torch.dtype = torch.float32) -> UNet:
    """Open a folder with a UNet alone; errors as of `open_pipeline`."""
    return unet_in(folder).opened(device, dtype)


def open_vae(
    folder: Path, device: str = "cpu", dtype: torch.dtype = torch.float32
) -> AutoencoderKL:
    """Open a folder with an autoencoder alone; errors as of `open_pipeline`."""
    return vae_in(folder).opened(device, dtype)


def needs(
    path: Path,
    *,
    dtype: torch.dtype = torch.float32,
    height: int | None = None,
    width: int | None = None,
    n: int = 1,
) -> Needs:
    """What a model will take, from its configs and the headers of its files; nothing is loaded.

    Args:
        path: as of `open_pipeline`, whose errors it raises.
        dtype: of the weights.
        height: of a picture in pixels; None: as it was trained.
        width: likewise.
        n: pictures that are painted at a time, each with its unguided twin.
    """
    parts = in_folder(path) if path.is_dir() else in_file(path)
    net, vae = parts.net.net, None if parts.vae is None else parts.vae.net
    parameters = sum(weight.numel() for weight in net.parameters())
    factor = parts.pixels.factor
    if vae is not None:
        parameters += sum(weight.numel() for weight in vae.parameters())
        factor = vae.factor
    if parts.text is not None:
        tensors = parts.text.tensors
        parameters += sum(prod(tensors.shape(name)) for name in tensors.names)
    size = net.config.sample_size or _SIDE
    tall, wide = size if isinstance(size, tuple) else (size, size)
    tall = tall * factor if height is None else height
    wide = wide * factor if width is None else width
    working = net.working_bytes(2 * n, tall // factor, wide // factor)
    if vae is not None:
        working = max(working, n * vae.working_bytes(tall, wide))
    # Laid out they are float32.
    return Needs(parameters, parameters * dtype.itemsize, working * dtype.itemsize // 4)


def save_pipeline(
    folder: Path,
    *,
    net: UNet | DiT,
    codec: AutoencoderKL | PixelCodec,
    scheduler: SchedulerConfig,
    manifest: Manifest | None = None,
    texts: Mapping[str, tuple[str, Callable[[Path], None]]] = MappingProxyType({}),
    dtype: torch.dtype | None = None,
    max_shard_bytes: int = MAX_SHARD_BYTES,
) -> None:
    """Write a folder that `DiffusionPipeline.from_pretrained` opens unchanged, where it can.

    Without texts and classes, on pixels, it is a DDPMPipeline; with an autoencoder and a UNet that
    reads CLIP's text a StableDiffusionPipeline, with a DiT that knows classes a DiTPipeline. Of
    others diffusers opens the parts, but for a DiT that reads text.

    Args:
        folder: where to; made if it does not exist, else what has the same names is replaced.
        net: the network.
        codec: what lies between pictures and what it sees.
        scheduler: along which path it was trained.
        manifest: what diffusers' files do not say; its patch and channels are the codec's.
        texts: of the parts that read prompts, the name ("text_encoder", "tokenizer") → the class
            in transformers that opens it, and what writes it into a folder that exists.
        dtype: of the weights in the files, e.g. torch.float16; None: as they are.
        max_shard_bytes: most bytes in a file of weights; more of them go into further files.

    Raises:
        StorageError: the disk is full or read-only.
    """
    pixels = isinstance(codec, PixelCodec)
    kind = _pipeline_class(net.config, codec, texts)
    index: dict[str, Any] = {"_class_name": kind, "_diffusers_version": _DIFFUSERS_VERSION}
    with written_whole(folder) as staged:
        config = net.config.to_diffusers()
        name = "unet" if isinstance(net, UNet) else "transformer"
        index[name] = ["diffusers", config["_class_name"]]
        state = net.state_dict()
        if config["_class_name"] == THEIRS:
            state = dit_to_diffusers(state)
        _save(state, config, staged / name, dtype, max_shard_bytes)
        if isinstance(codec, AutoencoderKL):
            described = codec.config.to_diffusers()
            index["vae"] = ["diffusers", described["_class_name"]]
            _save(codec.state_dict(), described, staged / "vae", dtype, max_shard_bytes)
        (staged / "scheduler").mkdir()
        scheduler.write(staged / "scheduler" / "scheduler_config.json")
        index["scheduler"] = ["diffusers", scheduler.class_name]
        for name, (class_name, write) in texts.items():
            (staged / name).mkdir()
            write(staged / name)
            index[name] = ["transformers", class_name]
        if kind.startswith("StableDiffusion"):
            index |= {name: [None, None] for name in ("safety_checker", "feature_extractor")}
            index["requires_safety_checker"] = False
        if pixels or manifest is not None:
            said = manifest or Manifest()
            if isinstance(codec, PixelCodec):
                said = replace(said, patch=codec.patch, channels=codec.channels)
            said.write(staged)
        write_json(staged / INDEX, index)


def _pipeline_class(
    config: UNetConfig | DiTConfig, codec: AutoencoderKL | PixelCodec, texts: Mapping[str, Any]
) -> str:
    """The class of diffusers that opens all parts together and paints with them."""
    if isinstance(codec, AutoencoderKL) and codec.config.class_name == OUR_VAE:
        return OWN_PIPELINE
    if isinstance(config, DiTConfig):
        latent = isinstance(codec, AutoencoderKL)
        return "DiTPipeline" if latent and config.class_name == THEIRS else OWN_PIPELINE
    told = config.class_embed_type is not None or config.num_class_embeds is not None
    if isinstance(codec, PixelCodec):
        plain = config.architecture == UNET_2D and codec.patch == 1 and not (told or texts)
        return "DDPMPipeline" if plain else OWN_PIPELINE
    clip = {name: texts[name][0] for name in texts} == {
        "text_encoder": "CLIPTextModel",
        "tokenizer": "CLIPTokenizer",
    }
    if config.architecture == UNET_2D or told or not clip:
        return OWN_PIPELINE
    more = config.in_channels - config.out_channels
    return f"StableDiffusion{'Inpaint' if more else ''}Pipeline"


def _save(
    state: Mapping[str, Tensor],
    config: Mapping[str, Any],
    folder: Path,
    dtype: torch.dtype | None,
    max_shard_bytes: int,
) -> None:
    folder.mkdir()
    write_json(folder / "config.json", {**config, "_diffusers_version": _DIFFUSERS_VERSION})
    written = {name: tensor.to("cpu", dtype) for name, tensor in state.items()}
    save_tensors(written, folder, stem=STEM, max_shard_bytes=max_shard_bytes)
