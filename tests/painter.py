"""An engine of a plug-in package that paints by arithmetic: what the line does with any painter.

It is registered as other packages register theirs, by an entry point, in a folder that a test puts
on the path.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from vermilion.runtime.cards import Card
from vermilion.settings import Settings
from vermilion.types import PictureSettings, Prompt, Sample

SIDE = 64


class Painter:
    """A disc on clear ground, whose place and colour the prompt and the seed decide."""

    device = "cpu"
    parameters = 1000

    def __init__(self) -> None:
        self.versions: Mapping[str, str] = {"painter": "1"}

    @classmethod
    def memory(cls, card: Card, path: Path) -> int:
        return 1000

    @classmethod
    def open(cls, card: Card, path: Path, settings: Settings) -> Self:
        return cls()

    def generate(
        self,
        prompts: Sequence[Prompt],
        on_piece: Any = None,
        *,
        pictures: Mapping[str, NDArray[np.uint8]] | None = None,
        on_step: Any = None,
    ) -> Iterator[tuple[int, Sample]]:
        for number, prompt in enumerate(prompts):
            settings = PictureSettings(**prompt.settings)
            steps = settings.num_inference_steps or 4
            for step in range(steps):
                if on_step is not None:
                    on_step(number, step + 1, steps)
            pixels = disc(f"{prompt.text}/{prompt.negative_text}/{prompt.seed}", settings)
            given = {} if pictures is None else pictures
            for ref in filter(None, (settings.image, settings.blend)):
                mean = given[ref].reshape(-1, 4).mean(0)
                pixels[..., :3] = (pixels[..., :3] * settings.strength + mean[:3] * 0.5).clip(
                    0, 255
                )
            if settings.mask:
                assert given[settings.mask].shape[2] == 4
            yield number, Sample(prompt=prompt, content=pixels, notes={"steps": steps})


def disc(words: str, settings: PictureSettings) -> NDArray[np.uint8]:
    rng = np.random.default_rng(int(hashlib.sha256(words.encode()).hexdigest()[:12], 16))
    width, height = settings.width or SIDE, settings.height or SIDE
    rows, columns = np.mgrid[:height, :width]
    middle = rng.uniform(0.35, 0.65, 2) * (height, width)
    radius = 0.28 * min(width, height)
    away = np.hypot(rows - middle[0], columns - middle[1])
    cover = (radius + 0.5 - away).clip(0, 1)
    ring = (radius * 0.7 + 0.5 - away).clip(0, 1)[..., None]
    outer, inner = rng.integers(0, 255, (2, 3))
    colour = outer * (1 - ring) + inner * ring
    return np.concatenate([colour, cover[..., None] * 255], -1).round().astype(np.uint8)


def install(folder: Path) -> Path:
    """Write the plug-in's metadata into a folder, which belongs on the path then."""
    place = folder / "painter-1.0.dist-info"
    place.mkdir(parents=True)
    (place / "METADATA").write_text("Metadata-Version: 2.1\nName: painter\nVersion: 1.0\n")
    (place / "entry_points.txt").write_text(
        "[vermilion.engines]\npainter = tests.painter:Painter\n"
    )
    return folder


def model(home: Path, name: str = "stickers", **facts: Any) -> None:
    """Put a model of the plug-in's family into a home folder."""
    folder = home / "models" / name
    folder.mkdir(parents=True)
    content = b"{}"
    (folder / "config.json").write_bytes(content)
    card = {
        "name": name,
        "kind": "picture",
        "family": "painter",
        "source": "trained here",
        "licence": "Apache-2.0",
        "languages": ["en"],
        "files": {
            "config.json": {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}
        },
        **facts,
    }
    (folder / "card.json").write_text(json.dumps(card))
