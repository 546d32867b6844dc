"""The UNet against diffusers, block by block and field by field."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel, UNet2DModel

from tests.models.diffusion.reference import PLAIN, TEXT, distance, noise, our_unet, their_unet
from vermilion.errors import InputError
from vermilion.models.diffusion.config import DOWN_BLOCKS, UP_BLOCKS, UNetConfig
from vermilion.models.diffusion.net import UNet

TIMES = torch.tensor([3, 700])


def compare(
    kind: type, *, labels: torch.Tensor | None = None, side: int = 8, **fields: Any
) -> UNet:
    """Build both, run both, and return ours."""
    theirs = their_unet(kind, **fields)
    ours = our_unet(theirs)
    x = noise(2, theirs.config.in_channels, side, side + 4)
    given: dict[str, Any] = {"class_labels": labels}
    context = None
    if kind is UNet2DConditionModel:
        size = theirs.config.cross_attention_dim
        context = noise(2, 5, size[0] if isinstance(size, list | tuple) else size)
        given["encoder_hidden_states"] = context
    with torch.no_grad():
        wanted = theirs(x, TIMES, **given).sample
        found = ours(x, TIMES, context, labels)
        assert distance(found, wanted) < 1e-5
        assert found.std() > 0.05  # the last bias alone would not be a test
        # A picture by itself gives what it gives in a batch.
        one = None if context is None else context[1:]
        alone = ours(x[1:], TIMES[1:], one, None if labels is None else labels[1:])
    assert distance(alone, found[1:]) < 1e-5
    return ours


@pytest.mark.parametrize(
    ("down", "mid", "up"),
    list(product(DOWN_BLOCKS, ("UNetMidBlock2D", "UNetMidBlock2DCrossAttn", None), UP_BLOCKS)),
)
def test_every_pair_of_blocks_with_text(down: str, mid: str | None, up: str) -> None:
    fields = {**TEXT, "down_block_types": (down, down), "up_block_types": (up, up)}
    compare(UNet2DConditionModel, **{**fields, "mid_block_type": mid})


@pytest.mark.parametrize(("down", "up"), list(product(DOWN_BLOCKS[:2], UP_BLOCKS[:2])))
@pytest.mark.parametrize("mid", ["UNetMidBlock2D", None])
def test_every_pair_of_blocks_without_text(down: str, up: str, mid: str | None) -> None:
    fields = {**PLAIN, "down_block_types": (down, down), "up_block_types": (up, up)}
    compare(UNet2DModel, **{**fields, "mid_block_type": mid})


@pytest.mark.parametrize(
    "fields",
    [
        {"use_linear_projection": True},
        {"attention_head_dim": (2, 8)},
        {"cross_attention_dim": (12, 12), "attention_head_dim": 2},
        {"transformer_layers_per_block": 2},
        {"transformer_layers_per_block": (1, 2), "mid_block_type": "UNetMidBlock2DCrossAttn"},
        {"layers_per_block": (1, 2)},
        {"layers_per_block": 1, "downsample_padding": 0},
        {"in_channels": 9},
        {"flip_sin_to_cos": False, "freq_shift": 1},
        {"center_input_sample": True},
        {"norm_num_groups": 4, "norm_eps": 1e-3},
        {"resnet_time_scale_shift": "scale_shift"},
        {"upcast_attention": True},
        {"time_embedding_dim": 24},
        {"dropout": 0.3},
    ],
    ids=lambda fields: "-".join(fields),
)
def test_every_field_with_text(fields: dict[str, Any]) -> None:
    compare(UNet2DConditionModel, **{**TEXT, **fields})


@pytest.mark.parametrize(
    "fields",
    [
        {"attention_head_dim": None},
        {"resnet_time_scale_shift": "scale_shift"},
        {"resnet_time_scale_shift": "scale_shift", "attn_norm_num_groups": 4},
        {"attn_norm_num_groups": 4},
        {"add_attention": False},
        {"downsample_padding": 0, "flip_sin_to_cos": False, "freq_shift": 1},
        {"center_input_sample": True, "dropout": 0.1},
        {"layers_per_block": 1, "in_channels": 4, "out_channels": 8, "time_embedding_dim": 24},
    ],
    ids=lambda fields: "-".join(fields),
)
def test_every_field_without_text(fields: dict[str, Any]) -> None:
    compare(UNet2DModel, **{**PLAIN, **fields})


@pytest.mark.parametrize(
    ("fields", "labels"),
    [
        ({"num_class_embeds": 5}, torch.tensor([0, 4])),
        ({"class_embed_type": "timestep"}, torch.tensor([3, 90])),
        ({"class_embed_type": "identity"}, noise(2, 64)),
        ({"class_embed_type": "projection"}, noise(2, 7)),
        ({"class_embed_type": "simple_projection"}, noise(2, 7)),
    ],
    ids=["classes", "timestep", "identity", "projection", "simple_projection"],
)
def test_labels(fields: dict[str, Any], labels: torch.Tensor) -> None:
    if "projection" in str(fields):
        fields = {**fields, "projection_class_embeddings_input_dim": 7}
    else:
        compare(UNet2DModel, labels=labels, **{**PLAIN, **fields})
    ours = compare(UNet2DConditionModel, labels=labels, **{**TEXT, **fields})
    with pytest.raises(InputError, match="labels: this network is told a class"):
        ours(noise(2, 4, 8, 8), TIMES, noise(2, 5, 12))


def test_sizes_that_do_not_halve_evenly() -> None:
    compare(UNet2DConditionModel, side=7, **{**TEXT, "block_out_channels": (16, 32)})


def test_times_between_whole_numbers() -> None:
    theirs = their_unet(UNet2DModel, **PLAIN)
    x, t = noise(2, 3, 8, 8), torch.tensor([0.25, 512.75])
    with torch.no_grad():
        found, wanted = our_unet(theirs)(x, t), theirs(x, t).sample
        whole = theirs(x, t.long()).sample
    assert distance(found, wanted) < 1e-5 < distance(whole, wanted)


def test_what_is_missing_is_said() -> None:
    net = our_unet(their_unet(UNet2DConditionModel, **TEXT))
    with pytest.raises(InputError, match="context: this network reads text"):
        net(noise(1, 4, 8, 8), torch.tensor([1]))
    with pytest.raises(InputError, match="labels: this network knows no classes"):
        net(noise(1, 4, 8, 8), torch.tensor([1]), noise(1, 5, 12), torch.tensor([0]))


def test_gradients_are_those_of_diffusers() -> None:
    theirs = their_unet(UNet2DConditionModel, **{**TEXT, "resnet_time_scale_shift": "scale_shift"})
    ours = our_unet(theirs)
    x, context, wanted = noise(2, 4, 8, 8), noise(2, 5, 12), noise(2, 4, 8, 8, seed=2)
    for output in (theirs(x, TIMES, context).sample, ours(x, TIMES, context)):
        ((output - wanted) ** 2).mean().backward()
    expected = dict(theirs.named_parameters())
    for name, weight in ours.named_parameters():
        assert weight.grad is not None, name
        largest = expected[name].grad.abs().max()
        assert (weight.grad - expected[name].grad).abs().max() < 1e-4 * largest + 1e-7, name


def test_dropout_drops_in_training_alone() -> None:
    net = our_unet(their_unet(UNet2DModel, **{**PLAIN, "dropout": 0.5}))
    x = noise(2, 3, 8, 8)
    with torch.no_grad():
        assert torch.equal(net(x, TIMES), net(x, TIMES))
        net.train()
        assert not torch.equal(net(x, TIMES), net(x, TIMES))


def test_what_is_drawn_first() -> None:
    config = UNetConfig.from_diffusers({"_class_name": "UNet2DModel", **PLAIN})
    nets = [UNet(config) for _ in range(2)]
    for net in nets:
        net.init_weights(seed=3)
    for (name, one), two in zip(nets[0].named_parameters(), nets[1].parameters(), strict=True):
        assert torch.equal(one, two), name
    other = UNet(config)
    other.init_weights(seed=4)
    assert not torch.equal(other.conv_in.weight, nets[0].conv_in.weight)
    with torch.no_grad():
        assert nets[0](noise(2, 3, 8, 8), TIMES).abs().max() == 0  # it begins by saying nothing
