"""DiTs: trained anew, taken up, trained on, with adapters, and opened by diffusers."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline, DiTPipeline
from safetensors.torch import load_file
from typer.testing import CliRunner

import vermilion as vm
from tests.train.pictures import DIT, discs, engine, put_encoder
from tests.train.runs import column, weights
from vermilion.cli import app
from vermilion.errors import InputError
from vermilion.models.diffusion import io
from vermilion.models.diffusion.dit import DiT, DiTConfig
from vermilion.nn.lora import merge
from vermilion.train.diffusion.lora import adapt
from vermilion.train.diffusion.options import Adapters
from vermilion.train.loop import Event


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    return discs(tmp_path / "discs")


def stop_after(step: int) -> Any:
    def watch(event: Event) -> None:
        if event.kind == "step" and event.step == step:
            os.kill(os.getpid(), signal.SIGTERM)

    return watch


def told_of(pictures: Path, tmp_path: Path) -> str:
    file = pictures / "captions.jsonl"
    (tmp_path / "told.jsonl").rename(file)
    return str(file)


@pytest.mark.parametrize("told", ["nothing", "classes", "captions"])
def test_a_dit_is_trained_and_goes_on_bit_for_bit(
    told: str, pictures: Path, home: Path, tmp_path: Path
) -> None:
    settings = {**DIT, "max_steps": 6, "ema_gamma": 6.94, "eval_steps": 3, "sample_steps": 6}
    order: dict[str, Any] = {"classes": told == "classes", "text": "none"}
    if told == "classes":
        order["text"] = None
    if told == "captions":
        order["text"] = None
        told_of(pictures, tmp_path)
        settings |= {"text_encoder": put_encoder(home, tmp_path), "max_tokens": 8}
        settings |= {"label_map_dim": 12, "sample_prompts": "red seal | blue seal"}
    vm.train_diffusion(pictures, name="straight", settings=settings, **order)
    half = vm.train_diffusion(
        pictures, name="half", settings=settings, watch=stop_after(4), **order
    )
    assert (half.run.outcome.state, half.run.outcome.step) == ("stopped", 4)
    whole = vm.train_diffusion(pictures, name="half", settings=settings, **order)
    one, two = weights("straight", home), weights("half", home)
    assert one.keys() == two.keys()
    assert any("label_map" in key for key in one) == (told == "captions")
    assert all(torch.equal(one[key], two[key]) for key in one)
    assert column("straight", home, "validation_loss") == column("half", home, "validation_loss")
    assert (home / "runs" / "half" / "samples" / "step-00000006.png").exists()
    assert whole.run.config["network"]["num_layers"] == 2
    _, folder = vm.Store(home / "models").locate("half")
    found = io.open_pipeline(folder)
    assert isinstance(found.net, DiT)
    means = {key[4:]: value for key, value in two.items() if key.startswith("ema/")}
    assert all(torch.equal(value, means[name]) for name, value in found.net.state_dict().items())
    said = vm.Prompt(kind="picture", text="red", model="half", seed=3)
    ((_, sample),) = engine("half").generate([said])
    assert sample.content.shape == (16, 16, 3)


def test_a_dit_by_class_is_a_dit_pipeline(pictures: Path, home: Path) -> None:
    settings = {
        **DIT, "max_steps": 4, "path": "discrete", "vae_steps": 3, "vae_block_out_channels": "8,16",
        "vae_norm_num_groups": 4, "vae_mid_attention": False, "learning_rate": 0.01, "ema_decay": 0,
    }  # fmt: skip
    vm.train_diffusion(pictures, name="kinds", classes=True, latent=True, settings=settings)
    _, folder = vm.Store(home / "models").locate("kinds")
    theirs = DiffusionPipeline.from_pretrained(folder)
    assert type(theirs) is DiTPipeline
    pixels = theirs(
        [2], guidance_scale=1.0, num_inference_steps=4, output_type="np",
        generator=torch.Generator().manual_seed(4),
    ).images[0]  # fmt: skip
    prompt = vm.Prompt(
        kind="picture", text="red", model="kinds", seed=4,
        settings={"num_inference_steps": 4, "guidance_scale": 1.0},
    )  # fmt: skip
    ((_, sample),) = engine("kinds").generate([prompt])
    np.testing.assert_allclose(sample.content / 255, pixels, atol=1.5 / 255)
    told = json.loads((folder / "vermilion.json").read_text())
    assert (told["classes"], told["null_class"]) == (["blue", "green", "red"], 3)


def test_a_class_is_never_guided_that_was_never_hidden(pictures: Path, home: Path) -> None:
    settings = {**DIT, "max_steps": 2, "condition_dropout": 0}
    vm.train_diffusion(pictures, name="kinds", classes=True, settings=settings)
    _, folder = vm.Store(home / "models").locate("kinds")
    assert json.loads((folder / "vermilion.json").read_text())["guidance_scale"] == 1.0


def test_a_dit_is_trained_on(pictures: Path, home: Path) -> None:
    vm.train_diffusion(pictures, name="first", classes=True, settings={**DIT, "max_steps": 2})
    tuned = {key: value for key, value in DIT.items() if key not in DiTConfig.__slots__}
    del tuned["network"]
    tuned |= {"max_steps": 3, "learning_rate": 0.01, "ema_decay": 0}
    vm.train_diffusion(pictures, name="second", base="first", classes=True, settings=tuned)
    store = vm.Store(home / "models")
    one, two = (io.open_pipeline(store.locate(name)[1]) for name in ("first", "second"))
    assert (one.manifest, one.net.config) == (two.manifest, two.net.config)
    changed = [
        float((a - b).abs().max())
        for a, b in zip(one.net.parameters(), two.net.parameters(), strict=True)
    ]
    assert min(changed) > 0
    with pytest.raises(InputError, match="first is told classes; add --classes"):
        vm.train_diffusion(pictures, name="x", base="first", text="none", settings=tuned)
    with pytest.raises(InputError, match="network belongs to a new model"):
        vm.train_diffusion(
            pictures, name="x", base="first", classes=True, settings=tuned | {"network": "dit"}
        )


def test_adapters_of_a_dit_paint_what_was_trained(pictures: Path, home: Path) -> None:
    vm.train_diffusion(pictures, name="first", classes=True, settings={**DIT, "max_steps": 4})
    tuned = {key: value for key, value in DIT.items() if key not in DiTConfig.__slots__}
    del tuned["network"]
    tuned |= {"max_steps": 4, "learning_rate": 0.05, "ema_decay": 0, "lora_r": 3, "lora_alpha": 6}
    trained = vm.train_diffusion(
        pictures, name="flat", base="first", lora=True, classes=True, settings=tuned
    )
    assert trained.card is not None
    assert trained.card.family == "lora"
    store = vm.Store(home / "models")
    written = load_file(store.locate("flat")[1])
    assert "transformer_blocks.0.attn1.to_q.lora_A.weight" in written
    assert len(written) == 2 * 2 * 4  # blocks, matrices, layers
    settings: dict[str, Any] = {"num_inference_steps": 3}
    plain = vm.Prompt(kind="picture", text="red", model="first", seed=1, settings=settings)
    adapted = vm.Prompt(
        kind="picture", text="red", model="first", seed=1,
        settings={**settings, "loras": [["flat", 1.0]]},
    )  # fmt: skip
    painter = engine("first")
    pictures_of = [sample.content for _, sample in painter.generate([plain, adapted])]
    assert not np.array_equal(*pictures_of)
    # The network with the trained adapters themselves, put together again from the checkpoint.
    net = io.open_pipeline(store.locate("first")[1]).net
    adapt(net, Adapters(lora_r=3, lora_alpha=6), seed=0)
    kept = {n.removeprefix("weights/"): w for n, w in weights("flat", home).items()}
    with torch.no_grad():
        for name, weight in net.named_parameters():
            if weight.requires_grad:
                weight.copy_(kept[name])
    merge(net)
    x, t = torch.randn(2, 3, 16, 16), torch.tensor([900.0, 20.0])
    labels = torch.tensor([0, 3])
    list(painter.generate([adapted]))
    with torch.no_grad():
        wanted, found = (one(x, t, None, labels) for one in (net.eval(), painter.painter.net))
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


def test_the_needs_of_a_dit_are_told(pictures: Path, home: Path) -> None:
    pairs = [f"{key}={value}" for key, value in DIT.items()]
    command = ["train", "diffusion", "--data", str(pictures), "--classes", "--latent", "--dry-run"]
    more = ["vae_steps=5", "vae_block_out_channels=8,16", "vae_norm_num_groups=4", "steps=10"]
    done = CliRunner().invoke(app, [*command, "--json", "--set", *pairs, *more])
    assert done.exit_code == 0, done.output
    needs = json.loads(done.output)
    net = DiT(DiTConfig.from_diffusers(needs["config"]["network"]))
    assert needs["parameters"] == sum(weight.numel() for weight in net.parameters())
    assert needs["memory_bytes"] >= 16 * needs["parameters"]
    parts = needs["first_stage_seconds"] + needs["latents_seconds"]
    assert needs["latents_seconds"] > 0
    assert needs["seconds"] == pytest.approx(parts + 10 * needs["seconds_per_step"])
    shown = " ".join(CliRunner().invoke(app, [*command, "--set", *pairs, *more]).output.split())
    assert "to encode the pictures" in shown
    assert not (home / "runs").exists()


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"layers_per_block": 2}, "layers_per_block is for a UNet, and a DiT is trained"),
        ({"network": "unet"}, "attention_head_dim is for a DiT, and a UNet is trained"),
        ({"attention_head_dim": 7, "num_attention_heads": 3}, "a multiple of 4"),
        ({"patch_size": 3}, "cannot be cut into whole patches; use a multiple of 3"),
        ({"label_map_dim": 8}, "label_map_dim: spreads a caption's one vector"),
        ({"network": "mlp"}, "network"),
        ({"latent_sample": False}, "latent_sample is for models on latents; add --latent"),
        ({"whiten_text": 0.1}, "whiten_text: is for captions"),
        ({"edge_weight": 1}, "edge_weight is for an autoencoder that is trained first"),
    ],
)
def test_mistakes_are_one_sentence(
    settings: dict[str, Any], sentence: str, pictures: Path, home: Path
) -> None:
    with pytest.raises(InputError, match=sentence):
        vm.train_diffusion(pictures, text="none", settings={**DIT, "max_steps": 1, **settings})
