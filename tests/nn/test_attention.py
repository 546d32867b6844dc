"""Attention and feed-forward blocks against torch's own and against transformers'."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from transformers.activations import ACT2FN

from vermilion.nn.attention import MultiHeadAttention, SelfAttention, attention, causal_mask
from vermilion.nn.feed_forward import ACTIVATIONS, FeedForward
from vermilion.nn.norm import LayerNorm, RMSNorm
from vermilion.nn.positions import LearnedPositions, sinusoidal


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def theirs(ours: MultiHeadAttention, size: int, context_size: int | None) -> nn.Module:
    """torch's layer with the same weights."""
    other = nn.MultiheadAttention(
        size, ours.heads, kdim=context_size, vdim=context_size, batch_first=True
    )
    if context_size is None:
        weights, bias = ours.qkv.weight, ours.qkv.bias
        other.in_proj_weight.data = weights.data
    else:
        bias = torch.cat((ours.q.bias, ours.kv.bias))
        other.q_proj_weight.data = ours.q.weight.data
        other.k_proj_weight.data, other.v_proj_weight.data = ours.kv.weight.data.chunk(2)
    other.in_proj_bias.data = bias.data
    other.out_proj.weight.data, other.out_proj.bias.data = ours.out.weight.data, ours.out.bias.data
    return other.eval()


PADDED = torch.arange(7) < torch.tensor([[7], [3], [1]])


@pytest.mark.parametrize("causal", [False, True], ids=["both ways", "causal"])
@pytest.mark.parametrize("mask", [None, PADDED], ids=["whole", "padded"])
def test_self_attention_is_torchs(mask: Tensor | None, causal: bool) -> None:
    layer, x = MultiHeadAttention(24, 4), torch.randn(3, 7, 24)
    nn.init.normal_(layer.qkv.bias)
    hidden = None if mask is None else ~mask
    later = ~causal_mask(7, 7, None, "cpu") if causal else None
    expected, _ = theirs(layer, 24, None)(
        x, x, x, key_padding_mask=hidden, attn_mask=later, need_weights=False
    )
    torch.testing.assert_close(layer(x, mask=mask, causal=causal), expected)


@pytest.mark.parametrize("mask", [None, PADDED], ids=["whole", "padded"])
def test_cross_attention_is_torchs(mask: Tensor | None) -> None:
    layer = MultiHeadAttention(24, 4, context_size=10)
    x, context = torch.randn(3, 5, 24), torch.randn(3, 7, 10)
    hidden = None if mask is None else ~mask
    expected, _ = theirs(layer, 24, 10)(x, context, context, key_padding_mask=hidden)
    found = layer(x, context, mask=mask)
    assert found.shape == (3, 5, 24)
    torch.testing.assert_close(found, expected)


def test_padding_is_not_looked_at() -> None:
    layer, x = MultiHeadAttention(24, 4), torch.randn(3, 7, 24)
    changed = torch.where(PADDED[..., None], x, torch.full_like(x, 50.0))
    before, after = layer(x, mask=PADDED), layer(changed, mask=PADDED)
    torch.testing.assert_close(before[PADDED], after[PADDED])


def test_heads_of_their_own_size_and_no_biases() -> None:
    layer = MultiHeadAttention(10, 3, context_size=6, head_dim=8, bias=False, out_bias=False)
    assert layer.q.weight.shape == (24, 10)
    assert layer.kv.weight.shape == (48, 6)
    assert [name for name, _ in layer.named_parameters() if "bias" in name] == []
    with pytest.raises(ValueError, match="heads: 10 features are no multiple of 3"):
        MultiHeadAttention(10, 3)


def by_the_book(q: Tensor, k: Tensor, v: Tensor, mask: Tensor, scale: float) -> Tensor:
    share = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(share, dim=1), v.repeat_interleave(share, dim=1)
    return (q @ k.mT * scale).masked_fill(~mask, -math.inf).softmax(-1) @ v


