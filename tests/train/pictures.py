"""Small sets of pictures for tests of training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tests.tiny import tiny_encoder_folder
from vermilion.runtime.engines.picture import PictureEngine
from vermilion.runtime.store import Store
from vermilion.settings import get_settings

COLOURS = {"red": (220, 30, 20), "green": (20, 160, 40), "blue": (30, 50, 220)}
SMALL: dict[str, Any] = {
    "size": 16, "block_out_channels": "8,16", "layers_per_block": 1, "norm_num_groups": 4,
    "batch_size": 4, "warmup_steps": 2, "log_steps": 1, "eval_steps": 5, "sample_steps": 0,
    "num_inference_steps": 4, "sample_pictures": 3, "validation": 0.2, "tensorboard": False,
}  # fmt: skip
DIT: dict[str, Any] = {
    **{key: value for key, value in SMALL.items()
       if key not in ("block_out_channels", "layers_per_block", "norm_num_groups")},
    "network": "dit", "num_layers": 2, "num_attention_heads": 2, "attention_head_dim": 8,
    "patch_size": 2,
}  # fmt: skip


def disc(number: int, colour: tuple[int, int, int], side: int = 24) -> np.ndarray[Any, Any]:
    """A disc on clear ground, (side, side, 4); each number gives another."""
    y, x = np.mgrid[:side, :side]
    pixels = np.zeros((side, side, 4), np.uint8)
    middle = side / 2 + number % 5 - 2
    pixels[(y - middle) ** 2 + (x - middle) ** 2 < (4 + number % 7) ** 2] = (*colour, 255)
    pixels[number % side, 0] = (9, 9, 9, 255)
    return pixels


def discs(folder: Path, count: int = 24) -> Path:
    """A folder of pictures in folders of their colours, with captions in captions.jsonl beside."""
    rows = []
    for number in range(count):
        word = list(COLOURS)[number % 3]
        file = folder / word / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(disc(number, COLOURS[word])).save(file)
        rows.append(
            {"file": str(file.relative_to(folder)), "caption": f"{word} seal {number % 5}, flat"}
        )
    (folder.parent / "told.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return folder


def engine(name: str) -> PictureEngine:
    """A model of the store, opened to paint."""
    settings = get_settings()
    card, path = Store(settings.models_dir).locate(name)
    return PictureEngine.open(card, path, settings)


def put_encoder(home: Path, tmp_path: Path) -> str:
    """A tiny sentence encoder in the store; its name."""
    folder = tiny_encoder_folder(tmp_path / "encoder-files")
    Store(home / "models").pull(str(folder), name="tiny-encoder")
    return "tiny-encoder"
