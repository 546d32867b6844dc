"""The training loop. It knows no family of models: see `task.Task`.

    for each step:  batch → loss → gradients → clipped → AdamW → perhaps EMA
    now and then:   a line in the log, a validation, samples, a checkpoint

A step's random numbers, like its batch, are a function of the seed and the step, so that a run
that was broken off goes on bit for bit.
"""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from vermilion.errors import InputError
from vermilion.nn.ema import EMA
from vermilion.train import checkpoint, schedules
from vermilion.train.distributed import World
from vermilion.train.logs import Log
from vermilion.train.optim import adamw, set_learning_rate, trained
from vermilion.train.options import Training
from vermilion.train.task import Task

_REPORT_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened in a run, for whoever watches.

    Attributes:
        kind: of it.
        step: steps that are done.
        figures: such as "loss", "per_second", "validation_loss".
        text: of a sample; of a checkpoint, its path; of a step, what "per_second" counts.
    """

    kind: Literal["begin", "step", "validation", "sample", "checkpoint"]
    step: int
    figures: Mapping[str, float] = field(default_factory=dict)
    text: str = ""


Watch = Callable[[Event], None]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended.

    Attributes:
        step: steps that are done.
        state: "finished", "early" (no better validation for long) or "stopped" (by a signal).
        best: lowest validation loss; None where there was no validation.
        best_step: when that was.
        figures: of the last validation.
    """

    step: int
    state: Literal["finished", "early", "stopped"]
    best: float | None
    best_step: int
    figures: Mapping[str, float]


