"""What a step changes, and the step itself: weights, optimiser, running mean.

batch → loss → gradients → clipped → AdamW → perhaps EMA
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vermilion.errors import InputError
from vermilion.nn.ema import EMA
from vermilion.train import checkpoint, distributed
from vermilion.train.distributed import World
from vermilion.train.optim import adamw, set_learning_rate, trained
from vermilion.train.options import Training
from vermilion.train.schedules import learning_rate
from vermilion.train.task import Task


class Objective(nn.Module):
    """The loss of a batch as a module, so that torch can spread it over processes."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.model, self._loss = task.model, task.loss

    def forward(self, batch: Any) -> Tensor:
        """The sum of the batch's terms, ()."""
        return self._loss(self.model, batch)


class Learner:
    """A model that is being trained.

    Args:
        task: what is trained on what.
        options: how.
        world: this process.

    Attributes:
        step: steps that are done.

    Raises:
        InputError: the batch cannot be spread over the processes, or two means are asked for.
    """

    def __init__(self, task: Task, options: Training, world: World) -> None:
        if options.batch_size % world.size:
            raise InputError(
                f"batch_size: {options.batch_size} items cannot be spread evenly over"
                f" {world.size} processes; use a multiple of {world.size}"
            )
        if options.ema_decay and options.ema_gamma is not None:
            raise InputError("ema_gamma: is in place of ema_decay; leave one of them out")
        self.task, self.options, self.world, self.step = task, options, world, 0
        objective = Objective(task)
        self.sharded = world.size > 1 and (
            options.sharding == "full"
            or (options.sharding == "auto" and not distributed.fits(task.model, world))
        )
        if self.sharded:
            distributed.shard(task.model, objective)
        self.objective = distributed.parallel(objective, world)
        self.parameters = dict(trained(task.model))
        kept = task.model.state_dict().keys()
        # Such as the means of a BatchNorm; what is no part of the state is made anew.
        self.buffers = {n: b for n, b in task.model.named_buffers() if n in kept}
        self.optimizer = adamw(task.model, options)
        self.ema = None
        if options.keeps_mean:
            self.ema = EMA(self.parameters, options.ema_decay, options.ema_gamma)

    def _parts(self) -> list[Any]:
        """This process's share of the step's batch, in the parts that are computed at once."""
        share = self.options.batch_size // self.world.size
        size = part_size(self.task, self.options, self.world)
        first = self.step * self.options.batch_size + self.world.rank * share
        return [
            self.task.batch(first + at, min(size, share - at), self.world.device)
            for at in range(0, share, size)
        ]

    def advance(self) -> tuple[Tensor, Tensor]:
        """Do one step: this process's share of the loss, (), and the gradient's norm, ()."""
        _seed(self.options.seed, self.step, self.world.rank)
        set_learning_rate(self.optimizer, learning_rate(self.step, self.options))
        parts = self._parts()
        (weight,) = self.world.sum(sum(self.task.weight(part) for part in parts))
        total = torch.zeros((), device=self.world.device)
        for number, part in enumerate(parts, 1):
            distributed.synchronise(self.objective, number == len(parts))
            with self.precision():
                loss = self.objective(part) / max(weight, 1.0)
            # Gradients become means over the processes, and sums are wanted.
            torch.autograd.backward(loss * self.world.size)
            total += loss.detach()
        limit = self.options.max_grad_norm or math.inf
        norm = torch.nn.utils.clip_grad_norm_(self.parameters.values(), limit)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.ema is not None:
            self.ema.update()
        self.step += 1
        return total, norm

    def precision(self) -> AbstractContextManager[Any]:
        """Mixed precision, where it is wanted: products in bfloat16, weights in float32."""
        kind, wanted = self.world.device.type, self.options.precision
        if wanted == "bfloat16" or (wanted == "auto" and kind == "cuda"):
            return torch.autocast(kind, torch.bfloat16)
        return nullcontext()

    @contextmanager
    def at_rest(self) -> Iterator[None]:
        """No dropout, no gradients, and the running mean as the weights where there is one."""
        self.task.model.eval()
        mean = nullcontext() if self.ema is None else self.ema.applied()
        try:
            with torch.no_grad(), mean, self.precision():
                yield
        finally:
            self.task.model.train()

    def validate(self) -> dict[str, float]:
        """The task's figures of what is held back; empty where nothing is."""
        total, weight = 0.0, 0.0
        for batch in self.task.held_back(self.options.eval_batches, self.world.device):
            total += float(self.objective(batch))
            weight += self.task.weight(batch)
        return self.task.figures(total / weight) if weight else {}

    def weights(self) -> dict[str, Tensor]:
        """What is trained, whole, on the CPU; every process has to ask for it."""
        return {name: distributed.whole(p) for name, p in self.parameters.items()}

    def model_tensors(self) -> dict[str, dict[str, Tensor]]:
        """The model as it is now, likewise: "weights", and "buffers" where it has any."""
        found = {"weights": self.weights()}
        if self.buffers:
            found["buffers"] = {n: b.detach().cpu() for n, b in self.buffers.items()}
        return found

    def tensors(self) -> dict[str, dict[str, Tensor]]:
        """All that a checkpoint holds, likewise."""
        found = {
            **self.model_tensors(),
            "optimizer": checkpoint.optimizer_tensors(self.optimizer, self.parameters),
        }
        if self.ema is not None:
            found["ema"] = {n: distributed.whole(mean) for n, mean in self.ema.means.items()}
        return found

    def restore(self, path: Path, state: Mapping[str, Any]) -> None:
        """Take up a checkpoint.

        Raises:
            ModelError: it is broken or of another network.
        """
        self.restore_model(path)
        tensors = checkpoint.read_tensors(path, "optimizer")
        checkpoint.restore_optimizer(self.optimizer, self.parameters, tensors)
        if self.ema is not None:
            means = checkpoint.read_tensors(path, "ema")
            checkpoint.restore_parameters(self.ema.means, means, path)
            self.ema.updates = state["ema_updates"]
        self.step = state["step"]

    def restore_model(self, path: Path) -> None:
        """Take the model out of a checkpoint's folder, or out of one of `model_tensors`.

        Raises:
            ModelError: it is broken or of another network.
        """
        weights = checkpoint.read_tensors(path, "weights")
        checkpoint.restore_parameters(self.parameters, weights, path)
        if self.buffers:
            checkpoint.restore_parameters(
                self.buffers, checkpoint.read_tensors(path, "buffers"), path
            )


def part_size(task: Task, options: Training, world: World) -> int:
    """How many items a process computes at once.

    A CPU by itself takes few: what lies in its caches and in memory that it has already is
    fastest. A GPU takes all.
    """
    share = max(1, options.batch_size // world.size)
    usual = task.at_once if world.device.type == "cpu" else share
    return min(options.micro_batch or usual, share)


def _seed(seed: int, step: int, rank: int) -> None:
    """Random numbers of a step that no earlier step, sample or validation has a part in."""
    state = np.random.SeedSequence((seed, step, rank)).generate_state(2, np.uint32)
    torch.manual_seed(int(state[0]) << 31 ^ int(state[1]))
