"""The craft of pictures: what a model painted, brought to its finished size or made a drawing."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vermilion.errors import InputError
from vermilion.line import drawing
from vermilion.line.checks import Scene
from vermilion.line.crafts import Encoded
from vermilion.line.pixels import rgba
from vermilion.line.reading import checked
from vermilion.seal.formats import FORMATS
from vermilion.seal.media import pictures
from vermilion.settings import Settings
from vermilion.types import SAMPLERS, PictureSettings, Sample

_MULTIPLE = 8  # of px, what every network of the family can work with
_FAINT = 24  # alpha, of 255, that is not seen
_EMPTY = 0.002  # share of a picture that has to be drawn on


class PictureCraft:
    """Makes PNG files, or SVG where the settings say so, of what diffusion models paint."""

    def settings(self, values: Mapping[str, Any], where: str) -> dict[str, Any]:
        """See `Craft.settings`; the fields are those of `PictureSettings`."""
        settings = checked(PictureSettings, dict(values), where)
        bounds = {
            "width": (settings.width, _MULTIPLE, 2048),
            "height": (settings.height, _MULTIPLE, 2048),
            "num_inference_steps": (settings.num_inference_steps, 1, 1000),
            "guidance_scale": (settings.guidance_scale, 0, 50),
            "guidance_rescale": (settings.guidance_rescale, 0, 1),
            "eta": (settings.eta, 0, 1),
            "strength": (settings.strength, 0, 1),
            "clip_skip": (settings.clip_skip, 0, 11),
            "size": (settings.size, 16, 4096),
        }
        for name, (value, least, most) in bounds.items():
            if value is not None and not least <= value <= most:
                raise InputError(f"{where}.{name} must be {least} to {most} (found {value})")
        for name, side in (("width", settings.width), ("height", settings.height)):
            if side is not None and side % _MULTIPLE:
                raise InputError(
                    f"{where}.{name} must be a multiple of {_MULTIPLE} (found {side});"
                    f" {side - side % _MULTIPLE} is one"
                )
        if settings.sampler and settings.sampler not in SAMPLERS:
            raise InputError(
                f"{where}.sampler: {settings.sampler!r} is not known; there is:"
                f" {', '.join(SAMPLERS)}"
            )
        _check_sources(settings, where)
        for name, weight in settings.loras:
            if not name.strip():
                raise InputError(f"{where}.loras: an adapter has no name; write NAME and a weight")
            if not (math.isfinite(weight) and -10 <= weight <= 10):
                raise InputError(
                    f"{where}.loras: the weight of {name} must be -10 to 10 (found {weight})"
                )
        return asdict(settings)

    def each(self, values: Mapping[str, Any], n: int) -> list[dict[str, Any]]:
        """See `Craft.each`; a seed is all that differs."""
        return [dict(values) for _ in range(n)]

    def model(self, values: Mapping[str, Any], settings: Settings) -> str:
        """See `Craft.model`."""
        return settings.picture_model

    def finish(self, sample: Sample) -> Sample:
        """Bring a picture to the size that the settings ask for; what will be a drawing waits.

        Notes: "painted", width and height as the model gave them; "finished", as the file has
        them, and "enlarged", how that was done (see `drawing.enlarge`).
        """
        settings = PictureSettings(**sample.prompt.settings)
        painted = rgba(np.asarray(sample.content))
        pixels, how = painted, "as it was"
        if settings.size is not None and not settings.svg:
            pixels, how = drawing.enlarge(painted, settings.size)
        sides = _sides(pixels)
        if settings.svg:
            traced = drawing.page(*sides)
            sides = list(drawing.page(*traced, settings.size or max(traced)))
        notes = {**sample.notes, "painted": _sides(painted), "finished": sides}
        if how != "as it was":
            notes["enlarged"] = how
        return replace(sample, content=pixels, notes=notes)

    def failures(self, sample: Sample, checks: Mapping[str, Any], scene: Scene) -> Sequence[str]:
        """A picture with nothing in it fails; nothing else is checked yet."""
        pixels = _pixels(sample)
        drawn = pixels[..., 3] > _FAINT
        if drawn.mean() < _EMPTY:
            return ("is empty",)
        opaque = bool(drawn.all())
        same = bool((pixels[..., :3] == pixels[:1, :1, :3]).all())
        return ("is one colour",) if opaque and same else ()

    def score(self, sample: Sample) -> float:
        """What ranked it, where something did; else all are equal."""
        return float(sample.notes.get("rank", 0.0))

    def text(self, sample: Sample) -> str:
        """What was asked for."""
        return sample.prompt.text

    def encode(self, sample: Sample) -> Encoded:
        """A PNG file, or a drawing (SVG) that has the finished size."""
        settings = PictureSettings(**sample.prompt.settings)
        text, pixels = self.text(sample), _pixels(sample)
        if settings.svg:
            traced = drawing.sized(drawing.trace(pixels), settings.size)
            form = FORMATS["svg"]
            content = traced.svg.encode()
        else:
            form = FORMATS["png"]
            content = pictures.encode(pictures.Picture(frames=pixels[None]), form)
        return Encoded(content=content, media_type=form.media_type, suffix=form.suffix, text=text)


def _check_sources(settings: PictureSettings, where: str) -> None:
    """See that what a picture starts from goes together."""
    for name, value in (("mask", settings.mask), ("blend", settings.blend)):
        if value and not settings.image:
            raise InputError(f"{where}.{name} needs a picture to start from; give {where}.image")
    if settings.mask and settings.blend:
        raise InputError(f"{where}: mask and blend exclude one another; keep one of them")


def _pixels(sample: Sample) -> NDArray[np.uint8]:
    return rgba(np.asarray(sample.content))


def _sides(pixels: NDArray[np.uint8]) -> list[int]:
    height, width = pixels.shape[:2]
    return [width, height]
