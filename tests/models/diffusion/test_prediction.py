"""What a network says, in other words and back."""

from __future__ import annotations

from typing import Any

import diffusers
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vermilion.models.diffusion.prediction import (
    clip,
    convert,
    dynamic_threshold,
    target,
    to_epsilon,
    to_x0,
)

KINDS: tuple[Any, ...] = ("epsilon", "sample", "v_prediction", "flow_prediction")
levels = st.floats(0.01, 1.0)


def draw(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    both = torch.randn(2, 2, 3, 4, 4, generator=generator, dtype=torch.float64)
    return both[0], both[1]


@settings(max_examples=100, deadline=None)
@given(levels, levels, st.sampled_from(KINDS), st.sampled_from(KINDS), st.integers(0, 99))
def test_each_prediction_tells_all_others_and_itself_again(
    alpha: float, sigma: float, source: Any, wanted: Any, seed: int
) -> None:
    x0, epsilon = draw(seed)
    x = alpha * x0 + sigma * epsilon
    said = target(source, x0, epsilon, alpha, sigma)
    torch.testing.assert_close(to_x0(said, x, alpha, sigma, source), x0)
    torch.testing.assert_close(to_epsilon(said, x, alpha, sigma, source), epsilon)
    other = convert(said, x, alpha, sigma, source, wanted)
    torch.testing.assert_close(other, target(wanted, x0, epsilon, alpha, sigma))
    torch.testing.assert_close(convert(other, x, alpha, sigma, wanted, source), said)


@pytest.mark.parametrize("kind", ["v_prediction", "flow_prediction"])
@pytest.mark.parametrize(("alpha", "sigma"), [(0.0, 1.0), (1.0, 0.0)])
def test_velocities_tell_both_at_both_ends(kind: Any, alpha: float, sigma: float) -> None:
    x0, epsilon = draw(0)
    said = target(kind, x0, epsilon, alpha, sigma)
    x = alpha * x0 + sigma * epsilon
    torch.testing.assert_close(to_x0(said, x, alpha, sigma, kind), x0)
    torch.testing.assert_close(to_epsilon(said, x, alpha, sigma, kind), epsilon)


def test_what_cannot_be_told_is_not_made_up() -> None:
    x, said = draw(0)
    alphas, sigmas = torch.tensor([0.5, 0.0]), torch.tensor([0.5, 1.0])
    shape = (2, 1, 1, 1)
    with pytest.raises(ValueError, match="alpha: is 0, and epsilon tells no picture"):
        to_x0(said, x, alphas.view(shape), sigmas.view(shape), "epsilon")
    with pytest.raises(ValueError, match="sigma: is 0, and a picture tells no noise"):
        convert(said, x, 1.0, 0.0, "sample", "v_prediction")
    assert torch.equal(to_x0(said, x, 0.0, 1.0, "sample"), said)
    assert torch.equal(to_epsilon(said, x, 0.0, 1.0, "epsilon"), said)


def test_the_target_of_v_is_that_of_diffusers() -> None:
    scheduler = diffusers.DDPMScheduler()
    x0, epsilon = (part.float() for part in draw(1))
    t = torch.tensor([3, 900])
    abar = scheduler.alphas_cumprod[t].view(2, 1, 1, 1)
    found = target("v_prediction", x0, epsilon, abar.sqrt(), (1 - abar).sqrt())
    torch.testing.assert_close(found, scheduler.get_velocity(x0, epsilon, t))


def test_thresholds_are_those_of_diffusers() -> None:
    x0 = draw(2)[0].float() * 3
    for ratio, most in ((0.995, 1.0), (0.9, 2.0), (0.5, 10.0)):
        scheduler = diffusers.DDPMScheduler(
            thresholding=True, dynamic_thresholding_ratio=ratio, sample_max_value=most
        )
        torch.testing.assert_close(
            dynamic_threshold(x0, ratio, most), scheduler._threshold_sample(x0)
        )
    torch.testing.assert_close(dynamic_threshold(x0, 0.995, 1.0), clip(x0))
    assert clip(x0, 0.5).abs().max() == 0.5
