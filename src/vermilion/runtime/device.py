"""Which device models run on, and in which numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch

from vermilion.errors import ModelError
from vermilion.models.lm import native_library
from vermilion.settings import Settings

# How much worse a text may be predicted in int8: the ratio of perplexities.
_WORSE = 1.01


def use_threads(settings: Settings) -> None:
    """Let torch use as many CPU threads as the settings say."""
    if settings.threads:
        torch.set_num_threads(settings.threads)


def choose_device(settings: Settings) -> str:
    """The device that is named, or CUDA when there is one, else the CPU; sets CPU threads.

    Raises:
        ModelError: a device is named that this machine does not have.
    """
    use_threads(settings)
    if settings.device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if settings.device.startswith("cuda") and not torch.cuda.is_available():
        raise ModelError("VERMILION_DEVICE: this machine has no CUDA device; set it to cpu or auto")
    return settings.device


def choose_dtype(settings: Settings, device: str, measured: Mapping[str, Any] | None) -> str:
    """The numbers that a language model runs in: "float32", "bfloat16" or "int8".

    Args:
        settings: `dtype` names them, or is "auto".
        device: "cpu", "cuda" or "cuda:N".
        measured: what the model's card says of int8: "perplexity", a ratio to float32's, and
            "speed", likewise; None: nobody has measured.

    Raises:
        ModelError: int8 is named, and there is no C compiler or the device is no CPU.
    """
    if settings.dtype == "int8" and device != "cpu":
        raise ModelError("VERMILION_DTYPE: int8 runs on a CPU; set it to auto or bfloat16")
    if settings.dtype == "int8" and not native_library.available():
        raise ModelError(
            "VERMILION_DTYPE: int8 needs a C compiler; install gcc or clang, or set it to float32"
        )
    if settings.dtype != "auto":
        return settings.dtype
    if device != "cpu":
        return "bfloat16"
    found = measured or {}
    good = found.get("perplexity", math.inf) <= _WORSE and found.get("speed", 0) > 1
    return "int8" if good and native_library.available() else "float32"
