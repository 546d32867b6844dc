"""A running mean of a network's weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class EMA:
    """Exponential moving average of parameters (Polyak & Juditsky 1992; Ho et al. 2020, app. B).

        mean ← d * mean + (1 - d) * weight,   d = min(decay, (1 + n) / (10 + n)) at update n

    The first updates weigh more, so that the random first weights are soon forgotten. With `gamma`
    the mean is over a part of all updates that stays the same, however many there are (Karras et
    al. 2024, arXiv 2312.02696, eq. 6): d = (1 - 1/t)^(gamma + 1) at update t, counted from 1.

    Args:
        parameters: name → parameter; the mean starts as a copy.
        decay: 0 to 1; not looked at where there is a gamma.
        gamma: above 0; 6.94 is a mean over about a tenth of the run. None: `decay` holds.
    """

    def __init__(
        self, parameters: Mapping[str, nn.Parameter], decay: float, gamma: float | None = None
    ) -> None:
        self.decay, self.gamma, self.updates = decay, gamma, 0
        self._parameters = dict(parameters)
        self.means: dict[str, Tensor] = {n: p.detach().clone() for n, p in parameters.items()}

    @torch.no_grad()
    def update(self) -> None:
        """Take the weights of now into the mean."""
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        self.updates += 1
        if self.gamma is not None:
            decay = (1 - 1 / self.updates) ** (self.gamma + 1)
        weights = [self._parameters[name].detach() for name in self.means]
        torch._foreach_lerp_(list(self.means.values()), weights, 1 - decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Within it, the network has the mean as its weights."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        for name, mean in self.means.items():
            weight = self._parameters[name].detach()
            kept = weight.clone()
            weight.copy_(mean)
            mean.copy_(kept)
