"""Latents that are kept are those encoded anew; and what autoencoders are trained for."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

import vermilion as vm
from tests.train.pictures import DIT, disc, discs
from tests.train.runs import column, weights
from vermilion.data.pictures import Batches, Cache, CacheSettings, Decoding, read, to_float
from vermilion.errors import ModelError
from vermilion.models.diffusion import io
from vermilion.models.diffusion.config import VAEConfig
from vermilion.models.diffusion.vae import AutoencoderKL
from vermilion.train.diffusion import latents as module
from vermilion.train.diffusion.autoencoder import AutoencoderTask, Seen, scaled
from vermilion.train.diffusion.latents import encoded, latents_of, open_latents
from vermilion.train.diffusion.options import Autoencoder

VAE: dict[str, Any] = {
    "vae_block_out_channels": "8,16", "vae_norm_num_groups": 4, "vae_steps": 3,
}  # fmt: skip


def tiny_vae(**fields: Any) -> AutoencoderKL:
    config = VAEConfig(
        in_channels=3, out_channels=3, down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2, block_out_channels=(8, 16), norm_num_groups=4,
        scaling_factor=0.7, shift_factor=0.2, **fields,
    )  # fmt: skip
    vae = AutoencoderKL(config).eval()
    vae.init_weights(1)
    return vae


def opened(folder: Path, **how: Any) -> Batches:
    """Discs of two shapes."""
    pictures = discs(folder / "discs", 11)
    for number in range(5):
        wide = Image.fromarray(disc(number, (9, 200, 30), 32)).resize((32, 16))
        wide.save(pictures / "red" / f"wide-{number}.png")
    settings = CacheSettings(size=16, buckets=True, step=4)
    cache = Cache.open(read(pictures, how=Decoding()), settings, folder / "cache")
    assert len(cache.shapes) > 1
    return Batches(cache, 4, seed=3, **how)


@pytest.mark.parametrize("drawn", [True, False])
@pytest.mark.parametrize("flip", [True, False])
def test_what_is_kept_is_what_is_encoded(drawn: bool, flip: bool, tmp_path: Path) -> None:
    data, vae, told = opened(tmp_path, flip=flip), tiny_vae(), list[tuple[int, int]]()
    kept = open_latents(
        data, vae, tmp_path / "z", "train", drawn=drawn, on_latent=lambda *n: told.append(n)
    )
    count = len(data.cache)
    assert told == [(number, count) for number in range(1, count + 1)]
    mirrored = 0
    for step in range(8):
        found = data.batch(4 * step, 4)
        mirrored += int(found.mirrored.sum())
        pixels = torch.from_numpy(to_float(found.pixels))
        wanted = encoded(vae, pixels, drawn=drawn)
        assert torch.equal(kept.take(found.items, found.mirrored), wanted)
        noise = torch.randn(len(pixels), *vae.encode(pixels).mean.shape[1:]) if drawn else None
        with torch.no_grad():
            plain = vae.to_latents(pixels, noise)
        torch.testing.assert_close(latents_of(wanted, noise), plain, rtol=2e-3, atol=2e-3)
    assert (mirrored > 0) == flip


def test_encoding_goes_on_where_it_was_and_begins_anew_with_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, vae, folder = opened(tmp_path), tiny_vae(), tmp_path / "z"
    monkeypatch.setattr(module, "_SAVE_SECONDS", 0.0)

    def broken_off(number: int, count: int) -> None:
        if number == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        open_latents(data, vae, folder, "train", drawn=True, on_latent=broken_off)
    told: list[int] = []

    def again(model: AutoencoderKL = vae, drawn: bool = True, data: Batches = data) -> list[int]:
        told.clear()
        open_latents(
            data, model, folder, "train", drawn=drawn, on_latent=lambda n, _: told.append(n)
        )
        return told

    count = len(data.cache)
    assert again() == list(range(6, count + 1))  # the fifth was the last that was written down
    kept = [path.read_bytes() for path in sorted(folder.glob("*.bin"))]
    assert again() == []
    whole = open_latents(data, vae, tmp_path / "other", "train", drawn=True)
    assert kept == [path.read_bytes() for path in sorted((tmp_path / "other").glob("*.bin"))]
    del whole
    other = tiny_vae()
    with torch.no_grad():
        other.encoder.conv_in.weight[0, 0, 0, 0] += 1e-3
    assert len(again(other)) == count
    assert len(again(other, drawn=False)) == count
    scaled_anew = tiny_vae()
    scaled_anew.config = replace(vae.config, scaling_factor=0.5)
    assert len(again(scaled_anew)) == count
    assert len(again(scaled_anew, data=Batches(data.cache, 4, seed=3, flip=True))) == count
    (first, *_) = sorted(folder.glob("*.bin"))
    os.truncate(first, 10)
    assert len(again(scaled_anew)) == count
    with torch.no_grad():
        other.encoder.conv_out.bias += 1e6
    with pytest.raises(ModelError, match="too large for float16"):
        again(other)


@pytest.mark.parametrize("drawn", [True, False])
def test_a_run_with_kept_latents_is_one_without(drawn: bool, home: Path, tmp_path: Path) -> None:
    pictures = discs(tmp_path / "discs")
    settings = {**DIT, **VAE, "max_steps": 6, "eval_steps": 3, "flip": True, "latent_sample": drawn}
    told: list[tuple[int, int, str]] = []
    for name, kept in (("kept", True), ("anew", False)):
        vm.train_diffusion(
            pictures, name=name, text="none", latent=True,
            settings=settings | {"cache_latents": kept},
            on_picture=lambda *progress: told.append(progress),
        )  # fmt: skip
    assert (home / "runs" / "kept" / "latents" / "train.json").exists()
    assert (home / "runs" / "kept" / "latents" / "validation.json").exists()
    assert not (home / "runs" / "anew" / "latents").exists()
    one, two = weights("kept", home), weights("anew", home)
    assert all(torch.equal(one[key], two[key]) for key in one)
    for heading in ("loss", "validation_loss", "loss_10"):
        assert column("kept", home, heading) == column("anew", home, heading)
    assert {what for _, _, what in told} == {"pictures", "latents"}


def _picture_terms(said: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Absolute error, of edges, and of 4x4 means, as a batch of one has them."""
    edges = sum((said.diff(dim=d) - x.diff(dim=d)).abs().mean() for d in (2, 3))
    coarse = (F.avg_pool2d(said, 4) - F.avg_pool2d(x, 4)).abs().mean()
    return (said - x).abs().mean() + 0.7 * edges + 0.5 * coarse


