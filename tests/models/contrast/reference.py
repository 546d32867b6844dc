"""Tiny models of transformers and pictures, to compare with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel, CLIPTokenizer

from tests.models.contrast.published import write_words
from tests.tiny import SENTENCES, draw_weights
from vermilion.models.contrast.tokenizer import Tokenizer

TOWER = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
}  # fmt: skip


def write_tiny_vocabulary(folder: Path) -> Path:
    """A vocab.json and merges.txt of 600 tokens."""
    model = json.loads(Tokenizer.train(SENTENCES * 3, 600).fast.to_str())["model"]
    return write_words(folder, model["vocab"], [" ".join(pair) for pair in model["merges"]])


def tiny_clip(seed: int = 0, **vision: Any) -> CLIPModel:
    """A CLIP at toy size."""
    words = {"vocab_size": 600, "bos_token_id": 598, "eos_token_id": 599}
    config = CLIPConfig(
        text_config={**TOWER, **words, "hidden_act": vision.get("hidden_act", "quick_gelu")},
        vision_config={**TOWER, "image_size": 32, "patch_size": 8, **vision},
        projection_dim=24,
    )
    model = CLIPModel(config).eval()
    draw_weights(model, seed)
    with torch.no_grad():
        model.logit_scale.fill_(1.5)
    return model


def tiny_clip_folder(path: Path, **fields: Any) -> CLIPModel:
    """The same, written by transformers with its tokenizer and image processor."""
    model = tiny_clip(**fields)
    model.save_pretrained(path)
    side = model.config.vision_config.image_size
    CLIPImageProcessorPil(size=side, crop_size=side).save_pretrained(path)
    CLIPTokenizer.from_pretrained(write_tiny_vocabulary(path / "words")).save_pretrained(path)
    return model


def photo(width: int, height: int, seed: int = 0) -> NDArray[np.uint8]:
    """A picture with edges, shades and noise: (H, W, 3)."""
    generator = np.random.default_rng(seed)
    small = generator.integers(0, 256, (6, 7, 3), dtype=np.uint8)
    shades = np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BILINEAR))
    noise = generator.integers(-40, 40, shades.shape)
    array = np.clip(shades.astype(int) + noise, 0, 255).astype(np.uint8)
    array[height // 3 : height // 2, width // 4 : width // 2] = (200, 30, 20)
    return array


def pixels(count: int, side: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(seed))
