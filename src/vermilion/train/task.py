"""What the loop wants to know of the family that it trains."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn


class Task(Protocol):
    """Everything about a run that depends on the family of models and on the data.

    A step's batch is `batch_size` items, numbered on from the first step. Each process computes
    some of them, in one or more parts.

    Attributes:
        model: what is trained: its parameters that require gradients.
        unit: what is counted for the speed, such as "tokens".
        per_item: how many of those an item has.
        at_once: items that a CPU is fastest with when it computes them together.
        columns: figures of a validation that the log has beside its loss.
    """

    model: nn.Module
    unit: str
    per_item: int
    at_once: int
    columns: tuple[str, ...]

    def batch(self, first: int, size: int, device: torch.device) -> Any:
        """Items number `first` to `first + size - 1` since the run began: a pure function."""

    def weight(self, batch: Any) -> float:
        """How many terms the loss of a batch sums up, such as tokens."""

    def loss(self, model: nn.Module, batch: Any) -> Tensor:
        """The sum of a batch's terms, (); the loop divides by the whole step's weight."""

    def held_back(self, batches: int, device: torch.device) -> Iterator[Any]:
        """At most `batches` batches for the validation, the same in every process."""

    def figures(self, loss: float) -> dict[str, float]:
        """What a mean loss of the validation says, "loss" among it."""

    def samples(self, model: nn.Module, step: int) -> str | NDArray[np.uint8]:
        """What the model makes at present, for people: a text, which may be empty, or a picture,
        (H, W, 3 or 4).
        """
