"""Encoders in the store, through their engine and the line."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.tiny import tiny_encoder_folder
from vermilion.errors import InputError, NotFoundError
from vermilion.line.run import Line
from vermilion.models.lm.encode import Encoder
from vermilion.runtime.store import Store
from vermilion.types import Prompt

TEXTS = ["The red of the seal", "tea", ""]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_encoder_folder(tmp_path_factory.mktemp("models") / "tiny-encoder")


def test_a_folder_is_known_as_an_encoder(folder: Path, home: Path) -> None:
    store = Store(home / "models")
    card, path = store.locate(str(folder))
    assert (card.kind, card.family, path) == ("embedding", "encoder", folder)
    assert "1_Pooling/config.json" in card.files
    pulled = store.pull(str(folder), name="mine")
    assert (pulled.kind, pulled.family) == ("embedding", "encoder")
    assert store.locate("mine")[1] == folder
    assert store.verify("mine") == pulled


def test_a_plain_bert_without_a_fast_tokenizer(folder: Path, home: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(folder, tmp_path / "bert")
    for name in ("tokenizer.json", "modules.json", "1_Pooling/config.json"):
        (copy / name).unlink()
    (copy / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\ntea\nred\n")
    with Line() as line:
        assert line.embed(["red tea"], model=str(copy)).shape == (1, 32)


def test_embed_gives_the_encoders_vectors(folder: Path, line: Line) -> None:
    found = line.embed(TEXTS, model=str(folder))
    assert found.dtype == np.float32
    assert np.array_equal(found, Encoder.from_folder(folder).encode(TEXTS))
    card, engine = line.loader.open(str(folder))
    assert engine.parameters == sum(p.numel() for p in Encoder.from_folder(folder).net.parameters())
    assert engine.memory(card, folder) >= 4 * engine.parameters
    assert set(engine.versions) == {"torch", "tokenizers"}


def test_what_cannot_be_embedded(folder: Path, tiny_model: str, line: Line) -> None:
    with pytest.raises(InputError, match="texts: must be a list of strings"):
        line.embed("one text", model=str(folder))
    with pytest.raises(InputError, match="texts: must be a list of strings"):
        line.embed(["a", None], model=str(folder))  # type: ignore[list-item]
    with pytest.raises(InputError, match="makes text and no vectors; name an encoder"):
        line.embed(["a"], model=tiny_model)
    with pytest.raises(NotFoundError, match="vermilion models pull all-minilm-l6-v2 "):
        line.embed(["a"])


def test_an_encoder_makes_nothing(folder: Path, line: Line) -> None:
    engine = line.load(str(folder))
    prompt = Prompt(kind="text", text="x", model=str(folder), seed=0)
    with pytest.raises(InputError, match="turns texts into vectors and makes nothing"):
        next(iter(engine.generate([prompt])))
