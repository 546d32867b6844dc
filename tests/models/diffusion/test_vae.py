"""The autoencoder against diffusers, whole, sliced and in tiles; pixels as latents."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL
from torch.nn import functional as F

from tests.models.diffusion.reference import distance, noise, our_vae, their_vae
from vermilion.models.diffusion.config import VAEConfig
from vermilion.models.diffusion.pixels import PixelCodec
from vermilion.models.diffusion.vae import AutoencoderKL as OurAutoencoderKL
from vermilion.models.diffusion.vae import Gaussian


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"layers_per_block": 2},
        {"use_quant_conv": False, "use_post_quant_conv": False},
        {"mid_block_add_attention": False},
        {"in_channels": 4, "out_channels": 4, "latent_channels": 8},
    ],
    ids=lambda fields: "-".join(fields) or "plain",
)
def test_encode_and_decode(fields: dict[str, Any]) -> None:
    theirs = their_vae(**fields)
    ours = our_vae(theirs)
    x = noise(2, theirs.config.in_channels, 16, 24)
    z = noise(2, theirs.config.latent_channels, 4, 6)
    with torch.no_grad():
        found, wanted = ours.encode(x), theirs.encode(x).latent_dist
        assert distance(found.mean, wanted.mean) < 1e-5
        assert distance(found.logvar, wanted.logvar) < 1e-5
        assert distance(ours.decode(z), theirs.decode(z).sample) < 1e-5
        assert distance(ours.decode(z[:1]), ours.decode(z)[:1]) < 1e-5
    assert ours.factor == 4
    assert ours.latent_channels == theirs.config.latent_channels


def test_squares_of_pixels_are_a_vae_of_diffusers_on_channels() -> None:
    """With patch_size it is AutoencoderKL of pictures whose squares became channels."""
    theirs = their_vae(in_channels=16, out_channels=16)
    plain = our_vae(theirs)
    config = replace(plain.config, in_channels=4, out_channels=4, patch_size=2)
    ours = OurAutoencoderKL(config).eval()
    ours.load_state_dict(plain.state_dict())
    x = noise(2, 4, 32, 48)
    with torch.no_grad():
        found = ours.encode(x)
        wanted = theirs.encode(F.pixel_unshuffle(x, 2)).latent_dist
        assert distance(found.mean, wanted.mean) < 1e-5
        back = F.pixel_shuffle(theirs.decode(wanted.mean).sample, 2)
        assert distance(ours.decode(wanted.mean), back) < 1e-5
    assert ours.factor == 8
    said = config.to_diffusers()
    assert said["_class_name"] == "VermilionAutoencoderKL"
    assert VAEConfig.from_diffusers(said) == config
    with pytest.raises(ValueError, match="patch_size: this field is not supported"):
        VAEConfig.from_diffusers({**said, "_class_name": "AutoencoderKL"})


def test_the_distribution() -> None:
    theirs = their_vae()
    x, drawn = noise(2, 3, 16, 16), noise(2, 4, 4, 4)
    with torch.no_grad():
        found, wanted = our_vae(theirs).encode(x), theirs.encode(x).latent_dist
    assert distance(found.sample(drawn), wanted.mean + wanted.std * drawn) < 1e-5
    assert distance(found.kl(), wanted.kl()) < 1e-5
    still = Gaussian(torch.zeros(1, 4, 2, 2), torch.zeros(1, 4, 2, 2))
    assert still.kl().item() == 0


@pytest.mark.parametrize("shift", [None, 0.3])
def test_latents_are_shifted_and_scaled(shift: float | None) -> None:
    theirs = their_vae(scaling_factor=0.5, shift_factor=shift)
    ours = our_vae(theirs)
    x, drawn = noise(1, 3, 16, 16), noise(1, 4, 4, 4)
    with torch.no_grad():
        wanted = theirs.encode(x).latent_dist
        z = ours.to_latents(x)
        assert distance(z, (wanted.mean - (shift or 0)) * 0.5) < 1e-5
        sampled = (wanted.mean + wanted.std * drawn - (shift or 0)) * 0.5
        assert distance(ours.to_latents(x, drawn), sampled) < 1e-5
        assert distance(ours.to_pictures(z), theirs.decode(z / 0.5 + (shift or 0)).sample) < 1e-5


@pytest.mark.parametrize(("height", "width"), [(80, 64), (36, 100), (32, 48), (32, 32)])
def test_tiles_are_those_of_diffusers(height: int, width: int) -> None:
    theirs = their_vae()
    ours = our_vae(theirs)
    theirs.enable_tiling()
    ours.use_tiling = True
    x, z = noise(1, 3, height, width), noise(1, 4, height // 4, width // 4)
    with torch.no_grad():
        assert distance(ours.encode(x).mean, theirs.encode(x).latent_dist.mean) < 1e-5
        tiled = ours.decode(z)
        assert distance(tiled, theirs.decode(z).sample) < 1e-5
        ours.use_tiling = False
        whole = ours.decode(z)
    assert tiled.shape == whole.shape == (1, 3, height, width)
    assert torch.equal(tiled, whole) == (max(height, width) <= 32)


def test_slices_change_nothing() -> None:
    ours = our_vae(their_vae())
    x, z = noise(3, 3, 16, 16), noise(3, 4, 4, 4)
    with torch.no_grad():
        mean, picture = ours.encode(x).mean, ours.decode(z)
        ours.use_slicing = True
        assert distance(ours.encode(x).mean, mean) < 1e-5
        assert distance(ours.decode(z), picture) < 1e-5


def test_gradients_are_those_of_diffusers() -> None:
    theirs: AutoencoderKL = their_vae()
    ours = our_vae(theirs)
    x, drawn = noise(2, 3, 16, 16), noise(2, 4, 4, 4)
    wanted = theirs.encode(x).latent_dist
    remade = theirs.decode(wanted.mean + wanted.std * drawn).sample
    ((remade - x).square().mean() + 0.01 * wanted.kl().mean()).backward()
    found = ours.encode(x)
    again = ours.decode(found.sample(drawn))
    ((again - x).square().mean() + 0.01 * found.kl().mean()).backward()
    expected = dict(theirs.named_parameters())
    for name, weight in ours.named_parameters():
        assert weight.grad is not None, name
        largest = expected[name].grad.abs().max()
        assert (weight.grad - expected[name].grad).abs().max() < 1e-4 * largest + 1e-7, name


@pytest.mark.parametrize("patch", [1, 2, 4])
def test_pixels(patch: int) -> None:
    codec, x = PixelCodec(patch, channels=4), noise(2, 4, 8, 12)
    z = codec.to_latents(x)
    assert z.shape == (2, codec.latent_channels, 8 // codec.factor, 12 // codec.factor)
    assert torch.equal(codec.to_pictures(z), x)
    assert torch.equal(
        z[1, :, 1, 2].view(4, patch, patch), x[1, :, patch : 2 * patch][:, :, 2 * patch : 3 * patch]
    )


@pytest.mark.parametrize("patch", [0, -1, 1.5, True])
def test_a_patch_that_cannot_be(patch: Any) -> None:
    with pytest.raises(ValueError, match="patch: must be a whole number above 0"):
        PixelCodec(patch)
