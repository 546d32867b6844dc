"""The training loop. It knows no family of models: see `task.Task`.

    for each step:  the learner advances, see `learner`
    now and then:   a line in the log, a validation, samples, a checkpoint

A step's random numbers, like its batch, are a function of the seed and the step, so that a run
that was broken off goes on bit for bit.
"""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from PIL import Image
from torch import Tensor

from vermilion.train import checkpoint
from vermilion.train.distributed import World, whole
from vermilion.train.learner import Learner
from vermilion.train.logs import Log
from vermilion.train.options import Training
from vermilion.train.schedules import learning_rate
from vermilion.train.task import Task

_REPORT_SECONDS = 0.5


Kind = Literal["begin", "step", "validation", "sample", "checkpoint"]


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened in a run, for whoever watches.

    Attributes:
        kind: of it.
        step: steps that are done.
        figures: such as "loss", "per_second", "validation_loss".
        text: of a sample; of a checkpoint, its path; of a step, what "per_second" counts.
        picture: file of a sample that is a picture.
    """

    kind: Kind
    step: int
    figures: Mapping[str, float] = field(default_factory=dict)
    text: str = ""
    picture: Path | None = None


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
    """One run: the learner, what is written down about it, and when it ends.

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
        self.task, self.options, self.folder = task, options, folder
        self.world, self.watch = world, watch
        self.learner = Learner(task, options, world)
        self.best, self.best_step, self.stale = math.inf, 0, 0
        self.figures: dict[str, float] = {}
        self._seconds, self._begun = 0.0, time.monotonic()
        self._asked_to_stop = False
        self._resume()

    @property
    def step(self) -> int:
        """Steps that are done."""
        return self.learner.step

    def run(self) -> Outcome:
        """Train until the steps are done, no progress is made, or somebody stops it.

        Raises:
            StorageError: a checkpoint cannot be written; the one before it is whole.
        """
        log = None
        if self.world.first:
            log = Log(self.folder, self.step, self.options.tensorboard, self.task.columns)
        self._tell("begin", {"max_steps": self.options.max_steps})
        self.task.model.train()
        self._begun = time.monotonic()
        try:
            with self._signals():
                state = self._loop(log)
        finally:
            if log is not None:
                log.close()
        best = None if math.isinf(self.best) else self.best
        return Outcome(self.step, state, best, self.best_step, self.figures)

    def _loop(self, log: Log | None) -> Literal["finished", "early", "stopped"]:
        o, pace = self.options, _Pace(self.options.batch_size * self.task.per_item)
        saved, saved_at = self.step, time.monotonic()
        while self.step < o.max_steps and not self._out_of_patience():
            pace.add(*self.learner.advance())
            last = self.step == o.max_steps
            validates = last or _due(self.step, o.eval_steps)
            if validates or _due(self.step, o.log_steps):
                self._write(log, pace, validates)
            elif self.world.size == 1 and pace.silent() > _REPORT_SECONDS:
                self._tell("step", pace.figures(self.world), self.task.unit)
            if o.sample_steps and (last or _due(self.step, o.sample_steps)):
                self._sample(log)
            minutes = (time.monotonic() - saved_at) / 60
            timely = o.save_minutes > 0 and minutes >= o.save_minutes
            stop, timely = self._agreed(self._asked_to_stop, timely)
            if last or stop or timely or _due(self.step, o.save_steps):
                self._save()
                saved, saved_at = self.step, time.monotonic()
            if stop and not last:
                return "stopped"
        if saved != self.step:
            self._save()
        return "early" if self.step < o.max_steps else "finished"

    def _write(self, log: Log | None, pace: _Pace, validates: bool) -> None:
        """A line of the log, with a validation in it where one is due."""
        rate = learning_rate(self.step - 1, self.options)
        row = {"step": self.step, "learning_rate": rate, **pace.row(self.world)}
        self._tell("step", row, self.task.unit)
        row |= {"seen": self.step * pace.size, "seconds": self._elapsed()}
        row |= self._validate() if validates else {}
        if log is not None:
            log.row(row)

    def _elapsed(self) -> float:
        return self._seconds + time.monotonic() - self._begun

    def _agreed(self, *flags: bool) -> list[bool]:
        """What any process wants, all do."""
        return [value > 0 for value in self.world.sum(*map(float, flags))]

    def _out_of_patience(self) -> bool:
        return 0 < self.options.patience <= self.stale

    def _validate(self) -> dict[str, float]:
        with self.learner.at_rest():
            figures = self.learner.validate()
            better = bool(figures) and figures["loss"] < self.best
            if better:
                tensors = self.learner.model_tensors()
                state = {"step": self.step, **figures}
                if self.world.first:
                    checkpoint.write_folder(self.folder / "best", tensors, state)
        if not figures:
            return {}
        if better:
            self.best, self.best_step, self.stale = figures["loss"], self.step, 0
        else:
            self.stale += 1
        self.figures = figures
        row = {("validation_loss" if k == "loss" else k): v for k, v in figures.items()}
        self._tell("validation", row)
        return row

    def _sample(self, log: Log | None) -> None:
        """Samples, where one process has the whole model."""
        if log is None or self.learner.sharded:
            return
        with self.learner.at_rest():
            made = self.task.samples(self.task.model, self.step)
        path = self.folder / "samples" / f"step-{self.step:08d}"
        path.parent.mkdir(exist_ok=True)
        if not isinstance(made, str):
            Image.fromarray(made).save(path.with_suffix(".png"))
            log.picture(made, self.step)
            self.watch(Event("sample", self.step, picture=path.with_suffix(".png")))
        elif made:
            path.with_suffix(".txt").write_text(made + "\n", encoding="utf-8")
            self._tell("sample", text=made)

    def _tell(self, kind: Kind, figures: Mapping[str, float] | None = None, text: str = "") -> None:
        if self.world.first:
            self.watch(Event(kind, self.step, figures or {}, text))

    def _save(self) -> None:
        tensors = self.learner.tensors()
        state = {
            "best": None if math.isinf(self.best) else self.best,
            "best_step": self.best_step,
            "stale": self.stale,
            "figures": self.figures,
            "ema_updates": 0 if self.learner.ema is None else self.learner.ema.updates,
            "seconds": self._elapsed(),
            "seed": self.options.seed,
        }
        if self.world.first:
            folder = self.folder / "checkpoints"
            path = checkpoint.write(folder, self.step, tensors, state, self.options.keep)
            self._tell("checkpoint", text=str(path))
        self.world.wait()

    def _resume(self) -> None:
        path = checkpoint.latest(self.folder / "checkpoints")
        if path is None:
            return
        state = checkpoint.read_state(path)
        self.learner.restore(path, state)
        self.best = math.inf if state["best"] is None else state["best"]
        self.best_step, self.stale = state["best_step"], state["stale"]
        self.figures, self._seconds = state["figures"], state["seconds"]

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
        """Seconds since anything was told."""
        return time.monotonic() - self._told

    def figures(self, world: World) -> dict[str, float]:
        """Loss of the last step, and the speed since something was last told."""
        now = time.monotonic()
        speed = self._steps * self.size / max(now - self._told, 1e-9)
        self._told, self._steps = now, 0
        (loss,) = world.sum(math.nan if self._loss is None else float(self._loss))
        return {"loss": loss, "per_second": speed}

    def row(self, world: World) -> dict[str, float]:
        """Means since the last row of the log."""
        now, steps = time.monotonic(), self._row_steps
        speed = steps * self.size / max(now - self._logged, 1e-9)
        (total,) = world.sum(math.nan if self._total is None else float(self._total))
        self._logged, self._row_steps, self._total = now, 0, None
        self._told, self._steps = now, 0
        norm = math.nan if self._norm is None else float(whole(self._norm))
        return {"loss": total / steps, "grad_norm": norm, "per_second": speed}