@pytest.mark.parametrize("groups", [4, 2, 1])
@pytest.mark.parametrize("window", [None, 3, 1])
def test_attention_by_the_book(groups: int, window: int | None) -> None:
    q, k, v = torch.randn(2, 4, 6, 8), torch.randn(2, groups, 6, 8), torch.randn(2, groups, 6, 8)
    mask = causal_mask(6, 6, window, "cpu")
    found = attention(q, k, v, mask=mask, scale=0.7)
    torch.testing.assert_close(found, by_the_book(q, k, v, mask, 0.7))
    if window is None:
        torch.testing.assert_close(attention(q, k, v, causal=True, scale=0.7), found)
    assert mask.sum(dim=1).tolist() == [min(t + 1, window or 6) for t in range(6)]


def test_normalised_queries_and_keys() -> None:
    layer = SelfAttention(16, 4, 2, 4, qk_norm=True, norm_eps=1e-6)
    x = torch.randn(1, 5, 16)
    before = layer(x)
    with torch.no_grad():
        layer.qkv.weight[:24] *= 10  # of the queries and keys, whose length no longer counts
    torch.testing.assert_close(layer(x), before, atol=1e-5, rtol=0)


def test_dropout_of_attention_in_training_only() -> None:
    layer, x = SelfAttention(16, 4, 2, 4, dropout=0.5), torch.randn(1, 9, 16)
    assert not torch.equal(layer(x), layer(x))
    assert torch.equal(layer.eval()(x), layer(x))


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_are_transformers(name: str) -> None:
    x = torch.linspace(-6, 6, 200)
    torch.testing.assert_close(ACTIVATIONS[name](x), ACT2FN[name](x))


def test_activations_differ() -> None:
    x = torch.linspace(-3, 3, 50)
    values = [f(x) for f in ACTIVATIONS.values()]
    for i, first in enumerate(values):
        for second in values[i + 1 :]:
            assert not torch.allclose(first, second, atol=1e-5)


def test_feed_forward() -> None:
    x = torch.randn(2, 3, 8)
    plain = FeedForward(8, 12, activation="relu")
    hidden = (x @ plain.up.weight.T + plain.up.bias).clamp(min=0)
    torch.testing.assert_close(plain(x), hidden @ plain.down.weight.T + plain.down.bias)
    gated = FeedForward(8, 12, activation="relu", gated=True, bias=False)
    gate, up = gated.gate_up.weight.chunk(2)
    hidden = (x @ gate.T).clamp(min=0) * (x @ up.T)
    torch.testing.assert_close(gated(x), hidden @ gated.down.weight.T)


def test_layer_norm_is_torchs() -> None:
    ours, other = LayerNorm(24, eps=1e-3), nn.LayerNorm(24, eps=1e-3)
    ours.weight.data = other.weight.data = torch.randn(24)
    ours.bias.data = other.bias.data = torch.randn(24)
    for x in (torch.randn(2, 5, 24) + 3, torch.randn(2, 5, 24) * 1e-3):
        torch.testing.assert_close(ours(x), other(x))
    assert not torch.allclose(RMSNorm(24)(x + 3), LayerNorm(24)(x + 3))


def test_sinusoidal_positions_by_the_paper() -> None:
    found = sinusoidal(torch.tensor([0.0, 1.0, 2.5, 900.0]), 6)
    for row, position in enumerate((0.0, 1.0, 2.5, 900.0)):
        for i in range(3):
            angle = position / 10000 ** (2 * i / 6)
            assert found[row, 2 * i].item() == pytest.approx(math.sin(angle), abs=1e-4)
            assert found[row, 2 * i + 1].item() == pytest.approx(math.cos(angle), abs=1e-4)
    assert sinusoidal(torch.zeros(2, 3), 8).shape == (2, 3, 8)
    # A shift is a rotation: how alike two positions are depends on their distance alone.
    far = sinusoidal(torch.arange(50), 32)
    alike = far @ far.T
    torch.testing.assert_close(alike.diagonal(7), alike[0, 7].expand(43), atol=1e-4, rtol=0)
    with pytest.raises(ValueError, match="size: must be even"):
        sinusoidal(torch.arange(3), 5)


def test_learned_positions() -> None:
    table = LearnedPositions(5, 3)
    positions = torch.tensor([[0, 4], [2, 2]])
    assert torch.equal(table(positions), table.weight[positions])
    assert table.weight.requires_grad
