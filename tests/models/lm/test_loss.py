"""The loss against torch's own."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from vermilion.models.lm import loss
from vermilion.models.lm.loss import IGNORED, chunked_loss, next_token_loss, perplexity


def case(ignored: bool) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    hidden = torch.randn(3, 7, 8, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(11, 8, dtype=torch.float64, requires_grad=True)
    targets = torch.randint(11, (3, 7))
    if ignored:
        targets[0, 2:5] = IGNORED
        targets[2] = IGNORED
    return hidden, weight, targets


def test_it_is_the_negative_log_likelihood() -> None:
    hidden, weight, targets = case(ignored=True)
    logits = hidden @ weight.T
    likelihood = logits.softmax(-1).gather(-1, targets.clamp(min=0)[..., None])[..., 0]
    expected = -likelihood.log()[targets != IGNORED].sum()
    assert next_token_loss(logits, targets).item() == pytest.approx(expected.item(), rel=1e-6)


@pytest.mark.parametrize("ignored", [False, True])
@pytest.mark.parametrize("rows", [1, 4, 1000])
def test_chunks_give_torchs_loss_and_gradients(
    ignored: bool, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loss, "_CHUNK_BYTES", 4 * 11 * rows)
    hidden, weight, targets = case(ignored)
    expected = F.cross_entropy(
        (hidden @ weight.T).flatten(0, 1), targets.flatten(), reduction="sum"
    )
    wanted = torch.autograd.grad(expected * 0.25, (hidden, weight))
    found = chunked_loss(hidden, weight, targets)
    got = torch.autograd.grad(found * 0.25, (hidden, weight))
    # The softmax is taken in float32, whatever the features are.
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        quiet = chunked_loss(hidden, weight, targets)
    torch.testing.assert_close(quiet.double(), expected.detach(), rtol=1e-5, atol=1e-5)


def test_nothing_that_counts_is_no_loss() -> None:
    hidden, weight, targets = case(ignored=False)
    targets[:] = IGNORED
    assert chunked_loss(hidden, weight, targets).item() == 0
    with torch.no_grad():
        assert chunked_loss(hidden, weight, targets).item() == 0


def test_perplexity() -> None:
    assert perplexity(math.log(50)) == pytest.approx(50)
    assert perplexity(1e6) == math.inf
    assert math.isnan(perplexity(math.nan))
