"""What can be set about contrastive models and their data, a sentence a field."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from vermilion.models.contrast.config import ResNetConfig, TextConfig, VisionConfig
from vermilion.train import options
from vermilion.train.options import Training, about


@dataclass(frozen=True, slots=True, kw_only=True)
class Tower:
    """Sizes of the picture tower."""

    picture_tower: Annotated[
        Literal["vit", "resnet"], about("A Transformer over patches, or convolutions.")
    ] = "vit"
    image_size: Annotated[int, about("Side of the pictures, in pixels.", ge=8, le=1024)] = 64
    patch_size: Annotated[int, about("Side of a patch, in pixels.", ge=1, le=256)] = 8
    hidden_size: Annotated[int, about("Features of a patch.", ge=8, le=8192)] = 256
    num_hidden_layers: Annotated[int, about("Blocks over patches.", ge=1, le=200)] = 6
    num_attention_heads: Annotated[int, about("Heads of their attention.", ge=1)] = 4
    embedding_size: Annotated[
        int, about("Channels after a resnet's first convolution.", ge=8, le=4096)
    ] = 32
    hidden_sizes: Annotated[str, about("Channels of a resnet's stages.")] = "48,96,192,384"
    depths: Annotated[str, about("Blocks of a resnet's stages.")] = "2,2,2,2"
    projection_dim: Annotated[int, about("Features of the vectors.", ge=2, le=8192)] = 256

    def config(self) -> VisionConfig | ResNetConfig:
        """The tower's config.

        Raises:
            ValueError: the sizes do not fit together.
        """
        if self.picture_tower == "resnet":
            return ResNetConfig(
                embedding_size=self.embedding_size,
                hidden_sizes=_numbers("hidden_sizes", self.hidden_sizes),
                depths=_numbers("depths", self.depths),
                layer_type="basic",
            )
        return VisionConfig(
            image_size=self.image_size,
            patch_size=self.patch_size,
            hidden_size=self.hidden_size,
            intermediate_size=4 * self.hidden_size,
            num_hidden_layers=self.num_hidden_layers,
            num_attention_heads=self.num_attention_heads,
            hidden_act="gelu",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class TextTower:
    """CLIP: the text tower, and what is learnt from pairs."""

    text_hidden_size: Annotated[
        int, about("Features of a token of a new text tower.", ge=8, le=8192)
    ] = 256
    text_num_hidden_layers: Annotated[int, about("Its blocks.", ge=1, le=200)] = 4
    text_num_attention_heads: Annotated[int, about("Heads of its attention.", ge=1)] = 4
    project_text: Annotated[
        bool,
        about("Whether a locked tower's vectors are projected; else pictures land on them."),
    ] = True
    contrast: Annotated[
        Literal["softmax", "sigmoid"], about("CLIP's loss, or SigLIP's for every pair by itself.")
    ] = "softmax"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairs:
    """How pictures and captions are read and changed."""

    captions: Annotated[
        str, about("Fields or columns that hold captions, with commas.  [empty: the usual names]")
    ] = ""
    first_caption: Annotated[
        float,
        about("How often a picture's first caption is taken; else one of all.", ge=0, le=1),
    ] = 0.0
    background: Annotated[
        Literal["white", "random"], about("Under what is transparent: white, or light colours.")
    ] = "white"
    shift: Annotated[int, about("Most pixels that pictures are moved, each way.", ge=0, le=256)] = 0
    flip: Annotated[bool, about("Whether half of the pictures are mirrored.")] = False
    validation: Annotated[
        float, about("Fraction that is held back where the data name none.", ge=0, lt=1)
    ] = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Views:
    """How SimCLR's two views of a picture are made, and compared."""

    temperature: Annotated[float, about("τ of NT-Xent.", gt=0, le=100)] = 0.5
    min_scale: Annotated[float, about("Least part of a picture's area in a view.", gt=0, le=1)] = (
        0.08
    )
    color_strength: Annotated[float, about("Strength of the changes of colour.", ge=0, le=1)] = 0.5
    view_flip: Annotated[float, about("Probability that a view is mirrored.", ge=0, le=1)] = 0.5
    blur: Annotated[float, about("Probability that a view is blurred.", ge=0, le=1)] = 0.5
    validation: Annotated[
        float, about("Fraction that is held back where the data name none.", ge=0, lt=1)
    ] = 0.05
    neighbours: Annotated[int, about("k of the k-NN, where there are classes.", ge=1)] = 20


ALIASES = options.ALIASES | {
    "n_embd": "hidden_size",
    "n_layer": "num_hidden_layers",
    "n_head": "num_attention_heads",
    "embed_dim": "projection_dim",
    "caption": "captions",
    "size": "image_size",
}

CLIP_KINDS = (Tower, TextTower, Pairs, Training)
SIMCLR_KINDS = (Tower, Views, Training)


def contrast_settings(kind: Literal["clip", "simclr"]) -> list[tuple[str, str, str]]:
    """Field, default and sentence of everything that can be set."""
    return options.described(CLIP_KINDS if kind == "clip" else SIMCLR_KINDS)


def text_config(options: TextTower, vocab_size: int, bos: int, eos: int, most: int) -> TextConfig:
    """The config of a new text tower for a tokenizer.

    Raises:
        ValueError: the sizes do not fit together.
    """
    return TextConfig(
        vocab_size=vocab_size,
        max_position_embeddings=most,
        hidden_size=options.text_hidden_size,
        intermediate_size=4 * options.text_hidden_size,
        num_hidden_layers=options.text_num_hidden_layers,
        num_attention_heads=options.text_num_attention_heads,
        hidden_act="gelu",
        bos_token_id=bos,
        eos_token_id=eos,
    )


def _numbers(name: str, text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise ValueError(f"{name}: must be numbers with commas (found {text!r})") from None
