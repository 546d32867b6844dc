"""Shape of a language model, read from config.json or from a GGUF file's metadata."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from reprlib import repr as shortened
from typing import Any

from vermilion.errors import ModelError

# Architectures of transformers' config.json and of GGUF that are Llama's network, with the
# one difference that matters here: whether q, k and v have a bias.
ARCHITECTURES = {
    "LlamaForCausalLM": False,
    "MistralForCausalLM": False,
    "Qwen2ForCausalLM": True,
}
MODEL_TYPES = {
    "LlamaForCausalLM": "llama",
    "MistralForCausalLM": "mistral",
    "Qwen2ForCausalLM": "qwen2",
}
GGUF_ARCHITECTURES = {"llama": "LlamaForCausalLM", "qwen2": "Qwen2ForCausalLM"}

_SIZES = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "max_position_embeddings",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class LMConfig:
    """Sizes of a Llama-family network, in the words of transformers' config.json.

    Attributes:
        architecture: class of transformers that opens the same folder.
        max_position_embeddings: longest text. Where the published network looks back over a
            sliding window only, it is no longer than that window, within which it looks at all.
        eos_token_ids: any of these ends a text.
        rope_scaling: see `nn.positions.rotary_frequencies`.
        attention_bias: whether the projections to q, k and v have a bias.
        dropout: probability that a feature is dropped in training, 0 to below 1.
        tie_word_embeddings: whether the output layer is the embedding matrix.

    Raises:
        ValueError: a size that is no whole number above 0, or sizes that do not fit together.
    """

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    max_position_embeddings: int
    rms_norm_eps: float = 1e-5
    rope_theta: float = 10000.0
    rope_scaling: Mapping[str, Any] | None = None
    attention_bias: bool = False
    dropout: float = 0.0
    tie_word_embeddings: bool = False
    architecture: str = "LlamaForCausalLM"
    bos_token_id: int | None = None
    eos_token_ids: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for name in _SIZES:
            value = getattr(self, name)
            if type(value) is not int or not 0 < value < 2**31:
                raise ValueError(
                    f"{name}: must be a whole number above 0 (found {shortened(value)})"
                )
        if self.num_attention_heads % self.num_key_value_heads:
            raise ValueError("num_attention_heads: must be a multiple of num_key_value_heads")
        if self.head_dim % 2:
            raise ValueError(f"head_dim: must be even (found {self.head_dim})")

    @classmethod
    def from_transformers(cls, config: Mapping[str, Any]) -> LMConfig:
        """Read a parsed config.json.

        Raises:
            ModelError: an architecture that is not of the Llama family, or a field that is
                missing or cannot be used.
        """
        try:
            architecture = str((config.get("architectures") or ["none"])[0])
            if architecture not in ARCHITECTURES:
                raise ModelError(
                    f"config.json: the architecture {architecture} is not supported;"
                    f" known are {', '.join(ARCHITECTURES)}"
                )
            activation = config.get("hidden_act", "silu")
            if activation not in ("silu", "swish"):
                raise ModelError(
                    f"config.json: hidden_act: {activation!r} is not supported; known is silu"
                )
            eos = config.get("eos_token_id")
            # transformers 5 writes rope_parameters, 4 wrote rope_theta and rope_scaling.
            rope = dict(config.get("rope_parameters") or config.get("rope_scaling") or {})
            theta = rope.pop("rope_theta", config.get("rope_theta", 10000.0))
            scaled = rope.get("rope_type", rope.get("type", "default")) != "default"
            heads = config["num_attention_heads"]
            return cls(
                vocab_size=config["vocab_size"],
                hidden_size=config["hidden_size"],
                intermediate_size=config["intermediate_size"],
                num_hidden_layers=config["num_hidden_layers"],
                num_attention_heads=heads,
                num_key_value_heads=config.get("num_key_value_heads") or heads,
                head_dim=config.get("head_dim") or config["hidden_size"] // heads,
                max_position_embeddings=min(
                    config["max_position_embeddings"], _window(architecture, config)
                ),
                rms_norm_eps=float(config["rms_norm_eps"]),
                rope_theta=float(theta),
                rope_scaling=rope if scaled else None,
                attention_bias=ARCHITECTURES[architecture]
                or bool(config.get("attention_bias", False)),
                tie_word_embeddings=bool(config.get("tie_word_embeddings", False)),
                architecture=architecture,
                bos_token_id=config.get("bos_token_id"),
                eos_token_ids=() if eos is None else tuple(eos if isinstance(eos, list) else [eos]),
            )
        except KeyError as error:
            raise ModelError(f"config.json: the field {error.args[0]!r} is missing") from None
        except (ValueError, TypeError, ArithmeticError) as error:
            raise ModelError(f"config.json: a field cannot be used: {error}") from None

    @classmethod
    def from_gguf(cls, metadata: Mapping[str, Any], tensors: Mapping[str, Any]) -> LMConfig:
        """Read the metadata of a GGUF file; `tensors` tells whether there is an output layer.

        Raises:
            ModelError: an architecture that is not of the Llama family, or a field that is
                missing or cannot be used.
        """
        family = str(metadata.get("general.architecture", "none"))
        if family not in GGUF_ARCHITECTURES:
            raise ModelError(
                f"general.architecture: {family!r} is not supported;"
                f" known are {', '.join(GGUF_ARCHITECTURES)}"
            )
        architecture = GGUF_ARCHITECTURES[family]
        get = {k.removeprefix(f"{family}."): v for k, v in metadata.items()}
        if get.get("rope.scaling.type", "none") not in ("none", ""):
            raise ModelError(f"rope.scaling.type: {get['rope.scaling.type']!r} is not supported")
        eos = metadata.get("tokenizer.ggml.eos_token_id")
        try:
            heads = get["attention.head_count"]
            head_dim = get.get("attention.key_length", get["embedding_length"] // heads)
            if get.get("rope.dimension_count", head_dim) != head_dim:
                raise ValueError("rope.dimension_count: must be the size of a head")
            return cls(
                vocab_size=len(metadata["tokenizer.ggml.tokens"]),
                hidden_size=get["embedding_length"],
                intermediate_size=get["feed_forward_length"],
                num_hidden_layers=get["block_count"],
                num_attention_heads=heads,
                num_key_value_heads=get.get("attention.head_count_kv", heads),
                head_dim=head_dim,
                max_position_embeddings=get["context_length"],
                rms_norm_eps=float(get["attention.layer_norm_rms_epsilon"]),
                rope_theta=float(get.get("rope.freq_base", 10000.0)),
                attention_bias=ARCHITECTURES[architecture],
                tie_word_embeddings="output.weight" not in tensors,
                architecture=architecture,
                bos_token_id=metadata.get("tokenizer.ggml.bos_token_id"),
                eos_token_ids=() if eos is None else (eos,),
            )
        except KeyError as error:
            raise ModelError(f"GGUF metadata: the field {error.args[0]!r} is missing") from None
        except (ValueError, TypeError, ArithmeticError) as error:
            raise ModelError(f"GGUF metadata: a field cannot be used: {error}") from None

    def to_transformers(self) -> dict[str, Any]:
        """The config.json that transformers opens."""
        rope = {"rope_type": "default", **(self.rope_scaling or {}), "rope_theta": self.rope_theta}
        eos = list(self.eos_token_ids)
        return {
            "architectures": [self.architecture],
            "model_type": MODEL_TYPES[self.architecture],
            "vocab_size": self.vocab_size,
            "hidden_size": self.hidden_size,
            "intermediate_size": self.intermediate_size,
            "num_hidden_layers": self.num_hidden_layers,
            "num_attention_heads": self.num_attention_heads,
            "num_key_value_heads": self.num_key_value_heads,
            "head_dim": self.head_dim,
            "hidden_act": "silu",
            "max_position_embeddings": self.max_position_embeddings,
            "sliding_window": None,
            "rms_norm_eps": self.rms_norm_eps,
            "rope_parameters": rope,
            "attention_bias": self.attention_bias,
            "tie_word_embeddings": self.tie_word_embeddings,
            "bos_token_id": self.bos_token_id,
            "eos_token_id": eos[0] if len(eos) == 1 else (eos or None),
        }


def _window(architecture: str, config: Mapping[str, Any]) -> int:
    """Over how many tokens a published network looks back."""
    slides = architecture == "MistralForCausalLM" or (
        architecture == "Qwen2ForCausalLM" and config.get("use_sliding_window", False)
    )
    window = config.get("sliding_window", 4096) if slides else None
    return 2**31 - 1 if window is None else int(window)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a model's folder.

    Raises:
        ModelError: the file is missing or is no JSON object.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelError(f"{path.parent}: {path.name} is missing; pull the model again") from None
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path}: this is not JSON ({error}); pull the model again") from None
    if not isinstance(value, dict):
        raise ModelError(f"{path}: this is not a JSON object; pull the model again")
    return value
