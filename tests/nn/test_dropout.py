from __future__ import annotations

import pytest
import torch

from vermilion.nn.attention import attention
from vermilion.nn.dropout import dropout


@pytest.mark.parametrize(("p", "really"), [(0.1, 26 / 256), (0.5, 0.5), (0.001, 0.001)])
def test_it_drops_and_scales(p: float, really: float) -> None:
    torch.manual_seed(0)
    x = torch.ones(401, 501, requires_grad=True)
    y = dropout(x, p, training=True)
    kept = y != 0
    assert (~kept).float().mean().item() == pytest.approx(really, abs=0.003)
    torch.testing.assert_close(y[kept], torch.full_like(y[kept], 1 / (1 - really)))
    y.sum().backward()
    assert torch.equal(x.grad, y.detach())


def test_it_rests_outside_training_and_obeys_the_seed() -> None:
    x = torch.randn(9, 7)
    assert dropout(x, 0.5, training=False) is x
    assert dropout(x, 0.0, training=True) is x
    torch.manual_seed(3)
    one = dropout(x, 0.5, training=True)
    torch.manual_seed(3)
    assert torch.equal(one, dropout(x, 0.5, training=True))
    assert not torch.equal(one, dropout(x, 0.5, training=True))


@pytest.mark.parametrize("heads", [4, 2])
def test_dropped_attention_is_attention_on_average(heads: int) -> None:
    torch.manual_seed(0)
    q, k, v = torch.randn(2, 4, 6, 8), torch.randn(2, heads, 6, 8), torch.randn(2, heads, 6, 8)
    plain = attention(q, k, v, causal=True, scale=0.3)
    mean = sum(attention(q, k, v, causal=True, scale=0.3, dropout=0.25) for _ in range(4000)) / 4000
    torch.testing.assert_close(mean, plain, atol=0.08, rtol=0)
    # The first query sees one key alone: all of it or nothing.
    once = attention(q, k, v, causal=True, dropout=0.25)[:, :, 0]
    first = v.repeat_interleave(4 // heads, dim=1)[:, :, 0]
    whole = (once == 0).all(-1) | torch.isclose(once, first / 0.75).all(-1)
    assert bool(whole.all())
