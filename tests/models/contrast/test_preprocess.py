"""What is done to pictures, against transformers' CLIPImageProcessor, pixel for pixel."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoImageProcessor, CLIPImageProcessorPil

from tests.models.contrast.reference import photo
from vermilion.errors import InputError, ModelError
from vermilion.models.contrast.preprocess import Preprocess

SHAPES = [
    (224, 224),
    (640, 480),
    (301, 517),
    (100, 37),
    (225, 224),
    (3, 5),
    (1000, 600),
    (223, 999),
]


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"size": 64, "crop_size": 64},
        {"size": {"shortest_edge": 40}, "crop_size": {"height": 33, "width": 50}},
        {"size": {"height": 30, "width": 47}, "do_center_crop": False},
        {"size": 20, "crop_size": 31, "resample": 2, "do_normalize": False},
        {"do_rescale": False, "image_mean": [1.0, 2.0, 3.0], "image_std": [4.0, 5.0, 6.0]},
    ],
)
def test_pixels(tmp_path: Path, fields: dict[str, Any]) -> None:
    reference = CLIPImageProcessorPil(**fields)
    reference.save_pretrained(tmp_path)
    preprocess = Preprocess.from_folder(tmp_path)
    for number, shape in enumerate(SHAPES):
        picture = photo(*shape, seed=number)
        for one in (picture, Image.fromarray(picture)):
            expected = reference(one, return_tensors="pt")["pixel_values"]
            torch.testing.assert_close(preprocess([one]), expected, atol=1e-5, rtol=1e-5)
    preprocess.save(tmp_path)
    again = AutoImageProcessor.from_pretrained(tmp_path)
    expected = reference(picture, return_tensors="pt")["pixel_values"]
    torch.testing.assert_close(again(picture, return_tensors="pt")["pixel_values"], expected)
    assert Preprocess.from_folder(tmp_path) == preprocess


def test_modes_of_pictures() -> None:
    preprocess = Preprocess.for_size(16)
    grey = Image.fromarray(photo(20, 30)).convert("L")
    reference = CLIPImageProcessorPil(size=16, crop_size=16)
    expected = reference(grey.convert("RGB"), return_tensors="pt")["pixel_values"]
    torch.testing.assert_close(preprocess([grey]), expected)
    torch.testing.assert_close(preprocess([np.asarray(grey)]), expected)
    clear = np.zeros((20, 20, 4), np.uint8)
    assert (preprocess.pixels(clear) == 255).all()  # not the black that it hides
    assert (preprocess.pixels(np.full((20, 20, 4), 255, np.uint8)) == 255).all()
    half = np.full((20, 20, 4), (0, 0, 0, 128), np.uint8)
    assert abs(preprocess.pixels(half).astype(int) - 127).max() <= 1


def test_bad_pictures_and_files(tmp_path: Path) -> None:
    preprocess = Preprocess()
    with pytest.raises(InputError, match="^picture: must be uint8"):
        preprocess([np.zeros((4, 4, 3))])
    with pytest.raises(InputError, match="^picture: it has no pixels"):
        preprocess([np.zeros((0, 4, 3), np.uint8)])
    with pytest.raises(InputError, match="too long and narrow"):
        preprocess([np.zeros((1, 2000, 3), np.uint8)])
    with pytest.raises(ValueError, match="differ in size"):
        Preprocess(resize=None, crop=None)([photo(8, 8), photo(9, 8)])
    for fields in (
        {"size": -1},
        {"size": {"longest_edge": 4}},
        {"image_mean": [1]},
        {"resample": 9},
    ):
        (tmp_path / "preprocessor_config.json").write_text(json.dumps(fields))
        with pytest.raises(ModelError, match="a field cannot be used"):
            Preprocess.from_folder(tmp_path)
