"""A running mean of a network's weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class EMA:
    """Exponential moving average of parameters (Polyak & Juditsky 1992; Ho et al. 2020, app. B).

        mean ← d * mean + (1 - d) * weight,   d = min(decay, (1 + n) / (10 + n)) at update n

    The first updates weigh more, so that the random first weights are soon forgotten.

    Args:
        parameters: name → parameter; the mean starts as a copy.
        decay: 0 to 1.
    """

    def __init__(self, parameters: Mapping[str, nn.Parameter], decay: float) -> None:
        self.decay, self.updates = decay, 0
        self._parameters = dict(parameters)
        self.means: dict[str, Tensor] = {n: p.detach().clone() for n, p in parameters.items()}

    @torch.no_grad()
    def update(self) -> None:
        """Take the weights of now into the mean."""
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        self.updates += 1
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
            weight = self._parameters[name].data
            kept = weight.clone()
            weight.copy_(mean)
            mean.copy_(kept)
