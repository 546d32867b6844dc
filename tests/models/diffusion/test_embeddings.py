"""Learnt words against those that diffusers loads from the same files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from tests.models.diffusion.reference import distance, noise
from tests.tiny import SENTENCES, draw_weights
from vermilion.errors import InputError, ModelError
from vermilion.models.contrast.net import TextTransformer
from vermilion.models.contrast.tokenizer import Tokenizer
from vermilion.models.diffusion.embeddings import Learnt, Words
from vermilion.models.diffusion.prompt import Ends, encode

SIZE = 12


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A text tower with its tokenizer, as they lie in a pipeline's folder."""
    path = tmp_path_factory.mktemp("tower")
    tokenizer = Tokenizer.train(SENTENCES, 600, max_length=20)
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=SIZE,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=20,
        bos_token_id=tokenizer.bos_id,
        eos_token_id=tokenizer.eos_id,
        pad_token_id=tokenizer.pad_id,
    )
    tower = CLIPTextModel(config)
    draw_weights(tower, 0)
    tower.save_pretrained(path)
    tokenizer.save(path)
    return path


def theirs(folder: Path) -> Any:
    return StableDiffusionPipeline(
        vae=None,
        text_encoder=CLIPTextModel.from_pretrained(folder).eval(),
        tokenizer=CLIPTokenizer.from_pretrained(folder),
        unet=None,
        scheduler=DDIMScheduler(steps_offset=1, clip_sample=False),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """A file of each layout."""
    vectors = {"one": noise(SIZE), "many": noise(3, SIZE, seed=2), "webui": noise(2, SIZE, seed=3)}
    names = {"one": "<seal>", "many": "<red-ink>", "webui": "emb_params"}
    for name, tensor in vectors.items():
        save_file({names[name]: tensor}, tmp_path / f"{name}.safetensors")
    return {name: tmp_path / f"{name}.safetensors" for name in vectors}


def test_a_tower_reads_them_as_that_of_diffusers(folder: Path, files: dict[str, Path]) -> None:
    pipe = theirs(folder)
    for path in files.values():
        pipe.load_textual_inversion(path, token="webui" if path.stem == "webui" else None)
    texts = ["the <seal> signs", "a <red-ink> and a webui paper", "<seal><red-ink>", "the webuis"]
    with torch.no_grad():
        reference, _ = pipe.encode_prompt(texts, "cpu", 1, False)
    tower, tokenizer = TextTransformer.from_folder(folder), Tokenizer.from_folder(folder)
    learnt = [Learnt.read(path) for path in files.values()]
    words = Words(tokenizer.ids, tower.config.vocab_size, SIZE, learnt)
    ends = Ends(20, tokenizer.bos_id, tokenizer.eos_id, tokenizer.pad_id)

    def read(*given: str) -> torch.Tensor:
        return encode(given, words.tokenize, lambda ids: tower.hidden(ids, extra=words.extra), ends)

    # The last text is left out: in diffusers a word is found within another too.
    assert distance(read(*texts[:3]), reference[:3]) < 1e-5
    assert torch.equal(
        read("the webuis"), encode(["the webuis"], tokenizer.ids, tower.hidden, ends)
    )
    assert not torch.equal(
        read("the webui"), encode(["the webui"], tokenizer.ids, tower.hidden, ends)
    )


def test_names_of_words(files: dict[str, Path]) -> None:
    assert [Learnt.read(path).word for path in files.values()] == ["<seal>", "<red-ink>", "webui"]
    assert Learnt.read(files["one"], "seal").word == "seal"
    assert [len(Learnt.read(path).vectors) for path in files.values()] == [1, 3, 2]


def test_the_longest_word_comes_first() -> None:
    learnt = [Learnt("ink", noise(1, 2)), Learnt("ink-red", noise(2, 2))]
    words = Words(lambda text: [len(text)] if text else [], 100, 2, learnt)
    assert words.tokenize("ink-red (ink) inks pink") == [101, 102, 2, 100, len(") inks pink")]
    assert words.extra is not None
    assert torch.equal(words.extra, torch.cat([one.vectors for one in learnt]))
    assert Words(lambda text: [7], 100, 2).tokenize("ink") == [7]
    again = Words(lambda text: [], 100, 2, [*learnt, Learnt("ink", noise(1, 2, seed=9))])
    assert again.tokenize("ink") == [103]


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"clip_g": (2, 4), "clip_l": (2, 3)}, "Stable Diffusion XL"),
        ({"a": (2,), "b": (2,)}, "holds 2 tensors"),
        ({"a": (2, 2, 2)}, "holds no learnt word"),
    ],
)
def test_files_that_cannot_be_used(
    tmp_path: Path, tensors: dict[str, tuple[int, ...]], message: str
) -> None:
    path = tmp_path / "x.safetensors"
    save_file({name: torch.zeros(shape) for name, shape in tensors.items()}, path)
    with pytest.raises(ModelError, match=message):
        Learnt.read(path)
    path.write_bytes(b"{}")
    with pytest.raises(ModelError, match="cannot be read"):
        Learnt.read(path)


def test_words_of_another_model() -> None:
    with pytest.raises(ModelError, match="have 3 features and the model reads 2"):
        Words(lambda text: [], 100, 2, [Learnt("a", noise(1, 3))])
    with pytest.raises(InputError, match="word: "):
        Words(lambda text: [], 100, 2, [Learnt(" ", noise(1, 2))])
