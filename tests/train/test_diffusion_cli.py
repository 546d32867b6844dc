from __future__ import annotations

import json
import tomllib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

import vermilion as vm
from tests.train.pictures import SMALL, discs, engine, put_encoder
from tests.train.runs import column
from vermilion.cli import app
from vermilion.models.diffusion.dit import DiT
from vermilion.models.diffusion.vae import AutoencoderKL
from vermilion.train.diffusion.networks import dit_config, vae_config
from vermilion.train.diffusion.options import ALIASES, KINDS, diffusion_settings, usual
from vermilion.train.options import read_settings, resolve

PAIRS = [f"{key}={value}" for key, value in SMALL.items()]
RECIPE = Path(__file__).parents[2] / "examples" / "training" / "stickers.toml"


def run(*words: str) -> Result:
    return CliRunner().invoke(app, ["train", "diffusion", *words])


def test_the_command_trains_and_plans(home: Path, tmp_path: Path) -> None:
    folder = discs(tmp_path / "discs")
    (folder / "broken.png").write_bytes(b"nothing")
    order = ["--data", str(folder), "--classes", "--set", *PAIRS, "steps=2", "max_faults=0.2"]
    needs = json.loads(run(*order, "--dry-run", "--json").output)
    assert (needs["told"], needs["config"]["training"]["max_steps"]) == ("classes", 2)
    assert needs["parameters"] == needs["trained"] > 1000
    assert needs["pictures"] + needs["validation_pictures"] == 24
    assert needs["seconds"] == pytest.approx(2 * needs["seconds_per_step"])
    assert not (home / "runs").exists()
    assert "classes said of them" in " ".join(run(*order, "--dry-run").output.split())
    done = run(*order)
    assert done.exit_code == 0, done.output
    plain = " ".join(done.output.split())
    assert "discs is ready" in plain
    assert "broken.png" in plain
    shown = json.loads(CliRunner().invoke(app, ["models", "show", "discs", "--json"]).output)
    assert (shown["card"]["family"], shown["card"]["source"]) == ("diffusion", "trained here")
    missing = run("--json")
    assert missing.exit_code == 2
    assert "name a folder" in missing.output


def test_settings_are_listed_and_have_a_sentence() -> None:
    rows = diffusion_settings()
    assert len({name for name, _, _ in rows}) == len(rows) > 60
    assert all(about.endswith(".") for _, _, about in rows)
    listed = json.loads(run("--settings", "--json").output)
    assert {"name": "ema_decay", "default": "0.999"}.items() <= listed[
        [row["name"] for row in listed].index("ema_decay")
    ].items()


def test_the_recipe_of_the_stickers_can_be_used() -> None:
    given = read_settings(RECIPE)
    assert set(given) == {
        key for table in tomllib.loads(RECIPE.read_text()).values() for key in table
    }
    names = {ALIASES.get(key, key) for key in given}
    shape, dataset, noising, objective, autoencoder, _, training = resolve(
        given | usual(names, tuned=False, lora=False), KINDS, ALIASES
    )
    vae = AutoencoderKL(vae_config(autoencoder, dataset.channels, dataset.size))
    assert (vae.factor, vae.latent_channels) == (16, 16)
    net = DiT(dit_config(shape, vae, dataset.size, context=384, pooled=384, classes=None))
    assert (net.config.sample_size, net.config.features) == (8, 256)
    assert (noising.max_tokens, noising.whiten_text, objective.weighting) == (12, 0.1, "power")
    assert (training.ema_gamma, training.ema_decay) == (6.94, 0.0)


def test_the_recipe_of_the_stickers_paints(home: Path, tmp_path: Path) -> None:
    """Both stages at toy size, to the end, and a picture."""
    pictures, name = discs(tmp_path / "discs"), put_encoder(home, tmp_path)
    (tmp_path / "told.jsonl").rename(pictures / "captions.jsonl")
    small = {
        "size": 32, "vae_block_out_channels": "8,16", "vae_norm_num_groups": 4, "vae_steps": 40,
        "vae_patch_size": 2, "latent_channels": 3, "num_layers": 2, "num_attention_heads": 2,
        "attention_head_dim": 8, "label_map_dim": 12, "text_encoder": name, "max_steps": 20,
        "warmup_steps": 2, "eval_steps": 10, "sample_steps": 20, "log_steps": 1,
        "sample_prompts": "red seal | blue seal", "num_inference_steps": 4, "tensorboard": "false",
        "validation": 0.2,
    }  # fmt: skip
    order = ["--data", str(pictures), "--name", "toys", "--latent", "--config", str(RECIPE)]
    done = run(*order, "--set", *(f"{key}={value}" for key, value in small.items()))
    assert done.exit_code == 0, done.output
    assert "toys is ready" in " ".join(done.output.split())
    losses = column("toys/vae", home, "loss")
    assert sum(losses[-5:]) < sum(losses[:5])
    with Image.open(home / "runs" / "toys" / "samples" / "step-00000020.png") as sheet:
        assert (sheet.size, sheet.mode) == ((2 * 32 + 2, 32), "RGBA")
    painted = CliRunner().invoke(
        app, ["paint", "red seal", "--model", "toys", "--seed", "3", "--json"]
    )
    assert painted.exit_code == 0, painted.output
    prompt = vm.Prompt(kind="picture", text="red seal", model="toys", seed=3)
    ((_, sample),) = engine("toys").generate([prompt])
    assert np.asarray(sample.content).shape == (32, 32, 4)
