"""Gradients of whole networks in float32, by compiled operators, against torch's in float64."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from vermilion.models.lm.config import LMConfig
from vermilion.models.lm.loss import chunked_loss
from vermilion.models.lm.net import LM
from vermilion.train.lm.options import Shape, config_of

GPT = config_of(
    Shape(
        architecture="GPT2LMHeadModel",
        num_hidden_layers=2,
        hidden_size=48,
        num_attention_heads=3,
        max_position_embeddings=40,
    ),
    vocab_size=50, end=0, dropout=0.0,
)  # fmt: skip
LLAMA = config_of(
    Shape(num_hidden_layers=2, hidden_size=64, num_attention_heads=4, num_key_value_heads=2),
    vocab_size=50, end=0, dropout=0.0,
)  # fmt: skip
QWEN = config_of(
    Shape(
        architecture="Qwen3ForCausalLM",
        num_hidden_layers=2,
        hidden_size=36,
        num_attention_heads=3,
        num_key_value_heads=1,
    ),
    vocab_size=50, end=0, dropout=0.0,
)  # fmt: skip


def gradients(net: LM, ids: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    loss = chunked_loss(net.features(ids[:, :-1]), net.head.weight, ids[:, 1:])
    net.zero_grad()
    torch.autograd.backward(loss)
    return loss.detach(), {n: p.grad for n, p in net.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("config", [GPT, LLAMA, QWEN], ids=["gpt2", "llama", "qwen3"])
def test_they_are_those_of_double_precision(config: LMConfig) -> None:
    net = LM(config)
    net.init_weights(0)
    ids = torch.randint(50, (3, 38), generator=torch.Generator().manual_seed(1))
    loss, found = gradients(net.train(), ids)
    exact, expected = gradients(deepcopy(net).double(), ids)
    assert float(loss) == pytest.approx(float(exact), rel=1e-6)
    assert found.keys() == expected.keys()
    assert len(found) == len(dict(net.named_parameters()))
    for name, gradient in found.items():
        right = expected[name].float()
        torch.testing.assert_close(gradient, right, rtol=1e-3, atol=1e-4 * right.abs().max())


def test_one_seed_gives_one_gradient_with_dropout() -> None:
    net = LM(replace(GPT, dropout=0.2)).train()
    net.init_weights(0)
    ids = torch.randint(50, (3, 38), generator=torch.Generator().manual_seed(1))
    runs = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        loss, found = gradients(net, ids)
        runs.append((loss, {n: g.clone() for n, g in found.items()}))
    assert torch.equal(runs[0][0], runs[1][0])
    assert all(torch.equal(g, runs[1][1][n]) for n, g in runs[0][1].items())
    assert not torch.equal(runs[0][0], runs[2][0])
