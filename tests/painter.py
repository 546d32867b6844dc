"""A tiny model of stickers with random weights: a pixel UNet that reads a tiny BERT's vectors."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from tests.tiny import tiny_encoder_folder
from vermilion.models.diffusion.config import UNetConfig
from vermilion.models.diffusion.io import save_pipeline
from vermilion.models.diffusion.manifest import Manifest
from vermilion.models.diffusion.net import UNet
from vermilion.models.diffusion.pixels import PixelCodec
from vermilion.models.diffusion.scheduler_config import SchedulerConfig
from vermilion.runtime.cards import Card
from vermilion.runtime.store import Store

SIDE = 64
STEPS = 4
ENCODER = "toy-encoder"
_NET = {
    "_class_name": "UNet2DConditionModel",
    "block_out_channels": [8, 16],
    "norm_num_groups": 4,
    "layers_per_block": 1,
    "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D"],
    "up_block_types": ["CrossAttnUpBlock2D", "UpBlock2D"],
    "mid_block_type": "UNetMidBlock2DCrossAttn",
    "attention_head_dim": 2,
    "cross_attention_dim": 32,
    "class_embed_type": "simple_projection",
    "projection_class_embeddings_input_dim": 32,
}


def write(folder: Path) -> Path:
    """Write the model into `folder`/painter and what reads its prompts into `folder`/encoder."""
    manifest = Manifest(
        patch=4,
        channels=4,
        text_encoder=ENCODER,
        max_tokens=8,
        pooled=True,
        num_inference_steps=STEPS,
        guidance_scale=3.0,
    )
    codec = PixelCodec(manifest.patch, manifest.channels)
    sides = {
        "sample_size": SIDE // manifest.patch,
        "in_channels": codec.latent_channels,
        "out_channels": codec.latent_channels,
    }
    net = UNet(UNetConfig.from_diffusers({**_NET, **sides}))
    draw = torch.Generator().manual_seed(0)
    for weight in net.parameters():
        weight.data.normal_(0, 0.2, generator=draw)
    # Along the path of rectified flow, as the models that are trained here.
    scheduler = SchedulerConfig.rectified_flow()
    save_pipeline(folder / "painter", net=net, codec=codec, scheduler=scheduler, manifest=manifest)
    tiny_encoder_folder(folder / "encoder")
    return folder


def install(home: Path, folder: Path, name: str = "stickers", **facts: Any) -> None:
    """Put what `write` wrote into the store of a home folder.

    Args:
        home: the home folder.
        folder: that of `write`.
        name: of the model.
        facts: fields of its card that are to differ.
    """
    store = Store(home / "models")
    if not (home / "models" / ENCODER).exists():
        store.publish(folder / "encoder", _card(ENCODER, "embedding", "encoder"))
    store.publish(folder / "painter", _card("toy-painter", "picture", "diffusion", **facts))
    take_the_place(store, "toy-painter", name)


def take_the_place(store: Store, toy: str, name: str) -> None:
    """Give a model of a test the name of one that ships: a renamed folder is a renamed model."""
    shutil.rmtree(store.models_dir / name, ignore_errors=True)
    (store.models_dir / toy).rename(store.models_dir / name)


def _card(name: str, kind: str, family: str, **facts: Any) -> Card:
    usual: Mapping[str, Any] = {"licence": "Apache-2.0", "languages": ("en",)}
    return Card(name=name, kind=kind, family=family, source="trained here", **{**usual, **facts})
