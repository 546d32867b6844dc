"""From settings to configs of a new network, its path and its codec."""

from __future__ import annotations

from math import gcd
from typing import Any

from vermilion.errors import InputError, ModelError
from vermilion.models.diffusion.config import (
    UNET_2D,
    UNET_CONDITION,
    UNetConfig,
    VAEConfig,
)
from vermilion.models.diffusion.dit import DiT, DiTConfig
from vermilion.models.diffusion.net import UNet
from vermilion.models.diffusion.pixels import Codec
from vermilion.models.diffusion.scheduler_config import SchedulerConfig
from vermilion.train.diffusion.options import Autoencoder, Noising, Shape

_UP = {
    "DownBlock2D": "UpBlock2D",
    "AttnDownBlock2D": "AttnUpBlock2D",
    "CrossAttnDownBlock2D": "CrossAttnUpBlock2D",
}
_PLACES = 16  # side of the largest map on which there is attention by default


def unet_config(
    shape: Shape,
    codec: Codec,
    side: int,
    *,
    context: int | None,
    pooled: int | None,
    classes: int | None,
) -> UNetConfig:
    """The config of a new UNet.

    Args:
        shape: its sizes.
        codec: what lies between pictures and it.
        side: of a picture in px.
        context: D, features of a token of the captions; None: it reads none.
        pooled: features of a caption's one vector; None: it is told none.
        classes: how many labels there are; None: it is told none.

    Raises:
        InputError: the sizes do not fit together.
    """
    levels, channels = len(shape.block_out_channels), shape.block_out_channels
    attending = "AttnDownBlock2D" if context is None else "CrossAttnDownBlock2D"
    small = side // codec.factor
    down = shape.down_block_types or tuple(
        attending if small >> level <= _PLACES else "DownBlock2D" for level in range(levels)
    )
    heads = tuple(size // gcd(size, shape.head_channels) for size in channels)
    own: dict[str, Any] = {
        "architecture": UNET_2D,
        "mid_block_type": "UNetMidBlock2D",
        "cross_attention_dim": None,
        "attention_head_dim": gcd(shape.head_channels, *channels),
    }
    if context is not None:
        own = {
            "architecture": UNET_CONDITION,
            "cross_attention_dim": context,
            "attention_head_dim": heads,  # of which diffusers' name is a mistake: heads
            "use_linear_projection": shape.use_linear_projection,
        }
    if pooled is not None:
        own |= {
            "class_embed_type": "projection",
            "projection_class_embeddings_input_dim": pooled,
        }
    try:
        return UNetConfig(
            sample_size=small,
            in_channels=codec.latent_channels,
            out_channels=codec.latent_channels,
            down_block_types=down,
            up_block_types=tuple(_UP.get(kind, kind) for kind in reversed(down)),
            block_out_channels=channels,
            layers_per_block=shape.layers_per_block,
            norm_num_groups=shape.norm_num_groups,
            dropout=shape.unet_dropout,
            num_class_embeds=classes,
            **own,
        )
    except ValueError as error:
        raise InputError(f"set: {error}") from None


def dit_config(
    shape: Shape,
    codec: Codec,
    side: int,
    *,
    context: int | None,
    pooled: int | None,
    classes: int | None,
) -> DiTConfig:
    """The config of a new DiT; for the arguments and errors see `unet_config`.

    Args:
        shape: its sizes.
        codec: see there.
        side: likewise.
        context: likewise.
        pooled: likewise.
        classes: how many classes there are; the label after the last stands for none.
    """
    if shape.label_map_dim is not None and pooled is None:
        raise InputError(
            "label_map_dim: spreads a caption's one vector, which a sentence encoder with"
            " pooled=true gives; leave it out, or give captions"
        )
    try:
        return DiTConfig(
            sample_size=side // codec.factor,
            patch_size=shape.patch_size,
            in_channels=codec.latent_channels,
            out_channels=codec.latent_channels,
            num_layers=shape.num_layers,
            num_attention_heads=shape.num_attention_heads,
            attention_head_dim=shape.attention_head_dim,
            num_embeds_ada_norm=classes,
            cross_attention_dim=context,
            projection_class_embeddings_input_dim=pooled,
            label_map_dim=shape.label_map_dim,
        )
    except ValueError as error:
        raise InputError(f"set: {error}") from None


def scheduler_config(path: Noising, *, pixels: bool) -> SchedulerConfig:
    """The path of a new model.

    Args:
        path: what is set about it.
        pixels: whether it sees pictures themselves, whose range is known.

    Raises:
        InputError: the settings do not fit together.
    """
    try:
        if path.path == "flow":
            kind = path.prediction_type or "flow_prediction"
            return SchedulerConfig.rectified_flow(kind, path.shift)
        known = path.beta_schedule != "sigmoid"  # which DDIMScheduler does not know
        return SchedulerConfig(
            class_name="DDIMScheduler" if known else "DDPMScheduler",
            beta_schedule=path.beta_schedule,
            prediction_type=path.prediction_type or "epsilon",
            rescale_betas_zero_snr=path.rescale_betas_zero_snr,
            timestep_spacing="trailing",
            clip_sample=pixels,
            # Not looked at with this spacing, but StableDiffusionPipeline asks for it.
            steps_offset=0 if pixels else 1,
        )
    except ModelError as error:
        raise InputError(f"set: {error}") from None


def vae_config(options: Autoencoder, channels: int, size: int) -> VAEConfig:
    """The config of a new autoencoder.

    Args:
        options: its sizes.
        channels: of a picture.
        size: side of a picture in px.

    Raises:
        InputError: the sizes do not fit together.
    """
    levels = len(options.vae_block_out_channels)
    try:
        return VAEConfig(
            in_channels=channels,
            out_channels=channels,
            down_block_types=("DownEncoderBlock2D",) * levels,
            up_block_types=("UpDecoderBlock2D",) * levels,
            block_out_channels=options.vae_block_out_channels,
            layers_per_block=options.vae_layers_per_block,
            latent_channels=options.latent_channels,
            norm_num_groups=options.vae_norm_num_groups,
            sample_size=size,
            patch_size=options.vae_patch_size,
            mid_block_add_attention=options.vae_mid_attention,
            use_quant_conv=options.vae_quant_conv,
            use_post_quant_conv=options.vae_quant_conv,
            scaling_factor=1.0,  # found out when it is trained
        )
    except ValueError as error:
        raise InputError(f"set: vae {error}") from None


def check_sides(net: UNet | DiT, codec: Codec, shapes: tuple[tuple[int, int], ...]) -> None:
    """See that pictures can be halved as often as the network does it, or cut into its patches.

    Raises:
        InputError: they cannot.
    """
    if isinstance(net, DiT):
        step, wrong = codec.factor * net.config.patch_size, "cut into whole patches"
    else:
        step = codec.factor * 2 ** (len(net.config.block_out_channels) - 1)
        wrong = "halved as often as the network does it"
    for shape in shapes:
        for side in shape:
            if side % step:
                raise InputError(
                    f"size: pictures of {shape[1]}x{shape[0]} px cannot be {wrong};"
                    f" use a multiple of {step} (and of it for bucket_step)"
                )
