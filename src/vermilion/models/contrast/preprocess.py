"""What is done to a picture before a tower sees it: transformers' CLIPImageProcessor.

    resized → cut out of the middle → 0 to 1 → (x - mean) / std

N pictures, H height, W width, C channels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from vermilion.errors import InputError, ModelError
from vermilion.models.files import read_json, write_json

FILE = "preprocessor_config.json"
MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)
_MOST = 2**15

Picture: TypeAlias = Image.Image | NDArray[np.uint8]
"""Of Pillow, or (H, W, 3), or (H, W, 4) with straight alpha, or (H, W)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Preprocess:
    """How pictures become what a tower takes; CLIP's own way by default.

    Attributes:
        resize: the shorter side in pixels, the other in proportion; or (H, W); None: as it is.
        crop: (H, W) cut out of the middle, filled up with black where a picture is smaller;
            None: nothing is cut.
        resample: Pillow's number of the filter: 0 nearest, 1 Lanczos, 2 bilinear, 3 bicubic.
        rescale_factor: what the numbers 0 to 255 are multiplied by.
        mean: of each channel, 0 to 1; taken away.
        std: of each channel; divided by.
    """

    resize: int | tuple[int, int] | None = 224
    crop: tuple[int, int] | None = (224, 224)
    resample: int = Image.Resampling.BICUBIC
    rescale_factor: float = 1 / 255
    mean: tuple[float, ...] = MEAN
    std: tuple[float, ...] = STD

    @classmethod
    def for_size(cls, size: int, **fields: Any) -> Preprocess:
        """For square pictures of `size` pixels; further fields as above."""
        return cls(resize=size, crop=(size, size), **fields)

    @classmethod
    def from_folder(cls, folder: Path) -> Preprocess:
        """Read preprocessor_config.json.

        Raises:
            ModelError: it is missing, or a field cannot be used.
        """
        return cls.from_transformers(read_json(folder / FILE))

    @classmethod
    def from_transformers(cls, config: Mapping[str, Any]) -> Preprocess:
        """Read a parsed preprocessor_config.json.

        Raises:
            ModelError: a field cannot be used.
        """
        on = {
            step: config.get(f"do_{step}", True)
            for step in ("resize", "center_crop", "rescale", "normalize")
        }
        try:
            side = _side(config.get("size", 224))
            crop = _side(config.get("crop_size", 224))
            return cls(
                resize=side if on["resize"] else None,
                crop=((crop, crop) if isinstance(crop, int) else crop)
                if on["center_crop"]
                else None,
                resample=Image.Resampling(config.get("resample", 3)),
                rescale_factor=float(config.get("rescale_factor", 1 / 255))
                if on["rescale"]
                else 1.0,
                mean=_three(config.get("image_mean", MEAN)) if on["normalize"] else (0.0,) * 3,
                std=_three(config.get("image_std", STD)) if on["normalize"] else (1.0,) * 3,
            )
        except (ValueError, TypeError) as error:
            raise ModelError(f"{FILE}: a field cannot be used: {error}") from None

    def save(self, folder: Path) -> None:
        """Write preprocessor_config.json."""
        sides = self.resize if self.resize is not None else 224
        size = {"shortest_edge": sides} if isinstance(sides, int) else _sides(sides)
        config = {
            "image_processor_type": "CLIPImageProcessor",
            "do_convert_rgb": True,
            "do_resize": self.resize is not None,
            "size": size,
            "resample": int(self.resample),
            "do_center_crop": self.crop is not None,
            "crop_size": _sides(self.crop or (224, 224)),
            "do_rescale": True,
            "rescale_factor": self.rescale_factor,
            "do_normalize": True,
            "image_mean": list(self.mean),
            "image_std": list(self.std),
        }
        write_json(folder / FILE, config)

    def __call__(self, pictures: Sequence[Picture]) -> Tensor:
        """Pictures, N of them, as a tower takes them: (N, 3, H, W), float32.

        Raises:
            InputError: one is no picture, or has no pixels.
            ValueError: they come out in different sizes.
        """
        arrays = [self.pixels(picture) for picture in pictures]
        if len({array.shape for array in arrays}) > 1:
            raise ValueError("pictures: they differ in size and nothing is cut; take one at a time")
        x = torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2)  # (N, 3, H, W)
        return self.normalise(x)

    def normalise(self, pictures: Tensor) -> Tensor:
        """Pictures of the right size, (N, 3, H, W), uint8, as a tower takes them: float32."""
        mean, std = (
            torch.tensor(values, device=pictures.device)[:, None, None]
            for values in (self.mean, self.std)
        )
        return (pictures.float() * self.rescale_factor - mean) / std

    def pixels(self, picture: Picture) -> NDArray[np.uint8]:
        """A picture resized and cut: (H, W, 3), uint8. What is transparent becomes white."""
        image = _rgb(picture)
        if self.resize is not None:
            image = image.resize(self._resized(*image.size), self.resample)
        array: NDArray[np.uint8] = np.asarray(image)
        return array if self.crop is None else _middle(array, self.crop)

    def _resized(self, width: int, height: int) -> tuple[int, int]:
        """Width and height after resizing."""
        if isinstance(self.resize, tuple):
            return self.resize[1], self.resize[0]
        side = self.resize or 0
        short, long = sorted((width, height))
        longer = side * long // short
        if longer > _MOST:
            raise InputError(f"picture: {width}x{height} pixels are too long and narrow")
        return (side, longer) if width <= height else (longer, side)


def _rgb(picture: Picture) -> Image.Image:
    if not isinstance(picture, Image.Image):
        if picture.dtype != np.uint8 or picture.ndim not in (2, 3):
            raise InputError(
                f"picture: must be uint8, (H, W, 3) or (H, W, 4)"
                f" (found {picture.dtype}, {picture.shape})"
            )
        if picture.size == 0:
            raise InputError("picture: it has no pixels")
        picture = Image.fromarray(picture)
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        white = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(white, picture)
    return picture.convert("RGB")


def _middle(array: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """(H, W, 3) → `size`, as transformers rounds."""
    lacking = [max(0, wanted - there) for wanted, there in zip(size, array.shape, strict=False)]
    if any(lacking):
        array = np.pad(array, [((n + 1) // 2, n // 2) for n in lacking] + [(0, 0)])
    top, left = ((there - n) // 2 for n, there in zip(size, array.shape, strict=False))
    return array[top : top + size[0], left : left + size[1]]


def _side(size: Any) -> int | tuple[int, int]:
    """A size as published files write it: a number, or an object."""
    if isinstance(size, Mapping):
        if set(size) == {"shortest_edge"}:
            return _pixels(size["shortest_edge"])
        if set(size) == {"height", "width"}:
            return _pixels(size["height"]), _pixels(size["width"])
        raise ValueError(f"size: {dict(size)} is not supported")
    return _pixels(size)


def _sides(size: tuple[int, int]) -> dict[str, int]:
    return {"height": size[0], "width": size[1]}


def _pixels(value: Any) -> int:
    if type(value) is not int or not 0 < value <= _MOST:
        raise ValueError(f"size: must be 1 to {_MOST} (found {value!r:.40})")
    return value


def _three(values: Any) -> tuple[float, ...]:
    if not isinstance(values, Sequence) or len(values) != 3:
        raise ValueError("image_mean, image_std: must be three numbers")
    return tuple(float(value) for value in values)
