"""Conditions and guidance, on a network whose answer to each part is known."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from vermilion.errors import InputError
from vermilion.models.diffusion.guidance import Condition, conditioned, guided, rescaled

SIZE = (3, 4, 4)


class Counting:
    """A network that is a sum of what it is told, and counts the items it is shown."""

    def __init__(self) -> None:
        self.shown: list[int] = []

    def __call__(
        self, x: Tensor, t: Tensor, context: Tensor | None = None, labels: Tensor | None = None, /
    ) -> Tensor:
        self.shown.append(len(x))
        said = x.sum(dim=1, keepdim=True).expand(-1, 3, -1, -1) * 0.1
        said = said + t.view(-1, 1, 1, 1) / 1000
        if context is not None:
            said = said * (1 + context.mean(dim=(1, 2)).view(-1, 1, 1, 1))
        if labels is not None:
            said = said + (labels if labels.dim() == 1 else labels.sum(dim=1)).view(-1, 1, 1, 1)
        return said


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


x, t = draw(2, *SIZE), torch.tensor([500.0, 500.0])
told = Condition(context=draw(2, 5, 4, seed=1), labels=torch.tensor([1, 2]))
untold = Condition(context=draw(2, 5, 4, seed=2), labels=torch.tensor([0, 0]))


def alone(condition: Condition) -> Tensor:
    return conditioned(Counting(), condition)(x, t)


@pytest.mark.parametrize("scale", [0.0, 0.5, 1.5, 7.5])
def test_guidance_goes_on_from_without_to_with(scale: float) -> None:
    net = Counting()
    found = guided(net, told, untold, scale)(x, t)
    torch.testing.assert_close(found, alone(untold) + scale * (alone(told) - alone(untold)))
    assert net.shown == [4]


def test_a_scale_of_one_looks_once() -> None:
    net = Counting()
    torch.testing.assert_close(guided(net, told, None, 1.0)(x, t), alone(told))
    assert net.shown == [2]


@pytest.mark.parametrize("phi", [0.3, 1.0])
def test_rescaling_is_that_of_diffusers(phi: float) -> None:
    from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import rescale_noise_cfg

    mixed, plain = draw(2, *SIZE) * 5, draw(2, *SIZE, seed=1)
    wanted = rescale_noise_cfg(mixed, plain, guidance_rescale=phi)
    torch.testing.assert_close(rescaled(mixed, plain, phi), wanted)
    found = guided(Counting(), told, untold, 6.0, phi)(x, t)
    plainly = guided(Counting(), told, untold, 6.0)(x, t)
    torch.testing.assert_close(found, rescale_noise_cfg(plainly, alone(told), phi))


def test_within_an_interval_only() -> None:
    net = Counting()
    denoise = guided(net, told, untold, 5.0, interval=(100.0, 600.0))
    everywhere = guided(Counting(), told, untold, 5.0)
    torch.testing.assert_close(denoise(x, t), everywhere(x, t))
    outside = torch.tensor([700.0, 700.0])
    torch.testing.assert_close(denoise(x, outside), conditioned(Counting(), told)(x, outside))
    assert net.shown == [4, 2]
    mixed = torch.tensor([500.0, 700.0])
    torch.testing.assert_close(denoise(x, mixed)[0], everywhere(x, mixed)[0])
    torch.testing.assert_close(denoise(x, mixed)[1], conditioned(Counting(), told)(x, mixed)[1])


def test_all_parts_of_a_condition_reach_the_network() -> None:
    pooled, picture = draw(2, 6), draw(2, 4, 4, 4)
    found = conditioned(Counting(), Condition(pooled=pooled, picture=picture))(x, t)
    wanted = Counting()(torch.cat([x, picture], dim=1), t, None, pooled)
    torch.testing.assert_close(found, wanted)


def test_conditions_are_joined_and_parted() -> None:
    both = told.cat(untold)
    assert len(both) == 4
    assert both.labels is not None
    assert both.labels.tolist() == [1, 2, 0, 0]
    again = both.take([1, 1])
    assert again.labels is not None
    assert again.context is not None
    assert again.labels.tolist() == [2, 2]
    assert again.context.shape == (2, 5, 4)
    assert len(Condition()) == 0
    assert len(Condition().cat(Condition())) == 0
    with pytest.raises(ValueError, match="one has context, labels and the other labels"):
        told.cat(Condition(labels=torch.tensor([1])))
    with pytest.raises(ValueError, match=r"context is \(5, 4\) in one and \(6, 4\)"):
        Condition(context=draw(1, 5, 4)).cat(Condition(context=draw(1, 6, 4)))
    with pytest.raises(ValueError, match="different numbers of items"):
        Condition(context=draw(1, 5, 4), labels=torch.tensor([1, 2]))
    with pytest.raises(ValueError, match="labels or a pooled vector, not both"):
        Condition(pooled=draw(1, 5), labels=torch.tensor([1]))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((-1.0,), "guidance_scale: must be at least 0"),
        ((float("inf"),), "guidance_scale: must be at least 0"),
        ((float("nan"),), "guidance_scale: must be at least 0"),
        ((5.0, 1.5), "guidance_rescale: must be from 0 to 1"),
        ((5.0, 0.0, (600.0, 500.0)), "interval: begins at 600.0 and ends before"),
    ],
)
def test_numbers_out_of_range(arguments: tuple[Any, ...], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        guided(Counting(), told, untold, *arguments)


def test_nothing_to_guide_away_from() -> None:
    with pytest.raises(InputError, match="guidance_scale: this model knows no way without"):
        guided(Counting(), told, None, 5.0)
