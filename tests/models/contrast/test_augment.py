"""Augmentations against scikit-image, Pillow and scipy; views as functions of three numbers."""

from __future__ import annotations

import colorsys

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance
from scipy.ndimage import gaussian_filter
from skimage.color import hsv2rgb, rgb2hsv
from torch import Tensor

from tests.models.contrast.reference import photo, pixels
from vermilion.models.contrast.augment import (
    Augmentation,
    blur,
    brightness,
    contrast,
    grey,
    hue,
    random_box,
    resized_crop,
    saturation,
)
from vermilion.models.contrast.config import ResNetConfig
from vermilion.models.contrast.loss import nt_xent
from vermilion.models.contrast.resnet import ResNet
from vermilion.models.contrast.simclr import SimCLR


def tensor(picture: np.ndarray) -> Tensor:
    return torch.from_numpy(picture.copy()).permute(2, 0, 1) / 255


def array(x: Tensor) -> np.ndarray:
    return x.permute(1, 2, 0).numpy()


@pytest.mark.parametrize("turn", [-0.5, -0.2, 0.0, 0.07, 1 / 3, 0.9])
def test_hue(turn: float) -> None:
    picture = photo(40, 30)
    picture[:4] = 128  # grey has no hue
    picture[4:8] = 0
    hsv = rgb2hsv(picture / 255)
    hsv[..., 0] = (hsv[..., 0] + turn) % 1
    np.testing.assert_allclose(array(hue(tensor(picture), turn)), hsv2rgb(hsv), atol=1e-5)


def test_hue_of_pure_colours() -> None:
    """Ties between channels, which a photograph hardly has; colorsys is a third opinion."""
    for code in range(27):
        rgb = (code // 9 / 2, code // 3 % 3 / 2, code % 3 / 2)
        h, s, v = colorsys.rgb_to_hsv(*rgb)
        found = hue(torch.tensor(rgb)[:, None, None], 0.15)[:, 0, 0]
        np.testing.assert_allclose(found, colorsys.hsv_to_rgb((h + 0.15) % 1, s, v), atol=1e-6)


@pytest.mark.parametrize("factor", [0.0, 0.3, 1.0, 1.7])
@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (brightness, ImageEnhance.Brightness),
        (contrast, ImageEnhance.Contrast),
        (saturation, ImageEnhance.Color),
    ],
)
def test_colours(ours, theirs, factor: float) -> None:  # type: ignore[no-untyped-def]
    picture = photo(40, 30)
    expected = np.asarray(theirs(Image.fromarray(picture)).enhance(factor)).astype(float)
    found = array(ours(tensor(picture), factor)) * 255
    assert abs(found - expected).max() <= 1.51  # Pillow cuts and rounds to whole numbers twice


def test_grey() -> None:
    picture = photo(40, 30)
    expected = np.asarray(Image.fromarray(picture).convert("L"))
    found = array(grey(tensor(picture))) * 255
    assert abs(found - expected[..., None]).max() <= 0.51
    assert (found[..., 0] == found[..., 2]).all()


@pytest.mark.parametrize("sigma", [0.1, 0.7, 2.0])
def test_blur(sigma: float) -> None:
    picture = photo(40, 30) / 255
    reach = max(1, int(np.ceil(4 * sigma)))
    expected = gaussian_filter(picture, (sigma, sigma, 0), mode="mirror", radius=(reach, reach, 0))
    x = torch.from_numpy(picture).float().permute(2, 0, 1)
    np.testing.assert_allclose(array(blur(x, sigma)), expected, atol=1e-5)
    assert blur(x[None].repeat(2, 1, 1, 1), sigma).shape == (2, 3, 30, 40)
    assert torch.equal(blur(x[:, :1, :1], sigma), x[:, :1, :1])


