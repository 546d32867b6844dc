"""Networks of diffusers with random weights, and how far ours is from them."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel, UNet2DModel
from torch import Tensor

from tests.tiny import draw_weights
from vermilion.models.diffusion.config import UNetConfig, VAEConfig
from vermilion.models.diffusion.net import UNet
from vermilion.models.diffusion.vae import AutoencoderKL as OurAutoencoderKL

SMALL: dict[str, Any] = {"block_out_channels": (16, 32), "norm_num_groups": 8, "sample_size": 8}
TEXT: dict[str, Any] = {
    **SMALL,
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    "cross_attention_dim": 12,
    "attention_head_dim": 4,
}
PLAIN: dict[str, Any] = {
    **SMALL,
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
    "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
    "attention_head_dim": 8,
}


def their_unet(kind: type, seed: int = 0, **fields: Any) -> Any:
    """A UNet of diffusers in evaluation mode, whose every weight matters."""
    net = kind(**fields).eval()
    draw_weights(net, seed)
    return net


def our_unet(theirs: UNet2DModel | UNet2DConditionModel) -> UNet:
    """Ours, by their config and with their weights."""
    config = {"_class_name": type(theirs).__name__, **theirs.config}
    net = UNet(UNetConfig.from_diffusers(config)).eval()
    net.load_state_dict(theirs.state_dict())  # strict: the names are the same, and all of them
    return net


def noise(*shape: int, seed: int = 1) -> Tensor:
    """Numbers of a normal distribution."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def distance(ours: Tensor, theirs: Tensor) -> float:
    """The largest difference, in units of the largest number."""
    assert ours.shape == theirs.shape
    return float((ours - theirs).abs().max() / theirs.abs().max())


VAE: dict[str, Any] = {
    "block_out_channels": (8, 16, 16),
    "down_block_types": 3 * ("DownEncoderBlock2D",),
    "up_block_types": 3 * ("UpDecoderBlock2D",),
    "norm_num_groups": 4,
    "sample_size": 32,
    "latent_channels": 4,
}


def their_vae(seed: int = 0, **fields: Any) -> AutoencoderKL:
    """An autoencoder of diffusers in evaluation mode, whose every weight matters."""
    net = AutoencoderKL(**{**VAE, **fields}).eval()
    draw_weights(net, seed)
    return net


def our_vae(theirs: AutoencoderKL) -> OurAutoencoderKL:
    """Ours, by their config and with their weights."""
    config = {"_class_name": "AutoencoderKL", **theirs.config}
    net = OurAutoencoderKL(VAEConfig.from_diffusers(config)).eval()
    net.load_state_dict(theirs.state_dict())
    return net
