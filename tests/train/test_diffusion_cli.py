from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from tests.train.pictures import SMALL, discs
from vermilion.cli import app
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
    shape, dataset, noising, objective, _, _, training = resolve(
        given | usual(names, tuned=False, lora=False), KINDS, ALIASES
    )
    assert shape.down_block_types == ("DownBlock2D", *2 * ("CrossAttnDownBlock2D",))
    assert (dataset.channels, noising.max_tokens, objective.weighting) == (4, 12, "velocity")
    assert (training.ema_gamma, training.ema_decay) == (6.94, 0.0)
