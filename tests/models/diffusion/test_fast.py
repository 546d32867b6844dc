"""What a UNet need not compute: the same pictures twice, and what is deep at every step."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel, UNet2DModel
from torch import Tensor, nn

from tests.models.diffusion.reference import PLAIN, TEXT, distance, noise, our_unet, their_unet
from vermilion.models.diffusion.net import FeatureCache, UNet

LATE = {**TEXT, "down_block_types": ("DownBlock2D", "DownBlock2D"), "mid_block_type": None}
TIMES = torch.tensor([700, 3])


@pytest.mark.parametrize("fields", [TEXT, LATE], ids=["at once", "late"])
def test_guidance_computes_the_same_pictures_once(fields: dict[str, Any]) -> None:
    theirs = their_unet(UNet2DConditionModel, **fields)
    ours = our_unet(theirs)
    x, context = noise(2, 4, 8, 12), noise(4, 5, 12)
    seen: list[int] = []
    ours.down_blocks[0].resnets[0].register_forward_pre_hook(
        lambda _, given: seen.append(len(given[0]))
    )
    twice, times = torch.cat([x, x]), torch.cat([TIMES, TIMES])
    with torch.no_grad():
        found = ours(twice, times, context)
        assert distance(found, theirs(twice, times, context).sample) < 1e-5
        assert seen == [2]
        other = torch.cat([x, x + 1])
        assert distance(ours(other, times, context), theirs(other, times, context).sample) < 1e-5
        assert seen == [2, 4]
    ours(twice, times, context)  # gradients are of all
    assert seen == [2, 4, 4]


def test_a_network_that_reads_nothing_computes_all() -> None:
    theirs = their_unet(UNet2DModel, **PLAIN)
    x = torch.cat([noise(1, 3, 8, 8)] * 2)
    with torch.no_grad():
        assert distance(our_unet(theirs)(x, TIMES[:1].repeat(2)), theirs(x, TIMES[0]).sample) < 1e-5


def deep_of(theirs: Any, held: list[Tensor]) -> Any:
    """Have diffusers' network read what it made deep within at an earlier step."""

    def instead(block: nn.Module, given: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        channels = held[0].shape[1]
        return (torch.cat([held[0], given[0][:, channels:]], dim=1), *given[1:])

    return theirs.up_blocks[-1].resnets[-1].register_forward_pre_hook(instead)


@pytest.mark.parametrize(("kind", "fields"), [(UNet2DConditionModel, TEXT), (UNet2DModel, PLAIN)])
def test_between_full_steps_the_last_block_alone_is_computed(
    kind: type, fields: dict[str, Any]
) -> None:
    theirs = their_unet(kind, **fields)
    ours, cache, held = our_unet(theirs), FeatureCache(interval=3), []
    context = noise(2, 5, 12) if kind is UNet2DConditionModel else None
    given = {} if context is None else {"encoder_hidden_states": context}

    def keep(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        held[:] = [inputs[0][:, : ours.up_blocks[-1].resnets[-2].conv2.out_channels]]

    channels = theirs.config.in_channels
    with torch.no_grad():
        for step in range(7):
            x, t = noise(2, channels, 8, 8, seed=step), TIMES - step
            full = step % 3 == 0
            block = theirs.up_blocks[-1].resnets[-1]
            hook = block.register_forward_pre_hook(keep) if full else deep_of(theirs, held)
            wanted = theirs(x, t, **given).sample
            hook.remove()
            assert distance(ours(x, t, context, cache=cache), wanted) < 1e-5
            assert full or distance(theirs(x, t, **given).sample, wanted) > 1e-3


def test_another_number_of_pictures_is_computed_anew() -> None:
    net: UNet = our_unet(their_unet(UNet2DConditionModel, **TEXT))
    cache = FeatureCache(interval=9)
    with torch.no_grad():
        for number, seed in ((4, 0), (2, 1), (2, 2)):
            x, context = noise(number, 4, 8, 8, seed=seed), noise(number, 5, 12)
            t = torch.full((number,), 500)
            same = distance(net(x, t, context, cache=cache), net(x, t, context)) < 1e-5
            assert same == (seed < 2)
