"""The student of other languages: runs of characters, against sums by hand; in and out."""

from __future__ import annotations

import json
from pathlib import Path
from zlib import crc32

import numpy as np
import pytest
import torch

from vermilion.errors import ModelError
from vermilion.models.contrast.bag import Bag, runs_of


def made(seed: int = 0) -> Bag:
    torch.manual_seed(seed)
    return Bag(64, 8, 12).eval()


def test_runs_of_one_to_three_characters_in_one_form() -> None:
    assert runs_of("Ａb") == ["\x02", "a", "b", "\x03", "\x02a", "ab", "b\x03", "\x02ab", "ab\x03"]
    assert runs_of("A  b") == runs_of(" a b\n")
    assert runs_of("")  # never empty
    assert "咖啡" in runs_of("咖啡杯")


def test_a_vector_is_the_mean_of_its_runs() -> None:
    bag = made()
    texts = ["红苹果", "咖啡", ""]
    found = bag.encode(texts)
    table, out = bag.runs.weight.detach().numpy(), bag.out
    for text, vector in zip(texts, found, strict=True):
        mean = table[[crc32(run.encode()) % 64 for run in runs_of(text)]].mean(0)
        expected = out.weight.detach().numpy() @ mean + out.bias.detach().numpy()
        np.testing.assert_allclose(vector, expected / np.linalg.norm(expected), atol=1e-5)
    assert np.allclose(bag.encode(["咖啡"])[0], found[1], atol=1e-6)
    assert bag.encode([]).shape == (0, 12)


def test_it_is_read_back_from_halves(tmp_path: Path) -> None:
    bag = made()
    bag.save(tmp_path / "bag")
    again = Bag.from_folder(tmp_path / "bag")
    np.testing.assert_allclose(again.encode(["红苹果"]), bag.encode(["红苹果"]), atol=2e-3)
    assert (tmp_path / "bag" / "model.safetensors").stat().st_size < 2 * (
        64 * 8 + 8 * 12 + 12
    ) + 512


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("model_type", "bert", "model_type"),
        ("buckets", "many", "cannot be used"),
        ("width", 9, "do not fit"),
        ("hidden_size", None, "cannot be used"),
    ],
)
def test_a_config_that_does_not_fit(field: str, value: object, said: str, tmp_path: Path) -> None:
    made().save(tmp_path / "bag")
    path = tmp_path / "bag" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), field: value}))
    with pytest.raises(ModelError, match=said):
        Bag.from_folder(tmp_path / "bag")