class Trainer:
    """One run: the state that changes, and the steps that change it.

    Args:
        task: what is trained on what.
        options: how.
        folder: of the run; a checkpoint in it is taken up.
        world: this process.
        watch: told what happens.

    Raises:
        InputError: the batch cannot be spread over the processes.
        ModelError: the checkpoint is broken or of another network.
    """

    def __init__(
        self, task: Task, options: Training, folder: Path, world: World, watch: Watch
    ) -> None:
        if options.batch_size % world.size:
            raise InputError(
                f"batch_size: {options.batch_size} items cannot be spread evenly over"
                f" {world.size} processes; use a multiple of {world.size}"
            )
        self.task, self.options, self.folder = task, options, folder
        self.world, self.watch = world, watch
        self.parameters = dict(trained(task.model))
        self.optimizer = adamw(task.model, options)
        self.ema = EMA(self.parameters, options.ema_decay) if options.ema_decay else None
        self.step, self.best, self.best_step, self.stale = 0, math.inf, 0, 0
        self.figures: dict[str, float] = {}
        self.seconds = 0.0
        self._asked_to_stop = False
        self._resume()

    # One step -----------------------------------------------------------------------------

    def learning_rate(self, step: int) -> float:
        """Of a step, counted from 0."""
        o = self.options
        if o.schedule == "constant":
            part = schedules.warmup(step, o.warmup_steps)
        elif o.schedule == "wsd":
            part = schedules.wsd(
                step,
                warmup_steps=o.warmup_steps,
                max_steps=o.max_steps,
                floor=o.min_learning_rate,
                decay_fraction=o.decay_fraction,
            )
        else:
            part = schedules.cosine(
                step,
                warmup_steps=o.warmup_steps,
                max_steps=o.max_steps,
                floor=o.min_learning_rate,
            )
        return o.learning_rate * part

    def _parts(self, step: int) -> list[Any]:
        """This process's share of a step's batch, in the parts that are computed at once."""
        share = self.options.batch_size // self.world.size
        size = min(self.options.micro_batch or share, share)
        first = step * self.options.batch_size + self.world.rank * share
        return [
            self.task.batch(first + at, min(size, share - at), self.world.device)
            for at in range(0, share, size)
        ]

    def advance(self) -> tuple[Tensor, Tensor]:
        """Do one step: its loss, (), of the whole batch, and the gradient's norm, ()."""
        _seed(self.options.seed, self.step, self.world.rank)
        set_learning_rate(self.optimizer, self.learning_rate(self.step))
        parts = self._parts(self.step)
        (weight,) = self.world.sum(sum(self.task.weight(part) for part in parts))
        total = torch.zeros((), device=self.world.device)
        for part in parts:
            with self._precision():
                loss = self.task.loss(self.task.model, part) / max(weight, 1.0)
            torch.autograd.backward(loss)
            total += loss.detach()
        limit = self.options.max_grad_norm or math.inf
        norm = torch.nn.utils.clip_grad_norm_(self.parameters.values(), limit)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.ema is not None:
            self.ema.update()
        self.step += 1
        return total, norm

    def _precision(self) -> AbstractContextManager[Any]:
        kind = self.world.device.type
        wanted = self.options.precision
        if wanted == "bfloat16" or (wanted == "auto" and kind == "cuda"):
            return torch.autocast(kind, torch.bfloat16)
        return nullcontext()

    # The run ------------------------------------------------------------------------------

    def run(self) -> Outcome:
        """Train until the steps are done, no progress is made, or somebody stops it.

        Raises:
            StorageError: a checkpoint cannot be written; the one before it is whole.
        """
        log = Log(self.folder, self.step, self.options.tensorboard) if self.world.first else None
        self._tell("begin", {"max_steps": self.options.max_steps})
        self.task.model.train()
        try:
            with self._signals():
                state = self._loop(log)
        finally:
            if log is not None:
                log.close()
        best = None if math.isinf(self.best) else self.best
        return Outcome(self.step, state, best, self.best_step, self.figures)

    def _loop(self, log: Log | None) -> Literal["finished", "early", "stopped"]:
        o, saved_at, begun = self.options, time.monotonic(), time.monotonic()
        pace = _Pace(o.batch_size * self.task.per_item)
        saved = self.step
        while self.step < o.max_steps and not self._out_of_patience():
            loss, norm = self.advance()
            pace.add(loss, norm)
            last = self.step == o.max_steps
            validates = last or _due(self.step, o.eval_steps)
            writes = validates or _due(self.step, o.log_steps)
            if writes or pace.silent() > _REPORT_SECONDS:
                rate = self.learning_rate(self.step - 1)
                figures = {"step": self.step, "learning_rate": rate, **pace.figures()}
                self._tell("step", figures, self.task.unit)
            if writes:
                now = self.seconds + time.monotonic() - begun
                row = {**figures, **pace.row(), "seen": self.step * pace.size, "seconds": now}
                row |= self._validate() if validates else {}
                if log is not None:
                    log.row(row)
            if (last or _due(self.step, o.sample_steps)) and o.sample_steps:
                self._sample()
            minutes = (time.monotonic() - saved_at) / 60
            timely = o.save_minutes > 0 and minutes >= o.save_minutes
            stop, timely = self._agreed(self._asked_to_stop, timely)
            over = last or stop or self._out_of_patience()
            if over or timely or _due(self.step, o.save_steps):
                self._save(self.seconds + time.monotonic() - begun)
                saved, saved_at = self.step, time.monotonic()
            if stop and not last:
                return "stopped"
        if saved != self.step:
            self._save(self.seconds + time.monotonic() - begun)
        return "early" if self.step < o.max_steps else "finished"

    def _agreed(self, *flags: bool) -> list[bool]:
        """What any process wants, all do."""
        return [value > 0 for value in self.world.sum(*map(float, flags))]

    def _out_of_patience(self) -> bool:
        return 0 < self.options.patience <= self.stale

    def _validate(self) -> dict[str, float]:
        o = self.options
        with self._at_rest():
            figures = self.task.evaluate(self.task.model, o.eval_batches, self.world.device)
            if not figures:
                return {}
            if figures["loss"] < self.best:
                self.best, self.best_step, self.stale = figures["loss"], self.step, 0
                if self.world.first:
                    weights = {n: p.detach().cpu() for n, p in self.parameters.items()}
                    state = {"step": self.step, **figures}
                    checkpoint.write_folder(self.folder / "best", {"weights": weights}, state)
            else:
                self.stale += 1
        self.figures = figures
        row = {("validation_loss" if k == "loss" else k): v for k, v in figures.items()}
        self._tell("validation", row)
        return row

    def _sample(self) -> None:
        if not self.world.first:
            return
        with self._at_rest():
            text = self.task.samples(self.task.model, self.step)
        if text:
            path = self.folder / "samples" / f"step-{self.step:08d}.txt"
            path.parent.mkdir(exist_ok=True)
            path.write_text(text + "\n", encoding="utf-8")
            self._tell("sample", text=text)

    @contextmanager
    def _at_rest(self) -> Iterator[None]:
        """No dropout, no gradients, and the running mean as the weights where there is one."""
        self.task.model.eval()
        mean = nullcontext() if self.ema is None else self.ema.applied()
        try:
            with torch.no_grad(), mean, self._precision():
                yield
        finally:
            self.task.model.train()

    def _tell(self, kind: Any, figures: Mapping[str, float] | None = None, text: str = "") -> None:
        if self.world.first:
            self.watch(Event(kind, self.step, figures or {}, text))

    # Checkpoints --------------------------------------------------------------------------

    def _save(self, seconds: float) -> None:
        if self.world.first:
            tensors = {
                "weights": {n: p.detach().cpu() for n, p in self.parameters.items()},
                "optimizer": checkpoint.optimizer_tensors(self.optimizer, self.parameters),
            }
            if self.ema is not None:
                tensors["ema"] = self.ema.means
            state = {
                "best": None if math.isinf(self.best) else self.best,
                "best_step": self.best_step,
                "stale": self.stale,
                "figures": self.figures,
                "ema_updates": 0 if self.ema is None else self.ema.updates,
                "seconds": seconds,
                "seed": self.options.seed,
            }
            folder = self.folder / "checkpoints"
            path = checkpoint.write(folder, self.step, tensors, state, self.options.keep)
            self._tell("checkpoint", text=str(path))
        self.world.wait()

    def _resume(self) -> None:
        path = checkpoint.latest(self.folder / "checkpoints")
        if path is None:
            return
        state = checkpoint.read_state(path)
        weights = checkpoint.read_tensors(path, "weights")
        checkpoint.restore_parameters(self.parameters, weights, path)
        tensors = checkpoint.read_tensors(path, "optimizer")
        checkpoint.restore_optimizer(self.optimizer, self.parameters, tensors)
        if self.ema is not None:
            for name, mean in checkpoint.read_tensors(path, "ema").items():
                self.ema.means[name].copy_(mean)
            self.ema.updates = state["ema_updates"]
        self.step, self.stale = state["step"], state["stale"]
        self.best = math.inf if state["best"] is None else state["best"]
        self.best_step, self.seconds = state["best_step"], state["seconds"]
        self.figures = state["figures"]

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """The first SIGINT or SIGTERM lets the step end and saves; a second one breaks off."""

        def ask(number: int, frame: Any) -> None:
            if self._asked_to_stop:
                raise KeyboardInterrupt
            self._asked_to_stop = True

        try:
            old = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
        except ValueError:  # only the main thread may; elsewhere the caller has the signals
            yield
            return
        try:
            yield
        finally:
            for number, handler in old.items():
                signal.signal(number, handler)


