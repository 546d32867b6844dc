"""SimCLR and CLIP: taken up bit for bit, over two processes, published, with what is broken."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from transformers import CLIPModel
from typer.testing import CliRunner

import vermilion as vm
from tests.tiny import tiny_encoder_folder
from tests.train.runs import column, weights
from tests.train.test_run import killed_after
from vermilion.cli.app import app
from vermilion.errors import InputError
from vermilion.line.default import default_line
from vermilion.line.sight import read_picture
from vermilion.models.contrast.encode import ContrastEncoder
from vermilion.train.contrast.views import Changes, flattened, moved

LAUNCH = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
COLOURS = {"red": (220, 30, 30), "green": (30, 200, 40), "blue": (40, 50, 220), "grey": (90,) * 3}
VIT = {
    "image_size": 16, "patch_size": 8, "hidden_size": 32, "num_hidden_layers": 1,
    "num_attention_heads": 2, "projection_dim": 16,
}  # fmt: skip
RESNET = {
    "image_size": 16, "picture_tower": "resnet", "embedding_size": 8, "hidden_sizes": "8,16",
    "depths": "1,1", "projection_dim": 16,
}  # fmt: skip
TEXT = {"text_hidden_size": 32, "text_num_hidden_layers": 1, "text_num_attention_heads": 2}
RUN = {
    "batch_size": 8, "warmup_steps": 2, "log_steps": 1, "eval_steps": 5, "sample_steps": 0,
    "tensorboard": False, "learning_rate": 3e-3,
}  # fmt: skip


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 squares and discs in four colours, with captions, one of them broken."""
    folder = tmp_path_factory.mktemp("data") / "shapes"
    folder.mkdir()
    draw = np.random.default_rng(0)
    rows = []
    for number in range(40):
        name, colour = list(COLOURS.items())[number % 4]
        shape = ("square", "disc")[number // 4 % 2]
        pixels = np.zeros((24, 24, 4), np.uint8)
        high, wide = np.mgrid[:24, :24] - 11.5
        inside = abs(high) + abs(wide) * 0 < 8 if shape == "square" else high**2 + wide**2 < 64
        pixels[inside] = (*colour, 255)
        pixels[..., :3] = np.clip(pixels[..., :3] + draw.integers(-20, 20, (24, 24, 3)), 0, 255)
        Image.fromarray(pixels).save(folder / f"{number}.png")
        split = "validation" if number % 5 == 0 else "train"
        row = {"file": f"{number}.png", "caption": f"a {name} {shape}", "split": split}
        rows.append(row | {"label": name})
    (folder / "broken.png").write_bytes(b"no picture")
    rows.append({"file": "broken.png", "caption": "a broken one", "split": "train"})
    lines = "\n".join(json.dumps(row) for row in rows)
    (folder / "captions.jsonl").write_text(lines)
    return folder


@pytest.fixture(autouse=True)
def fresh_line() -> Iterator[None]:
    default_line.cache_clear()
    yield
    default_line.cache_clear()


@pytest.fixture(scope="session")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_encoder_folder(tmp_path_factory.mktemp("models") / "tiny-encoder")


def order_of(kind: str, encoder: Path) -> tuple[Any, dict[str, Any], dict[str, Any]]:
    """What trains, its settings, its other arguments."""
    if kind == "simclr":
        return vm.train_simclr, {**VIT, **RUN}, {}
    if kind == "locked":
        locked = {"text_tower": str(encoder), "lock_text": True}
        settings = {**RESNET, **RUN, "background": "random", "shift": 2, "ema_decay": 0.9}
        return vm.train_clip, settings, locked
    return vm.train_clip, {**VIT, **TEXT, **RUN, "contrast": "sigmoid"}, {}


@pytest.mark.parametrize("kind", ["simclr", "clip", "locked"])
def test_a_run_that_was_stopped_goes_on_bit_for_bit(
    kind: str, pictures: Path, encoder: Path, home: Path
) -> None:
    train, settings, order = order_of(kind, encoder)
    settings |= {"max_steps": 12}
    straight = train(pictures, name="straight", settings=settings, **order)
    assert straight.run.outcome.state == "finished"
    half = train(pictures, name="half", settings=settings, watch=killed_after(7), **order)
    assert (half.run.outcome.state, half.run.outcome.step) == ("stopped", 7)
    whole = train(pictures, name="half", settings=settings | {"save_steps": 3}, **order)
    assert whole.run.outcome.step == 12
    one, two = weights("straight", home), weights("half", home)
    assert one.keys() == two.keys()
    assert all(torch.equal(one[key], two[key]) for key in one)
    if kind == "locked":  # what a BatchNorm has counted is part of it
        assert any(key.startswith("buffers/") for key in one)
    cards = [vm.Store(home / "models").show(name).card for name in ("straight", "half")]
    assert cards[0] is not None
    assert cards[1] is not None
    assert cards[0].weights_sha256 == cards[1].weights_sha256
    # The one that is no picture was counted and named.
    assert "broken.png" in straight.run.report


@pytest.mark.parametrize("kind", ["simclr", "clip"])
def test_two_processes_have_the_loss_of_one(
    kind: str, pictures: Path, encoder: Path, home: Path
) -> None:
    train, settings, _ = order_of(kind, encoder)
    # With the usual epsilon AdamW makes whole steps of what is only rounding.
    settings |= {"max_steps": 4, "eval_steps": 2, "adam_epsilon": 1e-3}
    train(pictures, name="one", settings=settings)
    pairs = [f"{key}={value}" for key, value in settings.items()]
    command = ["train", kind, "--data", str(pictures), "--name", "two", *pairs]
    done = subprocess.run(
        [*LAUNCH, "-m", "vermilion", *command],
        env={**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    for heading in ("loss", "grad_norm", "validation_loss"):
        assert column("two", home, heading) == pytest.approx(column("one", home, heading), rel=1e-4)
    one_net, two_net = weights("one", home), weights("two", home)
    for key, value in one_net.items():
        torch.testing.assert_close(two_net[key], value, rtol=1e-3, atol=1e-4)


def test_a_clip_learns_its_pictures_and_opens_in_transformers(pictures: Path, home: Path) -> None:
    settings = {**VIT, **TEXT, **RUN, "max_steps": 150, "eval_steps": 50}
    trained = vm.train_clip(pictures, name="mine", settings=settings, licence="CC0-1.0")
    assert trained.card is not None
    assert (trained.card.kind, trained.card.family) == ("embedding", "clip")
    assert trained.card.licence == "CC0-1.0"
    recipe = trained.card.options["recipe"]
    assert recipe["config"]["tower"]["hidden_size"] == 32
    assert "broken.png" in recipe["left_out"]
    # The captions of what is held back are four colours of one or two shapes.
    assert recipe["figures"]["text_to_picture@1"] > 0.6
    assert column("mine", home, "text_to_picture@1")[-1] > 0.6
    theirs = CLIPModel.from_pretrained(trained.run.model)
    ours = ContrastEncoder.from_folder(Path(str(trained.run.model)))
    pixels: NDArray[np.uint8] = read_picture(pictures / "0.png", 1 << 20)
    with torch.no_grad():
        features = theirs.get_image_features(pixel_values=ours.preprocess([pixels]))
    vectors = getattr(features, "pooler_output", features)
    expected = torch.nn.functional.normalize(vectors, dim=-1)
    torch.testing.assert_close(
        torch.from_numpy(ours.pictures([pixels])), expected, atol=1e-4, rtol=0
    )
    guesses = vm.look(pictures / "2.png", ["a blue square", "a red square"], model="mine")
    assert guesses[0].label == "a blue square"


def test_a_tower_beside_locked_words_knows_them(pictures: Path, encoder: Path, home: Path) -> None:
    vm.Store(home / "models").pull(str(encoder), name="words")
    settings = {**RESNET, **RUN, "max_steps": 60, "first_caption": 0.5}
    trained = vm.train_clip(
        pictures, name="beside", settings=settings, text_tower="words", lock_text=True
    )
    config = json.loads((Path(str(trained.run.model)) / "config.json").read_text())
    assert config["text_config"]["name"] == "words"
    found = vm.embed(["a red disc"], model="beside")
    assert found.shape == (1, 16)
    assert np.linalg.norm(found) == pytest.approx(1, abs=1e-5)
    pictured = vm.embed_pictures([pictures / "4.png", pictures / "5.png"], model="beside")
    assert pictured.shape == (2, 16)
    vm.Store(home / "models").remove("words")
    with pytest.raises(vm.VermilionError, match="reads words with words"), vm.Line() as line:
        line.load("beside")


def test_simclr_counts_neighbours_and_knows_no_words(pictures: Path, home: Path) -> None:
    for place in (pictures,):
        trained = vm.train_simclr(
            place, name="eyes", settings={**VIT, **RUN, "max_steps": 6, "min_scale": 0.5}
        )
    assert trained.card is not None
    assert vm.embed_pictures([pictures / "0.png"], model="eyes").shape == (1, 32)
    with pytest.raises(InputError, match="knows no words"):
        vm.look(pictures / "0.png", ["red", "blue"], model="eyes")


def test_what_cannot_be_asked_for(pictures: Path, home: Path) -> None:
    with pytest.raises(InputError, match="add --lock-text"):
        vm.train_clip(pictures, name="a", text_tower="all-minilm-l6-v2")
    with pytest.raises(InputError, match="name the text tower"):
        vm.train_clip(pictures, name="a", lock_text=True)
    with pytest.raises(InputError, match="micro_batch"):
        vm.train_clip(pictures, name="a", settings={"micro_batch": 2})
    with pytest.raises(InputError, match="batch_size: 64 is more than"):
        vm.train_clip(pictures, name="a", settings={**VIT, "batch_size": 64})
    with pytest.raises(InputError, match="hidden_size"):
        vm.train_clip(pictures, name="a", settings={**VIT, **RUN, "num_attention_heads": 3})


def test_dry_run_and_settings_on_the_command_line(pictures: Path, home: Path) -> None:
    pairs = [f"{key}={value}" for key, value in {**VIT, **TEXT, **RUN}.items()]
    command = ["train", "clip", "--data", str(pictures), "--dry-run", "--json", *pairs]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    needs = json.loads(done.stdout)
    assert needs["pictures"] == 32
    assert needs["held"] == 8
    assert "broken.png" in needs["faults"]
    assert not (home / "runs").exists()
    for kind in ("clip", "simclr"):
        listed = CliRunner().invoke(app, ["train", kind, "--settings", "--json"])
        names = {row["name"] for row in json.loads(listed.stdout)}
        assert {"image_size", "projection_dim", "learning_rate"} <= names


def test_moved_pictures_keep_what_stays_inside() -> None:
    picture = np.arange(4 * 5 * 3, dtype=np.uint8).reshape(4, 5, 3)
    ground = np.array([7, 8, 9], np.uint8)
    out = moved(picture, 1, -2, ground)
    assert np.array_equal(out[1:, :3], picture[:3, 2:])
    assert (out[0] == ground).all()
    assert (out[:, 3:] == ground).all()
    assert (moved(picture, 9, 0, ground) == ground).all()


def test_what_is_clear_has_the_colour_below() -> None:
    pixels = np.zeros((1, 1, 3, 4), np.uint8)
    pixels[0, 0] = [(200, 0, 0, 255), (200, 0, 0, 0), (200, 100, 0, 128)]
    out = flattened(pixels, np.array([[0, 255, 100]], np.uint8))
    assert out[0, 0].tolist() == [[200, 0, 0], [0, 255, 100], [100, 177, 50]]


def test_changes_are_a_function_of_picture_and_epoch() -> None:
    from vermilion.data.pictures import Batch

    pixels = np.random.default_rng(1).integers(0, 256, (3, 8, 8, 4), dtype=np.uint8)

    def batch(items: list[int], epochs: list[int]) -> Batch:
        return Batch(pixels[items], ("",) * len(items), np.zeros(1, np.int64),
                     np.array(items), np.array(epochs), np.zeros(len(items), np.bool_))  # fmt: skip

    changes = Changes(seed=5, background="random", shift=2, flip=True)
    together, alone = changes(batch([0, 1, 2], [0, 0, 0])), changes(batch([2], [0]))
    assert np.array_equal(together[2], alone[0])
    later = [changes(batch([2], [epoch])).tobytes() for epoch in range(6)]
    assert len(set(later)) > 4
