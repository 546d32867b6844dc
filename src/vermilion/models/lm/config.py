"""Shape of a language model, read from config.json or from a GGUF file's metadata."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True, kw_only=True)
class LMConfig:
    """Sizes of a Llama-family network, in the words of transformers' config.json.

    Attributes:
        architecture: class of transformers that opens the same folder.
        eos_token_ids: any of these ends a text.
        rope_scaling: see `nn.positions.rotary_frequencies`.
        attention_bias: whether the projections to q, k and v have a bias.
        tie_word_embeddings: whether the output layer is the embedding matrix.
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
    tie_word_embeddings: bool = False
    architecture: str = "LlamaForCausalLM"
    bos_token_id: int | None = None
    eos_token_ids: tuple[int, ...] = ()

    @classmethod
    def from_transformers(cls, config: Mapping[str, Any]) -> LMConfig:
        """Read a parsed config.json.

        Raises:
            ModelError: an architecture that is not of the Llama family, or a missing field.
        """
        architecture = (config.get("architectures") or ["none"])[0]
        if architecture not in ARCHITECTURES:
            raise ModelError(
                f"config.json: the architecture {architecture} is not supported;"
                f" known are {', '.join(ARCHITECTURES)}"
            )
        # transformers 5 writes rope_parameters, 4 wrote rope_theta and rope_scaling.
        rope = dict(config.get("rope_parameters") or config.get("rope_scaling") or {})
        theta = rope.pop("rope_theta", config.get("rope_theta", 10000.0))
        scaled = rope.get("rope_type", rope.get("type", "default")) != "default"
        eos = config.get("eos_token_id")
        try:
            heads = config["num_attention_heads"]
            return cls(
                vocab_size=config["vocab_size"],
                hidden_size=config["hidden_size"],
                intermediate_size=config["intermediate_size"],
                num_hidden_layers=config["num_hidden_layers"],
                num_attention_heads=heads,
                num_key_value_heads=config.get("num_key_value_heads") or heads,
                head_dim=config.get("head_dim") or config["hidden_size"] // heads,
                max_position_embeddings=config["max_position_embeddings"],
                rms_norm_eps=config["rms_norm_eps"],
                rope_theta=theta,
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

    @classmethod
    def from_gguf(cls, metadata: Mapping[str, Any], tensors: Mapping[str, Any]) -> LMConfig:
        """Read the metadata of a GGUF file; `tensors` tells whether there is an output layer.

        Raises:
            ModelError: an architecture that is not of the Llama family, or a missing field.
        """
        family = metadata.get("general.architecture", "none")
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
            return cls(
                vocab_size=len(metadata["tokenizer.ggml.tokens"]),
                hidden_size=get["embedding_length"],
                intermediate_size=get["feed_forward_length"],
                num_hidden_layers=get["block_count"],
                num_attention_heads=heads,
                num_key_value_heads=get.get("attention.head_count_kv", heads),
                head_dim=get.get("attention.key_length", get["embedding_length"] // heads),
                max_position_embeddings=get["context_length"],
                rms_norm_eps=get["attention.layer_norm_rms_epsilon"],
                rope_theta=get.get("rope.freq_base", 10000.0),
                attention_bias=ARCHITECTURES[architecture],
                tie_word_embeddings="output.weight" not in tensors,
                architecture=architecture,
                bos_token_id=metadata.get("tokenizer.ggml.bos_token_id"),
                eos_token_ids=() if eos is None else (eos,),
            )
        except KeyError as error:
            raise ModelError(f"GGUF metadata: the field {error.args[0]!r} is missing") from None

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
            "rms_norm_eps": self.rms_norm_eps,
            "rope_parameters": rope,
            "attention_bias": self.attention_bias,
            "tie_word_embeddings": self.tie_word_embeddings,
            "bos_token_id": self.bos_token_id,
            "eos_token_id": eos[0] if len(eos) == 1 else (eos or None),
        }
