"""Packed linear layers, and a cache whose rows come and go."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from tests.tiny import VOCAB, tiny_lm_folder
from vermilion.models.lm import io
from vermilion.models.lm.decoder import TorchDecoder
from vermilion.nn.packed import PackedLinear, available, pack

needs_packing = pytest.mark.skipif(not available(), reason="this torch has no oneDNN")


@needs_packing
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("size", "out"), [(64, 96), (1, 1), (37, 51), (300, 7)])
@pytest.mark.parametrize("shape", [(1,), (5,), (64,), (2, 3), (1, 1), (2, 1, 4), ()])
def test_it_agrees_with_linear(bias: bool, size: int, out: int, shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    linear = nn.Linear(size, out, bias=bias)
    x = torch.randn(*shape, size)
    with torch.inference_mode():
        expected, found = linear(x), PackedLinear(linear)(x)
    assert found.shape == expected.shape
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@needs_packing
@pytest.mark.parametrize(
    "config",
    [
        {},
        {"tie_word_embeddings": True},
        {"model_type": "gpt2"},
        {"model_type": "gpt_neo"},
        {"model_type": "qwen3", "attention_bias": True},
    ],
)
def test_a_packed_network_gives_the_same_logits(tmp_path: Path, config: dict[str, Any]) -> None:
    net, _ = io.load(tiny_lm_folder(tmp_path / "tiny", **config))
    ids = torch.randint(VOCAB, (3, 20), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = net(ids)
        pack(net)
        found = net(ids)
    assert isinstance(net.head, PackedLinear)
    assert not any(isinstance(module, nn.Linear) for module in net.modules())
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=1e-5)


@needs_packing
def test_other_numbers_are_left_alone() -> None:
    net = nn.Sequential(nn.Linear(8, 8).to(torch.bfloat16), nn.Linear(8, 8))
    pack(net)
    assert [type(layer) for layer in net] == [nn.Linear, PackedLinear]


@pytest.mark.parametrize("seed", range(6))
def test_rows_come_and_go_in_any_order(tmp_path: Path, seed: int) -> None:
    """Against each text recomputed as a whole."""
    net, _ = io.load(tiny_lm_folder(tmp_path / "tiny", num_hidden_layers=1))
    decoder, draw = TorchDecoder(net), random.Random(seed)
    living: list[tuple[Any, list[int]]] = []
    for _ in range(60):
        action = draw.choice(["start", "fork", "free", "extend", "extend", "extend"])
        if action == "start" or not living:
            living.append((decoder.start(), []))
        elif action == "free":
            decoder.free(living.pop(draw.randrange(len(living)))[0])
        elif action == "fork":
            memory, ids = draw.choice(living)
            length = draw.randint(0, memory.length)
            living.append((decoder.fork(memory, length), ids[:length]))
        else:
            some = [one for one in living if len(one[1]) < 200]
            some = draw.sample(some, draw.randint(min(1, len(some)), len(some)))
            new = [draw.choices(range(VOCAB), k=draw.choice([1, 1, 1, 7, 30])) for _ in some]
            if some:
                found = decoder.extend([memory for memory, _ in some], new)
                for (memory, ids), tokens, logits in zip(some, new, found, strict=True):
                    ids += tokens
                    assert memory.length == len(ids)
                    with torch.inference_mode():
                        expected = net(torch.tensor([ids]))[0, -1]
                    torch.testing.assert_close(logits, expected, atol=1e-4, rtol=1e-4)
    assert decoder.used == sum(decoder.room(None, len(ids)) for _, ids in living)
    for memory, _ in living:
        decoder.free(memory)
    assert decoder.used == 0
