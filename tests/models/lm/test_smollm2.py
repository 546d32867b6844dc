"""SmolLM2-135M-Instruct, the model that comes with Vermilion, against transformers."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from tokenizers import Regex, pre_tokenizers
from tokenizers import Tokenizer as FastTokenizer
from transformers import AutoTokenizer

from tests.models.lm import reference
from tests.models.lm.test_generate import greedy_reference, run
from tests.models.lm.texts import TEXTS
from vermilion.models.lm import grammar, io
from vermilion.models.lm.decoder import TOLERANCE
from vermilion.models.lm.generate import Request
from vermilion.models.lm.gguf import GGUF
from vermilion.models.lm.net import LM
from vermilion.models.lm.sample import Sampling
from vermilion.models.lm.tokenizer import Tokenizer

pytestmark = pytest.mark.models

GREEDY = Sampling(temperature=0)
QUESTIONS = [
    "What is vermilion?",
    "Write one sentence about a small shop that sells tea, paper and red ink.",
    "Name three fruits.",
]


@pytest.fixture(scope="module")
def opened(smollm2: Path) -> tuple[LM, Tokenizer]:
    return io.load(smollm2)


@pytest.fixture(scope="module")
def transformers_model(smollm2: Path) -> Any:
    return reference.open_gguf(smollm2)


@pytest.fixture(scope="module")
def theirs(smollm2: Path) -> Any:
    return AutoTokenizer.from_pretrained(smollm2.parent, gguf_file=smollm2.name)


@pytest.fixture(scope="module")
def prompts(opened: tuple[LM, Tokenizer]) -> list[list[int]]:
    _, tokenizer = opened
    return [tokenizer.encode_chat([{"role": "user", "content": q}]) for q in QUESTIONS]


@pytest.fixture(scope="module")
def theirs_by_digits(theirs: Any) -> FastTokenizer:
    """With the split that llama.cpp and the published tokenizer.json make for "smollm".

    Transformers makes none when it reads a GGUF file, which shows in digits other than 0-9.
    """
    fast = FastTokenizer.from_str(theirs.backend_tokenizer.to_str())
    fast.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"\p{N}"), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    return fast


@pytest.mark.parametrize("text", TEXTS)
def test_ids_agree_with_transformers(
    tokenizer: Tokenizer, theirs: Any, theirs_by_digits: FastTokenizer, text: str
) -> None:
    ids = tokenizer.encode(text)
    assert ids == theirs_by_digits.encode(text, add_special_tokens=False).ids
    if all(c.isascii() or not c.isnumeric() for c in text):
        assert ids == theirs(text, add_special_tokens=False).input_ids
    assert tokenizer.decode(tokenizer.encode_plain(text)) == text


def test_the_chat_template_agrees_with_transformers(tokenizer: Tokenizer, theirs: Any) -> None:
    messages = [
        {"role": "user", "content": "Red ink?"},
        {"role": "assistant", "content": "Cinnabar."},
        {"role": "user", "content": " 谢谢 🙂\n"},
    ]
    for start in (0, 2):
        asked = messages[start:]
        text = theirs.apply_chat_template(asked, tokenize=False, add_generation_prompt=True)
        assert tokenizer.chat(asked) == text
        ids = theirs.apply_chat_template(asked, add_generation_prompt=True)["input_ids"]
        assert tokenizer.encode_chat(asked) == ids


def test_blocks_agree_with_the_gguf_package(smollm2: Path) -> None:
    ours = GGUF(smollm2)
    kinds = set()
    for tensor in gguf.GGUFReader(smollm2).tensors:
        if tensor.name.startswith(("token_embd", "blk.0.", "blk.29.", "output")):
            expected = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
            np.testing.assert_array_equal(ours.load(tensor.name).numpy(), expected)
            kinds.add(tensor.tensor_type.name)
    assert kinds == {"F32", "Q4_1", "Q8_0"}


def test_logits_agree_with_transformers(
    net: LM, transformers_model: Any, prompts: list[list[int]]
) -> None:
    worst = 0.0
    for ids in prompts:
        batch = torch.tensor([ids])
        expected = reference.logits(transformers_model, batch)
        with torch.inference_mode():
            worst = max(worst, float((net(batch) - expected).abs().max()))
    assert worst < 1e-3  # of logits up to about 30; 1e-4 was measured


def test_greedy_is_that_of_transformers(
    net: LM, tokenizer: Tokenizer, transformers_model: Any, prompts: list[list[int]]
) -> None:
    for piece, ids in zip(
        run(net, tokenizer, [Request(ids=p, sampling=GREEDY, max_new_tokens=30) for p in prompts]),
        [greedy_reference(transformers_model, [p], max_new_tokens=30)[0] for p in prompts],
        strict=True,
    ):
        assert piece.text == tokenizer.decode(ids)
        assert piece.tokens == len(ids)


@torch.inference_mode()
def test_batch_shapes_change_logits_by_less_than_the_tolerance(
    net: LM, prompts: list[list[int]]
) -> None:
    """Of a text on its own, and of the same text in a batch, with a cache filled in pieces."""
    worst = 0.0
    whole = prompts[1] + prompts[0] + prompts[2]
    for rows in (1, 2, 5, 16):
        cache = net.new_cache(rows, len(whole) + 8)
        for row in range(rows):
            start = len(whole) // 2 + row
            for a, b in ((0, 10), (10, start)):
                ids, at = torch.tensor([whole[a:b]]), torch.arange(a, b)[None]
                net(ids, positions=at, past=cache.at(at, row))
        for step in range(8):
            at = torch.tensor([[len(whole) // 2 + row + step] for row in range(rows)])
            ids = torch.tensor([[whole[int(i)]] for i in at[:, 0]])
            logits = net(ids, positions=at, past=cache.at(at))[:, 0]
            for row in {0, rows // 2, rows - 1}:
                text = torch.tensor([whole[: int(at[row, 0]) + 1]])
                change = (logits[row] - net(text)[0, -1]).double()
                worst = max(worst, float(change.max() - change.min()))  # of the widest gap
    assert worst < TOLERANCE  # 0.9e-4 was measured here, 1.3e-4 with texts of other kinds


def test_one_seed_one_text_whatever_the_batch(
    net: LM, tokenizer: Tokenizer, prompts: list[list[int]]
) -> None:
    sampling = Sampling(temperature=0.9, top_k=50, top_p=0.95)
    requests = [
        Request(ids=prompts[i % 3], sampling=replace(sampling, seed=i), max_new_tokens=20)
        for i in range(7)
    ]
    together = [piece.text for piece in run(net, tokenizer, requests, 7)]
    assert len(set(together)) == 7
    assert [piece.text for piece in run(net, tokenizer, requests[::-1], 2)][::-1] == together
    assert run(net, tokenizer, requests[3:4])[0].text == together[3]


def test_json_under_a_schema(net: LM, tokenizer: Tokenizer) -> None:
    schema = {
        "type": "object",
        "properties": {
            "fruit": {"type": "string", "maxLength": 30},
            "colour": {"enum": ["red", "green", "yellow"]},
        },
        "required": ["fruit", "colour"],
        "additionalProperties": False,
    }
    ids = tokenizer.encode_chat([{"role": "user", "content": "Name a fruit and its colour."}])
    source = grammar.from_json_schema(schema)
    request = Request(ids=ids, sampling=Sampling(seed=4), max_new_tokens=60, grammar=source)
    (piece,) = run(net, tokenizer, [request])
    assert json.loads(piece.text).keys() == {"fruit", "colour"}
    assert piece.finish == "stop"
