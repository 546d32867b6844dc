"""CLIP in the store: pulled from a hub, known by its files, its vectors, what it says of errors."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import CLIPModel

from tests.models.contrast.reference import photo, tiny_clip_folder
from tests.runtime.servers import Hub
from tests.runtime.test_hub import Pull, pull
from vermilion.errors import InputError
from vermilion.line.run import Line
from vermilion.models.contrast.encode import ContrastEncoder
from vermilion.models.contrast.io import load_clip, load_preprocess
from vermilion.runtime.cards import catalog
from vermilion.runtime.engines import PictureEncoder, TextEncoder, rank
from vermilion.runtime.engines.contrast import ContrastEngine
from vermilion.runtime.store import Store
from vermilion.settings import Settings
from vermilion.types import Prompt

__all__ = ["pull"]  # the fixture

TEXTS = ["the red of the seal", "a small shop"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "tiny-clip"
    tiny_clip_folder(path)
    return path


def test_a_clip_is_pulled_from_a_hub(
    pull: Pull, hub: Hub, folder: Path, tmp_path: Path, home: Path
) -> None:
    files = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    hub.files = {**files, "pytorch_model.bin": b"\x80\x02", "README.md": b""}
    got = pull()
    assert {"model.safetensors", "config.json", "preprocessor_config.json"} <= set(got["files"])
    assert "pytorch_model.bin" not in got["files"]
    store = Store(tmp_path / "models")
    card, path = store.locate("tiny")
    assert (card.kind, card.family) == ("embedding", "clip")
    expected = ContrastEncoder.from_folder(folder).pictures([photo(40, 30)])
    assert np.array_equal(ContrastEncoder.from_folder(path).pictures([photo(40, 30)]), expected)


def test_the_catalog_names_it() -> None:
    card = catalog()["clip-vit-b-32"]
    assert card.source == "hf:openai/clip-vit-base-patch32"
    assert (card.family, card.licence) == ("clip", "MIT")


def test_vectors_are_those_of_transformers(folder: Path, line: Line) -> None:
    card, engine = line.loader.open(str(folder))
    assert isinstance(engine, PictureEncoder)
    assert isinstance(engine, TextEncoder)
    assert (card.kind, card.family) == ("embedding", "clip")
    pictures = [photo(50, 40, seed) for seed in range(3)]
    found = engine.embed_pictures(pictures)
    assert (found.shape, found.dtype) == ((3, 24), np.float32)
    theirs = CLIPModel.from_pretrained(folder).eval()
    with torch.no_grad():
        features = theirs.get_image_features(pixel_values=load_preprocess(folder)(pictures))
    features = getattr(features, "pooler_output", features)
    expected = torch.nn.functional.normalize(features, dim=-1).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-4)
    words = line.embed(TEXTS, model=str(folder))
    scale = float(load_clip(folder).logit_scale.exp())
    logits = scale * found @ words.T
    chances = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    np.testing.assert_allclose(engine.probabilities(found, words), chances, atol=1e-5)
    np.testing.assert_allclose(rank(engine, pictures, TEXTS[0]), found @ words[0], atol=1e-6)
    assert engine.embed_pictures([]).shape == (0, 24)


def test_files_give_about_the_vectors_of_their_pixels(folder: Path, line: Line) -> None:
    engine = line.load(str(folder))
    assert isinstance(engine, ContrastEngine)
    pictures = [photo(300 + 40 * n, 220, n) for n in range(5)]
    files = []
    for picture, kind in zip(pictures, ("JPEG", "JPEG", "PNG", "JPEG", "WEBP"), strict=True):
        buffer = io.BytesIO()
        Image.fromarray(picture).save(buffer, kind, quality=95)
        files.append(buffer.getvalue())
    found, expected = engine.embed_files(files), engine.embed_pictures(pictures)
    assert (found * expected).sum(1).min() > 0.98
    near, theirs = found @ expected.T, expected @ expected.T
    assert (near.argmax(1) == theirs.argmax(1)).all()
    with pytest.raises(InputError):
        engine.embed_files([files[0], b"no picture"])


def test_bytes_are_near_and_only_where_they_are_asked_for(folder: Path, home: Path) -> None:
    pictures = [photo(50, 40, seed) for seed in range(4)]
    found = {}
    for dtype in ("auto", "int8"):
        settings = Settings(dtype=dtype, device="cpu")
        card, path = Store(home / "models").locate(str(folder))
        found[dtype] = ContrastEngine.open(card, path, settings).embed_pictures(pictures)
    exact = ContrastEncoder.from_folder(folder).pictures(pictures)
    assert np.array_equal(found["auto"], exact)
    assert not np.array_equal(found["int8"], exact)
    assert (found["int8"] * exact).sum(1).min() > 0.99


def test_it_makes_nothing(folder: Path, line: Line) -> None:
    engine = line.load(str(folder))
    with pytest.raises(InputError, match="makes nothing"):
        next(engine.generate([Prompt(kind="text", text="a", model="x", seed=0)]))


def test_a_config_without_the_name_of_its_words(folder: Path, line: Line, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    for path in folder.iterdir():
        if path.is_file():
            (broken / path.name).write_bytes(path.read_bytes())
    config = json.loads((broken / "config.json").read_text())
    config["text_config"] = {"model_type": "other", "hidden_size": 32}
    (broken / "config.json").write_text(json.dumps(config))
    with pytest.raises(Exception, match="names no encoder of texts"):
        line.load(str(broken))
