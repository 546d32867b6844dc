"""What all samplers share: their arguments, one look with the network, one step done.

N items, C channels, H height, W width, S steps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import wraps
from typing import Any, NamedTuple, Protocol

from torch import Tensor

from vermilion.models.diffusion.guidance import Denoiser
from vermilion.models.diffusion.noise import Noise
from vermilion.models.diffusion.prediction import to_epsilon, to_x0
from vermilion.models.diffusion.scheduler_config import PredictionType
from vermilion.models.diffusion.timesteps import Timesteps

Correction = Callable[[Tensor], Tensor]
"""What is done to a predicted x_0 (N, C, H, W) before it is used."""

Blend = Callable[[Tensor, float, float], Tensor]
"""What is done to x (N, C, H, W) after each step, given the alpha and sigma that it has reached."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step done.

    Attributes:
        index: its number, from 0.
        total: how many there are.
        t: what the network was told.
        x: (N, C, H, W), float32, where it led.
        x0: (N, C, H, W), float32, the picture that the network expects: a preview.
    """

    index: int
    total: int
    t: float
    x: Tensor
    x0: Tensor


class Sampler(Protocol):
    """What all samplers take; some take more.

    Args:
        denoise: the network with its condition and guidance.
        x: (N, C, H, W), float32, at the first level.
        steps: the levels.
        prediction_type: what the network speaks of.
        noise: of the N items; drawn from where a sampler adds noise.
        correct: what is done to each predicted x_0.
        blend: what is done to x after each step.
        own: what only one sampler takes.

    Raises:
        InputError: on the first step, a setting that is out of range or not for this path.
    """

    def __call__(
        self,
        denoise: Denoiser,
        x: Tensor,
        steps: Timesteps,
        *,
        prediction_type: PredictionType,
        noise: Noise,
        correct: Correction | None = None,
        blend: Blend | None = None,
        **own: Any,
    ) -> Iterator[Step]:
        """One run, step by step."""


class Look(NamedTuple):
    """What the network sees in x: x_0 and epsilon, (N, C, H, W) each, and what more it said."""

    x0: Tensor
    epsilon: Tensor
    rest: Tensor


@dataclass(frozen=True, slots=True)
class Run:
    """The arguments that all samplers take, and what all do with them; see `Sampler`."""

    denoise: Denoiser
    x: Tensor
    steps: Timesteps
    prediction_type: PredictionType
    noise: Noise
    correct: Correction | None
    blend: Blend | None

    def __len__(self) -> int:
        """S."""
        return len(self.steps)

    def look(self, x: Tensor, index: int) -> Look:
        """Ask the network about x at a level; x_0 is corrected, epsilon is as it was said."""
        alpha, sigma = self.steps.alpha[index], self.steps.sigma[index]
        t = self.steps.t[index].to(x.device).expand(len(x))  # (N,)
        said = self.denoise(x, t).float()  # (N, C, H, W), or 2C where it tells its variance
        channels = x.shape[1]
        prediction, rest = said[:, :channels], said[:, channels:]
        x0 = to_x0(prediction, x, alpha, sigma, self.prediction_type)  # (N, C, H, W)
        epsilon = to_epsilon(prediction, x, alpha, sigma, self.prediction_type)  # (N, C, H, W)
        return Look(x0 if self.correct is None else self.correct(x0), epsilon, rest)

    def levels(self, index: int) -> tuple[float, float, float, float]:
        """The alpha and sigma before a step, and those after it."""
        alpha, sigma = self.steps.alpha, self.steps.sigma
        return alpha[index], sigma[index], alpha[index + 1], sigma[index + 1]

    def along(self, x: Tensor, index: int, x0: Tensor) -> Tensor:
        """Straight on towards x0 to the next level: x' = alpha' x_0 + sigma' epsilon."""
        alpha, sigma, alpha_next, sigma_next = self.levels(index)
        return alpha_next * x0 + sigma_next / sigma * (x - alpha * x0)  # (N, C, H, W)

    def draw(self) -> Tensor:
        """New noise, (N, C, H, W)."""
        return self.noise.next().to(self.x.device)

    def done(self, index: int, x: Tensor, x0: Tensor) -> Step:
        """A step that led to x, once it is blended."""
        if self.blend is not None:
            _, _, alpha, sigma = self.levels(index)
            x = self.blend(x, alpha, sigma)  # (N, C, H, W)
        return Step(index, len(self), float(self.steps.t[index]), x, x0)


def sampler(algorithm: Callable[..., Iterator[Step]]) -> Sampler:
    """A sampler from its algorithm, which takes a `Run` and what is its own."""

    @wraps(algorithm)
    def start(
        denoise: Denoiser,
        x: Tensor,
        steps: Timesteps,
        *,
        prediction_type: PredictionType,
        noise: Noise,
        correct: Correction | None = None,
        blend: Blend | None = None,
        **own: Any,
    ) -> Iterator[Step]:
        run = Run(denoise, x.float(), steps, prediction_type, noise, correct, blend)
        return algorithm(run, **own)

    return start
