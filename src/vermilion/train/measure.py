"""What a training needs, found out by a few real steps that are thrown away."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import psutil
import torch

from vermilion.train.distributed import World
from vermilion.train.learner import Learner, part_size
from vermilion.train.options import Training
from vermilion.train.task import Task

TIMED_STEPS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What steps took on this machine.

    Attributes:
        parameters: of the model.
        trained: how many of them are trained.
        memory_bytes: weights, gradients, the optimiser's moments and the mean, and what a
            measured step needed besides where that could be measured.
        memory_free_bytes: on the device now.
        seconds_per_step: validations left out.
    """

    parameters: int
    trained: int
    memory_bytes: int
    memory_free_bytes: int
    seconds_per_step: float


def measure(task: Task, options: Training, world: World) -> Measured:
    """Count, and time a few real steps of one part of a batch; nothing is written.

    Args:
        task: its model is changed and must not be used after.
        options: of the training.
        world: this process.
    """
    share = max(1, options.batch_size // world.size)
    most = part_size(task, options, world)
    # One part is timed, not the whole batch, which may be long. It divides the batch, since a task
    # may want all that is computed together to be of one step.
    part = max(size for size in range(1, most + 1) if share % size == 0)
    learner = Learner(
        task, replace(options, batch_size=part, micro_batch=part), World(world.device)
    )
    before = _used(world.device)
    learner.advance()  # the first step lays out the optimiser's state
    started = time.perf_counter()
    for _ in range(TIMED_STEPS):
        learner.advance()
    if world.device.type == "cuda":
        torch.cuda.synchronize(world.device)
    taken = (time.perf_counter() - started) / TIMED_STEPS * (share / part)
    parameters = sum(p.numel() for p in task.model.parameters())
    trained = sum(p.numel() for p in learner.parameters.values())
    held = 4 * parameters + (16 if options.keeps_mean else 12) * trained
    peak = _used(world.device, peak=True) - before + 4 * parameters
    return Measured(
        parameters=parameters,
        trained=trained,
        memory_bytes=max(held, peak),
        memory_free_bytes=_free(world.device),
        seconds_per_step=taken,
    )


def _free(device: torch.device) -> int:
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return int(psutil.virtual_memory().available)


def _used(device: torch.device, peak: bool = False) -> int:
    """Bytes in use: on CUDA by torch, on the CPU by this process."""
    if device.type == "cuda":
        used = torch.cuda.max_memory_allocated if peak else torch.cuda.memory_allocated
        return int(used(device))
    return int(psutil.Process().memory_info().rss)
