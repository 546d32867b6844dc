"""What a training would need: `--dry-run`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vermilion.data.windows import Windows
from vermilion.train.distributed import World
from vermilion.train.lm.prepare import Prepared
from vermilion.train.lm.task import LanguageTask
from vermilion.train.measure import measure


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
    windows = Windows(prepared.tokens, prepared.length, o.seed)
    net = prepared.net.to(world.device)
    task = LanguageTask(
        net, prepared.tokenizer, windows, prepared.validation, batch_size=o.batch_size
    )
    found = measure(task, o, world)
    return Estimate(
        config=prepared.config,
        parameters=found.parameters,
        trained=found.trained,
        train_tokens=prepared.header.train_tokens,
        validation_tokens=prepared.header.validation_tokens,
        epochs=o.max_steps * o.batch_size * prepared.length / prepared.header.train_tokens,
        memory_bytes=found.memory_bytes,
        memory_free_bytes=found.memory_free_bytes,
        seconds_per_step=found.seconds_per_step,
        seconds=found.seconds_per_step * o.max_steps,
    )
