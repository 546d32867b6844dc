"""Stable Diffusion 1.5 at its full size, 943 million random weights, against diffusers.

Both networks read the same memory, so that it takes 4 GB; small pictures keep it within seconds.
"""

from __future__ import annotations

import math

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import nn

from tests.models.diffusion.reference import distance, noise
from tests.models.diffusion.test_single_file import SD_UNET, SD_VAE
from vermilion.models.diffusion.config import UNetConfig, VAEConfig
from vermilion.models.diffusion.net import UNet
from vermilion.models.diffusion.vae import AutoencoderKL as OurAutoencoderKL


def fill_both(ours: nn.Module, theirs: nn.Module) -> None:
    """Weights as large as trained ones, cut from one long row of random numbers."""
    pool, at, state = noise(40_000_007), 0, {}
    for name, layout in theirs.state_dict().items():
        size = layout.numel()
        at = 0 if at + size > len(pool) else at
        weight = pool[at : at + size].reshape(layout.shape)
        at += size
        if layout.dim() == 1:
            state[name] = weight * 0.1 + ("norm" in name and name.endswith("weight"))
        else:
            state[name] = weight / math.sqrt(layout[0].numel())
    for net in (ours, theirs):
        net.load_state_dict(state, assign=True)
        net.eval().requires_grad_(requires_grad=False)


def test_unet() -> None:
    with torch.device("meta"):
        ours = UNet(UNetConfig.from_diffusers(SD_UNET))
        theirs = UNet2DConditionModel.from_config(SD_UNET)
    fill_both(ours, theirs)
    x, t, c = noise(2, 4, 16, 16), torch.tensor([981, 20]), noise(2, 77, 768)
    with torch.no_grad():
        found, wanted = ours(x, t, c), theirs(x, t, c).sample
        assert distance(found, wanted) < 1e-4
    assert found.std() > 0.05
    assert (found[0] - found[1]).std() > 0.05


def test_autoencoder() -> None:
    with torch.device("meta"):
        ours = OurAutoencoderKL(VAEConfig.from_diffusers(SD_VAE))
        theirs = AutoencoderKL.from_config(SD_VAE)
    fill_both(ours, theirs)
    x, z = noise(1, 3, 64, 96), noise(1, 4, 8, 12)
    with torch.no_grad():
        found, wanted = ours.encode(x), theirs.encode(x).latent_dist
        assert distance(found.mean, wanted.mean) < 1e-4
        assert distance(found.logvar, wanted.logvar) < 1e-4
        picture = ours.decode(z)
        assert distance(picture, theirs.decode(z).sample) < 1e-4
    assert picture.std() > 0.05
