"""The shared blocks against transformers' and against their definitions."""

from __future__ import annotations

import math
import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import LlamaConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
from transformers.models.llama.modeling_llama import (
    LlamaRMSNorm,
    LlamaRotaryEmbedding,
    apply_rotary_pos_emb,
)

from vermilion.nn.attention import KeyValueCache, SelfAttention, grouped_attention
from vermilion.nn.linear import Embedding, Linear
from vermilion.nn.norm import RMSNorm
from vermilion.nn.positions import Rotary, rotary_frequencies, rotary_gain, rotate

LINEAR = {"rope_type": "linear", "factor": 3.0}
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 4096}


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def test_rms_norm() -> None:
    norm, theirs = RMSNorm(24, eps=1e-3), LlamaRMSNorm(24, eps=1e-3)
    norm.weight.data = theirs.weight.data = torch.randn(24)
    x = torch.randn(2, 5, 24)
    torch.testing.assert_close(norm(x), theirs(x))
    small = x * 1e-3  # where eps matters
    torch.testing.assert_close(norm(small), theirs(small))


def config(scaling: dict[str, Any] | None) -> LlamaConfig:
    rope = (scaling or {"rope_type": "default"}) | {"rope_theta": 500000.0}
    return LlamaConfig(hidden_size=256, num_attention_heads=4, rope_parameters=rope)


SCALINGS = {
    "linear": LINEAR,
    "llama3": LLAMA3,
    "yarn": YARN,
    "yarn, options": YARN | {"beta_fast": 16, "beta_slow": 2.5, "attention_factor": 1.5},
    "yarn, of a short context": YARN | {"original_max_position_embeddings": 5},
}


@pytest.mark.parametrize("scaling", SCALINGS.values(), ids=SCALINGS)
def test_scaled_frequencies(scaling: dict[str, Any]) -> None:
    expected, gain = ROPE_INIT_FUNCTIONS[scaling["rope_type"]](config(scaling), "cpu")
    found = rotary_frequencies(64, 500000.0, scaling)
    torch.testing.assert_close(found, expected)
    assert rotary_gain(scaling) == pytest.approx(gain)
    plain = rotary_frequencies(64, 500000.0)
    assert (found < plain * 0.99).any()
    if scaling is LLAMA3:  # of which some are divided, some not, and some in part
        assert (found == plain).any()
        assert torch.isclose(found, plain / 8).any()
        assert ((found < plain * 0.9) & (found > plain / 7)).any()


@pytest.mark.parametrize("scaling", [None, *SCALINGS.values()], ids=["default", *SCALINGS])
def test_rotation(scaling: dict[str, Any] | None) -> None:
    q, k = torch.randn(2, 4, 7, 64), torch.randn(2, 2, 7, 64)
    positions = torch.stack((torch.arange(7), torch.arange(8000, 8007)))
    cosine, sine = LlamaRotaryEmbedding(config(scaling))(q, positions)
    expected = apply_rotary_pos_emb(q, k, cosine, sine)
    angles = Rotary(64, 500000.0, scaling).angles(positions)
    torch.testing.assert_close((rotate(q, *angles), rotate(k, *angles)), expected)


def test_rotation_depends_on_distance_only() -> None:
    rotary = Rotary(16, 10000.0)
    q, k = torch.randn(1, 1, 1, 16), torch.randn(1, 1, 1, 16)

    def product(i: int, j: int) -> Tensor:
        at = [rotary.angles(torch.tensor([[p]])) for p in (i, j)]
        return (rotate(q, *at[0]) * rotate(k, *at[1])).sum()

    torch.testing.assert_close(product(5, 2), product(105, 102), atol=1e-4, rtol=0)
    assert abs(product(5, 2) - product(9, 2)) > 0.01


