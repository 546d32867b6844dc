"""The tokenizer, on CLIP's published vocabulary and a small one, against CLIPTokenizer."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer, CLIPTokenizer

from tests.models.contrast.published import write_vocabulary
from tests.models.contrast.reference import write_tiny_vocabulary
from tests.tiny import SENTENCES
from vermilion.errors import InputError, ModelError
from vermilion.models.contrast.tokenizer import Tokenizer

TEXTS = [
    *SENTENCES, "", " ", "a photo of a cat", "A PHOTO of a Cat's ears; they'll  see\n\tit's",
    "中文：一只猫在红色的沙发上。", "日本語テキスト 한국어 العربية עברית",
    "😀👍🏽👨‍👩‍👧 emoji🎉party",
    "naïve café Ångström ﬁ ÀÉÎ İstanbul ß", "x" * 300, "1234567890 3.14 1,000,000 ½ ²",
    "<|startoftext|> in <|endoftext|> the text", "!!!???...---___",
    "\u200b\ufeff\u0301 zero width",
    "a\u00a0b", "http://example.org/a?b=c&d=%20 user@example.org #tag", "word " * 120, "\x00\x7f",
]  # fmt: skip


@pytest.fixture(scope="module", params=["published", "learnt"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    write = write_vocabulary if request.param == "published" else write_tiny_vocabulary
    return write(tmp_path_factory.mktemp(request.param))


@pytest.fixture(scope="module")
def reference(folder: Path) -> CLIPTokenizer:
    return CLIPTokenizer.from_pretrained(folder)


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> Tokenizer:
    return Tokenizer.from_folder(folder)


def expected(reference: CLIPTokenizer, texts: list[str]) -> list[list[int]]:
    return reference(texts, padding="max_length", max_length=77, truncation=True)["input_ids"]


def test_ids_of_many_strings(tokenizer: Tokenizer, reference: CLIPTokenizer) -> None:
    found = tokenizer.encode(TEXTS)
    assert found.shape == (len(TEXTS), 77)
    assert found.tolist() == expected(reference, TEXTS)
    for text in TEXTS:
        assert tokenizer.ids(text) == reference(text, add_special_tokens=False)["input_ids"]
    longest = reference(TEXTS[:5], padding=True)["input_ids"]
    assert tokenizer.encode(TEXTS[:5], longest=True).tolist() == longest
    assert len(tokenizer) == len(reference)


def test_ids_that_are_known(tmp_path: Path) -> None:
    """As OpenAI's own tokenizer gives them."""
    tokenizer = Tokenizer.from_folder(write_vocabulary(tmp_path))
    ids = [49406, 320, 1125, 539, 320, 2368, 49407]
    assert tokenizer.encode(["a photo of a cat"], longest=True).tolist() == [ids]
    assert len(tokenizer) == 49408


@settings(max_examples=200, deadline=None, derandomize=True)
@given(text=st.text(max_size=80))
def test_ids_of_any_string(tokenizer: Tokenizer, reference: CLIPTokenizer, text: str) -> None:
    assert tokenizer.encode([text]).tolist() == expected(reference, [text])


def test_padding_with_another_token(folder: Path, tmp_path: Path) -> None:
    """Stable Diffusion 2 fills up with "!"."""
    CLIPTokenizer.from_pretrained(folder, pad_token="!").save_pretrained(tmp_path)
    assert not (tmp_path / "vocab.json").exists()  # so tokenizer.json is what is read
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    found = Tokenizer.from_folder(tmp_path)
    assert found.pad_id == theirs.pad_token_id == found.fast.token_to_id("!")
    assert found.encode(TEXTS).tolist() == expected(theirs, TEXTS)


@pytest.mark.parametrize("reader", [CLIPTokenizer, AutoTokenizer])
def test_what_is_written_opens_in_transformers(
    folder: Path, tmp_path: Path, reader: type[CLIPTokenizer]
) -> None:
    tokenizer = Tokenizer.from_folder(folder)
    tokenizer.save(tmp_path)
    theirs = reader.from_pretrained(tmp_path)
    assert expected(theirs, TEXTS) == tokenizer.encode(TEXTS).tolist()
    assert theirs.model_max_length == 77
    assert Tokenizer.from_folder(tmp_path).encode(TEXTS).tolist() == expected(theirs, TEXTS)


def test_added_tokens(folder: Path, reference: CLIPTokenizer) -> None:
    tokenizer = Tokenizer.from_folder(folder)
    first = len(reference)
    assert tokenizer.add(["<cat-toy>", "<cat-toy>_1"]) == [first, first + 1]
    theirs = CLIPTokenizer.from_pretrained(folder)
    theirs.add_tokens(["<cat-toy>", "<cat-toy>_1"])
    text = "a photo of <cat-toy> <cat-toy>_1 on grass"
    assert tokenizer.encode([text]).tolist() == expected(theirs, [text])
    assert {first, first + 1} <= set(tokenizer.ids(text))


def test_a_vocabulary_that_was_learnt(tmp_path: Path) -> None:
    tokenizer = Tokenizer.train(SENTENCES * 3, 600, max_length=40)
    assert 514 < len(tokenizer) <= 600
    assert len(tokenizer.ids("the seal")) == 2
    found = tokenizer.encode(TEXTS)
    assert found.shape == (len(TEXTS), 40)
    assert found.max() == tokenizer.eos_id == len(tokenizer) - 1
    tokenizer.save(tmp_path)
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    ids = theirs(TEXTS, padding="max_length", truncation=True, max_length=40)["input_ids"]
    assert found.tolist() == ids
    assert Tokenizer.train(SENTENCES * 3, 600).fast.to_str() == tokenizer.fast.to_str()
    with pytest.raises(InputError, match="^vocab_size: must be 514"):
        Tokenizer.train(SENTENCES, 500)


def test_broken_folders(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"tokenizer\.json is missing, or vocab\.json and merges"):
        Tokenizer.from_folder(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ModelError, match="this is not a tokenizer"):
        Tokenizer.from_folder(tmp_path)
    theirs = json.loads(Tokenizer.from_folder(folder).fast.to_str())
    theirs["added_tokens"] = []
    theirs["model"]["vocab"] = {"a": 0, "<|endoftext|>": 1}
    theirs["model"]["merges"], theirs["post_processor"] = [], None
    (tmp_path / "tokenizer.json").write_text(json.dumps(theirs))
    with pytest.raises(ModelError, match=r"<\|startoftext\|> is missing"):
        Tokenizer.from_folder(tmp_path)
