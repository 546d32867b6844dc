"""Which levels of noise a sampler visits on its way from noise to a picture.

S steps, T levels of noise at training.

A step goes from one level to the next lower one. All that a sampler has to know of a path are
alpha and sigma at the S + 1 levels, and the t that the network is told at the S from which it
looks. Families of samplers place their levels differently, each as diffusers' scheduler of that
name does, so that the same settings give the same picture.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vermilion.errors import InputError
from vermilion.models.diffusion.scheduler_config import SchedulerConfig, Spacing

Doubles = NDArray[np.floating[Any]]
Rule = Literal["whole", "fractional", "multistep"]

_RHO = 7.0
_LEAST_ABAR = 2.0**-24  # a level of pure noise, to solvers that divide by alpha
_RULES: Mapping[str, Rule] = {
    "ddpm": "whole",
    "ddim": "whole",
    "euler": "fractional",
    "euler_ancestral": "fractional",
    "heun": "fractional",
    "dpmpp_2m": "multistep",
    "dpmpp_2m_karras": "multistep",
}
_MAY_END_EARLY = ("euler", "dpmpp_2m", "dpmpp_2m_karras")
_FLOW_SAMPLERS = ("flow_euler", "heun", "dpmpp_2m")


@dataclass(frozen=True, slots=True)
class Timesteps:
    """The levels of noise of a run, falling.

    Attributes:
        t: (S,), float32, what the network is told.
        alpha: S + 1 factors of the picture, before the first step and after each.
        sigma: S + 1 deviations of the noise, likewise; the last is 0 on most runs.
        init_noise_sigma: what standard normal noise is multiplied by to start from.
        is_flow: whether the path is a rectified flow.
        num_inference_steps: S of the whole run, of which this may be the latter part.
    """

    t: Tensor
    alpha: tuple[float, ...]
    sigma: tuple[float, ...]
    init_noise_sigma: float
    is_flow: bool
    num_inference_steps: int

    def __len__(self) -> int:
        return len(self.t)

    def from_strength(self, strength: float) -> Timesteps:
        """The latter part of the run, to change a picture rather than to make one.

        Args:
            strength: above 0 to 1: what share of the steps is taken. At 1 all of them.

        Raises:
            InputError: strength is out of range, or so small that no step is left.
        """
        if isinstance(strength, bool) or not 0 < strength <= 1:
            raise InputError(f"strength: must be above 0 and at most 1 (found {strength})")
        taken = min(int(self.num_inference_steps * strength), len(self))
        if not taken:
            least = 1 / self.num_inference_steps
            raise InputError(
                f"strength: {strength} of {self.num_inference_steps} steps is none;"
                f" use at least {math.ceil(least * 1000) / 1000}, or more steps"
            )
        skipped = len(self) - taken
        return replace(
            self, t=self.t[skipped:], alpha=self.alpha[skipped:], sigma=self.sigma[skipped:]
        )


def discrete_timesteps(
    alphas_cumprod: Doubles,
    config: SchedulerConfig,
    num_inference_steps: int,
    sampler: str,
    *,
    timestep_spacing: Spacing | None = None,
    use_karras_sigmas: bool | None = None,
) -> Timesteps:
    """The levels on the path of DDPM; see `Schedule.timesteps`.

    Args:
        alphas_cumprod: (T,), abar_t.
        config: the model's.
        num_inference_steps: S, 1 to T.
        sampler: which family's rule to follow.
        timestep_spacing: None: the model's own.
        use_karras_sigmas: None: the model's own, where the sampler can.
    """
    rule = _RULES.get(sampler)
    if rule is None:
        raise InputError(
            f"sampler: {sampler} is not defined for this model, which is no rectified flow;"
            f" use one of {', '.join(_RULES)}"
        )
    _check_steps(num_inference_steps, len(alphas_cumprod))
    spacing = config.timestep_spacing if timestep_spacing is None else timestep_spacing
    if use_karras_sigmas is None:
        karras = config.use_karras_sigmas and rule != "whole" and sampler != "euler_ancestral"
    else:
        karras = use_karras_sigmas
    karras = karras or sampler == "dpmpp_2m_karras"
    if karras and rule == "whole":
        raise InputError(
            f"use_karras_sigmas: {sampler} takes whole timesteps only; use euler, heun or dpmpp_2m"
        )
    t = _spaced(alphas_cumprod, config, num_inference_steps, rule, spacing)  # (S,)
    if rule == "whole":
        return _whole(alphas_cumprod, config, t, sampler)
    ends_early = config.final_sigmas_type == "sigma_min" and sampler in _MAY_END_EARLY
    cosine = config.beta_schedule == "squaredcos_cap_v2"
    steps = _by_ratio(
        alphas_cumprod, t, rule, karras=karras, ends_early=ends_early, whole=not cosine
    )
    # k-diffusion starts from noise as wide as its first level, if that is above all others.
    narrow = rule == "fractional" and spacing != "leading"
    return replace(steps, init_noise_sigma=steps.sigma[0]) if narrow else steps


def _check_steps(steps: int, most: int) -> None:
    if type(steps) is not int or not 1 <= steps <= most:
        raise InputError(
            f"num_inference_steps: must be a whole number from 1 to {most} (found {steps})"
        )


def _spaced(
    abar: Doubles, config: SchedulerConfig, steps: int, rule: Rule, spacing: Spacing
) -> Doubles:
    """Timesteps, falling (Lin et al. 2023, table 2)."""
    total = len(abar)
    last = total
    if rule == "multistep":
        with np.errstate(divide="ignore"):
            half_log_snr = np.log(abar / (1 - abar)) / 2  # falling
        last = int((half_log_snr >= config.lambda_min_clipped).sum())
    more = 1 if rule == "multistep" else 0  # its last level stands among the spaced ones
    t: Doubles
    if spacing == "linspace":
        t = np.linspace(0, last - 1, steps + more)[::-1][:steps]
        t = t if rule == "fractional" else t.round()
    elif spacing == "leading":
        t = (np.arange(steps + more) * (last // (steps + more)))[::-1][:steps] * 1.0
        t = t + config.steps_offset
    else:
        t = (last - np.arange(steps) * (total / steps)).round() - 1
    if t[0] > total - 1 or t[-1] < 0 or (np.diff(t) >= 0).any():
        raise InputError(
            f"num_inference_steps: {steps} are too many for timestep_spacing {spacing}"
            f" (steps_offset {config.steps_offset}, {total} timesteps); take fewer"
        )
    return t


def _whole(abar: Doubles, config: SchedulerConfig, t: Doubles, sampler: str) -> Timesteps:
    """Levels of the training itself, for ddpm and ddim."""
    end = 1.0 if sampler == "ddpm" or config.set_alpha_to_one else float(abar[0])
    levels = np.append(abar[t.astype(np.int64)], end)  # (S + 1,)
    return Timesteps(
        t=torch.tensor(t.tolist()),
        alpha=tuple(np.sqrt(levels).tolist()),
        sigma=tuple(np.sqrt(1 - levels).tolist()),
        init_noise_sigma=1.0,
        is_flow=False,
        num_inference_steps=len(t),
    )


def _by_ratio(
    abar: Doubles, t: Doubles, rule: Rule, *, karras: bool, ends_early: bool, whole: bool
) -> Timesteps:
    """Levels between those of the training, by the ratio sigma / alpha (the sigma of EDM)."""
    abar = np.where(abar == 0, _LEAST_ABAR, abar)
    table = np.sqrt((1 - abar) / abar)  # (T,), rising
    numbers = np.arange(len(table))
    ratio: Doubles = np.interp(t, numbers, table)  # (S,)
    if karras:
        most, least = (table[-1], table[0]) if rule == "multistep" else (ratio[0], ratio[-1])
        ratio = karras_sigmas(len(t), float(most), float(least))
        t = np.interp(np.log(ratio), np.log(table), numbers)
        if rule == "multistep":
            t = t.round() if whole else np.trunc(t)
    ratio = np.append(ratio, table[0] if ends_early else 0.0)  # (S + 1,)
    alpha = 1 / np.sqrt(1 + ratio**2)
    sigma = ratio * alpha
    if rule == "fractional" and ends_early:  # k-diffusion leaves x / alpha, and does not scale back
        alpha[-1], sigma[-1] = 1.0, ratio[-1]
    return Timesteps(
        t=torch.tensor(t.tolist()),
        alpha=tuple(alpha.tolist()),
        sigma=tuple(sigma.tolist()),
        init_noise_sigma=1.0,
        is_flow=False,
        num_inference_steps=len(t),
    )


def karras_sigmas(steps: int, most: float, least: float) -> Doubles:
    """Levels of noise that lie the closer the less noise there is (Karras et al. 2022, eq. 5).

        sigma_i = (most^(1/rho) + i / (S - 1) (least^(1/rho) - most^(1/rho)))^rho,   rho = 7

    Args:
        steps: S.
        most: the first.
        least: the last.

    Returns:
        (S,), falling.
    """
    first, last = most ** (1 / _RHO), least ** (1 / _RHO)
    levels: Doubles = (first + np.linspace(0, 1, steps) * (last - first)) ** _RHO
    return levels


def shift_sigmas(sigma: Doubles, shift: float) -> Doubles:
    """More noise at the same share of the way, for larger pictures (Esser et al. 2024, eq. 23)."""
    return shift * sigma / (1 + (shift - 1) * sigma)


def flow_timesteps(
    config: SchedulerConfig,
    num_inference_steps: int,
    sampler: str,
    *,
    timestep_spacing: Spacing | None = None,
    use_karras_sigmas: bool | None = None,
) -> Timesteps:
    """The levels on a rectified flow; see `Schedule.timesteps`.

    As in diffusers, flow_euler and heun begin at pure noise and end their last step but one at
    the lowest level of the training, while dpmpp_2m, which divides by alpha, begins just below
    pure noise and takes even steps.

    Args:
        config: the model's.
        num_inference_steps: S, 1 to T.
        sampler: flow_euler, heun or dpmpp_2m.
        timestep_spacing: has to be None.
        use_karras_sigmas: None: the model's own, which is never on a flow.
    """
    if sampler not in _FLOW_SAMPLERS:
        raise InputError(
            f"sampler: {sampler} is not defined for a rectified flow; use one of"
            f" {', '.join(_FLOW_SAMPLERS)}"
        )
    if timestep_spacing is not None or use_karras_sigmas:
        raise InputError(
            "timestep_spacing, use_karras_sigmas: a rectified flow has a shift instead; leave"
            " them out"
        )
    total, shift = config.num_train_timesteps, config.path_shift
    _check_steps(num_inference_steps, total)
    if sampler == "dpmpp_2m":
        even = np.linspace(0, 1 - 1 / total, num_inference_steps + 1)  # (S + 1,)
        sigma = shift_sigmas(even, shift)[:0:-1]  # (S,)
        t = np.trunc(sigma * total)
    else:
        least = float(shift_sigmas(np.array(1 / total), shift))
        sigma = shift_sigmas(np.linspace(1, least, num_inference_steps), shift)  # (S,)
        t = sigma * total
    sigma = np.append(sigma, 0.0)  # (S + 1,)
    return Timesteps(
        t=torch.tensor(t.tolist()),
        alpha=tuple((1 - sigma).tolist()),
        sigma=tuple(sigma.tolist()),
        init_noise_sigma=1.0,
        is_flow=True,
        num_inference_steps=num_inference_steps,
    )