@pytest.mark.parametrize(
    ("scaling", "message"),
    [
        (
            {"rope_type": "dynamic", "factor": 2},
            "'dynamic' is not supported; known are linear, yarn, llama3",
        ),
        ({"rope_type": "yarn", "factor": 2}, "original_max_position_embeddings: must be a number"),
        (YARN | {"beta_fast": -1}, "beta_fast: must be a number above 0"),
        (YARN | {"mscale": 1}, "mscale: is not supported with yarn"),
        ({"factor": 2}, "None is not supported"),
        ({"rope_type": "linear"}, r"factor: must be a number above 0 \(found None\)"),
        ({"type": "linear", "factor": 0}, r"factor: must be a number above 0 \(found 0\)"),
        (LLAMA3 | {"low_freq_factor": "x"}, "low_freq_factor: must be a number above 0"),
    ],
)
def test_scalings_that_cannot_be_used(scaling: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^rope_scaling: {message}"):
        rotary_frequencies(16, 10000.0, scaling)


def attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    """By the book, one query head at a time."""
    share = q.shape[1] // k.shape[1]
    heads = []
    for head in range(q.shape[1]):
        scores = q[:, head] @ k[:, head // share].mT / math.sqrt(q.shape[-1])
        weights = scores.masked_fill(~mask[:, 0], -torch.inf).softmax(-1)
        heads.append(weights @ v[:, head // share])
    return torch.stack(heads, dim=1)


@pytest.mark.parametrize(("heads", "groups"), [(6, 2), (4, 4), (4, 1), (1, 1)])
@pytest.mark.parametrize(("tokens", "span"), [(1, 9), (5, 9), (3, 3)])
def test_grouped_attention(heads: int, groups: int, tokens: int, span: int) -> None:
    q = torch.randn(3, heads, tokens, 8)
    k, v = torch.randn(2, 3, groups, span, 8)
    mask = torch.rand(3, 1, tokens, span) < 0.6
    mask[..., 0] = True  # no query without a key
    found = grouped_attention(q, k, v, mask)
    torch.testing.assert_close(found, attention(q, k, v, mask))


def test_self_attention_is_causal() -> None:
    layer = SelfAttention(16, heads=4, kv_heads=2, head_dim=4, qkv_bias=True, out_bias=True)
    positions = torch.arange(6)[None]
    angles = Rotary(4, 10000.0).angles(positions)
    x = torch.randn(1, 6, 16)
    changed = x.clone()
    changed[:, 4] += 1
    before, after = (layer(y, angles) for y in (x, changed))
    torch.testing.assert_close(before[:, :4], after[:, :4])
    assert (before[:, 4:] - after[:, 4:]).abs().amin(dim=(0, 2)).min() > 0


def test_cache_holds_what_is_written() -> None:
    cache = KeyValueCache(layers=2, rows=4, heads=2, length=6, head_dim=3)
    keys, values = torch.randn(2, 2, 2, 3, 3)  # rows 1 and 2, three tokens each
    positions = torch.tensor([[0, 1, 2], [3, 4, 5]])
    cache.at(positions, 1).attend(1, keys, keys, values)
    assert torch.equal(cache.keys[1, 1, :, :3], keys[0])
    assert torch.equal(cache.keys[1, 2, :, 3:], keys[1])
    assert torch.equal(cache.values[1, 2, :, 3:], values[1])
    assert cache.keys[0].count_nonzero() == 0  # the other layer
    assert cache.keys[1, [0, 3]].count_nonzero() == 0  # the other rows
    assert cache.keys[1, 1, :, 3:].count_nonzero() == 0

    cache.copy_row(2, 0, 5)
    assert torch.equal(cache.keys[:, 0, :, :5], cache.keys[:, 2, :, :5])
    assert torch.equal(cache.values[:, 0, :, :5], cache.values[:, 2, :, :5])
    assert cache.keys[:, 0, :, 5:].count_nonzero() == 0

    held = cache.keys.clone()
    cache.grow(length=4)
    assert cache.length == 6
    cache.grow(length=9)
    assert cache.length == 9
    assert torch.equal(cache.keys[..., :6, :], held)
    assert cache.values.shape == cache.keys.shape


@pytest.mark.parametrize("layer", [Linear, Embedding])
def test_first_weights_are_drawn_except_on_meta(layer: type[Linear] | type[Embedding]) -> None:
    assert layer(4, 5).weight.std() > 0
    with torch.device("meta"):
        assert layer(4, 5).weight.is_meta


def test_laying_out_a_network_does_not_import_torchs_compiler() -> None:
    code = (
        "import sys, torch\n"
        "from vermilion.nn.linear import Embedding, Linear\n"
        "before = 'torch._dynamo' in sys.modules\n"
        "with torch.device('meta'): Linear(4, 5); Embedding(4, 5)\n"
        "assert before == ('torch._dynamo' in sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
