"""The student of other languages: learns, is taken up, and lies beside a picture tower."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import vermilion as vm
from tests.tiny import tiny_encoder_folder
from tests.train.runs import weights
from tests.train.test_contrast import RESNET, RUN, pictures
from tests.train.test_run import killed_after
from vermilion.errors import InputError, NotFoundError
from vermilion.models.contrast.bag import Bag
from vermilion.models.lm.encode import Encoder

__all__ = ["pictures"]  # the fixture

WORDS = [("red", "红"), ("tea", "茶"), ("small shop", "小店"), ("ink", "墨"), ("paper", "纸"),
         ("seal", "印章"), ("painter", "画家"), ("evening", "晚上")]  # fmt: skip
SETTINGS = {
    "buckets": 512, "width": 16, "other": "zh", "known": "en", "batch_size": 8, "max_steps": 150,
    "learning_rate": 0.02, "warmup_steps": 2, "eval_steps": 50, "sample_steps": 0, "drop": 0.1,
    "tensorboard": False, "weight_decay": 0.0,
}  # fmt: skip


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_encoder_folder(tmp_path_factory.mktemp("models") / "tiny-encoder")


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    rows = [{"en": known, "zh": [other, f"{other}啊"], "split": "train"} for known, other in WORDS]
    rows += [{"en": known, "zh": f"一{other}", "split": "validation"} for known, other in WORDS]
    rows.append({"en": "nothing", "zh": None})
    path = tmp_path / "pairs.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def test_it_lands_on_the_vectors_of_its_teacher(pairs: Path, encoder: Path, home: Path) -> None:
    trained = vm.train_student(pairs, name="zh", text_tower=str(encoder), settings=SETTINGS)
    assert trained.card is not None
    assert (trained.card.family, trained.card.kind) == ("bag", "embedding")
    assert trained.run.outcome.figures["found@1"] > 0.8
    bag = Bag.from_folder(Path(str(trained.run.model)))
    teacher = Encoder.from_folder(encoder).encode([known for known, _ in WORDS], normalize=True)
    found = bag.encode([other for _, other in WORDS])
    assert ((found @ teacher.T).argmax(1) == np.arange(len(WORDS))).mean() > 0.8


def test_a_run_that_was_stopped_goes_on_bit_for_bit(pairs: Path, encoder: Path, home: Path) -> None:
    settings = {**SETTINGS, "max_steps": 12, "log_steps": 1}
    order = {"text_tower": str(encoder), "settings": settings}
    vm.train_student(pairs, name="straight", **order)
    half = vm.train_student(pairs, name="half", watch=killed_after(5), **order)
    assert half.run.outcome.state == "stopped"
    vm.train_student(pairs, name="half", **order)
    one, two = weights("straight", home), weights("half", home)
    assert one.keys() == two.keys()
    assert all(torch.equal(one[key], two[key]) for key in one)


def test_a_tower_takes_its_words_along(
    pairs: Path, pictures: Path, encoder: Path, home: Path
) -> None:
    store = vm.Store(home / "models")
    store.pull(str(encoder), name="words")
    short = {**SETTINGS, "max_steps": 4}
    vm.train_student(pairs, name="zh", text_tower="words", settings=short)
    settings = {**RESNET, **RUN, "max_steps": 2}
    locked = {"text_tower": "words", "lock_text": True, "student": "zh"}
    vm.train_clip(pictures, name="both", settings=settings, **locked)
    with vm.Line() as line:
        engine = line.load("both")
        found = line.embed(["红", "red"], model="both")
        weight = engine.encoder.clip.text_projection.weight.detach().numpy()
    student = Bag.from_folder(store.locate("zh")[1]).encode(["红"])[0]
    for vector, before in ((found[0], student), (found[1], line.embed(["red"], model="words")[0])):
        expected = weight @ (before / np.linalg.norm(before))
        np.testing.assert_allclose(vector, expected / np.linalg.norm(expected), atol=1e-5)
    with pytest.raises(InputError, match="student: words is none"):
        vm.train_clip(pictures, name="x", settings=settings, **{**locked, "student": "words"})
    with pytest.raises(InputError, match="give that one"):
        vm.train_clip(pictures, name="x", settings=settings, student="zh")


def test_pairs_that_cannot_be_used(tmp_path: Path, encoder: Path, home: Path) -> None:
    order = {"text_tower": str(encoder), "name": "zh"}
    with pytest.raises(NotFoundError, match="there is no file"):
        vm.train_student(tmp_path / "none.tsv", **order)
    path = tmp_path / "pairs.jsonl"
    path.write_text('{"en": "red"}\n')
    with pytest.raises(InputError, match="no row with both label and label_zh"):
        vm.train_student(path, **order)
    path.write_text('{"label": "red"\n')
    with pytest.raises(InputError, match="line 1 is no JSON"):
        vm.train_student(path, **order)
    table = tmp_path / "pairs.tsv"
    table.write_text("label\tlabel_zh\nred\t红\ntea\t茶\n")
    done = vm.train_student(
        table, settings={"max_steps": 1, "batch_size": 2, "tensorboard": False}, **order
    )
    assert done.run.outcome.state == "finished"
