"""What a network is trained for: to tell picture from noise, at every level of noise.

N items, C channels, H height, W width, T levels of noise at training.

    t ~ p(t),  epsilon ~ N(0, I),  x_t = alpha_t x_0 + sigma_t epsilon
    L = w(t) || target - net(x_t, t) ||^2                        Ho et al. 2020, eq. 14: w = 1

A weight w changes at which levels the network is good, and which target it is given changes the
weight too: the same error of x_0 is another error of epsilon, and so on. So a weight is written
here for an error of x_0 or of epsilon, as its paper has it, and carried over to what the network
says. With v or u that gives the factors which Hang et al. 2023 (min-SNR) list for v.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from vermilion.errors import InputError
from vermilion.models.diffusion.guidance import Condition, Denoiser
from vermilion.models.diffusion.prediction import target
from vermilion.models.diffusion.schedule import Schedule
from vermilion.models.diffusion.scheduler_config import PredictionType
from vermilion.models.diffusion.timesteps import shift_sigmas

Weighting = Literal["simple", "min_snr", "p2", "velocity", "power"]
Distribution = Literal["uniform", "logit_normal"]

_LEAST = 0.1  # level below which "velocity" and "power" weigh no more, since 1/s^p has no end


def diffusion_loss(
    net: Denoiser,
    x0: Tensor,
    noise: Tensor,
    t: Tensor,
    schedule: Schedule,
    *,
    prediction_type: PredictionType,
    weighting: Weighting = "simple",
    snr_gamma: float = 5.0,
    p2_gamma: float = 1.0,
    p2_k: float = 1.0,
    weighting_power: float = 1.0,
) -> Tensor:
    """Weighted squared error of each item's prediction; the mean of it is what is minimised.

    Args:
        net: takes x_t (N, C, H, W) and t (N,), gives its prediction (N, C, H, W).
        x0: (N, C, H, W), pictures or latents.
        noise: (N, C, H, W), standard normal.
        t: (N,), see `sample_times`.
        schedule: the path.
        prediction_type: what the network speaks of.
        weighting: see `loss_weights`.
        snr_gamma: likewise.
        p2_gamma: likewise.
        p2_k: likewise.
        weighting_power: likewise.

    Returns:
        (N,), float32, the mean over C, H and W of each item.
    """
    alpha, sigma = schedule.coefficients(t)  # (N, 1, 1, 1) each
    wanted = target(prediction_type, x0, noise, alpha, sigma)  # (N, C, H, W)
    said = net(schedule.add_noise(x0, noise, t), t)  # (N, C, H, W)
    error = (said.float() - wanted.float()).square().mean(dim=(1, 2, 3))  # (N,)
    if weighting == "simple":
        return error
    return error * loss_weights(
        schedule,
        t,
        prediction_type,
        weighting,
        snr_gamma=snr_gamma,
        p2_gamma=p2_gamma,
        p2_k=p2_k,
        weighting_power=weighting_power,
    )


def loss_weights(
    schedule: Schedule,
    t: Tensor,
    prediction_type: PredictionType,
    weighting: Weighting,
    *,
    snr_gamma: float = 5.0,
    p2_gamma: float = 1.0,
    p2_k: float = 1.0,
    weighting_power: float = 1.0,
) -> Tensor:
    """What the squared error of a prediction is multiplied by.

        simple    1 for whatever the network says             Ho et al. 2020, eq. 14
        min_snr   min(SNR, snr_gamma) for an error of x_0      Hang et al. 2023, section 3.4
        p2        1 / (p2_k + SNR)^p2_gamma for one of epsilon  Choi et al. 2022
        velocity  1 / max(s, 0.1)^2 for one of x_0, on a flow  Li & He 2025: the error of the
                  velocity u = (x_t - x_0)/s of a network that says x_0
        power     1 / max(s, 0.1)^weighting_power for one of x_0, on a flow: between the error of
                  the picture at 0 and that of the velocity at 2

    Args:
        schedule: the path.
        t: (N,).
        prediction_type: what the network speaks of.
        weighting: which of the five.
        snr_gamma: above 0; the paper takes 5.
        p2_gamma: at least 0; the paper takes 0.5 or 1. At 0 this is "simple" for epsilon.
        p2_k: above 0; the paper takes 1.
        weighting_power: p of "power", at least 0.

    Returns:
        (N,), float32.

    Raises:
        InputError: "velocity" or "power" on a path that is no rectified flow, which has none.
    """
    if weighting in ("velocity", "power") and not schedule.config.is_flow:
        raise InputError(
            f"weighting: {weighting} is for a rectified flow; use simple, min_snr or p2"
        )
    snr = schedule.snr(t)  # (N,)
    if weighting == "simple":
        return torch.ones_like(snr)
    alpha, sigma = schedule.alpha(t), schedule.sigma(t)  # (N,) each
    norm = alpha.square() + sigma.square()
    # By how much x_0 and epsilon are off where the prediction is off by one.
    of_x0, of_epsilon = {
        "epsilon": (sigma / alpha, torch.ones_like(alpha)),
        "sample": (torch.ones_like(alpha), alpha / sigma),
        "v_prediction": (sigma / norm, alpha / norm),
        "flow_prediction": (sigma / (alpha + sigma), alpha / (alpha + sigma)),
    }[prediction_type]
    if weighting == "min_snr":
        return snr.clamp(max=snr_gamma) * of_x0.square()
    if weighting in ("velocity", "power"):
        power = 2.0 if weighting == "velocity" else weighting_power
        return of_x0.square() / sigma.clamp(min=_LEAST) ** power
    return of_epsilon.square() / (p2_k + snr) ** p2_gamma


def sample_times(
    count: int,
    schedule: Schedule,
    generator: torch.Generator,
    *,
    distribution: Distribution = "uniform",
    mean: float = 0.0,
    std: float = 1.0,
    stratified: bool = False,
) -> Tensor:
    """At which level of noise each item of a batch is learned from.

    Args:
        count: N.
        schedule: the path; a flow's shift is applied.
        generator: on the CPU.
        distribution: "uniform", or "logit_normal", which prefers the middle (Esser et al. 2024,
            eq. 19).
        mean: of logit_normal; below 0 prefers little noise.
        std: of logit_normal, above 0.
        stratified: whether the batch is spread evenly over the distribution, so that the loss
            swings less from batch to batch (Kingma et al. 2021, appendix I.1).

    Returns:
        (N,): int64 from 0 to T - 1, or on a flow float32 above 0 to T.
    """
    if stratified:
        shared = torch.rand((), generator=generator, dtype=torch.float64)
        share = (torch.arange(count, dtype=torch.float64) + shared) / count  # (N,), below 1
        share = share[torch.randperm(count, generator=generator)]
    else:
        share = torch.rand(count, generator=generator, dtype=torch.float64)  # (N,)
    if distribution == "logit_normal":
        # The quantile of a normal distribution, so that a stratified share serves it too.
        normal = torch.special.ndtri(share.clamp(1e-12, 1 - 1e-12))
        share = torch.sigmoid(mean + std * normal)
    steps = schedule.num_train_timesteps
    if not schedule.config.is_flow:
        return (share * steps).long().clamp(max=steps - 1)  # (N,)
    noisy = 1 - share if distribution == "uniform" else share  # above 0
    shifted = shift_sigmas(noisy.numpy(), schedule.config.path_shift)
    return torch.from_numpy(shifted * steps).float()  # (N,)


def drop_condition(
    condition: Condition,
    unconditional: Condition,
    probability: float,
    generator: torch.Generator,
) -> Condition:
    """Some items' conditions replaced by none, so that one network learns both.

    Classifier-free guidance (Ho & Salimans 2022, alg. 1) needs a network that has seen both.

    Args:
        condition: of N items.
        unconditional: of 1 item or of N, with the same fields; the picture may be None, and is
            then kept.
        probability: 0 to 1, of each item on its own.
        generator: on the CPU.

    Returns:
        Of N items.
    """
    count = len(condition)
    dropped = torch.rand(count, generator=generator) < probability  # (N,)

    def mixed(kept: Tensor | None, empty: Tensor | None) -> Tensor | None:
        if kept is None or empty is None:
            return kept
        rows = dropped.to(kept.device).view(-1, *[1] * (kept.dim() - 1))
        return torch.where(rows, empty.to(kept), kept)

    return replace(
        condition,
        context=mixed(condition.context, unconditional.context),
        pooled=mixed(condition.pooled, unconditional.pooled),
        labels=mixed(condition.labels, unconditional.labels),
        picture=mixed(condition.picture, unconditional.picture),
    )
