"""What a training would need: `--dry-run`."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import psutil
import torch

from vermilion.data.windows import Windows
from vermilion.train.distributed import World
from vermilion.train.learner import Learner, part_size
from vermilion.train.lm.prepare import Prepared
from vermilion.train.lm.task import LanguageTask

_TIMED_STEPS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """What a training would need.

    Attributes:
        config: the resolved config.
        parameters: of the model.
        trained: how many of them are trained.
        train_tokens: in the text that is trained on.
        validation_tokens: in what is held back.
        epochs: how often all steps go over the text.
        memory_bytes: weights, gradients, the optimiser's moments and the mean, and what a
            measured step needed besides where that could be measured.
        memory_free_bytes: on the device now.
        seconds_per_step: measured on this machine, with real steps that are thrown away.
        seconds: of all steps, validations left out.
    """

    config: Mapping[str, Any]
    parameters: int
    trained: int
    train_tokens: int
    validation_tokens: int
    epochs: float
    memory_bytes: int
    memory_free_bytes: int
    seconds_per_step: float
    seconds: float


def estimate(prepared: Prepared, world: World) -> Estimate:
    """Count, and time a few real steps of one part of a batch; nothing is written.

    Args:
        prepared: the run; its network is changed and must not be used after.
        world: this process.

    Raises:
        InputError: the text is shorter than one window.
    """
    o = prepared.training
    share = max(1, o.batch_size // world.size)
    windows = Windows(prepared.tokens, prepared.length, o.seed)
    net = prepared.net.to(world.device)
    task = LanguageTask(
        net, prepared.tokenizer, windows, prepared.validation, batch_size=o.batch_size
    )
    part = part_size(task, o, world)
    # One part is timed, not the whole batch, which may be long.
    learner = Learner(task, replace(o, batch_size=part, micro_batch=part), World(world.device))
    before = _used(world.device)
    learner.advance()  # the first step lays out the optimiser's state
    started = time.perf_counter()
    for _ in range(_TIMED_STEPS):
        learner.advance()
    taken = (time.perf_counter() - started) / _TIMED_STEPS * (share / part)
    parameters = sum(p.numel() for p in net.parameters())
    trained = sum(p.numel() for p in learner.parameters.values())
    held = 4 * parameters + (16 if o.ema_decay else 12) * trained
    peak = _used(world.device, peak=True) - before + 4 * parameters
    free = (
        torch.cuda.mem_get_info(world.device)[0]
        if world.device.type == "cuda"
        else psutil.virtual_memory().available
    )
    return Estimate(
        config=prepared.config,
        parameters=parameters,
        trained=trained,
        train_tokens=prepared.header.train_tokens,
        validation_tokens=prepared.header.validation_tokens,
        epochs=o.max_steps * o.batch_size * prepared.length / prepared.header.train_tokens,
        memory_bytes=max(held, peak),
        memory_free_bytes=int(free),
        seconds_per_step=taken,
        seconds=taken * o.max_steps,
    )


def _used(device: torch.device, peak: bool = False) -> int:
    """Bytes in use: on CUDA by torch, on the CPU by this process."""
    if device.type == "cuda":
        used = torch.cuda.max_memory_allocated if peak else torch.cuda.memory_allocated
        return int(used(device))
    return int(psutil.Process().memory_info().rss)
