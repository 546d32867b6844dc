"""Text encoders against transformers' BertModel with its vectors averaged over the mask.

That is what sentence-transformers computes for these folders; it is not installed here.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch.nn import functional as F
from transformers import AutoModel, AutoTokenizer

from tests.models.lm.test_io import add_tensor, change, cut, drop_tensor
from tests.tiny import SENTENCES, tiny_encoder_folder
from vermilion.errors import ModelError, NotFoundError
from vermilion.models.lm.encode import Encoder
from vermilion.runtime.store import Store
from vermilion.settings import get_settings

TEXTS = [*SENTENCES, "", "red", "tea " * 100, "Tea?! Ink.", "ÀÉÎ tea"]


@pytest.fixture(scope="module")
def encoder_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_encoder_folder(tmp_path_factory.mktemp("models") / "encoder")


def expected(
    folder: Path, texts: list[str], *, length: int = 64, pooling: str = "mean", unit: bool = True
) -> NDArray[np.float32]:
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder)
    batch = tokenizer(texts, padding=True, truncation=True, max_length=length, return_tensors="pt")
    mask = batch["attention_mask"][..., None]
    with torch.inference_mode():
        hidden = model.eval()(**batch).last_hidden_state
    pooled = {
        "mean": (hidden * mask).sum(1) / mask.sum(1),
        "cls": hidden[:, 0],
        "max": hidden.masked_fill(mask == 0, -1e9).amax(1),
    }[pooling]
    return (F.normalize(pooled, dim=-1) if unit else pooled).numpy()


def test_vectors_agree_with_transformers(encoder_folder: Path) -> None:
    found = Encoder.from_folder(encoder_folder).encode(TEXTS)
    assert found.dtype == np.float32
    reference = expected(encoder_folder, TEXTS)
    assert reference.std(axis=0).min() > 0.01  # else all texts are the same to the tiny model
    np.testing.assert_allclose(found, reference, atol=1e-5)


@pytest.mark.parametrize("pooling", ["cls", "max"])
def test_other_poolings(encoder_folder: Path, tmp_path: Path, pooling: str) -> None:
    copy = shutil.copytree(encoder_folder, tmp_path / "copy")
    name = {"cls": "pooling_mode_cls_token", "max": "pooling_mode_max_tokens"}[pooling]
    fields = {"pooling_mode_mean_tokens": False, name: True}
    change(copy / "1_Pooling" / "config.json", **fields)
    found = Encoder.from_folder(copy).encode(TEXTS)
    np.testing.assert_allclose(found, expected(copy, TEXTS, pooling=pooling), atol=1e-5)


def test_a_plain_bert(encoder_folder: Path, tmp_path: Path) -> None:
    """No modules, a vocab.txt for a tokenizer, and the names of the oldest files."""
    copy = shutil.copytree(encoder_folder, tmp_path / "copy")
    reference = expected(copy, TEXTS, length=128, unit=False)
    for name in ("modules.json", "sentence_bert_config.json", "1_Pooling/config.json"):
        (copy / name).unlink()
    vocab = json.loads((copy / "tokenizer.json").read_text())["model"]["vocab"]
    (copy / "vocab.txt").write_text("\n".join(sorted(vocab, key=vocab.__getitem__)) + "\n")
    (copy / "tokenizer.json").unlink()
    tensors = load_file(copy / "model.safetensors")
    old = {
        "bert."
        + n.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
            "LayerNorm.bias", "LayerNorm.beta"
        ): t
        for n, t in tensors.items()
    }
    old["cls.predictions.bias"] = torch.zeros(9)
    save_file(old, copy / "model.safetensors")
    encoder = Encoder.from_folder(copy)
    np.testing.assert_allclose(encoder.encode(TEXTS), reference, atol=1e-4)
    unit = encoder.encode(TEXTS, normalize=True)
    np.testing.assert_allclose(np.linalg.norm(unit, axis=1), 1, atol=1e-6)


def test_a_text_does_not_depend_on_its_batch(encoder_folder: Path) -> None:
    encoder = Encoder.from_folder(encoder_folder)
    together = encoder.encode(TEXTS * 20)
    alone = np.stack([encoder.encode([text])[0] for text in TEXTS])
    np.testing.assert_allclose(together, np.tile(alone, (20, 1)), atol=1e-6, rtol=0)


def test_vectors_of_tokens(encoder_folder: Path) -> None:
    encoder = Encoder.from_folder(encoder_folder)
    vectors, mask = encoder.encode_tokens(TEXTS)
    batch = AutoTokenizer.from_pretrained(encoder_folder)(
        TEXTS, padding=True, truncation=True, max_length=64, return_tensors="pt"
    )
    with torch.inference_mode():
        hidden = AutoModel.from_pretrained(encoder_folder).eval()(**batch).last_hidden_state
    assert torch.equal(mask, batch["attention_mask"].bool())
    torch.testing.assert_close(vectors, hidden * mask[..., None], atol=1e-5, rtol=0)


def test_a_text_without_any_token(encoder_folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(encoder_folder, tmp_path / "copy")
    change(copy / "tokenizer.json", post_processor=None)
    encoder = Encoder.from_folder(copy)
    assert np.isfinite(encoder.encode(["", "tea"])).all()
    np.testing.assert_allclose(
        encoder.encode(["", "tea"])[1], encoder.encode(["tea"])[0], atol=1e-6
    )


def test_no_texts(encoder_folder: Path) -> None:
    assert Encoder.from_folder(encoder_folder).encode([]).shape == (0, 32)


def test_padding_that_was_saved_is_not_used(encoder_folder: Path, tmp_path: Path) -> None:
    """The published tokenizer.json of all-MiniLM-L6-v2 pads to 128 and cuts there."""
    copy = shutil.copytree(encoder_folder, tmp_path / "copy")
    tokenizer = json.loads((copy / "tokenizer.json").read_text())
    tokenizer["truncation"] = {
        "direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0,
    }  # fmt: skip
    tokenizer["padding"] = {
        "strategy": {"Fixed": 12}, "direction": "Right", "pad_to_multiple_of": None,
        "pad_id": 0, "pad_type_id": 0, "pad_token": "[PAD]",
    }  # fmt: skip
    (copy / "tokenizer.json").write_text(json.dumps(tokenizer))
    found = Encoder.from_folder(copy).encode(TEXTS)
    assert np.array_equal(found, Encoder.from_folder(encoder_folder).encode(TEXTS))


BROKEN: dict[str, tuple[Callable[[Path], Any], str]] = {
    "another model": (lambda f: change(f / "config.json", model_type="t5"), "'t5' is no encoder"),
    "a decoder": (lambda f: change(f / "config.json", is_decoder=True), "is no encoder"),
    "relative positions": (
        lambda f: change(f / "config.json", position_embedding_type="relative_key"),
        "position_embedding_type: only absolute",
    ),
    "a missing field": (lambda f: change(f / "config.json", hidden_size=...), "'hidden_size' is"),
    "no number": (lambda f: change(f / "config.json", hidden_size="x"), "hidden_size: must be a"),
    "heads that do not fit": (
        lambda f: change(f / "config.json", num_attention_heads=5),
        "hidden_size: must be a multiple of num_attention_heads",
    ),
    "another activation": (
        lambda f: change(f / "config.json", hidden_act="mish"),
        "hidden_act: 'mish' is not one of",
    ),
    "too many layers": (
        lambda f: change(f / "config.json", num_hidden_layers=2**30),
        "fewer tensors than layers",
    ),
    "a missing tensor": (
        lambda f: drop_tensor(f, "embeddings.LayerNorm.weight"),
        "the tensor bert.embeddings.LayerNorm.weight is missing",
    ),
    "a strange tensor": (
        lambda f: add_tensor(f, "encoder.relative", torch.ones(1)),
        "no place for encoder.relative",
    ),
    "a further module": (
        lambda f: (f / "modules.json").write_text('[{"type": "x.Transformer"}, {"type": "Dense"}]'),
        "the modules Transformer, Dense are not supported",
    ),
    "modules that are none": (
        lambda f: (f / "modules.json").write_text("[3]"),
        "this is not a JSON array of objects",
    ),
    "two poolings": (
        lambda f: change(f / "1_Pooling" / "config.json", pooling_mode_cls_token=True),
        "the pooling pooling_mode_cls_token, pooling_mode_mean_tokens is not supported",
    ),
    "no pooling": (lambda f: (f / "1_Pooling" / "config.json").unlink(), "config.json is missing"),
    "no length": (
        lambda f: change(f / "sentence_bert_config.json", max_seq_length=0),
        "max_seq_length: must be a whole number above 2",
    ),
    "no tokenizer": (lambda f: (f / "tokenizer.json").unlink(), "tokenizer.json is missing"),
    "half a tokenizer": (lambda f: cut(f / "tokenizer.json", 90), "this is not a tokenizer"),
}  # fmt: skip


@pytest.mark.parametrize(("damage", "message"), BROKEN.values(), ids=BROKEN)
def test_broken_folders(
    encoder_folder: Path, tmp_path: Path, damage: Callable[[Path], Any], message: str
) -> None:
    copy = shutil.copytree(encoder_folder, tmp_path / "copy")
    damage(copy)
    with pytest.raises(ModelError, match=message) as caught:
        Encoder.from_folder(copy)
    assert "\n" not in str(caught.value)


@pytest.mark.models
def test_the_default_encoder() -> None:
    """all-MiniLM-L6-v2 gives the vectors that it was published to give, and they make sense."""
    try:
        _, folder = Store(get_settings().models_dir).locate("all-minilm-l6-v2")
    except NotFoundError as error:
        pytest.skip(str(error))
    encoder = Encoder.from_folder(folder)
    texts = [
        "A cat sits on the mat.",
        "There is a kitten on the rug.",
        "Interest rates rose by a quarter of a percent.",
        "The Bank raised rates again, to the surprise of markets. " * 60,
        "",
    ]
    found, reference = encoder.encode(texts), expected(folder, texts, length=256)
    assert found.shape == (5, 384)
    assert (found * reference).sum(axis=1).min() > 0.99999
    near, far = found[0] @ found[1], found[0] @ found[2]
    assert near > 0.5 > 0.2 > far
