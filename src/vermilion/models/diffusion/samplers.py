"""From noise to a picture: the steps down a path of noise.

N items, C channels, H height, W width, S steps.

A sampler is a generator. It looks at x with the network, moves x to the next lower level of noise,
and yields; progress, previews and cancelling are up to whoever takes the steps. All take the same
arguments, and know of the path only alpha and sigma at the levels that they are given:

    x = noise.next() * steps.init_noise_sigma
    for step in ddim(denoise, x, steps, prediction_type="epsilon", noise=noise):
        ...
    picture = step.x

A path x = alpha x_0 + sigma epsilon has an ordinary differential equation whose solutions have at
each level the distribution of the path there (Song et al. 2021, eq. 13). In the variables

    y = x / c,   r = sigma / c      c = alpha (Karras et al. 2022), or c = 1 on a rectified flow

it is dy/dr = (y - D(x)) / r for both (Karras et al. 2022, eq. 1 and 3), where D(x) is the x_0 that
the network predicts. euler, heun and dpmpp_2m solve it, ever better; ddim with eta 0 is the same
step as euler. ddpm and euler_ancestral instead draw new noise on the way.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from vermilion.errors import InputError
from vermilion.models.diffusion.prediction import clip, dynamic_threshold
from vermilion.models.diffusion.sampling import Correction, Run, Sampler, Step, sampler
from vermilion.models.diffusion.scheduler_config import SchedulerConfig


@sampler
def ddpm(run: Run, *, variance_type: str = "fixed_small") -> Iterator[Step]:
    """Ancestral sampling (Ho et al. 2020, alg. 2), over whichever levels are given.

    Each step draws from q(x_s | x_t, x_0) with the predicted x_0 (eq. 6 and 7):

        beta = 1 - (alpha_t / alpha_s)^2
        mean = alpha_s beta / sigma_t^2 x_0 + alpha_t / alpha_s sigma_s^2 / sigma_t^2 x_t
        variance = sigma_s^2 / sigma_t^2 beta  ("fixed_small"), or beta ("fixed_large")

    Args:
        run: see `Sampler`.
        variance_type: "fixed_small", "fixed_large", or "learned_range": between the two in
            logarithms, where the network says (Nichol & Dhariwal 2021, eq. 15).
    """
    _refuse_flow(run, "ddpm")
    x = run.x
    for index in range(len(run)):
        now = run.look(x, index)
        alpha_t, sigma_t, alpha_s, sigma_s = run.levels(index)
        beta = 1 - (alpha_t / alpha_s) ** 2
        rest = (sigma_s / sigma_t) ** 2
        x = alpha_s * beta / sigma_t**2 * now.x0 + alpha_t / alpha_s * rest * x  # (N, C, H, W)
        if index < len(run) - 1:
            scale: Tensor | float
            if variance_type == "learned_range":
                share = (now.rest + 1) / 2  # (N, C, H, W)
                scale = torch.exp(
                    (share * math.log(beta) + (1 - share) * math.log(rest * beta)) / 2
                )
            else:
                scale = math.sqrt(beta if variance_type == "fixed_large" else rest * beta)
            x = x + scale * run.draw()
        yield (step := run.done(index, x, now.x0))
        x = step.x


@sampler
def ddim(run: Run, *, eta: float = 0.0) -> Iterator[Step]:
    """Implicit sampling (Song et al. 2021, DDIM, eq. 12 and 16).

        deviation = eta sigma_s / sigma_t sqrt(1 - (alpha_t / alpha_s)^2)
        x_s = alpha_s x_0 + sqrt(sigma_s^2 - deviation^2) epsilon + deviation noise

    Args:
        run: see `Sampler`.
        eta: 0 adds no noise, 1 as much as ddpm.
    """
    _refuse_flow(run, "ddim")
    if isinstance(eta, bool) or not 0 <= eta <= 1:
        raise InputError(f"eta: must be from 0 to 1 (found {eta})")
    x = run.x
    for index in range(len(run)):
        now = run.look(x, index)
        alpha_t, sigma_t, alpha_s, sigma_s = run.levels(index)
        deviation = eta * sigma_s / sigma_t * math.sqrt(1 - (alpha_t / alpha_s) ** 2)
        x = (
            alpha_s * now.x0 + math.sqrt(max(sigma_s**2 - deviation**2, 0)) * now.epsilon
        )  # (N, C, H, W)
        if deviation > 0:
            x = x + deviation * run.draw()
        yield (step := run.done(index, x, now.x0))
        x = step.x


@sampler
def euler(run: Run) -> Iterator[Step]:
    """Euler's method on the equation at the top of the file; on a rectified flow, flow_euler.

        y' = y + (r' - r) (y - D) / r

    With epsilon = (x - alpha D) / sigma that is x' = alpha' D + sigma' epsilon, on either path.
    Written so, no large numbers are subtracted where alpha is nearly 0.
    """
    x = run.x
    for index in range(len(run)):
        now = run.look(x, index)
        yield (step := run.done(index, run.along(x, index, now.x0), now.x0))
        x = step.x


@sampler
def euler_ancestral(run: Run) -> Iterator[Step]:
    """Euler's method to below the next level, and noise back up to it (k-diffusion, Crowson 2022).

    r_up^2 = r'^2 (r^2 - r'^2) / r^2,   r_down^2 = r'^2 - r_up^2
    y' = D + r_down epsilon + r_up noise
    """
    _refuse_flow(run, "euler_ancestral")
    x = run.x
    for index in range(len(run)):
        now = run.look(x, index)
        alpha, sigma, alpha_next, sigma_next = run.levels(index)
        r, r_next = sigma / alpha, sigma_next / alpha_next
        up, down = r_next * math.sqrt(1 - (r_next / r) ** 2), r_next * (r_next / r)
        y = now.x0 + down / sigma * (x - alpha * now.x0)  # (N, C, H, W)
        if up > 0:
            y = y + up * run.draw()
        yield (step := run.done(index, alpha_next * y, now.x0))
        x = step.x


@sampler
def heun(run: Run) -> Iterator[Step]:
    """Heun's method, two looks a step but for the last (Karras et al. 2022, alg. 1).

    y_e = y + (r' - r) d,   d = (y - D(y)) / r,   d' = (y_e - D(y_e)) / r'
    y' = y + (r' - r) (d + d') / 2
    """
    x = run.x
    for index in range(len(run)):
        now = run.look(x, index)
        ahead = run.along(x, index, now.x0)  # (N, C, H, W)
        if index < len(run) - 1:
            then = run.look(ahead, index + 1)
            alpha, sigma, alpha_next, sigma_next = run.levels(index)
            c, c_next = (1.0, 1.0) if run.steps.is_flow else (alpha, alpha_next)
            r, r_next = sigma / c, sigma_next / c_next
            slopes = (x / c - now.x0) / r + (ahead / c_next - then.x0) / r_next  # (N, C, H, W)
            ahead = c_next * (x / c + (r_next - r) * slopes / 2)
        yield (step := run.done(index, ahead, now.x0))
        x = step.x


@sampler
def dpmpp_2m(
    run: Run, *, lower_order_final: bool = True, euler_at_final: bool = False
) -> Iterator[Step]:
    """DPM-Solver++(2M), the multistep one of second order (Lu et al. 2022, alg. 2).

        lambda = log(alpha / sigma),   h = lambda' - lambda,   r = h_before / h
        D = (1 + 1 / 2r) x_0 - 1 / 2r x_0_before
        x' = sigma' / sigma x - alpha' (exp(-h) - 1) D

    Args:
        run: see `Sampler`.
        lower_order_final: whether the last step takes D = x_0 where a run has below 15.
        euler_at_final: whether it always does. It does in any case where it ends without noise.
    """
    x, before = run.x, None
    reached = [_log_ratio(*level) for level in zip(run.steps.alpha, run.steps.sigma, strict=True)]
    first_order_at_end = (
        euler_at_final
        or (lower_order_final and run.steps.num_inference_steps < 15)
        or run.steps.sigma[-1] == 0
    )
    for index in range(len(run)):
        now = run.look(x, index)
        _, sigma, alpha_next, sigma_next = run.levels(index)
        h = reached[index + 1] - reached[index]
        picture = now.x0  # (N, C, H, W)
        first_order = index == len(run) - 1 and first_order_at_end
        if before is not None and not first_order and h > 0:
            r = (reached[index] - reached[index - 1]) / h
            picture = picture + (picture - before) / (2 * r)
        before = now.x0
        x = sigma_next / sigma * x - alpha_next * math.expm1(-h) * picture  # (N, C, H, W)
        yield (step := run.done(index, x, now.x0))
        x = step.x


SAMPLERS: Mapping[str, Sampler] = MappingProxyType(
    {
        "ddpm": ddpm,
        "ddim": ddim,
        "euler": euler,
        "euler_ancestral": euler_ancestral,
        "heun": heun,
        "dpmpp_2m": dpmpp_2m,
        "dpmpp_2m_karras": dpmpp_2m,
        "flow_euler": euler,
    }
)
"""By name. Some names differ only in the levels that `Schedule.timesteps` gives them."""


def get_sampler(name: str) -> Sampler:
    """The sampler of that name.

    Raises:
        InputError: there is none.
    """
    if name not in SAMPLERS:
        raise InputError(f"sampler: there is none named {name}; use one of {', '.join(SAMPLERS)}")
    return SAMPLERS[name]


def sampler_options(config: SchedulerConfig, name: str) -> dict[str, Any]:
    """What a model's configuration says to a sampler, as keyword arguments of it.

    Args:
        config: the model's.
        name: the sampler's.
    """
    threshold = partial(
        dynamic_threshold,
        ratio=config.dynamic_thresholding_ratio,
        most=config.sample_max_value,
    )
    correct: Correction | None = None
    if config.thresholding and name in ("ddpm", "ddim", "dpmpp_2m", "dpmpp_2m_karras"):
        correct = threshold
    elif config.clip_sample and name in ("ddpm", "ddim", "heun"):
        correct = partial(clip, limit=config.clip_sample_range)
    options: dict[str, Any] = {"correct": correct}
    if name == "ddpm":
        options["variance_type"] = config.variance_type
    if name.startswith("dpmpp_2m"):
        options["lower_order_final"] = config.lower_order_final
        options["euler_at_final"] = config.euler_at_final
    return options


def _log_ratio(alpha: float, sigma: float) -> float:
    """The lambda of DPM-Solver: infinite where there is nothing but noise, or none."""
    if alpha == 0:
        return -math.inf
    return math.inf if sigma == 0 else math.log(alpha / sigma)


def _refuse_flow(run: Run, name: str) -> None:
    if run.steps.is_flow:
        raise InputError(
            f"sampler: {name} is not defined for a rectified flow;"
            " use one of flow_euler, heun, dpmpp_2m"
        )
