"""What a network says of a noisy picture, and how one such word becomes another.

N items, C channels, H height, W width.

    x_t = alpha x_0 + sigma epsilon

Whoever knows x_t and one of these knows them all:

    epsilon          the noise                                 Ho et al. 2020, eq. 11
    sample           the picture x_0                           Ho et al. 2020, section 3.2
    v_prediction     v = alpha epsilon - sigma x_0             Salimans & Ho 2022, section 4
    flow_prediction  u = epsilon - x_0, the velocity dx_t/ds   Liu et al. 2022, eq. 1

v and u tell x_0 at every level of noise. epsilon does not where alpha is 0, since all is noise, and
x_0 does not tell epsilon where sigma is 0. There a ValueError is raised rather than a number made
up.

alpha and sigma are tensors that go with x, such as (N, 1, 1, 1), or numbers.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vermilion.models.diffusion.scheduler_config import PredictionType

Level = Tensor | float


def to_x0(
    prediction: Tensor, x: Tensor, alpha: Level, sigma: Level, prediction_type: PredictionType
) -> Tensor:
    """The picture that a prediction means.

    Args:
        prediction: (N, C, H, W), what the network said.
        x: (N, C, H, W), x_t, what it was shown.
        alpha: see the top of the file.
        sigma: likewise.
        prediction_type: what it speaks of.

    Returns:
        (N, C, H, W), x_0.

    Raises:
        ValueError: epsilon where alpha is 0.
    """
    if prediction_type == "sample":
        return prediction
    if prediction_type == "epsilon":
        _check(alpha, "alpha", "epsilon tells no picture where there is nothing but noise")
        return (x - sigma * prediction) / alpha
    if prediction_type == "v_prediction":
        return (alpha * x - sigma * prediction) / _norm(alpha, sigma)
    return (x - sigma * prediction) / (alpha + sigma)


def to_epsilon(
    prediction: Tensor, x: Tensor, alpha: Level, sigma: Level, prediction_type: PredictionType
) -> Tensor:
    """The noise that a prediction means; arguments as of `to_x0`.

    Raises:
        ValueError: sample where sigma is 0.
    """
    if prediction_type == "epsilon":
        return prediction
    if prediction_type == "sample":
        _check(sigma, "sigma", "a picture tells no noise where there is none")
        return (x - alpha * prediction) / sigma
    if prediction_type == "v_prediction":
        return (sigma * x + alpha * prediction) / _norm(alpha, sigma)
    return (x + alpha * prediction) / (alpha + sigma)


def target(
    prediction_type: PredictionType, x0: Tensor, epsilon: Tensor, alpha: Level, sigma: Level
) -> Tensor:
    """What the network ought to say, for training.

    Args:
        prediction_type: what it speaks of.
        x0: (N, C, H, W), the picture.
        epsilon: (N, C, H, W), the noise.
        alpha: see the top of the file.
        sigma: likewise.

    Returns:
        (N, C, H, W).
    """
    if prediction_type == "epsilon":
        return epsilon
    if prediction_type == "sample":
        return x0
    if prediction_type == "v_prediction":
        return alpha * epsilon - sigma * x0
    return epsilon - x0


def convert(
    prediction: Tensor,
    x: Tensor,
    alpha: Level,
    sigma: Level,
    source: PredictionType,
    wanted: PredictionType,
) -> Tensor:
    """The same prediction in other words.

    Args:
        prediction: (N, C, H, W), what the network said.
        x: (N, C, H, W), x_t.
        alpha: see the top of the file.
        sigma: likewise.
        source: what the network speaks of.
        wanted: what is wanted instead.

    Returns:
        (N, C, H, W).

    Raises:
        ValueError: the one does not tell the other at this level of noise.
    """
    if source == wanted:
        return prediction
    if wanted == "sample":
        return to_x0(prediction, x, alpha, sigma, source)
    epsilon = to_epsilon(prediction, x, alpha, sigma, source)
    if wanted == "epsilon":
        return epsilon
    x0 = to_x0(prediction, x, alpha, sigma, source)
    return target(wanted, x0, epsilon, alpha, sigma)


def clip(x0: Tensor, limit: float = 1.0) -> Tensor:
    """Predicted pictures held within what pictures can be (Ho et al. 2020, section 3.2)."""
    return x0.clamp(-limit, limit)


def dynamic_threshold(x0: Tensor, ratio: float = 0.995, most: float = 1.0) -> Tensor:
    """Each picture clipped to a percentile of its own values, then scaled back to -1 to 1.

    Saharia et al. 2022 (Imagen), section 2.3.

    Args:
        x0: (N, C, H, W), predicted pictures.
        ratio: the percentile, 0 to 1.
        most: the largest percentile that is scaled back; at 1 this is `clip`.

    Returns:
        (N, C, H, W).
    """
    flat = x0.flatten(1)  # (N, C*H*W)
    limit = torch.quantile(flat.abs(), ratio, dim=1).clamp(1.0, most)  # (N,)
    return flat.clamp(-limit[:, None], limit[:, None]).div(limit[:, None]).view_as(x0)


def _norm(alpha: Level, sigma: Level) -> Level:
    """alpha^2 + sigma^2: 1 on the path of DDPM, less on a rectified flow."""
    return alpha * alpha + sigma * sigma


def _check(level: Level, name: str, why: str) -> None:
    none = bool((level == 0).any()) if isinstance(level, Tensor) else level == 0
    if none:
        raise ValueError(f"{name}: is 0, and {why}")
