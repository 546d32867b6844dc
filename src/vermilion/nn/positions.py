"""Position encodings. B batch, H heads, T tokens, D head size, C features, N positions.

A network without them cannot tell a text from its words in another order. Learned and
sinusoidal ones are added to the embeddings; rotary ones turn the queries and keys.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from vermilion.nn.linear import Embedding

_YARN_OPTIONS = ("attention_factor", "beta_fast", "beta_slow")
_KNOWN_TO_YARN = {"type", "rope_type", "factor", "original_max_position_embeddings"} | {
    *_YARN_OPTIONS
}

# The numbers that each kind of `rope_scaling` needs.
_SCALINGS = {
    "linear": ("factor",),
    "yarn": ("factor", "original_max_position_embeddings"),
    "llama3": (
        "factor",
        "low_freq_factor",
        "high_freq_factor",
        "original_max_position_embeddings",
    ),
}


class LearnedPositions(Embedding):
    """A vector for each position, trained with the rest (Radford et al. 2018, 2019).

        h0 = U W_e + W_p

    Args:
        length: N, most positions.
        size: C.
    """

    def __init__(self, length: int, size: int) -> None:
        super().__init__(length, size)


def sinusoidal(positions: Tensor, size: int, theta: float = 10000.0) -> Tensor:
    """Sinusoidal encoding (Vaswani et al. 2017, sec. 3.5): (...) → (..., C), float32.

        PE(p, 2i)   = sin(p / theta^(2i/C))
        PE(p, 2i+1) = cos(p / theta^(2i/C))

    Args:
        positions: any numbers, not only whole ones: a diffusion model encodes its time.
        size: C, even.
        theta: the longest wavelength is 2π theta.

    Raises:
        ValueError: for an odd size.
    """
    if size % 2:
        raise ValueError(f"size: must be even (found {size})")
    steps = torch.arange(0, size, 2, dtype=torch.float32, device=positions.device)  # (C/2,)
    phase = positions.float()[..., None] * theta ** (-steps / size)  # (..., C/2)
    return torch.stack((phase.sin(), phase.cos()), dim=-1).flatten(-2)  # (..., C)


def rotary_frequencies(
    head_dim: int, theta: float, scaling: Mapping[str, Any] | None = None
) -> Tensor:
    """Angular frequencies of rotary embeddings (Su et al. 2021, eq. 15), float32, shape (D/2,).

        theta_i = theta^(-2i/D),  i = 0 .. D/2 - 1

    Args:
        head_dim: D, even.
        theta: base of the frequencies, 10000 in the paper.
        scaling: None, or a `rope_scaling` of a published config: "linear" divides all
            frequencies by `factor` (Chen et al. 2023); "llama3" and "yarn" (Peng et al.
            2023, sec. 3.2) divide the long wavelengths only, with a smooth passage between.

    Raises:
        ValueError: for a scaling that is not known here, or a field that is no number.
    """
    # On the CPU even where a layout is made without weights: these are never loaded.
    exponents = torch.arange(0, head_dim, 2, dtype=torch.float32, device="cpu") / head_dim  # (D/2,)
    # Rounded as the published code does it: at position 8000 the last digit is 1e-3 of an angle.
    frequencies: Tensor = 1.0 / theta**exponents  # (D/2,)
    kind = _kind(scaling)
    if scaling is None or kind == "default":
        return frequencies
    factor = float(scaling["factor"])
    if kind == "linear":
        return frequencies / factor
    if kind == "llama3":
        kept = _kept_by_llama3(frequencies, scaling)
    else:
        kept = _kept_by_yarn(head_dim, theta, scaling)
    return frequencies / factor * (1 - kept) + frequencies * kept


def rotary_gain(scaling: Mapping[str, Any] | None) -> float:
    """What cosine and sine are multiplied by: YaRN's temperature (Peng et al. 2023, eq. 22)."""
    if scaling is None or _kind(scaling) != "yarn":
        return 1.0
    gain = scaling.get("attention_factor")
    factor = float(scaling["factor"])
    return float(gain) if gain is not None else 0.1 * math.log(max(factor, 1.0)) + 1.0


def _kind(scaling: Mapping[str, Any] | None) -> str:
    """The kind of a scaling whose fields are as they have to be."""
    kind = "default" if scaling is None else scaling.get("rope_type", scaling.get("type"))
    if scaling is None or kind == "default":
        return "default"
    if str(kind) not in _SCALINGS:
        raise ValueError(
            f"rope_scaling: {kind!r} is not supported; known are {', '.join(_SCALINGS)}"
        )
    optional = [name for name in _YARN_OPTIONS if scaling.get(name) is not None]
    for field in (*_SCALINGS[str(kind)], *(optional if kind == "yarn" else ())):
        value = scaling.get(field)
        if not isinstance(value, int | float) or not 0 < value < 1e9:
            raise ValueError(f"rope_scaling: {field}: must be a number above 0 (found {value!r})")
    if kind == "yarn" and not _KNOWN_TO_YARN.issuperset(scaling):
        strange = min(set(scaling) - _KNOWN_TO_YARN)
        raise ValueError(f"rope_scaling: {strange}: is not supported with yarn")
    return str(kind)


def _kept_by_llama3(frequencies: Tensor, scaling: Mapping[str, Any]) -> Tensor:
    """How much of each frequency stays as it is, 0 to 1, by its turns in the trained context."""
    context = float(scaling["original_max_position_embeddings"])
    low, high = float(scaling["low_freq_factor"]), float(scaling["high_freq_factor"])
    turns = context * frequencies / (2 * math.pi)  # (D/2,)
    return ((turns - low) / (high - low)).clamp(0, 1)


def _kept_by_yarn(head_dim: int, theta: float, scaling: Mapping[str, Any]) -> Tensor:
    """The same, by number of the frequency; it falls from beta_fast turns to beta_slow turns."""
    context = float(scaling["original_max_position_embeddings"])

    def index(turns: float) -> float:
        return head_dim * math.log(context / (turns * 2 * math.pi)) / (2 * math.log(theta))

    first = max(math.floor(index(scaling.get("beta_fast") or 32.0)), 0)
    last = min(math.ceil(index(scaling.get("beta_slow") or 1.0)), head_dim - 1)
    numbers = torch.arange(head_dim // 2, dtype=torch.float32, device="cpu")  # (D/2,)
    return 1 - ((numbers - first) / max(last - first, 0.001)).clamp(0, 1)


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
        self.gain = rotary_gain(scaling)

    def angles(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Cosine and sine for positions (B, T), each of shape (B, 1, T, D), float32."""
        phase = positions[:, None, :, None].float() * self.frequencies  # (B, 1, T, D/2)
        phase = torch.cat((phase, phase), dim=-1)  # (B, 1, T, D)
        return phase.cos() * self.gain, phase.sin() * self.gain


def rotate(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Turn x, (B, H, T, D), by the angles that `Rotary.angles` gave (eq. 34 of the paper)."""
    first, second = x.chunk(2, dim=-1)  # (B, H, T, D/2)
    return (x * cosine + torch.cat((-second, first), dim=-1) * sine).to(x.dtype)