def test_the_terms_of_an_autoencoder(tmp_path: Path) -> None:
    vae, data = tiny_vae(), opened(tmp_path)
    options = Autoencoder(edge_weight=0.7, coarse_weight=0.5, kl_weight=0.01)
    task = AutoencoderTask(vae, data, None, options, seed=0)
    x, noise = torch.rand(3, 3, 16, 16) * 2 - 1, torch.randn(3, 4, 8, 8)
    more = 0.3 * torch.randn(3, 4, 8, 8)
    with torch.no_grad():
        found = task.loss(task.model, Seen(x, noise, more, 0))
        wanted = torch.zeros(())
        for one, drawn, added in zip(x.split(1), noise.split(1), more.split(1), strict=True):
            said = vae.encode(one)
            z = said.mean + (0.5 * said.logvar).exp() * drawn
            wanted += _picture_terms(vae.decode(z + z.std() * added), one)
            nats = (said.mean**2 + said.logvar.exp() - 1 - said.logvar) / 2
            wanted += 0.01 * nats.mean()
    torch.testing.assert_close(found, wanted)


def test_noise_of_latents_has_deviations_from_0_to_the_most(tmp_path: Path) -> None:
    vae, data = tiny_vae(), opened(tmp_path)
    cpu = torch.device("cpu")
    plain = AutoencoderTask(vae, data, None, Autoencoder(), seed=0).batch(4, 4, cpu)
    task = AutoencoderTask(vae, data, None, Autoencoder(latent_noise=0.5), seed=0)
    first = task.batch(4, 4, cpu)
    assert plain.more is None
    assert plain.noise is not None
    assert first.noise is not None
    assert torch.equal(plain.noise, first.noise)
    many = [task.batch(4 * n, 4, cpu).more for n in range(100)]
    deviations = torch.cat([one.std(dim=(1, 2, 3)) for one in many if one is not None])
    assert len(deviations) == 400
    assert float(deviations.max()) < 0.5 * 1.2
    assert float(deviations.mean()) == pytest.approx(0.25, abs=0.03)
    assert float(deviations.std()) == pytest.approx(0.5 / 12**0.5, abs=0.02)
    two, three = task.batch(4, 2, cpu), task.batch(6, 2, cpu)
    assert two.more is not None
    assert three.more is not None
    assert first.more is not None
    assert torch.equal(torch.cat([two.more, three.more]), first.more)


