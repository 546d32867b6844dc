from __future__ import annotations

import numpy as np
import pytest
import torch

from vermilion.data.pictures import to_bytes, to_float
from vermilion.errors import InputError


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_numbers_are_premultiplied_and_from_minus_one_to_one(channels: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 6, 7, channels)).astype(np.uint8)
    ours = to_float(pixels)
    theirs = torch.from_numpy(pixels).permute(0, 3, 1, 2).double() / 255
    if channels == 4:
        theirs = torch.cat([theirs[:, :3] * theirs[:, 3:], theirs[:, 3:]], 1)
    assert ours.dtype == np.float32
    assert ours.flags.c_contiguous
    assert np.abs(ours - (2 * theirs - 1).numpy()).max() < 1e-6


def test_hidden_colour_does_not_matter() -> None:
    pixels = np.zeros((1, 1, 2, 4), np.uint8)
    pixels[0, 0, 1] = (9, 200, 40, 0)
    assert (to_float(pixels) == -1).all()


def test_there_and_back() -> None:
    draw = np.random.default_rng(0)
    for channels in (1, 3):
        pixels = draw.integers(0, 256, (2, 8, 8, channels)).astype(np.uint8)
        assert np.array_equal(to_bytes(to_float(pixels)), pixels)
    pixels = draw.integers(0, 256, (2, 64, 64, 4)).astype(np.uint8)
    pixels[:, 0, :, 3], pixels[:, 1, :, 3] = 0, 255
    back = to_bytes(to_float(pixels))
    assert np.array_equal(back[..., 3], pixels[..., 3])
    seen = pixels[..., 3] > 0
    assert np.array_equal(back[seen], pixels[seen])
    assert (back[~seen] == 0).all()


def test_numbers_beyond_the_ends_are_cut_off() -> None:
    numbers = np.asarray([3.0, -7.0, 0.5, 0.0], np.float32).reshape(1, 4, 1, 1)
    assert to_bytes(numbers).ravel().tolist() == [255, 0, 255, 128]


def test_other_shapes_are_sentences() -> None:
    for pixels in (np.zeros((2, 3, 4), np.uint8), np.zeros((1, 2, 2, 2), np.uint8)):
        with pytest.raises(InputError, match=r"must be \(N, H, W"):
            to_float(pixels)
    with pytest.raises(InputError, match=r"must be \(N, 1, 3 or 4, H, W\)"):
        to_bytes(np.zeros((1, 2, 4, 4), np.float32))
