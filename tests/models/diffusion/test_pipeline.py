"""Whole runs against the pipelines of diffusers, on the same weights, words and noise."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    StableDiffusionImg2ImgPipeline,
    StableDiffusionInpaintPipeline,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from tests.models.diffusion.folders import tiny_pipeline_folder
from vermilion.errors import InputError, ModelError
from vermilion.models.diffusion.guidance import Condition
from vermilion.models.diffusion.io import open_pipeline
from vermilion.models.diffusion.pipeline import Canvas, Painter

# Of numpy, in schedulers of diffusers.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

WORDS = ["a small red seal", "The painter mixes ink"]
SEEDS = [3, 0]
SIZE = {"width": 32, "height": 48}
SAMPLERS = {
    "ddpm": ("DDPMScheduler", {}),
    "ddim": ("DDIMScheduler", {}),
    "euler": ("EulerDiscreteScheduler", {}),
    "euler_ancestral": ("EulerAncestralDiscreteScheduler", {}),
    "heun": ("HeunDiscreteScheduler", {}),
    "dpmpp_2m": ("DPMSolverMultistepScheduler", {}),
    "dpmpp_2m_karras": ("DPMSolverMultistepScheduler", {"use_karras_sigmas": True}),
}
CLOSE = 1 / 255


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_pipeline_folder(tmp_path_factory.mktemp("sd") / "tiny")


@pytest.fixture(scope="module")
def holes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_pipeline_folder(tmp_path_factory.mktemp("sd") / "holes", holes=True)


@cache
def opened(folder: Path) -> tuple[dict[str, Any], Painter]:
    """The parts of a pipeline of diffusers, and a painter of the same folder."""
    parts = {
        "unet": UNet2DConditionModel.from_pretrained(folder / "unet"),
        "vae": AutoencoderKL.from_pretrained(folder / "vae"),
        "text_encoder": CLIPTextModel.from_pretrained(folder / "text_encoder"),
        "tokenizer": CLIPTokenizer.from_pretrained(folder / "tokenizer"),
    }
    found = open_pipeline(folder)
    return parts, Painter(found.net, found.codec, found.scheduler)


class Pair:
    """A painter, and a pipeline of diffusers from the same folder with the same sampler."""

    def __init__(self, folder: Path, kind: Any = StableDiffusionPipeline, sampler: str = "ddim"):
        parts, self.painter = opened(folder)
        name, fields = SAMPLERS[sampler]
        config = DDIMScheduler.from_pretrained(folder / "scheduler").config
        scheduler = getattr(diffusers, name).from_config(config, **fields)
        self.pipe = kind(
            **parts,
            scheduler=scheduler,
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
        self.pipe.set_progress_bar_config(disable=True)
        self.sampler = sampler

    def theirs(self, **settings: Any) -> np.ndarray:
        # Lists of generators give each item its own noise, as ours do.
        generators = [torch.Generator().manual_seed(seed) for seed in SEEDS]
        settings = {"num_inference_steps": 6, "guidance_scale": 4.0, **settings}
        if not isinstance(self.pipe, StableDiffusionImg2ImgPipeline):
            settings |= SIZE
        found = self.pipe(WORDS, generator=generators, output_type="np", **settings)
        return np.asarray(found.images)

    def ours(self, seeds: list[int] = SEEDS, **settings: Any) -> np.ndarray:
        told, untold = self.pipe.encode_prompt(WORDS, "cpu", 1, True)
        rows = [SEEDS.index(seed) for seed in seeds]
        condition, without = Condition(context=told[rows]), Condition(context=untold[rows])
        settings = {"num_inference_steps": 6, "guidance_scale": 4.0, **settings}
        steps = list(
            self.painter.paint(condition, without, seeds, sampler=self.sampler, **SIZE, **settings)
        )
        assert [step.index for step in steps] == list(range(len(steps)))
        return shown(self.painter.pictures(steps[-1].x))


def shown(pictures: Tensor) -> np.ndarray:
    return (pictures / 2 + 0.5).permute(0, 2, 3, 1).numpy()


def agree(mine: np.ndarray, reference: np.ndarray) -> None:
    assert reference.std() > 0.05  # there is something to see
    assert ((reference > 0) & (reference < 1)).mean() > 0.5  # and it is not cut off
    assert mine.shape == reference.shape
    assert np.abs(mine - reference).max() <= CLOSE


def picture(seed: int = 7) -> Tensor:
    return torch.rand(2, 3, 48, 32, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def mask() -> Tensor:
    found = torch.zeros(2, 1, 48, 32)
    found[:, :, 10:30, 4:20] = 1
    return found


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_from_noise(folder: Path, sampler: str) -> None:
    pair = Pair(folder, sampler=sampler)
    agree(pair.ours(), pair.theirs())


@pytest.mark.parametrize(
    "settings",
    [{"guidance_scale": 1.0}, {"guidance_rescale": 0.7}, {"eta": 0.5}, {"num_inference_steps": 20}],
)
def test_settings(folder: Path, settings: dict[str, Any]) -> None:
    pair = Pair(folder)
    agree(pair.ours(**settings), pair.theirs(**settings))


@pytest.mark.parametrize("sampler", ["ddim", "euler_ancestral", "dpmpp_2m"])
@pytest.mark.parametrize("strength", [0.5, 1.0])
def test_from_a_picture(folder: Path, sampler: str, strength: float) -> None:
    pair = Pair(folder, StableDiffusionImg2ImgPipeline, sampler)
    canvas = Canvas(image=picture(), strength=strength)
    reference = pair.theirs(image=picture() / 2 + 0.5, strength=strength)
    agree(pair.ours(canvas=canvas), reference)


@pytest.mark.parametrize("sampler", ["ddim", "euler", "dpmpp_2m"])
@pytest.mark.parametrize("strength", [0.6, 1.0])
def test_within_a_mask(folder: Path, sampler: str, strength: float) -> None:
    pair = Pair(folder, StableDiffusionInpaintPipeline, sampler)
    canvas = Canvas(image=picture(), mask=mask(), strength=strength)
    reference = pair.theirs(image=picture() / 2 + 0.5, mask_image=mask(), strength=strength)
    agree(pair.ours(canvas=canvas), reference)


@pytest.mark.parametrize("strength", [0.6, 1.0])
def test_a_network_that_fills_holes(holes: Path, strength: float) -> None:
    pair = Pair(holes, StableDiffusionInpaintPipeline)
    assert pair.painter.fills_holes
    canvas = Canvas(image=picture(), mask=mask(), strength=strength)
    reference = pair.theirs(image=picture() / 2 + 0.5, mask_image=mask(), strength=strength)
    agree(pair.ours(canvas=canvas), reference)
    whole = {"image": torch.full((2, 3, 48, 32), 0.5), "mask_image": torch.ones(2, 1, 48, 32)}
    agree(pair.ours(), pair.theirs(**whole, strength=1.0))


def test_one_seed_one_picture_at_any_batch_size(folder: Path) -> None:
    pair = Pair(folder, sampler="euler_ancestral")
    both = pair.ours(canvas=None)
    for row, seed in enumerate(SEEDS):
        assert np.abs(pair.ours([seed])[0] - both[row]).max() < CLOSE / 10


def test_between_two_pictures(folder: Path) -> None:
    pair = Pair(folder)

    def at(strength: float, first: int = 7, second: int = 8) -> np.ndarray:
        canvas = Canvas(image=picture(first), blend=picture(second), strength=strength)
        return pair.ours(canvas=canvas)

    assert np.abs(at(0.0) - at(0.0, second=9)).max() < CLOSE
    assert np.abs(at(1.0) - at(1.0, first=9)).max() < CLOSE
    half = at(0.5)
    assert np.abs(half - at(0.0)).mean() > CLOSE
    assert np.abs(half - at(0.5, 8, 7)).mean() < np.abs(half - at(0.0)).mean()


def test_fast_is_near(folder: Path) -> None:
    pair = Pair(folder)
    slow, fast = (pair.ours(num_inference_steps=20, fast=fast) for fast in (False, True))
    assert 0 < np.abs(slow - fast).mean() < 0.1


def test_previews_are_small_pictures(folder: Path) -> None:
    pair = Pair(folder)
    untold = Condition(context=pair.pipe.encode_prompt(WORDS, "cpu", 1, False)[0])
    step = next(pair.painter.paint(untold, None, SEEDS, width=32, height=64, guidance_scale=1.0))
    assert pair.painter.preview(step.x0).shape == (2, 3, 32, 16)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"width": 30}, "width: must be a multiple of 4"),
        ({"height": 0}, "height: must be a multiple"),
        ({"sampler": "euler", "eta": 0.5}, "eta: euler has none"),
        ({"sampler": "none"}, "sampler: "),
        ({"canvas": Canvas(image=torch.zeros(2, 3, 32, 32), strength=0.0)}, "strength: "),
        ({"guidance_scale": 3.0}, "guidance_scale: "),
    ],
)
def test_settings_that_cannot_be_used(folder: Path, settings: dict[str, Any], words: str) -> None:
    found = open_pipeline(folder)
    painter = Painter(found.net, found.codec, found.scheduler)
    settings = {"width": 32, "height": 32, "guidance_scale": 1.0, **settings}
    condition = Condition(context=torch.zeros(2, 5, 12))
    with pytest.raises(InputError, match=words):
        next(painter.paint(condition, None, SEEDS, **settings))


def test_a_canvas_that_makes_no_sense() -> None:
    one = torch.zeros(1, 3, 8, 8)
    with pytest.raises(InputError, match="image: "):
        Canvas(mask=one)
    with pytest.raises(InputError, match="mask: "):
        Canvas(image=one, blend=one, mask=one)


def test_a_network_that_sees_what_is_not_known(folder: Path) -> None:
    found = open_pipeline(folder)
    config = found.net.config
    object.__setattr__(config, "in_channels", 7)
    with pytest.raises(ModelError, match="unet: sees 3 channels"):
        Painter(found.net, found.codec, found.scheduler)
