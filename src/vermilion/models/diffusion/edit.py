"""Changing pictures that there are: start from one, paint a part anew, go beyond its edges.

N items, C channels, H height, W width, S steps. Pictures are pixels or latents, (N, C, H, W).
A mask is (N, 1, H, W), 1 where a picture is painted anew and 0 where it is kept.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from vermilion.errors import InputError
from vermilion.models.diffusion.guidance import Denoiser
from vermilion.models.diffusion.prediction import to_epsilon, to_x0
from vermilion.models.diffusion.sampling import Blend
from vermilion.models.diffusion.scheduler_config import PredictionType
from vermilion.models.diffusion.timesteps import Timesteps

_PARALLEL = 0.9995


def start_from(
    picture: Tensor, noise: Tensor, steps: Timesteps, strength: float
) -> tuple[Tensor, Timesteps]:
    """Where to begin in order to change a picture: with as much noise as strength calls for.

    Meng et al. 2022 (SDEdit), section 3. What is coarser than the noise stays as it was.

    Args:
        picture: (N, C, H, W), -1 to 1, or latents.
        noise: (N, C, H, W), standard normal.
        steps: of a whole run.
        strength: above 0 (almost the picture) to 1 (almost another).

    Returns:
        (N, C, H, W), x at the first of the steps that are left, and those steps.

    Raises:
        InputError: strength is out of range, or no step is left.
    """
    left = steps.from_strength(strength)
    return left.alpha[0] * picture + left.sigma[0] * noise.to(picture), left


def masked_blend(picture: Tensor, noise: Tensor, mask: Tensor) -> Blend:
    """What keeps a part of a picture as it was, for a network that knows no masks.

    After each step the part that is kept is put back, with the noise of that level. The network
    paints the rest to fit (Lugmayr et al. 2022, RePaint, eq. 8; here with one noise throughout, as
    diffusers does it).

    Args:
        picture: (N, C, H, W).
        noise: (N, C, H, W), the noise that the run begins with.
        mask: (N or 1, 1, H, W), 0 to 1; between the two it mixes.

    Returns:
        What a sampler takes as `blend`.

    Raises:
        InputError: the mask is of another size.
    """
    _check_mask(mask, picture)

    def blend(x: Tensor, alpha: float, sigma: float) -> Tensor:
        kept = alpha * picture.to(x) + sigma * noise.to(x)  # (N, C, H, W)
        return torch.lerp(kept, x, mask.to(x).expand_as(x))

    return blend


def inpainting_picture(masked: Tensor, mask: Tensor) -> Tensor:
    """The further channels of a network that was trained to paint into holes.

    Stable Diffusion's inpainting models (Rombach et al. 2022, section 4.5) are shown x, then the
    mask, then the latents of the picture without the hole. The result is a `Condition.picture`.

    Args:
        masked: (N, C, H, W), latents of the picture, grey where it is painted anew.
        mask: (N or 1, 1, H, W), at the size of the latents.

    Returns:
        (N, 1 + C, H, W).

    Raises:
        InputError: the mask is of another size.
    """
    _check_mask(mask, masked)
    height, width = masked.shape[2:]
    return torch.cat([mask.to(masked).expand(len(masked), 1, height, width), masked], dim=1)


def without_hole(picture: Tensor, mask: Tensor) -> Tensor:
    """A picture that is grey (0) wherever the mask is at least one half; see inpainting_picture."""
    _check_mask(mask, picture)
    return picture * (mask < 0.5).to(picture)  # (N, C, H, W)


def resize_mask(mask: Tensor, height: int, width: int) -> Tensor:
    """A mask at the size of latents, by the nearest pixel, as diffusers does it.

    Args:
        mask: (N, 1, H, W).
        height: of the latents.
        width: likewise.

    Returns:
        (N, 1, height, width).
    """
    return F.interpolate(mask, size=(height, width))


def outpaint(
    picture: Tensor,
    *,
    left: int = 0,
    top: int = 0,
    right: int = 0,
    bottom: int = 0,
    overlap: int = 0,
) -> tuple[Tensor, Tensor]:
    """A larger canvas with the picture on it, and the mask of what is to be painted.

    The new part begins as the edge of the picture drawn out, which gives a start with little noise
    something to go on.

    Args:
        picture: (N, C, H, W).
        left: pixels to add at the left, at least 0; likewise the other three.
        top: see left.
        right: see left.
        bottom: see left.
        overlap: pixels of the picture, along the sides that grow, over which the mask falls to 0,
            so that no seam shows.

    Returns:
        (N, C, H', W') and (N, 1, H', W').

    Raises:
        InputError: a number is below 0, nothing is added, or the overlap takes all.
    """
    sides = {"left": left, "top": top, "right": right, "bottom": bottom}
    for name, pixels in (sides | {"overlap": overlap}).items():
        if type(pixels) is not int or pixels < 0:
            raise InputError(f"{name}: must be a whole number of pixels, at least 0")
    if not any(sides.values()):
        raise InputError("left, top, right, bottom: at least one has to be above 0")
    count, _, height, width = picture.shape
    across = overlap * ((left > 0) + (right > 0))
    down = overlap * ((top > 0) + (bottom > 0))
    if across >= width or down >= height:
        raise InputError(f"overlap: {overlap} pixels leave nothing of {width} x {height}")
    padding = (left, right, top, bottom)
    canvas = F.pad(picture, padding, mode="replicate")  # (N, C, H', W')
    columns = _fading(width, left, right, overlap)  # (W,)
    rows = _fading(height, top, bottom, overlap)  # (H,)
    kept = torch.minimum(rows[:, None], columns[None, :]).to(picture)  # (H, W), 1: as it was
    mask = 1 - F.pad(kept, padding)  # (H', W')
    return canvas, mask.expand(count, 1, *mask.shape)


def _fading(size: int, before: int, after: int, overlap: int) -> Tensor:
    """(size,): 1, falling towards the ends that grow."""
    place = torch.arange(size) + 0.5
    kept = torch.ones(size)
    if before and overlap:
        kept = torch.minimum(kept, place / overlap)
    if after and overlap:
        kept = torch.minimum(kept, (size - place) / overlap)
    return kept


@torch.no_grad()
def ddim_inversion(
    denoise: Denoiser, picture: Tensor, steps: Timesteps, prediction_type: PredictionType
) -> Tensor:
    """The noise from which ddim, or euler, would paint this picture again, very nearly.

    The steps of ddim with eta 0 taken upwards (Song et al. 2021, DDIM, section 4.3), in which
    what the network says of a level stands for what it would say of the next:

        x_t = alpha_t x_0 + sigma_t epsilon,   both as seen in x_s at the lower level s

    The more steps, the closer. Without guidance (a scale of 1) it is closest.

    Args:
        denoise: the network with its condition.
        picture: (N, C, H, W), -1 to 1, or latents.
        steps: those of the run that is to paint it again.
        prediction_type: what the network speaks of.

    Returns:
        (N, C, H, W), x at the first level.

    Raises:
        InputError: the network says only pictures, which tell no noise where there is none.
    """
    if prediction_type == "sample" and steps.sigma[-1] == 0:
        raise InputError(
            "prediction_type: of a network that says sample no noise can be found for a picture"
            " that has none; use one that says epsilon, v_prediction or flow_prediction"
        )
    x = picture.float()
    for index in reversed(range(len(steps))):
        alpha, sigma = steps.alpha[index + 1], steps.sigma[index + 1]
        t = steps.t[index].to(x.device).expand(len(x))  # (N,)
        said = denoise(x, t).float()[:, : x.shape[1]]  # (N, C, H, W)
        x0 = to_x0(said, x, alpha, sigma, prediction_type)  # (N, C, H, W)
        epsilon = to_epsilon(said, x, alpha, sigma, prediction_type)  # (N, C, H, W)
        x = steps.alpha[index] * x0 + steps.sigma[index] * epsilon  # (N, C, H, W)
    return x


def slerp(first: Tensor, second: Tensor, amount: float | Tensor) -> Tensor:
    """Between two noises along the sphere on which they lie (Shoemake 1985).

        sin((1 - a) angle) / sin(angle) first + sin(a angle) / sin(angle) second

    A mean of two noises is too quiet to be noise; this keeps its deviation. Where the two point the
    same way, which leaves no angle, it is the straight line.

    Args:
        first: (N, ...), standard normal noise or latents.
        second: the same shape.
        amount: 0 (the first) to 1 (the second), or (N,) of them.

    Returns:
        The same shape.

    Raises:
        InputError: amount is out of range.
    """
    share = torch.as_tensor(amount, dtype=torch.float64, device=first.device).expand(len(first))
    if not bool(((share >= 0) & (share <= 1)).all()):
        raise InputError(f"amount: must be from 0 to 1 (found {amount})")
    share = share[:, None]  # (N, 1)
    a, b = first.flatten(1).double(), second.flatten(1).double()  # (N, D) each
    cosine = F.cosine_similarity(a, b, dim=1)[:, None]  # (N, 1)
    angle = cosine.clamp(-1, 1).acos()
    curved = (torch.sin((1 - share) * angle) * a + torch.sin(share * angle) * b) / angle.sin()
    mixed = torch.where(cosine.abs() > _PARALLEL, torch.lerp(a, b, share), curved)  # (N, D)
    return mixed.view_as(first).to(first.dtype)


def _check_mask(mask: Tensor, picture: Tensor) -> None:
    if mask.dim() != 4 or mask.shape[1] != 1 or mask.shape[2:] != picture.shape[2:]:
        raise InputError(
            f"mask: is of shape {tuple(mask.shape)} where the picture needs"
            f" (N, 1, {picture.shape[2]}, {picture.shape[3]})"
        )
