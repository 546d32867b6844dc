"""Contrastive losses: what belongs together shall lie closer than what does not.

(1) InfoNCE, van den Oord et al. 2018, eq. 4      queries q, their keys k
        -1/N Σ_i  ln exp(q_i·k_i / τ) / Σ_j exp(q_i·k_j / τ)
(2) NT-Xent, Chen et al. 2020, eq. 1              2N views z of length 1; i' is i's other view
        -1/2N Σ_i  ln exp(z_i·z_i' / τ) / Σ_{j≠i} exp(z_i·z_j / τ)
(3) CLIP, Radford et al. 2021, fig. 3             (1) from pictures to texts and back, 1/τ = exp(t)
        ½ (1)(I, T) + ½ (1)(T, I),   t at most ln 100
(4) Sigmoid, Zhai et al. 2023, eq. 1              every pair by itself; y = 1 where i = j, else -1
        -1/N Σ_i Σ_j  ln σ(y_ij (exp(t) I_i·T_j + b))

Where several processes train together, each has N items of its own and compares them with the
G = N · processes items of all. Its loss is the mean over its own. The mean of these losses is the
loss of one process with all items, and the mean of their gradients, as DistributedDataParallel
takes it, is its gradient: what flows into an item of another process is sent there and added up.

N items of this process, G of all processes, K further keys, P features of a vector.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn import functional as F

MAX_LOGIT_SCALE = math.log(100)


class _Gather(torch.autograd.Function):
    """All processes' rows in the order of their ranks; gradients are summed and sent back."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.rows = len(x)
        parts = [torch.empty_like(x) for _ in range(distributed.get_world_size())]
        distributed.all_gather(parts, x.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].contiguous()
        distributed.all_reduce(total)
        first = distributed.get_rank() * ctx.rows
        return total[first : first + ctx.rows]


def gather(x: Tensor, across: bool = True) -> Tensor:
    """The rows of all processes: (N, P) → (G, P). Every process has to call it, with the same N.

    Args:
        x: this process's rows.
        across: False: this process's rows alone, as where each evaluates by itself.
    """
    if not across or _processes() == 1:
        return x
    y: Tensor = _Gather.apply(x)  # type: ignore[no-untyped-call]
    return y


def _processes() -> int:
    there = distributed.is_available() and distributed.is_initialized()
    return distributed.get_world_size() if there else 1


def _own(rows: int, across: bool, device: torch.device) -> Tensor:
    """The places of this process's rows among those of all: (N,), int64."""
    first = distributed.get_rank() * rows if across and _processes() > 1 else 0
    return torch.arange(first, first + rows, device=device)


def info_nce(
    queries: Tensor,
    keys: Tensor,
    *,
    temperature: float | Tensor = 1.0,
    negatives: Tensor | None = None,
    across: bool = True,
) -> Tensor:
    """InfoNCE, (1).

    Args:
        queries: q, (N, P); multiplied by a matrix before, they are CPC's bilinear form.
        keys: k, (N, P); those of the other queries are what each is told apart from.
        temperature: τ, above 0.
        negatives: (K, P), keys that belong to none, such as a queue of earlier ones.
        across: whether the keys of all processes are compared with.

    Returns:
        (), in nats.
    """
    candidates = gather(keys, across)  # (G, P)
    if negatives is not None:
        candidates = torch.cat((candidates, negatives))  # (G + K, P)
    logits = queries @ candidates.T / temperature  # (N, G + K)
    return F.cross_entropy(logits, _own(len(queries), across, queries.device))


def nt_xent(
    first: Tensor, second: Tensor, *, temperature: float = 0.5, across: bool = True
) -> Tensor:
    """Normalised temperature-scaled cross-entropy over 2N views, (2).

    Args:
        first: one view of each item, (N, P), of any length; normalised here.
        second: the other.
        temperature: τ, above 0.
        across: whether the views of all processes are compared with.

    Returns:
        (), in nats.
    """
    views = [F.normalize(view, dim=-1) for view in (first, second)]  # (N, P) each
    everyone = torch.cat([gather(view, across) for view in views])  # (2G, P)
    logits = torch.cat(views) @ everyone.T / temperature  # (2N, 2G)
    total = len(everyone) // 2
    own = _own(len(first), across, first.device)  # (N,)
    own, other = torch.cat((own, own + total)), torch.cat((own + total, own))  # (2N,) each
    itself = torch.zeros_like(logits, dtype=torch.bool).scatter_(1, own[:, None], value=True)
    return F.cross_entropy(logits.masked_fill(itself, -torch.inf), other)


def clip_loss(
    pictures: Tensor, texts: Tensor, logit_scale: Tensor, *, across: bool = True
) -> Tensor:
    """The symmetric loss of CLIP, (3).

    Args:
        pictures: I, (N, P), of length 1.
        texts: T, (N, P), of length 1.
        logit_scale: t, (); see `clamp`.
        across: whether those of all processes are compared with.

    Returns:
        (), in nats; ln G where nothing is learnt.
    """
    scaled = logit_scale.exp() * pictures, logit_scale.exp() * texts  # (N, P) each
    to_texts = info_nce(scaled[0], texts, across=across)
    to_pictures = info_nce(scaled[1], pictures, across=across)
    return (to_texts + to_pictures) / 2


def sigmoid_loss(
    pictures: Tensor,
    texts: Tensor,
    logit_scale: Tensor,
    logit_bias: Tensor,
    *,
    across: bool = True,
) -> Tensor:
    """The sigmoid loss, (4): no softmax over the batch, so that small batches serve as well.

    Args:
        pictures: I, (N, P), of length 1.
        texts: T, (N, P), of length 1.
        logit_scale: t, ().
        logit_bias: b, (); begins at -10, since nearly all pairs do not belong together.
        across: whether the texts of all processes are compared with.

    Returns:
        (), in nats, a sum over G texts for each picture.
    """
    logits = logit_scale.exp() * pictures @ gather(texts, across).T + logit_bias  # (N, G)
    own = _own(len(pictures), across, pictures.device)[:, None]  # (N, 1)
    signs = torch.full_like(logits, -1.0).scatter_(1, own, 1.0)  # (N, G)
    return -F.logsigmoid(signs * logits).sum() / len(pictures)


@torch.no_grad()
def clamp(logit_scale: nn.Parameter) -> None:
    """Keep the scale of CLIP's logits at 100 at most (sec. 2.5); to be called before each step.

    Changed in place, not in the loss, where beyond the limit no gradient would lead back.
    """
    logit_scale.clamp_(max=MAX_LOGIT_SCALE)
