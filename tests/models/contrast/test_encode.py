"""Vectors in batches, and what is computed from them, against scikit-learn and plain loops."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from torch import nn
from transformers import AutoProcessor

from tests.models.contrast.reference import TOWER, photo, tiny_clip_folder
from vermilion.errors import InputError
from vermilion.models.contrast import io
from vermilion.models.contrast.config import VisionConfig
from vermilion.models.contrast.encode import ContrastEncoder
from vermilion.models.contrast.evaluate import (
    PROMPTS,
    LinearProbe,
    accuracy,
    class_vectors,
    nearest_neighbours,
    retrieval,
)
from vermilion.models.contrast.loss import clamp, clip_loss
from vermilion.models.contrast.net import CLIP, VisionTransformer
from vermilion.models.contrast.preprocess import Preprocess


def unit(count: int, size: int, seed: int) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(count, size)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_vectors_and_probabilities(tmp_path: Path) -> None:
    model = tiny_clip_folder(tmp_path)
    encoder = ContrastEncoder.from_folder(tmp_path)
    encoder.batch_size = 2
    pictures = [photo(40 + n, 60, seed=n) for n in range(5)]
    texts = ["a cat", "一只猫 in the red house", ""]
    inputs = AutoProcessor.from_pretrained(tmp_path)(
        text=texts, images=pictures, return_tensors="pt", padding=True
    )
    with torch.inference_mode():
        expected = model(**inputs)
    images, words = encoder.pictures(iter(pictures)), encoder.texts(texts)
    assert images.dtype == words.dtype == np.float32
    assert encoder.size == images.shape[1] == 24
    np.testing.assert_allclose(images, expected.image_embeds, atol=1e-5)
    np.testing.assert_allclose(words, expected.text_embeds, atol=1e-5)
    probabilities = encoder.probabilities(images, words)
    np.testing.assert_allclose(probabilities, expected.logits_per_image.softmax(-1), atol=1e-5)
    assert encoder.pictures([]).shape == (0, 24)


def test_a_text_tower_that_is_passed_in(tmp_path: Path) -> None:
    tower = VisionTransformer(VisionConfig(**TOWER, image_size=32, patch_size=8))
    clip = CLIP(tower, nn.Identity(), text_size=16, projection_dim=None)
    io.save_clip(clip, tmp_path, Preprocess.for_size(32), text_tower="words")
    vectors = {"a": unit(1, 16, 0)[0], "b": 3 * unit(1, 16, 1)[0]}
    encoder = ContrastEncoder.from_folder(
        tmp_path, text=lambda texts: torch.tensor(np.stack([vectors[t] for t in texts]))
    )
    np.testing.assert_allclose(encoder.texts(["b", "a"])[0], vectors["b"] / 3, atol=1e-6)
    assert encoder.pictures([photo(30, 30)]).shape == (1, 16)


def test_a_locked_tower_is_not_trained() -> None:
    """LiT: what requires no gradient stays; the other tower and the scale learn."""
    torch.manual_seed(0)
    words = nn.Embedding(8, 16).requires_grad_(requires_grad=False)
    tower = VisionTransformer(VisionConfig(**TOWER, image_size=32, patch_size=16))
    clip = CLIP(tower, words, text_size=16, projection_dim=None)
    before = words.weight.clone()
    pictures, ids = torch.randn(8, 3, 32, 32), torch.arange(8)
    optimizer = torch.optim.AdamW((p for p in clip.parameters() if p.requires_grad), 3e-3)
    for _ in range(40):
        clamp(clip.logit_scale)
        value = clip_loss(*clip(pictures, ids), clip.logit_scale)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
    assert torch.equal(words.weight, before)
    with torch.inference_mode():
        vectors = [v.numpy() for v in clip(pictures, ids)]
    assert retrieval(*vectors)["picture_to_text@1"] == 1


def test_class_vectors() -> None:
    known: dict[str, np.ndarray] = {}

    def texts(sentences: list[str]) -> np.ndarray:
        for sentence in sentences:
            known.setdefault(sentence, unit(1, 6, len(known))[0])
        return np.stack([known[sentence] for sentence in sentences])

    found = class_vectors(texts, ["cat", "dog"], PROMPTS)
    assert "itap of a dog." in known
    for row, name in enumerate(("cat", "dog")):
        mean = sum(known[prompt.format(name)] for prompt in PROMPTS)
        np.testing.assert_allclose(found[row], mean / np.linalg.norm(mean), rtol=1e-5)
    with pytest.raises(InputError, match=r"^prompts: 'a photo' has no \{\}"):
        class_vectors(texts, ["cat"], ["a photo"])
    with pytest.raises(InputError, match="^labels, prompts: there must be one"):
        class_vectors(texts, [])


def test_accuracy() -> None:
    scores = np.array([[0.1, 0.7, 0.2], [0.5, 0.5, 0.0], [0.2, 0.3, 0.5], [np.nan] * 3])
    labels = np.array([1, 0, 0, 1])
    assert accuracy(scores, labels) == 0.25  # neither a tie nor what is no number is right
    assert accuracy(scores, labels, k=2) == 0.5
    assert accuracy(scores[:3], labels[:3], k=3) == 1


def test_retrieval() -> None:
    pictures, texts = unit(30, 4, 0), unit(50, 4, 1)
    owners = np.random.default_rng(2).integers(0, 25, 50)  # some pictures have no text
    near = texts @ pictures.T
    found = retrieval(pictures, texts, owners, ks=(1, 3))
    for k in (1, 3):
        hits = [owners[i] in np.argsort(-near[i])[:k] for i in range(50)]
        assert found[f"text_to_picture@{k}"] == pytest.approx(np.mean(hits))
        asked = sorted(set(owners.tolist()))
        hits = [any(owners[j] == i for j in np.argsort(-near[:, i])[:k]) for i in asked]
        assert found[f"picture_to_text@{k}"] == pytest.approx(np.mean(hits))
    assert set(retrieval(pictures, pictures).values()) == {1.0}
    same = np.repeat(pictures[:1], 30, axis=0)
    assert retrieval(same, same)["text_to_picture@10"] == 0  # a collapsed model finds nothing
    assert set(retrieval(same * np.float32("nan"), same).values()) == {0.0}
    with pytest.raises(ValueError, match="^owners: 50 for 50 texts, 30 pictures"):
        retrieval(pictures, texts)


def clouds(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(seed)
    labels = draw.integers(0, 4, count)
    vectors = unit(4, 12, 0)[labels] + 0.35 * draw.normal(size=(count, 12)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True), labels


def test_nearest_neighbours() -> None:
    known, labels = clouds(300, 1)
    asked, right = clouds(1500, 2)
    theirs = KNeighborsClassifier(
        n_neighbors=20, metric="cosine", weights=lambda distance: np.exp((1 - distance) / 0.07)
    ).fit(known, labels)
    found = nearest_neighbours(known, labels, asked)
    assert (found == theirs.predict(asked)).mean() > 0.999
    assert 0.5 < (found == right).mean() < 1
    with pytest.raises(ValueError, match="^k: must be 1 to 300"):
        nearest_neighbours(known, labels, asked, k=301)


@pytest.mark.parametrize("C", [0.1, 10.0])
def test_linear_probe(C: float) -> None:
    known, labels = clouds(300, 1)
    asked, right = clouds(500, 2)
    theirs = LogisticRegression(C=C, max_iter=5000, tol=1e-8).fit(known.astype(float), labels)
    probe = LinearProbe(known, labels, C=C)
    np.testing.assert_allclose(probe.weight, theirs.coef_, atol=2e-3)
    scores = probe.scores(asked)
    np.testing.assert_array_equal(scores.argmax(1), theirs.predict(asked.astype(float)))
    assert accuracy(scores, right) == pytest.approx(theirs.score(asked.astype(float), right))
