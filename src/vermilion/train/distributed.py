"""The processes that train together, as torchrun starts them; one where it does not."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psutil
import torch
from torch import Tensor, distributed, nn
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.parallel import DistributedDataParallel


@dataclass(frozen=True, slots=True)
class World:
    """One process among those that train together.

    Attributes:
        device: where this one computes.
        rank: its number, from 0.
        size: how many there are.
    """

    device: torch.device
    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        """Whether this process writes files and talks to people."""
        return self.rank == 0

    def sum(self, *values: float) -> list[float]:
        """Sums over all processes, exact for whole numbers below 2^53."""
        if self.size == 1:
            return list(values)
        tensor = torch.tensor(values, dtype=torch.float64, device=self.device)
        distributed.all_reduce(tensor)
        return [float(value) for value in tensor.tolist()]

    def wait(self) -> None:
        """Wait until every process is here."""
        if self.size > 1:
            distributed.barrier()


@contextmanager
def joined(device: str) -> Iterator[World]:
    """Join the processes that torchrun started, and leave them at the end.

    Args:
        device: "cpu", "cuda" or "cuda:N"; with several processes each takes the CUDA device of
            its number on the machine.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1 or "RANK" not in os.environ:
        yield World(torch.device(device))
        return
    cuda = device.startswith("cuda")
    place = torch.device("cuda", int(os.environ["LOCAL_RANK"])) if cuda else torch.device("cpu")
    if cuda:
        torch.cuda.set_device(place)
    distributed.init_process_group("nccl" if cuda else "gloo")
    try:
        yield World(place, distributed.get_rank(), size)
    finally:
        distributed.destroy_process_group()


def shard(model: nn.Module, objective: nn.Module) -> None:
    """Cut a model's weights among the processes (FSDP), layer by layer, in place.

    Each layer of a list of layers is gathered when it is needed and let go after.

    Args:
        model: the model.
        objective: what is called in training; it holds the model.
    """
    for module in model.modules():
        if isinstance(module, nn.ModuleList):
            for layer in module:
                fully_shard(layer)
    fully_shard(objective)


def parallel(objective: nn.Module, world: World) -> nn.Module:
    """What to call in training so that gradients are means over the processes."""
    if world.size == 1 or isinstance(objective, FSDPModule):
        return objective
    return DistributedDataParallel(objective)


def synchronise(objective: nn.Module, wanted: bool) -> None:
    """Whether the next backward pass exchanges gradients; between parts of a step it need not."""
    if isinstance(objective, FSDPModule):
        objective.set_requires_gradient_sync(wanted)
    elif isinstance(objective, DistributedDataParallel):
        objective.require_backward_grad_sync = wanted


def whole(tensor: Tensor) -> Tensor:
    """A tensor on the CPU, put together from all processes where it is cut among them."""
    tensor = tensor.detach()
    return (tensor.full_tensor() if isinstance(tensor, DTensor) else tensor).cpu()


def like(value: Tensor, pattern: Tensor) -> Tensor:
    """A whole tensor placed, and cut, as another one is."""
    if isinstance(pattern, DTensor):
        value = value.to(pattern.device)
        return distribute_tensor(value, pattern.device_mesh, pattern.placements)
    return value.to(pattern.device)


def fits(model: nn.Module, world: World) -> bool:
    """Whether each process can hold weights, gradients and AdamW's two moments, in float32."""
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    needed = 12 * trained + 4 * sum(p.numel() for p in model.parameters())
    if world.device.type == "cuda":
        return needed < 0.7 * torch.cuda.get_device_properties(world.device).total_memory
    return needed * world.size < 0.7 * psutil.virtual_memory().total
