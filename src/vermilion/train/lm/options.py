"""What can be set about a language model and its data, a sentence a field."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from vermilion.models.lm.config import LMConfig
from vermilion.models.lm.families import FAMILIES
from vermilion.train import options
from vermilion.train.options import Training, about


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """Sizes of a new language model, in the words of transformers' config.json."""

    architecture: Annotated[
        Literal["LlamaForCausalLM", "GPT2LMHeadModel", "Qwen3ForCausalLM"],
        about("Class of transformers that opens the model."),
    ] = "LlamaForCausalLM"
    num_hidden_layers: Annotated[int, about("Layers.", ge=1, le=1000)] = 6
    hidden_size: Annotated[int, about("Features of a token.", ge=2, le=65536)] = 384
    num_attention_heads: Annotated[int, about("Heads of the attention.", ge=1)] = 6
    num_key_value_heads: Annotated[
        int | None, about("Heads of keys and values; by default as many as heads.", ge=1)
    ] = None
    intermediate_size: Annotated[
        int | None,
        about("Inner features; by default 8/3 of hidden_size, with GPT-2 4 times it.", ge=1),
    ] = None
    max_position_embeddings: Annotated[int, about("Longest text, in tokens.", ge=2)] = 256
    rope_theta: Annotated[float, about("Base of the rotary frequencies.", gt=1)] = 10000.0
    tie_word_embeddings: Annotated[
        bool, about("Whether the output layer is the embedding matrix.")
    ] = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Corpus:
    """How files become tokens."""

    vocab_size: Annotated[
        int, about("Tokens of a new byte-level BPE tokenizer.", ge=257, le=1 << 20)
    ] = 8192
    validation: Annotated[float, about("Fraction that is held back.", ge=0, lt=1)] = 0.05
    split: Annotated[
        Literal["auto", "document", "tail"],
        about(
            "What is held back: whole documents, the end of each, or, by their number, one of both."
        ),
    ] = "auto"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuning:
    """How a model is trained that may exist already."""

    dropout: Annotated[float, about("Part of the features that is left out.", ge=0, lt=1)] = 0.0
    context: Annotated[
        int | None,
        about("Tokens of a window; of a new model all it holds, with --from at most 512.", ge=2),
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapters:
    """LoRA: what is learned beside a frozen model."""

    lora_r: Annotated[int, about("Rank of the adapters.", ge=1, le=4096)] = 8
    lora_alpha: Annotated[float, about("Their scale, in units of the rank.", gt=0)] = 16.0
    lora_dropout: Annotated[float, about("Part of their input that is left out.", ge=0, lt=1)] = 0.0
    lora_targets: Annotated[
        str, about("Projections that get one, such as q_proj,v_proj; all: every one.")
    ] = "all"


ALIASES = options.ALIASES | {
    "r": "lora_r",
    "rank": "lora_r",
    "target_modules": "lora_targets",
    "n_layer": "num_hidden_layers",
    "n_embd": "hidden_size",
    "n_head": "num_attention_heads",
    "n_inner": "intermediate_size",
    "block_size": "max_position_embeddings",
    "n_positions": "max_position_embeddings",
    "n_ctx": "max_position_embeddings",
    "resid_pdrop": "dropout",
}

KINDS = (Shape, Corpus, Tuning, Adapters, Training)


def training_settings() -> list[tuple[str, str, str]]:
    """Field, default and sentence of everything that can be set."""
    return options.described(KINDS)


def config_of(shape: Shape, vocab_size: int, end: int, dropout: float) -> LMConfig:
    """The network's config.

    Args:
        shape: its sizes.
        vocab_size: of the tokenizer.
        end: the token that ends a text.
        dropout: of the training.

    Raises:
        ValueError: the sizes do not fit together.
    """
    if shape.hidden_size % shape.num_attention_heads:
        raise ValueError("hidden_size: must be a multiple of num_attention_heads")
    gpt = shape.architecture == "GPT2LMHeadModel"
    third = -(-shape.hidden_size * 8 // 3 // 64) * 64  # a gated layer has three matrices, not two
    return LMConfig(
        **FAMILIES[shape.architecture].fixed,
        vocab_size=vocab_size,
        hidden_size=shape.hidden_size,
        intermediate_size=shape.intermediate_size or (4 * shape.hidden_size if gpt else third),
        num_hidden_layers=shape.num_hidden_layers,
        num_attention_heads=shape.num_attention_heads,
        num_key_value_heads=shape.num_key_value_heads or shape.num_attention_heads,
        head_dim=shape.hidden_size // shape.num_attention_heads,
        max_position_embeddings=shape.max_position_embeddings,
        activation="gelu_new" if gpt else "silu",
        rope_theta=shape.rope_theta,
        dropout=dropout,
        tie_word_embeddings=shape.tie_word_embeddings,
        architecture=shape.architecture,
        bos_token_id=end,
        eos_token_ids=(end,),
    )
