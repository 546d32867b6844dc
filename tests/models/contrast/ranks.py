"""What each of several processes does: its share of a batch through a small net and a loss.

Run by torchrun; the first process writes the mean loss and gradients as safetensors.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

import torch
from safetensors.torch import save_file
from torch import Tensor, distributed, nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

from vermilion.models.contrast import loss

BATCH, FEATURES = 12, 6


class Losses(nn.Module):
    """All losses on two inputs that go through one small net."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.first = nn.Parameter(torch.randn(5, FEATURES, generator=generator))
        self.second = nn.Parameter(torch.randn(5, FEATURES, generator=generator))
        self.logit_scale = nn.Parameter(torch.tensor(1.3))
        self.logit_bias = nn.Parameter(torch.tensor(-2.0))

    def forward(self, name: str, x: Tensor, y: Tensor) -> Tensor:
        a, b = (F.normalize(v, dim=-1) for v in (x @ self.first, y @ self.second))
        kinds: dict[str, Callable[[], Tensor]] = {
            "info_nce": lambda: loss.info_nce(a, b, temperature=0.3),
            "nt_xent": lambda: loss.nt_xent(x @ self.first, y @ self.second, temperature=0.3),
            "clip": lambda: loss.clip_loss(a, b, self.logit_scale),
            "sigmoid": lambda: loss.sigmoid_loss(a, b, self.logit_scale, self.logit_bias),
        }
        return kinds[name]()


NAMES = ("info_nce", "nt_xent", "clip", "sigmoid")


def inputs() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(2)
    x, y = torch.randn(2, BATCH, 5, generator=generator)
    return x, y


def gradients(net: Losses) -> dict[str, Tensor]:
    return {name: p.grad.clone() for name, p in net.named_parameters() if p.grad is not None}


def main(path: str) -> None:
    distributed.init_process_group("gloo")
    rank, size = distributed.get_rank(), distributed.get_world_size()
    share = BATCH // size
    x, y = (v[rank * share : (rank + 1) * share] for v in inputs())
    found = {}
    for name in NAMES:
        net = Losses()
        parallel = DistributedDataParallel(net, find_unused_parameters=True)
        value = parallel(name, x, y)
        value.backward()
        distributed.all_reduce(value.data)
        found[f"{name}.loss"] = value.detach() / size
        found |= {f"{name}.{n}": g for n, g in gradients(net).items()}
    if rank == 0:
        save_file(found, path)
    distributed.barrier()  # a process that leaves early takes the other's connection with it
    distributed.destroy_process_group()


if __name__ == "__main__" and "RANK" in os.environ:
    main(sys.argv[1])