def _due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0


def _seed(seed: int, step: int, rank: int) -> None:
    """Random numbers of a step that no earlier step, sample or validation has a part in."""
    state = np.random.SeedSequence((seed, step, rank)).generate_state(2, np.uint32)
    torch.manual_seed(int(state[0]) << 31 ^ int(state[1]))


class _Pace:
    """Loss, norm and speed since they were last asked for."""

    def __init__(self, size: int) -> None:
        self.size = size  # units of one step
        self._told, self._logged = time.monotonic(), time.monotonic()
        self._steps, self._row_steps = 0, 0
        self._loss: Tensor | None = None
        self._norm: Tensor | None = None
        self._total: Tensor | None = None

    def add(self, loss: Tensor, norm: Tensor) -> None:
        self._steps += 1
        self._row_steps += 1
        self._loss, self._norm = loss, norm
        self._total = loss if self._total is None else self._total + loss

    def silent(self) -> float:
        return time.monotonic() - self._told

    def figures(self) -> dict[str, float]:
        """Of the last step, and the speed since this was last called."""
        now = time.monotonic()
        loss = math.nan if self._loss is None else float(self._loss)
        speed = self._steps * self.size / max(now - self._told, 1e-9)
        self._told, self._steps = now, 0
        return {"loss": loss, "per_second": speed}

    def row(self) -> dict[str, float]:
        """Means since the last row of the log."""
        now = time.monotonic()
        mean = math.nan if self._total is None else float(self._total) / self._row_steps
        speed = self._row_steps * self.size / max(now - self._logged, 1e-9)
        self._logged, self._row_steps, self._total = now, 0, None
        norm = math.nan if self._norm is None else float(self._norm)
        return {"loss": mean, "grad_norm": norm, "per_second": speed}