@pytest.mark.parametrize(("drawn", "shift"), [(True, False), (False, True), (True, True)])
def test_latents_are_scaled_and_shifted(drawn: bool, shift: bool, tmp_path: Path) -> None:
    vae, data = tiny_vae(), opened(tmp_path)
    with torch.no_grad():
        vae.encoder.conv_out.bias[:4] += 2.0
    scaled(vae, data, 0, drawn=drawn, shift=shift)
    torch.manual_seed(0)
    parts = []
    for found in data.in_order(4):
        with torch.no_grad():
            said = vae.encode(torch.from_numpy(to_float(found.pixels)))
        z = said.sample(torch.randn(said.mean.shape)) if drawn else said.mean
        parts.append(((z - (vae.config.shift_factor or 0)) * vae.config.scaling_factor).flatten())
    z = torch.cat(parts)
    exact = 0.06 if drawn else 1e-4
    assert float(z.std(correction=0)) == pytest.approx(1, abs=exact)
    assert (abs(float(z.mean())) < exact) == shift


def test_an_autoencoder_of_squares_with_all_its_options(home: Path, tmp_path: Path) -> None:
    pictures = discs(tmp_path / "discs")
    settings = {
        **DIT, **VAE, "max_steps": 2, "vae_patch_size": 2, "vae_mid_attention": False,
        "vae_quant_conv": False, "latent_shift": True, "latent_channels": 5, "vae_batch_size": 3,
        "edge_weight": 1, "coarse_weight": 0.5, "latent_noise": 0.2, "vae_flip": True,
        "schedule": "wsd", "vae_decay_fraction": 0.5, "latent_sample": False,
    }  # fmt: skip
    vm.train_diffusion(pictures, name="squares", text="none", latent=True, settings=settings)
    model = home / "runs" / "squares" / "vae" / "model"
    told = json.loads((model / "config.json").read_text())
    assert (told["patch_size"], told["mid_block_add_attention"]) == (2, False)
    assert (told["use_quant_conv"], told["use_post_quant_conv"]) == (False, False)
    assert told["shift_factor"] is not None
    _, folder = vm.Store(home / "models").locate("squares")
    one, two = io.open_vae(model), io.open_pipeline(folder)
    assert isinstance(two.codec, AutoencoderKL)
    assert two.codec.config == one.config
    assert (two.codec.factor, two.net.config.sample_size) == (4, 4)
    assert not any("attentions" in name for name in one.state_dict())
    rows = np.loadtxt(home / "runs" / "squares" / "vae" / "log.csv", delimiter=",", skiprows=1,
                      usecols=0, ndmin=1)  # fmt: skip
    assert rows[-1] == 3
    assert column("squares/vae", home, "seen")[-1] == 9
