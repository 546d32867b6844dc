"""Latent models, published models that are trained on, and adapters, against diffusers."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, DiffusionPipeline, StableDiffusionPipeline
from torch import Tensor

import vermilion as vm
from tests.models.diffusion.folders import tiny_pipeline_folder
from tests.train.pictures import SMALL, discs, engine
from tests.train.runs import column, weights
from vermilion.data.pictures import Decoding, read, to_float
from vermilion.errors import InputError
from vermilion.models.diffusion import io
from vermilion.train.loop import Event

NEW = ("block_out_channels", "layers_per_block", "norm_num_groups")
TUNED: dict[str, Any] = {
    **{key: value for key, value in SMALL.items() if key not in NEW},
    "size": 16, "max_steps": 3, "learning_rate": 0.01, "ema_decay": 0.0,
}  # fmt: skip
VAE: dict[str, Any] = {
    **SMALL, "vae_block_out_channels": "8,16", "vae_norm_num_groups": 4, "max_steps": 2,
}  # fmt: skip


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = discs(tmp_path / "discs")
    (tmp_path / "told.jsonl").rename(folder / "captions.jsonl")
    return folder


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_pipeline_folder(tmp_path_factory.mktemp("base") / "sd")


def given(context: int = 12) -> tuple[Tensor, Tensor, Tensor]:
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(2, 4, 16, 16, generator=draw)
    return x, torch.tensor([900, 20]), torch.randn(2, 7, context, generator=draw)


def test_adapters_are_those_that_diffusers_loads(base: Path, pictures: Path, home: Path) -> None:
    settings = {**TUNED, "lora_r": 4, "lora_alpha": 12, "sample_steps": 3}
    trained = vm.train_diffusion(
        pictures, name="flat", base=str(base), lora=True, settings=settings
    )
    assert trained.card is not None
    assert (trained.card.kind, trained.card.family) == ("adapter", "lora")
    card, file = vm.Store(home / "models").locate("flat")
    assert file.name == "pytorch_lora_weights.safetensors"
    assert card.options["recipe"]["base"] == str(base)
    trained_weights = weights("flat", home)
    assert all(key.split("/")[1].split(".")[-2] in "ab" for key in trained_weights)
    theirs = StableDiffusionPipeline.from_pretrained(base, safety_checker=None)
    x, t, context = given()
    with torch.no_grad():
        before = theirs.unet(x, t, context).sample
        theirs.load_lora_weights(file.parent, weight_name=file.name)
        wanted = theirs.unet(x, t, context).sample
    assert float((wanted - before).abs().max()) > 1e-3
    painter = engine(str(base))
    prompt = vm.Prompt(
        kind="picture", text="red seal", model="m", seed=1,
        settings={"num_inference_steps": 3, "loras": [["flat", 1.0]]},
    )  # fmt: skip
    ((_, sample),) = painter.generate([prompt])
    with torch.no_grad():
        ours = painter.painter.net(x, t, context)
    torch.testing.assert_close(ours, wanted, rtol=1e-3, atol=1e-4)
    assert sample.content.shape == (32, 32, 3)


def test_a_published_model_is_trained_on_and_opens_as_before(
    base: Path, pictures: Path, home: Path
) -> None:
    vm.train_diffusion(pictures, name="mine", base=str(base), settings=TUNED)
    _, folder = vm.Store(home / "models").locate("mine")
    theirs = StableDiffusionPipeline.from_pretrained(folder, safety_checker=None)
    before = StableDiffusionPipeline.from_pretrained(base, safety_checker=None)
    x, t, context = given()
    with torch.no_grad():
        found = theirs.unet(x, t, context).sample
        assert float((before.unet(x, t, context).sample - found).abs().max()) > 1e-3
    ids = theirs.tokenizer("a red seal", padding="max_length", return_tensors="pt").input_ids
    torch.testing.assert_close(theirs.text_encoder(ids)[0], before.text_encoder(ids)[0])
    for name, value in before.scheduler.config.items():
        assert name.startswith("_") or theirs.scheduler.config[name] == value
    pixels = theirs(
        "red seal", height=32, width=32, num_inference_steps=3, guidance_scale=3.0,
        generator=torch.Generator().manual_seed(4), output_type="np",
    ).images[0]  # fmt: skip
    prompt = vm.Prompt(
        kind="picture", text="red seal", model="m", seed=4,
        settings={"num_inference_steps": 3, "guidance_scale": 3.0},
    )  # fmt: skip
    ((_, sample),) = engine("mine").generate([prompt])
    np.testing.assert_allclose(sample.content / 255, pixels, atol=1.5 / 255)


def test_a_latent_model_with_a_tower_of_clip_is_a_stable_diffusion(
    base: Path, pictures: Path, home: Path
) -> None:
    settings = {**SMALL, "max_steps": 3, "path": "discrete", "beta_schedule": "scaled_linear"}
    vm.Store(home / "models").pull(str(base), name="sd")
    settings["text_encoder"] = "sd"
    vm.train_diffusion(pictures, name="new", vae="sd", settings=settings)
    _, folder = vm.Store(home / "models").locate("new")
    theirs = DiffusionPipeline.from_pretrained(folder, safety_checker=None)
    assert type(theirs) is StableDiffusionPipeline
    pixels = theirs(
        "blue seal", height=16, width=16, num_inference_steps=3, guidance_scale=3.0,
        generator=torch.Generator().manual_seed(4), output_type="np",
    ).images[0]  # fmt: skip
    prompt = vm.Prompt(
        kind="picture", text="blue seal", model="m", seed=4, settings={"num_inference_steps": 3}
    )
    ((_, sample),) = engine("new").generate([prompt])
    np.testing.assert_allclose(sample.content / 255, pixels, atol=1.5 / 255)


def test_an_autoencoder_is_trained_first_and_taken_up(pictures: Path, home: Path) -> None:
    settings = {
        **VAE, "vae_steps": 8, "adversarial_weight": 0.1, "adversarial_start": 3, "channels": 4,
    }  # fmt: skip
    order: dict[str, Any] = {"latent": True, "text": "none", "settings": settings}

    def stop(event: Event) -> None:
        if event.kind == "step" and event.step == 5:
            os.kill(os.getpid(), signal.SIGTERM)

    vm.train_diffusion(pictures, name="whole", **order)
    half = vm.train_diffusion(pictures, name="half", watch=stop, **order)
    assert (half.run.outcome.state, half.run.outcome.step) == ("stopped", 5)
    vm.train_diffusion(pictures, name="half", **order)
    for place in ("vae", "."):
        one, two = weights(f"whole/{place}", home), weights(f"half/{place}", home)
        assert one.keys() == two.keys()
        assert all(torch.equal(one[key], two[key]) for key in one)
    assert any("discriminator" in key for key in weights("half/vae", home))
    model = home / "runs" / "half" / "vae" / "model"
    theirs, ours = AutoencoderKL.from_pretrained(model), io.open_vae(model)
    x = torch.randn(3, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(ours.encode(x).mean, theirs.encode(x).latent_dist.mean)
        z = theirs.encode(x).latent_dist.mean * ours.config.scaling_factor
        torch.testing.assert_close(
            ours.to_pictures(z),
            theirs.decode(theirs.encode(x).latent_dist.mean).sample,
            rtol=1e-4,
            atol=1e-4,
        )
    _, folder = vm.Store(home / "models").locate("half")
    assert (folder / "vae" / "config.json").exists()
    again = vm.train_diffusion(
        pictures,
        name="third",
        text="none",
        vae=str(model),
        settings={**SMALL, "max_steps": 2, "channels": 4},
    )
    assert again.run.outcome.state == "finished"


def test_the_autoencoder_learns_and_its_latents_have_a_deviation_of_one(
    pictures: Path, home: Path
) -> None:
    settings = {**VAE, "vae_steps": 60, "vae_learning_rate": 0.005, "eval_steps": 20}
    vm.train_diffusion(pictures, name="a", latent=True, text="none", settings=settings)
    losses = column("a/vae", home, "loss")
    assert losses[-1] < 0.6 * losses[0]
    vae = io.open_vae(home / "runs" / "a" / "vae" / "model")
    pixels = np.stack([item.pixels for item in read(pictures, size=16, how=Decoding())])
    with torch.no_grad():
        drawn = torch.randn(len(pixels), 4, 8, 8, generator=torch.Generator().manual_seed(0))
        z = vae.to_latents(torch.from_numpy(to_float(pixels)), drawn)
    assert float(z.std()) == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize(
    ("order", "settings", "sentence"),
    [
        ({"text": "none"}, {}, "reads captions"),
        ({"latent": True}, {}, "has its own autoencoder"),
        ({}, {"block_out_channels": "8"}, "block_out_channels belongs to a new model"),
        ({}, {"channels": 4}, "set channels=3"),
        ({"lora": True}, {"lora_targets": "to_z"}, "no layer is called to_z"),
    ],
)
def test_mistakes_are_one_sentence(
    order: dict[str, Any],
    settings: dict[str, Any],
    sentence: str,
    base: Path,
    pictures: Path,
    home: Path,
) -> None:
    with pytest.raises(InputError, match=sentence):
        vm.train_diffusion(pictures, base=str(base), settings={**TUNED, **settings}, **order)
