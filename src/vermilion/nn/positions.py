"""Position encodings. B batch, H heads, T tokens, D head size."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

# The numbers that each kind of `rope_scaling` needs.
_SCALINGS = {
    "linear": ("factor",),
    "llama3": (
        "factor",
        "low_freq_factor",
        "high_freq_factor",
        "original_max_position_embeddings",
    ),
}


def rotary_frequencies(
    head_dim: int, theta: float, scaling: Mapping[str, Any] | None = None
) -> Tensor:
    """Angular frequencies of rotary embeddings (Su et al. 2021, eq. 15), float32, shape (D/2,).

        theta_i = theta^(-2i/D),  i = 0 .. D/2 - 1

    Args:
        head_dim: D, even.
        theta: base of the frequencies, 10000 in the paper.
        scaling: None, or a `rope_scaling` of a published config: "linear" divides all
            frequencies by `factor` (Chen et al. 2023); "llama3" divides the long
            wavelengths only, with a smooth passage between.

    Raises:
        ValueError: for a scaling that is not known here, or a field that is no number.
    """
    # On the CPU even where a layout is made without weights: these are never loaded.
    exponents = torch.arange(0, head_dim, 2, dtype=torch.float32, device="cpu") / head_dim  # (D/2,)
    # Rounded as the published code does it: at position 8000 the last digit is 1e-3 of an angle.
    frequencies: Tensor = 1.0 / theta**exponents  # (D/2,)
    kind = "default" if scaling is None else scaling.get("rope_type", scaling.get("type"))
    if scaling is None or kind == "default":
        return frequencies
    if str(kind) not in _SCALINGS:
        raise ValueError(f"rope_scaling: {kind!r} is not supported; known are linear and llama3")
    for field in _SCALINGS[str(kind)]:
        value = scaling.get(field)
        if not isinstance(value, int | float) or not 0 < value < 1e9:
            raise ValueError(f"rope_scaling: {field}: must be a number above 0 (found {value!r})")
    factor = float(scaling["factor"])
    if kind == "linear":
        return frequencies / factor
    context = float(scaling["original_max_position_embeddings"])
    low, high = float(scaling["low_freq_factor"]), float(scaling["high_freq_factor"])
    turns = context * frequencies / (2 * math.pi)  # rotations within the trained context
    smooth = ((turns - low) / (high - low)).clamp(0, 1)
    return frequencies * (smooth + (1 - smooth) / factor)


class Rotary(nn.Module):
    """Rotary position embedding (Su et al. 2021), in the layout of the published Llama weights.

    Feature i turns with feature i + D/2, not with its neighbour, by the angle
    position * theta_i.
    """

    frequencies: Tensor

    def __init__(
        self, head_dim: int, theta: float, scaling: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__()
        self.register_buffer(
            "frequencies", rotary_frequencies(head_dim, theta, scaling), persistent=False
        )

    def angles(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Cosine and sine for positions (B, T), each of shape (B, 1, T, D), float32."""
        phase = positions[:, None, :, None].float() * self.frequencies  # (B, 1, T, D/2)
        phase = torch.cat((phase, phase), dim=-1)  # (B, 1, T, D)
        return phase.cos(), phase.sin()


def rotate(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Turn x, (B, H, T, D), by the angles that `Rotary.angles` gave (eq. 34 of the paper)."""
    first, second = x.chunk(2, dim=-1)  # (B, H, T, D/2)
    return (x * cosine + torch.cat((-second, first), dim=-1) * sine).to(x.dtype)
