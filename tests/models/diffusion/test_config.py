"""Configs of diffusers, read and written; what is not supported is refused by name."""

from __future__ import annotations

import inspect
import json
from typing import Any

import pytest
from diffusers import AutoencoderKL, UNet2DConditionModel, UNet2DModel

from tests.models.diffusion.reference import PLAIN, TEXT, VAE
from vermilion.models.diffusion.config import UNetConfig, VAEConfig

CLASSES: dict[Any, tuple[Any, dict[str, Any]]] = {
    UNet2DModel: (UNetConfig, PLAIN),
    UNet2DConditionModel: (UNetConfig, TEXT),
    AutoencoderKL: (VAEConfig, VAE),
}


@pytest.mark.parametrize("kind", CLASSES)
def test_every_default_is_that_of_diffusers(kind: Any) -> None:
    ours, _ = CLASSES[kind]
    config = ours.from_diffusers({"_class_name": kind.__name__}).to_diffusers()
    assert config.pop("_class_name") == kind.__name__
    theirs = inspect.signature(kind.__init__).parameters
    for name, value in config.items():
        wanted = theirs[name].default
        assert value == (list(wanted) if isinstance(wanted, tuple) else wanted), name


@pytest.mark.parametrize("kind", CLASSES)
def test_what_is_read_is_written(kind: Any) -> None:
    ours, fields = CLASSES[kind]
    theirs = json.loads(kind(**fields).to_json_string())
    config = ours.from_diffusers(theirs)
    written = json.loads(json.dumps(config.to_diffusers()))
    again = json.loads(kind.from_config(written).to_json_string())
    assert again == theirs
    assert ours.from_diffusers(written) == config


@pytest.mark.parametrize("kind", CLASSES)
def test_every_other_value_is_refused_by_name(kind: Any) -> None:
    """Whatever field diffusers has: it is known here, or another value than its own is refused."""
    ours, _ = CLASSES[kind]
    known = ours.from_diffusers({"_class_name": kind.__name__}).to_diffusers()
    for name in inspect.signature(kind.__init__).parameters:
        if name != "self" and (name not in known or name == "act_fn"):
            with pytest.raises(ValueError, match=f"^{name}: .* is not supported"):
                ours.from_diffusers({"_class_name": kind.__name__, name: "strange"})
    with pytest.raises(ValueError, match="^sparkle: this field is not supported"):
        ours.from_diffusers({"_class_name": kind.__name__, "sparkle": 1})


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"block_out_channels": (16, 0)}, "block_out_channels: must be a whole number above 0"),
        ({"block_out_channels": ()}, "block_out_channels: must be"),
        ({"in_channels": True}, "in_channels: must be"),
        ({"norm_num_groups": 5}, "norm_num_groups: 16 channels cannot be cut into 5 groups"),
        ({"down_block_types": ("DownBlock2D",)}, "down_block_types: must be as many as"),
        ({"down_block_types": ("KDownBlock2D",) * 2}, "down_block_types: 'KDownBlock2D' is not"),
        ({"mid_block_type": "UNetMidBlock2DSimpleCrossAttn"}, "mid_block_type: .* is not"),
        ({"attention_head_dim": (4, 4, 4)}, "attention_head_dim: must be as many as"),
        ({"attention_head_dim": 5}, "attention_head_dim: 16 channels are no multiple of it"),
        ({"attention_head_dim": None}, "attention_head_dim: UNet2DConditionModel needs one"),
        ({"cross_attention_dim": None}, "cross_attention_dim: is needed by CrossAttn blocks"),
        ({"class_embed_type": "projection"}, "projection_class_embeddings_input_dim: is needed"),
        ({"class_embed_type": "timestep", "num_class_embeds": 3}, "num_class_embeds: is only for"),
        ({"dropout": 1.0}, "dropout: must be from 0 to below 1"),
        ({"downsample_padding": 2}, "downsample_padding: 2 is not supported"),
        ({"resnet_time_scale_shift": "spatial"}, "resnet_time_scale_shift: .* is not supported"),
        ({"add_attention": False}, "add_attention: UNet2DConditionModel has no such field"),
        ({"architecture": "UNet3D"}, "architecture: 'UNet3D' is not supported"),
        (
            {**PLAIN, "architecture": "UNet2DModel"},
            "cross_attention_dim: UNet2DModel has no such field",
        ),
        (
            {
                **PLAIN,
                "architecture": "UNet2DModel",
                "cross_attention_dim": None,
                "mid_block_type": "UNetMidBlock2D",
                "layers_per_block": (1, 2),
            },
            "layers_per_block and attention_head_dim: UNet2DModel has one for all levels",
        ),
    ],
)
def test_what_does_not_fit_together(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        UNetConfig(**{**TEXT, **fields})


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"block_out_channels": (8, 16)}, "down_block_types: must be as many"),
        ({"norm_num_groups": 3}, "norm_num_groups: 8 channels cannot be cut into 3 groups"),
        ({"scaling_factor": 0}, "scaling_factor: must be a number above 0"),
        ({"latent_channels": 0}, "latent_channels: must be a whole number above 0"),
        ({"up_block_types": 3 * ("AttnUpDecoderBlock2D",)}, "up_block_types: .* is not supported"),
    ],
)
def test_what_does_not_fit_together_in_an_autoencoder(fields: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        VAEConfig(**{**VAE, **fields})


def test_a_strange_class() -> None:
    with pytest.raises(ValueError, match="_class_name: 'UNet1DModel' is not supported; known are"):
        UNetConfig.from_diffusers({"_class_name": "UNet1DModel"})
    with pytest.raises(ValueError, match="_class_name: None is not supported"):
        VAEConfig.from_diffusers({})
