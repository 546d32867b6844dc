from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from tests.tiny import SENTENCES
from vermilion.cli import app

SMALL = ["n_layer=1", "n_embd=16", "n_head=2", "block_size=8", "vocab_size=260", "steps=2"]


def run(*words: str) -> Result:
    return CliRunner().invoke(app, ["train", *words])


@pytest.fixture
def text(tmp_path: Path) -> str:
    path = tmp_path / "shop.txt"
    path.write_text("\n".join(SENTENCES), encoding="utf-8")
    return str(path)


def test_train_and_the_model_is_there(text: str, home: Path) -> None:
    done = run("lm", "--data", text, "--set", *SMALL, "batch_size=2", "tensorboard=false")
    assert done.exit_code == 0, done.output
    assert "shop is ready" in done.output
    shown = CliRunner().invoke(app, ["models", "show", "shop", "--json"])
    card = json.loads(shown.output)["card"]
    assert (card["source"], card["licence"]) == ("trained here", "NOASSERTION")
    assert card["options"]["recipe"]["steps"] == 2
    assert CliRunner().invoke(app, ["models", "rm", "shop"]).exit_code == 0


def test_a_dry_run_trains_nothing(text: str, home: Path, tmp_path: Path) -> None:
    config = tmp_path / "c.toml"
    config.write_text("batch_size = 2\nmax_steps = 9\n")
    done = run(
        "lm", "--data", text, "--config", str(config), "--dry-run", "--json", "--set", *SMALL
    )  # fmt: skip
    assert done.exit_code == 2
    assert "another spelling of max_steps" in done.output
    order = ["lm", "--data", text, "--config", str(config), "--dry-run", "--set", *SMALL[:-1]]
    needs = json.loads(run(*order, "--json").output)
    assert needs["config"]["training"]["max_steps"] == 9
    assert needs["parameters"] == needs["trained"] > 4000
    assert needs["seconds"] == pytest.approx(9 * needs["seconds_per_step"])
    assert not (home / "runs").exists()
    plain = run(*order).output
    assert "parameters" in plain
    assert "held back" in plain


def test_settings_are_listed() -> None:
    listed = json.loads(run("settings", "--json").output)
    assert {"learning_rate", "num_hidden_layers", "lora_r"} <= {row["name"] for row in listed}
    assert "learning_rate" in run("settings").output


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--set", "lerning_rate=1"], "did you mean learning_rate"),
        (["--tokenizer", "words"], "'words' is not known; use bpe or characters"),
        (["--lora"], "name one with --from"),
        (["--from", "nowhere"], "there is no model 'nowhere'"),
        (["--set", "lora_r=2"], "add --lora"),
    ],
)
def test_mistakes_are_one_sentence(words: list[str], sentence: str, text: str, home: Path) -> None:
    done = run("lm", "--data", text, *words, "--json")
    assert done.exit_code == 2
    assert sentence in " ".join(done.output.split())
