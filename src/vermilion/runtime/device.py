"""Which device torch runs on."""

from __future__ import annotations

import torch

from vermilion.errors import ModelError
from vermilion.settings import Settings


def choose_device(settings: Settings) -> str:
    """The device that is named, or CUDA when there is one, else the CPU; sets CPU threads.

    Raises:
        ModelError: a device is named that this machine does not have.
    """
    if settings.threads:
        torch.set_num_threads(settings.threads)
    if settings.device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if settings.device.startswith("cuda") and not torch.cuda.is_available():
        raise ModelError("VERMILION_DEVICE: this machine has no CUDA device; set it to cpu or auto")
    return settings.device