def test_boxes_have_the_areas_and_shapes_that_were_asked_for() -> None:
    draw = np.random.default_rng(0)
    boxes = np.array([random_box(300, 200, (0.1, 0.4), (0.5, 2), draw) for _ in range(3000)])
    left, top, right, bottom = boxes.T
    assert left.min() >= 0 and top.min() >= 0 and right.max() <= 300 and bottom.max() <= 200  # noqa: PT018
    area, ratio = (right - left) * (bottom - top) / 60000, (right - left) / (bottom - top)
    assert area.min() > 0.098 and area.max() < 0.405  # noqa: PT018
    assert area.mean() == pytest.approx(0.25, abs=0.01)
    assert ratio.min() > 0.48 and ratio.max() < 2.06  # noqa: PT018
    assert np.log(ratio).mean() == pytest.approx(0, abs=0.03)
    assert random_box(1000, 10, (0.9, 1), (0.75, 4 / 3), draw) == (493, 0, 506, 10)  # the middle


def test_a_crop_is_resized_as_pillow_does_it() -> None:
    picture, box = photo(60, 50), (7, 3, 47, 33)
    part = Image.fromarray(picture).crop(box).resize((16, 16), Image.Resampling.BICUBIC)
    inside = slice(2, -2)  # at its edges Pillow's box sees what is beyond
    found = array(resized_crop(picture, box, 16)) * 255
    assert abs(found - np.asarray(part))[inside, inside].max() <= 1.01


def test_a_view_depends_on_three_numbers_alone() -> None:
    picture, augment = photo(80, 60), Augmentation(size=32)
    first = augment(picture, 5, 9, 0)
    assert first.shape == (3, 32, 32)
    assert first.dtype == torch.uint8
    np.random.seed(1)
    torch.manual_seed(1)
    assert torch.equal(first, augment(picture, 5, 9, 0))
    for other in ((6, 9, 0), (5, 8, 0), (5, 9, 1)):
        assert not torch.equal(first, augment(picture, *other))


def test_probabilities() -> None:
    picture = photo(40, 40)
    plain = {"size": 40, "scale": (1.0, 1.0), "ratio": (1.0, 1.0)}
    whole = torch.from_numpy(picture.copy()).permute(2, 0, 1)
    nothing = Augmentation(**plain, flip=0, jitter=0, grey=0, blur=0)
    assert torch.equal(nothing(picture, 0, 0, 0), whole)
    flips = Augmentation(**plain, flip=1, jitter=0, grey=0, blur=0)
    assert torch.equal(flips(picture, 0, 0, 0), whole.flip(-1))
    greys = [
        float(v.float().std(0).max()) == 0
        for n in range(400)
        for v in [Augmentation(**plain, jitter=0, blur=0)(picture, 0, n, 0)]
    ]
    assert sum(greys) / 400 == pytest.approx(0.2, abs=0.05)
    only = Augmentation(**plain, flip=0, jitter=1, grey=0, blur=0, strength=0)
    assert (only(picture, 0, 0, 0).int() - whole).abs().max() <= 1


def test_simclr_learns_to_tell_pictures_apart() -> None:
    """Eight pictures, two views each: the loss falls far below that of a guess, ln 15."""
    torch.manual_seed(0)
    config = ResNetConfig(
        embedding_size=8, hidden_sizes=(16, 32), depths=(1, 1), layer_type="basic"
    )
    model = SimCLR(ResNet(config), projection_dim=16)
    augment = Augmentation(size=32, strength=0.2, scale=(0.7, 1.0), grey=0)
    pictures = [photo(40, 40, seed=n) for n in range(8)]
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    losses = []
    for step in range(30):
        views = [
            torch.stack([augment(p, step, n, view) for n, p in enumerate(pictures)]) / 127.5 - 1
            for view in (0, 1)
        ]
        value = nt_xent(*model(*views), temperature=0.2)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        losses.append(float(value.detach()))
    assert sum(losses[-5:]) / 5 < 0.5 * losses[0]
    first, second = model(pixels(3, 32), pixels(3, 32, seed=1))
    assert first.shape == second.shape == (3, 16)
