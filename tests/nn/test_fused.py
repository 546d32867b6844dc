"""The operators of training.c against torch's own."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.nn import functional as F

from vermilion.nn import fused
from vermilion.nn.attention import attention
from vermilion.nn.dropout import dropout
from vermilion.nn.feed_forward import ACTIVATIONS

pytestmark = pytest.mark.skipif(fused.library() is None, reason="needs a C compiler")


@pytest.fixture(autouse=True)
def seeded() -> Iterator[None]:
    torch.manual_seed(0)
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def heads(batch: int, number: int, tokens: int, size: int) -> Tensor:
    """Heads as a layer gives them: a turned view of something larger."""
    wide = torch.randn(batch, tokens, number + 2, size)
    return wide[:, :, 1:-1].transpose(1, 2).requires_grad_()


@pytest.mark.parametrize(
    ("batch", "number", "groups", "tokens", "size"),
    [(2, 4, 2, 77, 24), (1, 2, 2, 256, 64), (2, 3, 1, 50, 20), (1, 1, 1, 1, 1), (1, 2, 1, 17, 5)],
)
def test_attention_and_its_gradients_are_torchs(
    batch: int, number: int, groups: int, tokens: int, size: int
) -> None:
    q, dy = heads(batch, number, tokens, size), torch.randn(batch, number, tokens, size)
    k, v = heads(batch, groups, tokens, size), heads(batch, groups, tokens, size)
    y = fused.causal_attention(q, k, v, 0.3, 0)
    found = torch.autograd.grad(y, (q, k, v), dy)
    q64, k64, v64 = (x.detach().double().requires_grad_() for x in (q, k, v))
    right = F.scaled_dot_product_attention(
        q64, k64, v64, is_causal=True, scale=0.3, enable_gqa=number != groups
    )
    expected = torch.autograd.grad(right, (q64, k64, v64), dy.double())
    torch.testing.assert_close(y, right.float(), rtol=1e-5, atol=1e-5)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other.float(), rtol=1e-4, atol=1e-5)


def test_attention_is_taken_where_it_is_trained() -> None:
    q, k, v = (heads(1, 2, 9, 8) for _ in range(3))
    y = attention(q, k, v, causal=True)
    assert "CausalAttention" in type(y.grad_fn).__name__
    mask = torch.ones(9, 9, dtype=torch.bool)
    others = (
        attention(q, k, v),
        attention(q, k, v, mask=mask),
        attention(q, k[:, :, :5], v[:, :, :5], causal=True),
        attention(q, k, v, causal=True, dropout=0.001),
        attention(q.double(), k.double(), v.double(), causal=True),
    )
    assert not any("CausalAttention" in type(other.grad_fn).__name__ for other in others)
    with torch.no_grad():
        assert not fused.usable(q)


def test_large_scores_stay_finite_and_what_is_no_number_shows() -> None:
    q, k, v = (heads(1, 1, 40, 8) for _ in range(3))
    y = fused.causal_attention(q * 300, k * 300, v, 1.0, 0)
    expected = F.scaled_dot_product_attention(q * 300, k * 300, v, is_causal=True, scale=1.0)
    torch.testing.assert_close(y, expected, rtol=1e-4, atol=1e-4)
    broken = q.detach().clone()
    broken[0, 0, 20, 3] = math.nan
    y = fused.causal_attention(broken.requires_grad_(), k, v, 1.0, 0)
    assert bool(y[0, 0, 20].isnan().all())
    assert not bool(y[0, 0, :20].isnan().any())


@pytest.mark.parametrize("tokens", [45, 64])
def test_dropped_attention_has_the_gradients_of_its_mask(tokens: int) -> None:
    # Features of 0 change no score, and with the unit matrix as values the weights come out.
    q, k = (F.pad(torch.randn(2, 4, tokens, 16), (0, tokens - 16)) for _ in range(2))
    unit = torch.eye(tokens).expand(2, 4, tokens, tokens)
    q, k, v = q.requires_grad_(), k.requires_grad_(), torch.randn(unit.shape, requires_grad=True)
    torch.manual_seed(5)
    weights = fused.causal_attention(q, k, unit, 0.25, 64)
    torch.manual_seed(5)
    y = fused.causal_attention(q, k, v, 0.25, 64)
    hidden = torch.ones(tokens, tokens, dtype=torch.bool).triu(1)
    kept = weights.detach() != 0
    assert not bool(kept[..., hidden].any())
    assert kept[..., ~hidden].float().mean().item() == pytest.approx(0.75, abs=0.02)
    plain = (q @ k.mT * 0.25).masked_fill(hidden, -math.inf).softmax(-1)
    right = torch.where(kept, plain / 0.75, 0.0)
    torch.testing.assert_close(weights, right, rtol=1e-4, atol=1e-6)
    dy = torch.randn_like(y)
    torch.testing.assert_close(y, right @ v, rtol=1e-4, atol=1e-5)
    found, expected = (torch.autograd.grad(z, (q, k, v), dy) for z in (y, right @ v))
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)
    # Every head and every call has noise of its own.
    assert not torch.equal(kept[0, 0], kept[0, 1])
    assert not torch.equal(kept[0], kept[1])
    assert not torch.equal(kept, fused.causal_attention(q, k, unit, 0.25, 64) != 0)


def test_attention_keeps_no_scores() -> None:
    kept: list[int] = []

    def keep(x: Tensor) -> Tensor:
        kept.append(x.numel())
        return x

    with saved_tensors_hooks(keep, lambda x: x):
        fused.causal_attention(*(heads(1, 2, 128, 8) for _ in range(3)), 1.0, 26)
    assert sum(kept) < 128 * 128


@pytest.mark.parametrize("name", ["silu", "gelu_new"])
@pytest.mark.parametrize("numbers", [1, 7, 8, 20_001])
def test_activations_and_their_slopes_are_torchs(name: str, numbers: int) -> None:
    x = torch.randn(numbers) * 3
    x[: min(numbers, 5)] = torch.tensor([-100.0, 100.0, 0.0, -30.0, 5.0])[:numbers]
    x64 = x.double().requires_grad_()
    y, right = ACTIVATIONS[name](x.requires_grad_()), ACTIVATIONS[name](x64)
    assert "Activation" in type(y.grad_fn).__name__
    torch.testing.assert_close(y, right.float(), rtol=2e-6, atol=1e-6)
    dy = torch.randn(numbers)
    (found,), (expected,) = (
        torch.autograd.grad(y, x, dy),
        torch.autograd.grad(right, x64, dy.double()),
    )
    torch.testing.assert_close(found, expected.float(), rtol=1e-5, atol=1e-5)
    gate, _ = torch.randn(3, 10, requires_grad=True).chunk(2, dim=-1)  # lies with gaps
    torch.testing.assert_close(ACTIVATIONS[name](gate), ACTIVATIONS[name](gate.detach()))


@pytest.mark.parametrize("numbers", [3, 32, 1001])
def test_the_backward_pass_drops_what_the_forward_pass_dropped(numbers: int) -> None:
    x = torch.randn(numbers, 2)[:, 0].requires_grad_()
    y = dropout(x, 0.5, training=True)
    assert "Dropout" in type(y.grad_fn).__name__
    kept = y != 0
    torch.testing.assert_close(y[kept], 2 * x[kept])
    dy = torch.randn(numbers)
    (dx,) = torch.autograd.grad(y, x, dy)
    assert torch.equal(dx, torch.where(kept, 2 * dy, 0.0))


def test_neither_places_nor_calls_are_dropped_together() -> None:
    x = torch.ones(1 << 16, requires_grad=True)
    calls = torch.stack([dropout(x, 0.5, training=True) != 0 for _ in range(8)]).float() - 0.5
    close = 6 * 0.25 / math.sqrt(x.numel())  # six standard deviations
    for one in range(8):
        for other in range(one):
            assert abs(float((calls[one] * calls[other]).mean())) < close
        for shift in (*range(1, 40), 64, 256, 1024):
            assert abs(float((calls[one] * calls[one].roll(shift)).mean())) < close


def test_threads_change_no_bit() -> None:
    def results() -> list[Tensor]:
        torch.manual_seed(1)
        q, k, v = (heads(3, 4, 70, 16) for _ in range(3))
        y = fused.causal_attention(q, k, v, 0.25, 26)
        z = fused.activation(fused.dropout(y, 26), "silu")
        return [y, z, *torch.autograd.grad(z.sum(), (q, k, v))]

    torch.set_num_threads(1)
    one = results()
    torch.set_num_threads(2)
    assert all(torch.equal(a, b) for a, b in zip(one, results(), strict=True))


def test_without_a_compiler_torch_does_it(tmp_path: Path) -> None:
    program = (
        "import torch\n"
        "from vermilion.nn import fused\n"
        "from vermilion.nn.attention import attention\n"
        "x = torch.randn(1, 2, 9, 8, requires_grad=True)\n"
        "print(fused.usable(x), attention(x, x, x, causal=True, dropout=0.1).shape)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "CC": str(tmp_path / "none"), "XDG_CACHE_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "False torch.Size([1, 2, 9, 8])"
