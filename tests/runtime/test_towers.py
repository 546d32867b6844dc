from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from tests.tiny import SENTENCES, draw_weights, tiny_encoder_folder
from vermilion.errors import InputError, ModelError
from vermilion.models.contrast.net import TextTransformer
from vermilion.models.contrast.tokenizer import Tokenizer
from vermilion.models.diffusion.embeddings import Learnt
from vermilion.models.diffusion.manifest import Manifest
from vermilion.models.lm.encode import Encoder
from vermilion.runtime.engines.towers import Classes, ClipTower, SentenceTower


def clip_folder(path: Path, vocab_size: int = 600, length: int = 16) -> Path:
    """A text tower and its tokenizer in one folder, as transformers writes them."""
    tokenizer = Tokenizer.train(SENTENCES, vocab_size, max_length=length)
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=12,
        intermediate_size=24,
        num_hidden_layers=3,
        num_attention_heads=2,
        max_position_embeddings=length,
        bos_token_id=tokenizer.bos_id,
        eos_token_id=tokenizer.eos_id,
    )
    tower = CLIPTextModel(config)
    draw_weights(tower, 0)
    tower.save_pretrained(path)
    tokenizer.save(path)
    return path


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return clip_folder(tmp_path_factory.mktemp("clip"))


def opened(folder: Path) -> ClipTower:
    return ClipTower(TextTransformer.from_folder(folder), Tokenizer.from_folder(folder))


def context(tower: ClipTower | SentenceTower, *texts: str, **options: int) -> torch.Tensor:
    found = tower.condition(texts, **options).context
    assert found is not None
    return found


@pytest.mark.parametrize("skip", [0, 2])
def test_clips_tower_reads_as_transformers(clip: Path, skip: int) -> None:
    texts = ["A small shop sells tea.", ""]
    tokens = CLIPTokenizer.from_pretrained(clip)(
        texts, padding="max_length", truncation=True, return_tensors="pt"
    )
    reference = CLIPTextModel.from_pretrained(clip).eval()
    with torch.no_grad():
        out = reference(tokens.input_ids, output_hidden_states=True)
        expected = reference.final_layer_norm(out.hidden_states[-1 - skip])
    torch.testing.assert_close(context(opened(clip), *texts, skip=skip), expected)


def test_what_a_text_gives_does_not_depend_on_the_others(clip: Path) -> None:
    tower = opened(clip)
    long = "The painter mixes the red ink and signs the paper with a small seal."
    assert tower.chunks("red ink") == 1
    most = tower.chunks(long)
    assert most > 1
    alone = context(tower, "red ink", chunks=most)
    beside = context(tower, long, "red ink", "(red:1.2) ink")
    assert beside.shape == (3, 16 * most, 12)
    assert torch.equal(beside[1], alone[0])
    assert not torch.equal(beside[2], alone[0])


def test_learnt_words_come_and_go(clip: Path) -> None:
    tower = opened(clip)
    before = context(tower, "a <seal>")
    tower.use([], [Learnt("<seal>", torch.ones(2, 12))])
    assert not torch.equal(context(tower, "a <seal>"), before)
    with pytest.raises(ModelError):
        tower.use([], [Learnt("<ink>", torch.ones(2, 13))])
    tower.use([], [])
    assert torch.equal(context(tower, "a <seal>"), before)


def test_clip_skip_has_a_limit(clip: Path) -> None:
    with pytest.raises(InputError, match="clip_skip: must be 0 to 2"):
        opened(clip).condition(["a"], skip=3)


def test_a_tokenizer_of_another_model(clip: Path, tmp_path: Path) -> None:
    small = TextTransformer.from_folder(clip_folder(tmp_path, vocab_size=514))
    with pytest.raises(ModelError, match="belong to different models"):
        ClipTower(small, Tokenizer.from_folder(clip))


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    return Encoder.from_folder(tiny_encoder_folder(tmp_path_factory.mktemp("bert") / "e"))


def test_a_sentence_tower_gives_the_vectors_of_tokens(bert: Encoder) -> None:
    texts = ["a small shop sells tea", "red", ""]
    found = SentenceTower(bert, 24, pooled=True).condition(texts)
    vectors, mask = bert.encode_tokens(texts)
    assert found.context is not None
    assert found.context.shape == (3, 24, 32)
    length = vectors.shape[1]
    torch.testing.assert_close(found.context[:, :length], vectors, rtol=0, atol=1e-5)
    assert not found.context[:, length:].any()
    assert not found.context[:, :length][~mask].any()
    assert found.pooled is not None
    np.testing.assert_allclose(found.pooled.numpy(), bert.encode(texts), atol=1e-5)
    assert SentenceTower(bert, 24).condition(texts).pooled is None


def test_a_sentence_tower_reads_weights_and_long_texts(bert: Encoder) -> None:
    tower = SentenceTower(bert, 8)
    plain, weighted = context(tower, "red tea", "(red:1.5) tea")
    assert torch.equal(weighted[[0, 5, 7]], plain[[0, 5, 7]])
    assert not torch.equal(weighted, plain)
    long = " ".join(["red"] * 20)
    assert context(tower, long).shape[1] == 8 * tower.chunks(long) == 32
    with pytest.raises(InputError, match="clip_skip"):
        tower.condition(["a"], skip=1)
    with pytest.raises(InputError, match="loras"):
        tower.use([], [Learnt("a", torch.ones(1, 32))])


def test_classes() -> None:
    named = Classes(Manifest(classes=("cat", "dog"), null_class=2), 3)
    assert named.guides
    found = named.condition(["dog", "", "0"]).labels
    assert found is not None
    assert found.tolist() == [1, 2, 0]
    numbered = Classes(Manifest(), 3)
    assert not numbered.guides
    labels = numbered.condition(["2", "0"]).labels
    assert labels is not None
    assert labels.tolist() == [2, 0]
    with pytest.raises(InputError, match="it knows 0, 1, 2"):
        numbered.condition([""])
    assert len(Classes(Manifest(), 0).condition(["anything"])) == 0
