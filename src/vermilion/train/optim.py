"""AdamW with its groups of parameters."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from vermilion.train.options import Training

# Layers whose weights are directions to be learned, not tables or scales.
_MATRICES = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d)


def decay_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Two groups: what decays and what does not.

    The weights of linear and convolution layers decay. Biases, gains of norms and embeddings do
    not, nor does an output layer that is the embedding matrix.
    """
    decaying = {
        id(module.weight)
        for module in model.modules()
        if isinstance(module, _MATRICES) and module.weight.dim() >= 2
    }
    tables = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
    trained = [p for p in model.parameters() if p.requires_grad]
    matrices = [p for p in trained if id(p) in decaying - tables]
    others = [p for p in trained if id(p) not in decaying - tables]
    return [
        {"params": matrices, "weight_decay": weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]


def adamw(model: nn.Module, options: Training) -> torch.optim.AdamW:
    """AdamW with decoupled decay (Loshchilov & Hutter 2019, alg. 2), in its fused form."""
    return torch.optim.AdamW(
        [group for group in decay_groups(model, options.weight_decay) if group["params"]],
        lr=options.learning_rate,
        betas=(options.adam_beta1, options.adam_beta2),
        eps=options.adam_epsilon,
        fused=True,
    )


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate of every group."""
    for group in optimizer.param_groups:
        group["lr"] = rate


def trained(model: nn.Module) -> Iterable[tuple[str, nn.Parameter]]:
    """Parameters that are trained, by name; one that is shared is named once."""
    return [(name, p) for name, p in model.named_parameters() if p.requires_grad]
