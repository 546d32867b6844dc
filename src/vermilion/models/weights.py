"""Published tensors into networks whose modules bear the same names."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Protocol, TypeVar

import torch
from torch import Tensor, nn

from vermilion.errors import ModelError

# Buffers that older folders hold beside the weights: the numbers from 0 on.
_SPARE = "position_ids"

N = TypeVar("N", bound=nn.Module)


class Tensors(Protocol):
    """Published tensors, read one at a time."""

    @property
    def names(self) -> Collection[str]:
        """Of all of them."""
        ...

    def load(self, name: str) -> Tensor:
        """One of them, on the CPU."""
        ...

    def shape(self, name: str) -> tuple[int, ...]:
        """Of one of them, which is not loaded for it."""
        ...


class Part:
    """Those of a model's tensors whose names begin alike, without that beginning.

    Args:
        tensors: of the whole model.
        prefix: what the names begin with, as "text_model.".
    """

    def __init__(self, tensors: Tensors, prefix: str) -> None:
        self._tensors, self._prefix = tensors, prefix
        self.names = frozenset(
            name.removeprefix(prefix) for name in tensors.names if name.startswith(prefix)
        )

    def load(self, name: str) -> Tensor:
        """One of them, on the CPU."""
        return self._tensors.load(self._prefix + name)

    def shape(self, name: str) -> tuple[int, ...]:
        """Of one of them, which is not loaded for it."""
        return self._tensors.shape(self._prefix + name)


def laid_out(make: Callable[[], N], layers: int, tensors: Tensors, where: str) -> N:
    """A network without weights, for `fill`.

    Args:
        make: makes it.
        layers: how many the config asks for; there have to be as many tensors.
        tensors: what is published.
        where: it lies, for messages.

    Raises:
        ModelError: there are too few tensors, or the config's sizes are too large.
    """
    if layers > len(tensors.names):
        raise ModelError(f"{where}: there are fewer tensors than layers; pull the model again")
    try:
        with torch.device("meta"):
            return make()
    except (ValueError, ArithmeticError, RuntimeError) as error:
        raise ModelError(f"{where}: config.json: {error}") from None


def fill(
    net: nn.Module,
    tensors: Tensors,
    where: str,
    device: str,
    dtype: torch.dtype,
    others: Collection[str] = (),
) -> None:
    """Put published tensors into a network that was laid out on the meta device.

    Args:
        net: the network.
        tensors: what is published.
        where: it lies, for messages.
        device: where the weights go.
        dtype: of the weights.
        others: modules whose tensors may be left over.

    Raises:
        ModelError: a tensor is missing, left over, or of another shape.
    """
    state: dict[str, Tensor] = {}
    left = set(tensors.names)
    for name, expected in net.state_dict().items():
        if name not in left:
            raise ModelError(f"{where}: the tensor {name} is missing; pull the model again")
        left.discard(name)
        tensor = tensors.load(name)
        if tensor.shape != expected.shape:
            raise ModelError(
                f"{where}: {name} has the shape {tuple(tensor.shape)} where the config asks for"
                f" {tuple(expected.shape)}; the model's files do not belong together"
            )
        state[name] = tensor.to(device, dtype if tensor.is_floating_point() else tensor.dtype)
    strangers = [
        name for name in left if not name.endswith(_SPARE) and name.split(".")[0] not in others
    ]
    if strangers:
        raise ModelError(
            f"{where}: the network that the config describes has no place for {min(strangers)};"
            " this variant is not supported"
        )
    net.load_state_dict(state, assign=True)
