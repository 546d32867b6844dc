"""The path from a picture to noise: q(x_t | x_0) = N(alpha_t x_0, sigma_t^2 I).

N items, C channels, H height, W width, T levels of noise at training.

Two paths are in use. On the variance-preserving one of DDPM (Ho et al. 2020) noise is added in T
small steps, q(x_t | x_{t-1}) = N(sqrt(1 - beta_t) x_{t-1}, beta_t I) (their eq. 2). T such steps
at once are again Gaussian (their eq. 4): alpha_t = sqrt(abar_t) and sigma_t = sqrt(1 - abar_t),
where abar_t is the product of 1 - beta up to t. On a rectified flow (Liu et al. 2022, Lipman et
al. 2022) the way is a straight line: alpha = 1 - s and sigma = s for s from 0 to 1.

Everything else in this room asks a path for alpha and sigma alone.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor

from vermilion.models.diffusion.scheduler_config import SchedulerConfig, Spacing
from vermilion.models.diffusion.timesteps import Timesteps, discrete_timesteps, flow_timesteps


class Schedule(ABC):
    """A Gaussian path x_t = alpha_t x_0 + sigma_t epsilon.

    Args:
        config: what the model was trained with.

    Attributes:
        config: the same.
        num_train_timesteps: T. A network is told t from 0 to T - 1, or to T on a flow.
    """

    def __init__(self, config: SchedulerConfig) -> None:
        self.config = config
        self.num_train_timesteps = config.num_train_timesteps

    @abstractmethod
    def alpha(self, t: Tensor) -> Tensor:
        """How much of the picture is left at t.

        Args:
            t: any shape, integers or floating point.

        Returns:
            The shape of t, float32, 0 to 1.

        Raises:
            ValueError: t lies outside the path.
        """

    @abstractmethod
    def sigma(self, t: Tensor) -> Tensor:
        """How much noise there is at t; arguments and result as of `alpha`."""

    @abstractmethod
    def timesteps(
        self,
        num_inference_steps: int,
        sampler: str = "ddim",
        *,
        timestep_spacing: Spacing | None = None,
        use_karras_sigmas: bool | None = None,
    ) -> Timesteps:
        """The levels of noise that a sampler visits on its way down.

        Args:
            num_inference_steps: how many steps it takes.
            sampler: its name; families of samplers place their steps differently.
            timestep_spacing: None: the model's own.
            use_karras_sigmas: None: the model's own.

        Raises:
            InputError: there are no such steps on this path.
        """

    def snr(self, t: Tensor) -> Tensor:
        """Signal-to-noise ratio alpha^2 / sigma^2 (Kingma et al. 2021, eq. 2); inf at no noise."""
        return (self.alpha(t) / self.sigma(t)).square()

    def coefficients(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Both at t (N,), each (N, 1, 1, 1), to go with pictures."""
        return self.alpha(t)[:, None, None, None], self.sigma(t)[:, None, None, None]

    def add_noise(self, x0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """A draw of q(x_t | x_0): alpha_t x_0 + sigma_t epsilon (Ho et al. 2020, eq. 4).

        Args:
            x0: (N, C, H, W), pictures or latents.
            noise: (N, C, H, W), standard normal.
            t: (N,).

        Returns:
            (N, C, H, W), the dtype of x0.
        """
        alpha, sigma = self.coefficients(t)  # (N, 1, 1, 1) each
        return (alpha * x0 + sigma * noise).to(x0.dtype)  # (N, C, H, W)


class DiscreteSchedule(Schedule):
    """The variance-preserving path of DDPM, in T steps (Ho et al. 2020).

    Attributes:
        betas: (T,), float32, the variance that each step adds.
        alphas_cumprod: (T,), float32: abar_t = alpha_t^2. Models were trained with the product in
            float32, and where nearly all is noise its rounding matters more than its precision.

    Raises:
        ModelError: the configuration is one of a rectified flow.
    """

    def __init__(self, config: SchedulerConfig) -> None:
        super().__init__(config)
        self.betas = make_betas(config)  # (T,)
        self.alphas_cumprod = torch.cumprod(1 - self.betas, 0)  # (T,)
        self._alphas = self.alphas_cumprod.sqrt()  # (T,)
        self._sigmas = (1 - self.alphas_cumprod).sqrt()  # (T,)

    def alpha(self, t: Tensor) -> Tensor:
        """sqrt(abar_t), for whole t."""
        return self._read(self._alphas, t)

    def sigma(self, t: Tensor) -> Tensor:
        """sqrt(1 - abar_t), for whole t."""
        return self._read(self._sigmas, t)

    def _read(self, table: Tensor, t: Tensor) -> Tensor:
        rows = t.long()
        last = self.num_train_timesteps - 1
        if bool(((t < 0) | (t > last) | (rows != t)).any()):
            raise ValueError(f"t: must be whole numbers from 0 to {last}")
        return table.to(t.device)[rows]

    def forward_step(self, x: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """A draw of q(x_t | x_{t-1}) (Ho et al. 2020, eq. 2).

        Args:
            x: x_{t-1}, (N, C, H, W); for t = 0 the picture itself.
            noise: (N, C, H, W), standard normal.
            t: (N,), whole numbers.
        """
        beta = self.betas.to(x)[t][:, None, None, None]  # (N, 1, 1, 1)
        return (1 - beta).sqrt() * x + beta.sqrt() * noise  # (N, C, H, W)

    def posterior(self, t: int) -> tuple[float, float, float]:
        """q(x_{t-1} | x_t, x_0) = N(a x_0 + b x_t, v I) (Ho et al. 2020, eq. 6 and 7).

        Returns:
            a, b and the variance v, which is 0 at t = 0.
        """
        now = float(self.alphas_cumprod[t])
        before = float(self.alphas_cumprod[t - 1]) if t else 1.0
        beta, rest = 1 - now / before, 1 - now
        return (
            math.sqrt(before) * beta / rest,
            math.sqrt(now / before) * (1 - before) / rest,
            (1 - before) / rest * beta,
        )

    def timesteps(
        self,
        num_inference_steps: int,
        sampler: str = "ddim",
        *,
        timestep_spacing: Spacing | None = None,
        use_karras_sigmas: bool | None = None,
    ) -> Timesteps:
        """See `Schedule.timesteps`."""
        return discrete_timesteps(
            self.alphas_cumprod.double().numpy(),
            self.config,
            num_inference_steps,
            sampler,
            timestep_spacing=timestep_spacing,
            use_karras_sigmas=use_karras_sigmas,
        )


class FlowSchedule(Schedule):
    """Rectified flow: x_t = (1 - s) x_0 + s epsilon (Liu et al. 2022, eq. 1).

    The network is told t = T s, as in Stable Diffusion 3 (Esser et al. 2024).
    """

    def alpha(self, t: Tensor) -> Tensor:
        """The share 1 - s."""
        return 1 - self.sigma(t)

    def sigma(self, t: Tensor) -> Tensor:
        """The share s = t / T."""
        if bool((t < 0).any()) or bool((t > self.num_train_timesteps).any()):
            raise ValueError(f"t: must be from 0 to {self.num_train_timesteps}")
        return t.float() / self.num_train_timesteps

    def timesteps(
        self,
        num_inference_steps: int,
        sampler: str = "flow_euler",
        *,
        timestep_spacing: Spacing | None = None,
        use_karras_sigmas: bool | None = None,
    ) -> Timesteps:
        """See `Schedule.timesteps`."""
        return flow_timesteps(
            self.config,
            num_inference_steps,
            sampler,
            timestep_spacing=timestep_spacing,
            use_karras_sigmas=use_karras_sigmas,
        )


def make_schedule(config: SchedulerConfig) -> Schedule:
    """The path that a configuration describes."""
    return FlowSchedule(config) if config.is_flow else DiscreteSchedule(config)


def make_betas(config: SchedulerConfig) -> Tensor:
    """The variances beta_t that the steps of the forward process add.

    Args:
        config: of a variance-preserving path.

    Returns:
        (T,), float32, each above 0 and at most 1.
    """
    steps, first, last = config.num_train_timesteps, config.beta_start, config.beta_end
    if config.trained_betas is not None:
        betas = torch.tensor(config.trained_betas, dtype=torch.float32)
    elif config.beta_schedule == "linear":
        betas = torch.linspace(first, last, steps)
    elif config.beta_schedule == "scaled_linear":
        betas = torch.linspace(math.sqrt(first), math.sqrt(last), steps) ** 2
    elif config.beta_schedule == "sigmoid":
        betas = first + (last - first) * torch.linspace(-6, 6, steps).sigmoid()
    else:  # squaredcos_cap_v2: Nichol & Dhariwal 2021, eq. 17, with beta at most 0.999
        share = torch.arange(steps + 1, dtype=torch.float64) / steps
        abar = torch.cos((share + 0.008) / 1.008 * math.pi / 2) ** 2  # (T + 1,)
        betas = (1 - abar[1:] / abar[:-1]).clamp(max=0.999).float()
    return rescale_zero_terminal_snr(betas) if config.rescale_betas_zero_snr else betas


def rescale_zero_terminal_snr(betas: Tensor) -> Tensor:
    """Shift and stretch sqrt(abar) so that the last level is pure noise (Lin et al. 2023, alg. 1).

    Args:
        betas: (T,).

    Returns:
        (T,), whose first is the same and whose last is 1.
    """
    root = torch.cumprod(1 - betas, 0).sqrt()  # (T,)
    root = (root - root[-1]) * (root[0] / (root[0] - root[-1]))
    abar = root**2
    return 1 - torch.cat([abar[:1], abar[1:] / abar[:-1]])  # abar is 0 only at the last
