"""Next-token cross-entropy. B batch, T tokens, N tokens that count, C hidden size, V vocabulary."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

IGNORED = -100
_CHUNK_BYTES = 8 << 20


def next_token_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy of the next token, summed; least where the data's likelihood is greatest.

        L = - sum over t of log p(x[t+1] | x[..t]),   p = softmax(logits)

    Maximising the likelihood of the data and minimising this are the same thing.

    Args:
        logits: (B, T, V), floating point; the sum is taken in float32.
        targets: (B, T), int64: the token that follows each; IGNORED where it does not count.

    Returns:
        (), float32, in nats.
    """
    flat = logits.reshape(-1, logits.shape[-1]).float()  # (B*T, V)
    return F.cross_entropy(flat, targets.reshape(-1), ignore_index=IGNORED, reduction="sum")


def perplexity(loss: float) -> float:
    """exp(mean loss per token): among how many equally likely tokens the model hesitates."""
    return math.exp(loss) if loss < 700 else loss if math.isnan(loss) else math.inf


def _rows(weight: Tensor) -> int:
    """How many tokens' logits are in memory at once."""
    return max(1, _CHUNK_BYTES // (4 * weight.shape[0]))


class _Chunked(torch.autograd.Function):
    """Loss and gradients of one chunk of tokens after the other; see `chunked_loss`."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
        rows = _rows(weight)
        d_hidden = torch.empty_like(hidden)  # (N, C)
        d_weight = torch.zeros_like(weight)  # (V, C)
        total = torch.zeros((), device=hidden.device)
        for at in range(0, len(hidden), rows):
            part, wanted = hidden[at : at + rows], targets[at : at + rows]
            p = (part @ weight.T).float()  # (n, V)
            top = p.amax(dim=-1, keepdim=True)  # (n, 1)
            right = p.gather(1, wanted[:, None])  # (n, 1)
            p.sub_(top).exp_()
            norm = p.sum(dim=-1, keepdim=True)  # (n, 1)
            total += (norm.log() + top - right).sum()
            p.div_(norm)
            p.scatter_add_(1, wanted[:, None], torch.full_like(right, -1.0))  # softmax - one-hot
            gradient = p.to(hidden.dtype)
            torch.mm(gradient, weight, out=d_hidden[at : at + rows])
            d_weight.addmm_(gradient.T, part)
        ctx.save_for_backward(d_hidden, d_weight)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        d_hidden, d_weight = ctx.saved_tensors
        return d_hidden * gradients[0], d_weight * gradients[0], None


def chunked_loss(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """`next_token_loss(hidden @ weight.T, targets)` without all logits in memory at once.

    The gradient of a chunk's logits, softmax(logits) - one-hot(targets), is made while they are
    at hand, so that they are neither kept nor made twice (as Liger Kernel does it, Hsu et al.
    2024). Once differentiable.

    Args:
        hidden: (B, T, C), what the output layer is given.
        weight: of the output layer, (V, C).
        targets: (B, T), int64; IGNORED where a token does not count.

    Returns:
        (), float32, in nats, summed.
    """
    flat, wanted = hidden.reshape(-1, hidden.shape[-1]), targets.reshape(-1)  # (B*T, C), (B*T)
    counted = wanted != IGNORED
    if not bool(counted.all()):
        flat, wanted = flat[counted], wanted[counted]  # (N, C), (N,)
    if not torch.is_grad_enabled():
        rows = _rows(weight)
        parts = zip(torch.split(flat, rows), torch.split(wanted, rows), strict=True)
        losses = [next_token_loss(part @ weight.T, right) for part, right in parts]
        return torch.stack(losses).sum() if losses else flat.new_zeros(())
    total: Tensor = _Chunked.apply(flat, weight, wanted)  # type: ignore[no-untyped-call]
    return total
