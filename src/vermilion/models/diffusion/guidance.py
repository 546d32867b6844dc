"""Conditions, and how a network is made to heed them more than it does by itself.

N items, C channels, H height, W width, T context tokens, D features.

Everything from here on down to the samplers knows a network as a `Denoiser`: a noisy picture and
its t in, a prediction out. What it was asked to paint is bound to it here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Protocol

import torch
from torch import Tensor

from vermilion.errors import InputError

Denoiser = Callable[[Tensor, Tensor], Tensor]
"""x (N, C, H, W) and t (N,) → prediction (N, C, H, W)."""


class Network(Protocol):
    """A UNet or a DiT, see `net`."""

    def __call__(
        self, x: Tensor, t: Tensor, context: Tensor | None = None, labels: Tensor | None = None, /
    ) -> Tensor:
        """Shapes: x (N, C, H, W), t (N,), context (N, T, D), labels (N,) or (N, D); as x."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """What N items are to show; whatever is None is not said.

    Attributes:
        context: (N, T, D), vectors of a text's tokens, for cross-attention.
        pooled: (N, D), one vector for each item.
        labels: (N,), int64, classes.
        picture: (N, C, H, W), further channels that are laid beside x.
    """

    context: Tensor | None = None
    pooled: Tensor | None = None
    labels: Tensor | None = None
    picture: Tensor | None = None

    def __post_init__(self) -> None:
        if len({len(part) for part in self._parts().values()}) > 1:
            raise ValueError("condition: its parts are of different numbers of items")
        if self.pooled is not None and self.labels is not None:
            raise ValueError("condition: a network takes labels or a pooled vector, not both")

    def _parts(self) -> dict[str, Tensor]:
        values = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        return {name: value for name, value in values.items() if value is not None}

    def __len__(self) -> int:
        """N, or 0 where nothing is said."""
        return next((len(part) for part in self._parts().values()), 0)

    def cat(self, other: Condition) -> Condition:
        """The items of this one and then those of another, which says the same kinds of things.

        Raises:
            ValueError: it does not.
        """
        mine, theirs = self._parts(), other._parts()
        if mine.keys() != theirs.keys():
            raise ValueError(
                f"condition: one has {', '.join(mine) or 'nothing'} and the other"
                f" {', '.join(theirs) or 'nothing'}"
            )
        for name, part in mine.items():
            if part.shape[1:] != theirs[name].shape[1:]:
                raise ValueError(
                    f"condition: {name} is {tuple(part.shape[1:])} in one and"
                    f" {tuple(theirs[name].shape[1:])} in the other"
                )
        return Condition(**{name: torch.cat([mine[name], theirs[name]]) for name in mine})

    def take(self, rows: Tensor | slice | list[int]) -> Condition:
        """Some of the items, or one of them several times."""
        return Condition(**{name: part[rows] for name, part in self._parts().items()})


def conditioned(net: Network, condition: Condition) -> Denoiser:
    """A network that is told the same of every x.

    Args:
        net: the network.
        condition: of as many items as x will have.
    """

    def denoise(x: Tensor, t: Tensor) -> Tensor:
        shown = x if condition.picture is None else torch.cat([x, condition.picture.to(x)], dim=1)
        labels = condition.pooled if condition.labels is None else condition.labels
        return net(shown, t, condition.context, labels)  # (N, C, H, W)

    return denoise


def guided(
    net: Network,
    condition: Condition,
    unconditional: Condition | None,
    guidance_scale: float,
    guidance_rescale: float = 0.0,
    interval: tuple[float, float] | None = None,
) -> Denoiser:
    """Classifier-free guidance (Ho & Salimans 2022, eq. 6, with w = guidance_scale - 1).

        prediction = without + guidance_scale (with - without)

    Both are one pass of 2N items. A negative prompt stands in the place of no prompt. At a scale of
    1, and outside the interval, N items are enough.

    Args:
        net: the network.
        condition: of N items, what is to be seen.
        unconditional: of N items, what is not; None only at a scale of 1.
        guidance_scale: at least 0; 1 does not guide.
        guidance_rescale: 0 to 1, how far the result is brought back to the deviation that the
            prediction with the condition has (Lin et al. 2023, eq. 15 and 16).
        interval: guide only where t is from the first to the second (Kynkäänniemi et al. 2024);
            None: everywhere.

    Raises:
        InputError: a number is out of range, or there is nothing to guide away from.
    """
    if isinstance(guidance_scale, bool) or not 0 <= guidance_scale < float("inf"):
        raise InputError(f"guidance_scale: must be at least 0 (found {guidance_scale})")
    if isinstance(guidance_rescale, bool) or not 0 <= guidance_rescale <= 1:
        raise InputError(f"guidance_rescale: must be from 0 to 1 (found {guidance_rescale})")
    if interval is not None and interval[0] > interval[1]:
        raise InputError(f"interval: begins at {interval[0]} and ends before, at {interval[1]}")
    alone = conditioned(net, condition)
    if guidance_scale == 1:
        return alone
    if unconditional is None:
        raise InputError("guidance_scale: this model knows no way without a condition; use 1")
    both = conditioned(net, unconditional.cat(condition))

    def denoise(x: Tensor, t: Tensor) -> Tensor:
        within = torch.ones_like(t, dtype=torch.bool)  # (N,)
        if interval is not None:
            within = (t >= interval[0]) & (t <= interval[1])
            if not bool(within.any()):
                return alone(x, t)
        without, told = both(torch.cat([x, x]), torch.cat([t, t])).chunk(2)  # (N, C, H, W) each
        mixed = without + guidance_scale * (told - without)
        if guidance_rescale > 0:
            mixed = rescaled(mixed, told, guidance_rescale)
        return torch.where(within[:, None, None, None], mixed, told)  # (N, C, H, W)

    return denoise


def rescaled(mixed: Tensor, told: Tensor, guidance_rescale: float) -> Tensor:
    """Guided predictions brought back towards the deviation of unguided ones.

    Lin et al. 2023, eq. 15 and 16. Strong guidance makes pictures that are too bright or too dark.

    Args:
        mixed: (N, C, H, W), guided.
        told: (N, C, H, W), with the condition alone.
        guidance_rescale: phi, 0 (nothing changes) to 1.

    Returns:
        (N, C, H, W).
    """
    axes = (1, 2, 3)
    factor = told.std(dim=axes, keepdim=True) / mixed.std(dim=axes, keepdim=True)  # (N, 1, 1, 1)
    return mixed * (guidance_rescale * factor + (1 - guidance_rescale))  # (N, C, H, W)
