"""Sizes of the towers, in the words of transformers' config.json."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Self

from vermilion.errors import ModelError
from vermilion.nn.feed_forward import ACTIVATIONS

_NO_SIZES = {"bos_token_id", "eos_token_id"}


@dataclass(frozen=True, kw_only=True)
class Config:
    """Fields of a config.json.

    Raises:
        ValueError: a field is no number, a size is none above 0, or sizes do not fit together.
    """

    def __post_init__(self) -> None:
        for one in fields(self):
            value = getattr(self, one.name)
            if one.type == "int" and one.name not in _NO_SIZES:
                check_size(one.name, value)
            number = not isinstance(value, bool) and isinstance(value, int | float)
            if one.type in ("int", "float") and not number:
                raise ValueError(f"{one.name}: must be a number (found {value!r:.40})")

    @classmethod
    def from_transformers(cls, config: Mapping[str, Any]) -> Self:
        """Take the fields that there are here from a parsed config.json; others have a default.

        Raises:
            ModelError: a field cannot be used.
        """
        known = {one.name for one in fields(cls)}
        try:
            return cls(**{name: value for name, value in config.items() if name in known})
        except (ValueError, TypeError) as error:
            raise ModelError(f"config.json: a field cannot be used: {error}") from None


@dataclass(frozen=True, kw_only=True)
class TowerConfig(Config):
    """A Transformer of pre-normalised blocks: what the picture and the text tower share.

    Attributes:
        hidden_size: D, the features of a token.
        intermediate_size: features within a feed-forward layer.
        num_hidden_layers: blocks.
        num_attention_heads: heads of attention in each; D is a multiple of it.
        hidden_act: a name in `nn.feed_forward.ACTIVATIONS`; OpenAI's CLIP has quick_gelu.
        layer_norm_eps: added to the variance in every normalisation.
    """

    hidden_size: int = 512
    intermediate_size: int = 2048
    num_hidden_layers: int = 12
    num_attention_heads: int = 8
    hidden_act: str = "quick_gelu"
    layer_norm_eps: float = 1e-5

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.hidden_size % self.num_attention_heads:
            raise ValueError("hidden_size: must be a multiple of num_attention_heads")
        if self.hidden_act not in ACTIVATIONS:
            raise ValueError(f"hidden_act: {self.hidden_act!r} is not one of {list(ACTIVATIONS)}")


@dataclass(frozen=True, kw_only=True)
class TextConfig(TowerConfig):
    """A text tower.

    Attributes:
        vocab_size: tokens.
        max_position_embeddings: most tokens of a text, 77 for CLIP.
        bos_token_id: begins a text.
        eos_token_id: ends it; the features at its first place become the text's vector. 2
            stands, as in the folders that were published first, for the token with the
            highest number.
    """

    vocab_size: int = 49408
    max_position_embeddings: int = 77
    bos_token_id: int = 49406
    eos_token_id: int = 49407


@dataclass(frozen=True, kw_only=True)
class VisionConfig(TowerConfig):
    """A picture tower that is a Transformer.

    Attributes:
        image_size: side of the pictures, in pixels.
        patch_size: side of the squares that become tokens, in pixels.
        num_channels: of the pictures.
    """

    hidden_size: int = 768
    intermediate_size: int = 3072
    num_attention_heads: int = 12
    image_size: int = 224
    patch_size: int = 32
    num_channels: int = 3

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.patch_size > self.image_size:
            raise ValueError("patch_size: must not be above image_size")


@dataclass(frozen=True, kw_only=True)
class ResNetConfig(Config):
    """A picture tower of convolutions, in the words of transformers' ResNetConfig.

    Attributes:
        num_channels: of the pictures.
        embedding_size: channels after the first convolution.
        hidden_sizes: channels of each stage.
        depths: blocks of each stage.
        layer_type: basic (two convolutions of 3x3) or bottleneck (1x1, 3x3, 1x1).
        hidden_act: a name in `nn.feed_forward.ACTIVATIONS`.
        downsample_in_first_stage: whether the first stage halves the sides as the others do.
        downsample_in_bottleneck: whether the 1x1 convolution does it, not the one of 3x3.
    """

    num_channels: int = 3
    embedding_size: int = 64
    hidden_sizes: Sequence[int] = (256, 512, 1024, 2048)
    depths: Sequence[int] = (3, 4, 6, 3)
    layer_type: str = "bottleneck"
    hidden_act: str = "relu"
    downsample_in_first_stage: bool = False
    downsample_in_bottleneck: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("hidden_sizes", "depths"):
            sizes = getattr(self, name)
            if not isinstance(sizes, list | tuple) or not sizes:
                raise ValueError(f"{name}: must be a list of numbers")
            for size in sizes:
                check_size(name, size)
            object.__setattr__(self, name, tuple(sizes))
        if len(self.hidden_sizes) != len(self.depths):
            raise ValueError("depths: must be as many as hidden_sizes")
        if self.layer_type not in ("basic", "bottleneck"):
            raise ValueError(f"layer_type: {self.layer_type!r} is not basic or bottleneck")
        if self.hidden_act not in ACTIVATIONS:
            raise ValueError(f"hidden_act: {self.hidden_act!r} is not one of {list(ACTIVATIONS)}")


def check_size(name: str, value: Any) -> None:
    """Raise ValueError unless a size is a whole number above 0 and not absurd."""
    if type(value) is not int or not 0 < value < 2**31:
        raise ValueError(f"{name}: must be a whole number above 0 (found {value!r:.40})")


def section(config: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The part of a parsed config.json under a name; empty where there is none.

    Older folders hold it twice, and what stands under the name with "_dict" holds.

    Raises:
        ModelError: it is no object.
    """
    found: dict[str, Any] = {}
    for key in (name, f"{name}_dict"):
        part = config.get(key)
        if part is not None and not isinstance(part, Mapping):
            raise ModelError(f"config.json: {key}: must be an object")
        found |= part or {}
    return found
