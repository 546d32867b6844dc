"""The text tower against transformers' CLIPTextModel, and clip skip against diffusers' way."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import CLIPTextConfig, CLIPTextModel

from tests.tiny import draw_weights
from vermilion.errors import ModelError
from vermilion.models.contrast.net import TextTransformer

SIZES = {
    "vocab_size": 99, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3,
    "num_attention_heads": 4, "bos_token_id": 97,
}  # fmt: skip


def text_folder(path: Path, **fields: object) -> CLIPTextModel:
    model = CLIPTextModel(CLIPTextConfig(**{**SIZES, "eos_token_id": 98, **fields})).eval()
    draw_weights(model, 1)
    model.save_pretrained(path)
    return model


def some_ids() -> torch.Tensor:
    ids = torch.randint(0, 97, (3, 77), generator=torch.Generator().manual_seed(0))
    ids[:, 0] = 97
    for row, length in enumerate((5, 40, 77)):
        ids[row, length - 1 :] = 98
    return ids


@pytest.mark.parametrize("hidden_act", ["quick_gelu", "gelu"])
@pytest.mark.parametrize("eos_token_id", [98, 2])
def test_vectors_and_features(tmp_path: Path, hidden_act: str, eos_token_id: int) -> None:
    model = text_folder(tmp_path, hidden_act=hidden_act, eos_token_id=eos_token_id)
    tower = TextTransformer.from_folder(tmp_path)
    ids = some_ids()
    with torch.inference_mode():
        expected = model(ids)
        found, pooled = tower.hidden(ids), tower(ids)
    torch.testing.assert_close(found, expected.last_hidden_state, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(pooled, expected.pooler_output, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("skip", [0, 1, 2])
def test_clip_skip(tmp_path: Path, skip: int) -> None:
    """As StableDiffusionPipeline.encode_prompt: hidden_states[-(clip_skip + 1)], normalised."""
    model = text_folder(tmp_path)
    ids = some_ids()
    with torch.inference_mode():
        states = model(ids, output_hidden_states=True).hidden_states
        expected = model.final_layer_norm(states[-(skip + 1)])
        found = TextTransformer.from_folder(tmp_path).hidden(ids, skip)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_further_tokens_and_given_features(tmp_path: Path) -> None:
    """As textual inversion does it in diffusers: the embedding grows by the new rows."""
    model = text_folder(tmp_path, eos_token_id=2)
    tower = TextTransformer.from_folder(tmp_path)
    extra = torch.randn(2, 32, generator=torch.Generator().manual_seed(5)).requires_grad_()
    ids = some_ids()
    plain = tower.embeddings.tokens(ids)
    torch.testing.assert_close(tower.hidden(ids, tokens=plain), tower.hidden(ids))
    ids[:, 2], ids[0, 3] = 99, 100
    found = tower.hidden(ids, extra=extra)
    model.resize_token_embeddings(101, mean_resizing=False)
    with torch.no_grad():
        model.embeddings.token_embedding.weight[99:] = extra
        expected = model(ids).last_hidden_state
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    (gradient,) = torch.autograd.grad(found.square().sum(), extra)
    assert (gradient.norm(dim=1) > 0).all()
    assert tower.ends(ids).tolist() == [4, 39, 76]


def test_folders_of_older_versions(tmp_path: Path) -> None:
    """They write the prefix of the whole model, and the numbers of the places."""
    text_folder(tmp_path)
    expected = TextTransformer.from_folder(tmp_path).hidden(some_ids())
    tensors = load_file(tmp_path / "model.safetensors")
    old = {f"text_model.{name}": tensor for name, tensor in tensors.items()}
    old["text_model.embeddings.position_ids"] = torch.arange(77)[None]
    save_file(old, tmp_path / "model.safetensors", metadata={"format": "pt"})
    found = TextTransformer.from_folder(tmp_path).hidden(some_ids())
    torch.testing.assert_close(found, expected, atol=0, rtol=0)
    old["text_model.strange.weight"] = torch.zeros(1)
    save_file(old, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match="no place for strange.weight"):
        TextTransformer.from_folder(tmp_path)


def test_bad_input(tmp_path: Path) -> None:
    text_folder(tmp_path)
    tower = TextTransformer.from_folder(tmp_path)
    with pytest.raises(ValueError, match="^ids: at most 77 tokens"):
        tower.hidden(torch.zeros(1, 78, dtype=torch.int64))
    with pytest.raises(ValueError, match="^skip: must be 0 to 3"):
        tower.hidden(some_ids(), 4)
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(ModelError, match="known are clip and clip_text_model"):
        TextTransformer.from_folder(tmp_path)
