"""Shapes of the networks, in the words of diffusers' config.json.

A field of diffusers that would change what a network computes and that is not known here is refused
by its name: no network is ever built that only looks like the published one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, Self

from vermilion.models.diffusion.fields import (
    check_choice,
    check_dropout,
    check_sizes,
    known_fields,
    written_fields,
)

Sizes = int | tuple[int, ...]
"""One for all levels of a UNet, or one for each."""

UNET_2D, UNET_CONDITION = "UNet2DModel", "UNet2DConditionModel"
DOWN_BLOCKS = ("DownBlock2D", "AttnDownBlock2D", "CrossAttnDownBlock2D")
UP_BLOCKS = ("UpBlock2D", "AttnUpBlock2D", "CrossAttnUpBlock2D")
MID_BLOCKS = ("UNetMidBlock2D", "UNetMidBlock2DCrossAttn", None)
CLASS_EMBEDDINGS = (None, "timestep", "identity", "projection", "simple_projection")

# What else diffusers' configs may say, and the values with which it changes nothing.
_UNET_ONLY: Mapping[str, tuple[Any, ...]] = {
    "act_fn": ("silu", "swish"),
    "addition_embed_type": (None,),
    "addition_embed_type_num_heads": (64,),
    "addition_time_embed_dim": (None,),
    "attention_type": ("default",),
    "class_embeddings_concat": (False,),
    "conv_in_kernel": (3,),
    "conv_out_kernel": (3,),
    "cross_attention_norm": (None,),
    "downsample_type": ("conv",),
    "dual_cross_attention": (False,),
    "encoder_hid_dim": (None,),
    "encoder_hid_dim_type": (None,),
    "mid_block_only_cross_attention": (None, False),
    "mid_block_scale_factor": (1,),
    "num_attention_heads": (None,),
    "num_train_timesteps": (None,),
    "only_cross_attention": (False,),
    "resnet_out_scale_factor": (1,),
    "resnet_skip_time_act": (False,),
    "reverse_transformer_layers_per_block": (None,),
    "time_cond_proj_dim": (None,),
    "time_embedding_act_fn": (None,),
    "time_embedding_type": ("positional",),
    "timestep_post_act": (None,),
    "upsample_type": ("conv",),
}
# Fields of `UNetConfig` that only one of the two classes has, with what is true in the other.
_OF_2D = {"attn_norm_num_groups": None, "add_attention": True}
_OF_CONDITION = {
    "cross_attention_dim": None,
    "transformer_layers_per_block": 1,
    "use_linear_projection": False,
    "projection_class_embeddings_input_dim": None,
    "upcast_attention": False,
}
# What a config.json means that leaves a field out, where the classes differ.
_DEFAULTS_2D: Mapping[str, Any] = {
    "in_channels": 3,
    "out_channels": 3,
    "down_block_types": ("DownBlock2D", *3 * ("AttnDownBlock2D",)),
    "mid_block_type": "UNetMidBlock2D",
    "up_block_types": (*3 * ("AttnUpBlock2D",), "UpBlock2D"),
    "block_out_channels": (224, 448, 672, 896),
    "cross_attention_dim": None,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class UNetConfig:
    """What a UNet is made of; left alone, all is that of diffusers' UNet2DConditionModel.

    Attributes:
        architecture: class of diffusers that opens the same folder: UNet2DConditionModel, which
            reads text, or UNet2DModel.
        sample_size: height and width that it was trained on; it runs at others.
        in_channels: of the noisy picture; 9 for inpainting.
        out_channels: of the prediction.
        center_input_sample: whether the input goes from 0 to 1 and is to be spread to -1 to 1.
        flip_sin_to_cos: whether the encoding of time begins with the cosines.
        freq_shift: 0 or 1; with 1 the slowest wave is just 1/10000 (Ho et al. 2020).
        down_block_types: a name of `DOWN_BLOCKS` for each level.
        mid_block_type: a name of `MID_BLOCKS`; None: there is no middle.
        up_block_types: a name of `UP_BLOCKS` for each level, the coarsest first.
        block_out_channels: channels of each level, the finest first.
        layers_per_block: residual blocks a level on the way down; one more on the way up.
        downsample_padding: 1, or 0: a row and a column are added at the end alone.
        dropout: probability that a feature within a residual block is dropped in training.
        norm_num_groups: groups of channels that are normalised together.
        norm_eps: what is added to the variance.
        cross_attention_dim: D, features of a token of the context; None: it reads none.
        transformer_layers_per_block: Transformer blocks after a residual block.
        attention_head_dim: features of a head in Attn blocks, None for a single head; but in
            CrossAttn blocks it is the number of heads, as diffusers has named it ever since.
        use_linear_projection: whether features go into and out of a Transformer through a Linear
            layer instead of a convolution of size 1.
        class_embed_type: what the labels are: with None numbers of classes, if `num_class_embeds`
            is given; "timestep" numbers, encoded as time is; "identity" vectors of
            `time_embedding_dim`; "projection" and "simple_projection" other vectors.
        num_class_embeds: how many classes there are.
        projection_class_embeddings_input_dim: features of a label that is projected.
        upcast_attention: kept for diffusers; attention is computed in float32 or fused.
        resnet_time_scale_shift: "default" adds time to features, "scale_shift" also scales them.
        time_embedding_dim: E, features of the embedding of time; None: 4 times the finest level.
        attn_norm_num_groups: groups before the attention in the middle of a UNet2DModel; None:
            norm_num_groups, or with "scale_shift" no normalisation at all.
        add_attention: whether the middle of a UNet2DModel has attention.

    Raises:
        ValueError: values that there are not or that do not fit together; it names the field.
    """

    architecture: Literal["UNet2DModel", "UNet2DConditionModel"] = "UNet2DConditionModel"
    sample_size: Sizes | None = None
    in_channels: int = 4
    out_channels: int = 4
    center_input_sample: bool = False
    flip_sin_to_cos: bool = True
    freq_shift: int = 0
    down_block_types: tuple[str, ...] = (*3 * ("CrossAttnDownBlock2D",), "DownBlock2D")
    mid_block_type: str | None = "UNetMidBlock2DCrossAttn"
    up_block_types: tuple[str, ...] = ("UpBlock2D", *3 * ("CrossAttnUpBlock2D",))
    block_out_channels: tuple[int, ...] = (320, 640, 1280, 1280)
    layers_per_block: Sizes = 2
    downsample_padding: int = 1
    dropout: float = 0.0
    norm_num_groups: int = 32
    norm_eps: float = 1e-5
    cross_attention_dim: Sizes | None = 1280
    transformer_layers_per_block: Sizes = 1
    attention_head_dim: Sizes | None = 8
    use_linear_projection: bool = False
    class_embed_type: str | None = None
    num_class_embeds: int | None = None
    projection_class_embeddings_input_dim: int | None = None
    upcast_attention: bool = False
    resnet_time_scale_shift: Literal["default", "scale_shift"] = "default"
    time_embedding_dim: int | None = None
    attn_norm_num_groups: int | None = None
    add_attention: bool = True

    def __post_init__(self) -> None:
        check_choice("architecture", self.architecture, (UNET_2D, UNET_CONDITION))
        levels = len(self.block_out_channels)
        for name in ("in_channels", "out_channels", "block_out_channels", "layers_per_block"):
            check_sizes(name, getattr(self, name))
        for name in ("norm_num_groups", "transformer_layers_per_block"):
            check_sizes(name, getattr(self, name))
        for name in ("sample_size", "cross_attention_dim", "attention_head_dim"):
            if getattr(self, name) is not None:
                check_sizes(name, getattr(self, name))
        for name in ("num_class_embeds", "time_embedding_dim", "attn_norm_num_groups"):
            if getattr(self, name) is not None:
                check_sizes(name, getattr(self, name))
        for name in ("down_block_types", "up_block_types"):
            known = DOWN_BLOCKS if name.startswith("down") else UP_BLOCKS
            for block in getattr(self, name):
                check_choice(name, block, known)
            if len(getattr(self, name)) != levels:
                raise ValueError(f"{name}: must be as many as block_out_channels, {levels}")
        for name in _OF_CONDITION.keys() | {"layers_per_block", "attention_head_dim"}:
            value = getattr(self, name)
            if isinstance(value, tuple) and len(value) != levels:
                raise ValueError(f"{name}: must be as many as block_out_channels, {levels}")
        check_choice("mid_block_type", self.mid_block_type, MID_BLOCKS)
        check_choice("downsample_padding", self.downsample_padding, (0, 1))
        check_choice(
            "resnet_time_scale_shift", self.resnet_time_scale_shift, ("default", "scale_shift")
        )
        check_choice("class_embed_type", self.class_embed_type, CLASS_EMBEDDINGS)
        check_dropout(self.dropout)
        self._check_class()
        self._check_groups()

    def _check_class(self) -> None:
        """What one of diffusers' two classes cannot be."""
        projected = self.class_embed_type in ("projection", "simple_projection")
        if projected and self.projection_class_embeddings_input_dim is None:
            raise ValueError(
                f"projection_class_embeddings_input_dim: is needed with"
                f" class_embed_type {self.class_embed_type!r}"
            )
        if self.num_class_embeds is not None and self.class_embed_type is not None:
            raise ValueError("num_class_embeds: is only for class_embed_type None")
        two = self.architecture == UNET_2D
        for name, must in (_OF_CONDITION if two else _OF_2D).items():
            if getattr(self, name) != must:
                raise ValueError(f"{name}: {self.architecture} has no such field; leave it {must}")
        if two and any(isinstance(getattr(self, n), tuple) for n in _EACH_LEVEL):
            raise ValueError(f"{' and '.join(_EACH_LEVEL)}: {UNET_2D} has one for all levels")
        crosses = any("Cross" in str(block) for block in self.block_types)
        if crosses and self.cross_attention_dim is None:
            raise ValueError("cross_attention_dim: is needed by CrossAttn blocks")
        if self.attention_head_dim is None and not two:
            raise ValueError(f"attention_head_dim: {UNET_CONDITION} needs one")

    def _check_groups(self) -> None:
        for channels in self.block_out_channels:
            if channels % self.norm_num_groups:
                raise ValueError(
                    f"norm_num_groups: {channels} channels cannot be cut into"
                    f" {self.norm_num_groups} groups; choose a divisor of all block_out_channels"
                )
        for level, channels in enumerate(self.block_out_channels):
            given = self.attention_head_dim
            size = given[level] if isinstance(given, tuple) else given
            if size is not None and channels % size and "Attn" in str(self.block_types):
                raise ValueError(f"attention_head_dim: {channels} channels are no multiple of it")

    @property
    def block_types(self) -> tuple[str | None, ...]:
        """Of all blocks."""
        return (*self.down_block_types, self.mid_block_type, *self.up_block_types)

    @property
    def time_features(self) -> int:
        """E, features of the embedding of time."""
        given = self.time_embedding_dim
        return 4 * self.block_out_channels[0] if given is None else given

    def each_level(self, name: str) -> tuple[Any, ...]:
        """A field with one value for each level, the finest first."""
        value = getattr(self, name)
        return value if isinstance(value, tuple) else (value,) * len(self.block_out_channels)

    @classmethod
    def from_diffusers(cls, config: Mapping[str, Any]) -> Self:
        """The shape that a parsed config.json of diffusers describes.

        Raises:
            ValueError: a field that is not supported or cannot be used; it names it.
        """
        architecture: Any = config.get("_class_name")
        check_choice("_class_name", architecture, (UNET_2D, UNET_CONDITION))
        two = architecture == UNET_2D
        defaults = _DEFAULTS_2D if two else {}
        unknown = _OF_CONDITION if two else _OF_2D
        known = {field.name for field in fields(cls)} - unknown.keys() - {"architecture"}
        return cls(
            **{**defaults, **known_fields(config, known, _UNET_ONLY)}, architecture=architecture
        )

    def to_diffusers(self) -> dict[str, Any]:
        """The config.json that diffusers opens."""
        unknown = _OF_CONDITION if self.architecture == UNET_2D else _OF_2D
        return {"act_fn": "silu", **written_fields(self, self.architecture, unknown.keys())}


