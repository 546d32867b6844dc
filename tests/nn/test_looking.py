"""The attention of looking.c against torch's own in double precision."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from vermilion.nn import looking
from vermilion.nn.attention import attention

pytestmark = pytest.mark.skipif(looking.library() is None, reason="needs a C compiler")


@pytest.fixture(autouse=True)
def seeded() -> Iterator[None]:
    torch.manual_seed(0)
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def heads(batch: int, number: int, tokens: int, size: int) -> Tensor:
    """Heads as a layer gives them: a turned view of something larger."""
    return torch.randn(batch, tokens, number + 2, size)[:, :, 1:-1].transpose(1, 2)


@pytest.mark.parametrize(
    ("batch", "number", "queries", "keys", "size"),
    [(2, 3, 50, 77, 40), (1, 2, 200, 400, 24), (2, 1, 1, 1, 1), (1, 4, 17, 193, 5)],
)
def test_it_is_torchs_attention(
    batch: int, number: int, queries: int, keys: int, size: int
) -> None:
    torch.set_num_threads(2)
    q = heads(batch, number, queries, size)
    k, v = heads(batch, number, keys, size), heads(batch, number, keys, size)
    right = F.scaled_dot_product_attention(q.double(), k.double(), v.double(), scale=0.3)
    torch.testing.assert_close(looking.attend(q, k, v, 0.3), right.float(), rtol=1e-5, atol=1e-5)


def test_large_scores_stay_finite_and_later_keys_can_win() -> None:
    q, k, v = heads(1, 2, 30, 8) * 50, heads(1, 2, 500, 8) * 50, heads(1, 2, 500, 8)
    k[:, :, 450:] *= 3
    right = F.scaled_dot_product_attention(q.double(), k.double(), v.double(), scale=1.0)
    torch.testing.assert_close(looking.attend(q, k, v, 1.0), right.float(), rtol=1e-3, atol=1e-3)


def test_an_item_does_not_depend_on_its_batch_or_on_threads() -> None:
    q, k, v = heads(3, 2, 100, 16), heads(3, 2, 90, 16), heads(3, 2, 90, 16)
    torch.set_num_threads(1)
    alone = [looking.attend(*(x[i : i + 1] for x in (q, k, v)), 0.25) for i in range(3)]
    torch.set_num_threads(2)
    assert torch.equal(looking.attend(q, k, v, 0.25), torch.cat(alone))


def test_it_is_taken_where_no_gradient_is_wanted() -> None:
    q, k, v = heads(1, 2, 9, 8), heads(1, 2, 5, 8), heads(1, 2, 5, 8)
    assert looking.usable(q, k, v)
    assert torch.equal(attention(q, k, v, scale=0.5), looking.attend(q, k, v, 0.5))
    assert not looking.usable(q.requires_grad_(), k, v)
    assert not looking.usable(q.double(), k.double(), v.double())
    assert not looking.usable(q.detach(), k[:, :1], v[:, :1])
    mask = torch.ones(9, 5, dtype=torch.bool)
    mask[:, 3:] = False
    right = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    torch.testing.assert_close(attention(q, k, v, mask=mask), right)
