"""`vermilion paint` in a process of its own, with a tiny model of random weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests import painter
from tests.cli.test_commands import complaint, run


@pytest.fixture
def studio(home: Path, painter_folder: Path) -> Path:
    """A home folder with a model that paints, "stickers"."""
    painter.install(home, painter_folder)
    return home


def painted(*words: str, home: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(run("paint", *words, "--json", home=home).stdout)
    return found


def test_pictures_and_drawings_are_kept_written_and_made_again(
    studio: Path, tmp_path: Path
) -> None:
    out = tmp_path / "foxes"
    words = ("a red fox", "-n", "2", "--seed", "5", "--svg", "--size", "128", "--steps", "3")
    made = painted(*words, "--out", str(out), home=studio)
    assert [asset["media_type"] for asset in made] == 2 * ["image/png", "image/svg+xml"]
    assert made[1]["parents"] == [made[0]["id"]]
    assert made[1]["notes"]["finished"] == [128, 128]
    for asset in made:
        assert Path(asset["files"][0]).parent == out
    with Image.open(made[0]["files"][0]) as image:
        assert image.size == (128, 128)
    verified = run("verify", str(out), "--quiet", home=studio).stdout.splitlines()
    assert [line.split()[0] for line in verified] == ["0"] * 4
    for asset in made[2:]:
        again = run("library", "remake", asset["id"], "--json", home=studio)
        assert json.loads(again.stdout)["same"] is True


def test_what_a_person_sees(studio: Path, tmp_path: Path) -> None:
    file = tmp_path / "fox.png"
    done = run("paint", "a fox", "--seed", "1", "--size", "96", "--out", str(file), home=studio)
    assert done.stdout.startswith(f"{file}: 96x96 px, kept as ")
    quiet = run("paint", "-", "--quiet", home=studio, stdin="a fox")
    assert Path(quiet.stdout.strip()).is_file()
    many = run("paint", "a fox", "-n", "3", "--best", "1", home=studio)
    assert "note:" in many.stderr
    assert "all 3 are kept" in many.stderr
    assert many.stdout.count("kept as") == 3


def test_pictures_from_pictures(studio: Path, tmp_path: Path) -> None:
    sketch, hole = tmp_path / "sketch.png", tmp_path / "hole.png"
    Image.new("RGB", (64, 64), "teal").save(sketch)
    Image.new("L", (64, 64), 255).save(hole)
    from_words = ("a blue door", "--from", str(sketch), "--strength", "0.5")
    (door,) = painted(*from_words, "--mask", str(hole), "--seed", "1", home=studio)
    assert len(door["parents"]) == 2
    (varied,) = painted("--vary", door["id"], "--amount", "0.3", home=studio)
    assert (varied["text"], varied["parents"]) == ("a blue door", [door["id"]])
    (blend,) = painted("--blend", door["id"], varied["id"], "--seed", "2", home=studio)
    assert blend["parents"] == [door["id"], varied["id"]]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "prompt: it is empty"),
        (("a fox", "--model", "nobody"), "there is no model 'nobody'"),
        (("a fox", "--size", "9000"), "size must be 16 to 4096 (found 9000)"),
        (("a fox", "--lora", "ink:strong"), "lora: 'strong' is no number; write NAME:WEIGHT"),
        (("a fox", "--lora", "ink:0.8"), "there is no model 'ink'"),
        (("a fox", "--clip-skip", "1"), "clip_skip"),
        (("--vary", "zzzzzzzz"), "zzzzzzzz"),
        (("a fox", "-n", "2", "--out", "fox.png"), "one file for 2 pictures; name a folder"),
        (("a fox", "--out", "fox.bmp"), "should end in one of .png"),
        (("a fox", "--no-mark"), "reason"),
    ],
)
def test_mistakes_are_one_sentence(studio: Path, words: tuple[str, ...], message: str) -> None:
    assert message in complaint("paint", *words, home=studio)


def test_without_a_model_it_says_what_to_do(home: Path) -> None:
    assert "stickers" in complaint("paint", "a fox", home=home)