_EACH_LEVEL = ("layers_per_block", "attention_head_dim")


THEIR_VAE, OUR_VAE = "AutoencoderKL", "VermilionAutoencoderKL"
# What an autoencoder's config may also say.
_VAE_ONLY: Mapping[str, tuple[Any, ...]] = {
    "act_fn": ("silu", "swish"),
    "latents_mean": (None,),
    "latents_std": (None,),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class VAEConfig:
    """What an autoencoder is made of, in the words of diffusers' AutoencoderKL.

    Attributes:
        in_channels: of a picture that is encoded.
        out_channels: of a picture that is decoded.
        down_block_types: "DownEncoderBlock2D" for each level.
        up_block_types: "UpDecoderBlock2D" for each level.
        block_out_channels: channels of each level, the finest first; each level but the last
            halves the picture.
        layers_per_block: residual blocks a level of the encoder; the decoder has one more.
        latent_channels: of a latent.
        norm_num_groups: groups of channels that are normalised together.
        sample_size: height and width of a picture that it was trained on; of a tile, too.
        scaling_factor: what latents are multiplied by, so that their variance is about 1.
        shift_factor: what is subtracted from them before; None: nothing.
        force_upcast: kept for diffusers: the published weights overflow in float16.
        use_quant_conv: whether a convolution of size 1 ends the encoder.
        use_post_quant_conv: whether one begins the decoder.
        mid_block_add_attention: whether the middles have attention.
        patch_size: squares of so many pixels a side become channels before the encoder and pixels
            again after the decoder, so that no map has a picture's height and width. diffusers
            has no class for values other than 1.

    Raises:
        ValueError: values that there are not or that do not fit together; it names the field.
    """

    in_channels: int = 3
    out_channels: int = 3
    down_block_types: tuple[str, ...] = ("DownEncoderBlock2D",)
    up_block_types: tuple[str, ...] = ("UpDecoderBlock2D",)
    block_out_channels: tuple[int, ...] = (64,)
    layers_per_block: int = 1
    latent_channels: int = 4
    norm_num_groups: int = 32
    sample_size: int = 32
    scaling_factor: float = 0.18215
    shift_factor: float | None = None
    force_upcast: bool = True
    use_quant_conv: bool = True
    use_post_quant_conv: bool = True
    mid_block_add_attention: bool = True
    patch_size: int = 1

    def __post_init__(self) -> None:
        levels = len(self.block_out_channels)
        for name in ("in_channels", "out_channels", "block_out_channels", "layers_per_block"):
            check_sizes(name, getattr(self, name))
        for name in ("latent_channels", "norm_num_groups", "sample_size", "patch_size"):
            check_sizes(name, getattr(self, name))
        known = {"down_block_types": "DownEncoderBlock2D", "up_block_types": "UpDecoderBlock2D"}
        for name, block in known.items():
            for found in getattr(self, name):
                check_choice(name, found, (block,))
            if len(getattr(self, name)) != levels:
                raise ValueError(f"{name}: must be as many as block_out_channels, {levels}")
        if not isinstance(self.scaling_factor, int | float) or not 0 < self.scaling_factor < 1e6:
            raise ValueError("scaling_factor: must be a number above 0")
        for channels in self.block_out_channels:
            if channels % self.norm_num_groups:
                raise ValueError(
                    f"norm_num_groups: {channels} channels cannot be cut into"
                    f" {self.norm_num_groups} groups; choose a divisor of all block_out_channels"
                )

    @property
    def factor(self) -> int:
        """How many pixels of a picture's side a latent's pixel stands for."""
        return int(self.patch_size * 2 ** (len(self.block_out_channels) - 1))

    @property
    def class_name(self) -> str:
        """Of diffusers' class that opens it, or ours."""
        return THEIR_VAE if self.patch_size == 1 else OUR_VAE

    @classmethod
    def from_diffusers(cls, config: Mapping[str, Any]) -> Self:
        """The shape that a parsed config.json of diffusers describes.

        Raises:
            ValueError: a field that is not supported or cannot be used; it names it.
        """
        name: Any = config.get("_class_name")
        check_choice("_class_name", name, (THEIR_VAE, OUR_VAE))
        known = {field.name for field in fields(cls)} - (
            {"patch_size"} if name == THEIR_VAE else set()
        )
        return cls(**known_fields(config, known, _VAE_ONLY))

    def to_diffusers(self) -> dict[str, Any]:
        """The config.json that diffusers opens."""
        left_out = ("patch_size",) if self.class_name == THEIR_VAE else ()
        return {"act_fn": "silu", **written_fields(self, self.class_name, left_out)}
