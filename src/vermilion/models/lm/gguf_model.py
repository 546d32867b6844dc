"""Language models in GGUF files: their shape, and their tensors under the names in `names`.

The keys are those of the format's specification in the ggml project (docs/gguf.md).
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vermilion.errors import ModelError
from vermilion.models.lm import names
from vermilion.models.lm.config import LMConfig
from vermilion.models.lm.families import FAMILIES
from vermilion.models.lm.gguf import GGUF
from vermilion.nn.positions import rotary_frequencies

# What the families are called, and what a file leaves unsaid.
_ARCHITECTURES = {
    "llama": "LlamaForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
    "gpt2": "GPT2LMHeadModel",
}
_UNSAID: dict[str, dict[str, Any]] = {"gpt2": {"activation": "gelu_new"}}


def read_config(metadata: Mapping[str, Any], tensors: Container[str]) -> LMConfig:
    """The shape that a GGUF file describes.

    Args:
        metadata: of the file.
        tensors: names; they tell whether there is an output layer.

    Raises:
        ModelError: an architecture that is not known, or a field that is missing or cannot
            be used.
    """
    family = str(metadata.get("general.architecture", "none"))
    if family not in _ARCHITECTURES:
        known = ", ".join(_ARCHITECTURES)
        raise ModelError(f"general.architecture: {family!r} is not supported; known are {known}")
    architecture = _ARCHITECTURES[family]
    fields = FAMILIES[architecture].fixed | _UNSAID.get(family, {})
    get = {k.removeprefix(f"{family}."): v for k, v in metadata.items()}
    eos = metadata.get("tokenizer.ggml.eos_token_id")
    rms = fields.get("norm", "rms") == "rms"
    try:
        heads = get["attention.head_count"]
        head_dim = get.get("attention.key_length", get["embedding_length"] // heads)
        if get.get("rope.dimension_count", head_dim) != head_dim:
            raise ValueError("rope.dimension_count: must be the size of a head")
        return LMConfig(
            **fields,
            architecture=architecture,
            vocab_size=len(metadata["tokenizer.ggml.tokens"]),
            hidden_size=get["embedding_length"],
            intermediate_size=get["feed_forward_length"],
            num_hidden_layers=get["block_count"],
            num_attention_heads=heads,
            num_key_value_heads=get.get("attention.head_count_kv", heads),
            head_dim=head_dim,
            max_position_embeddings=get["context_length"],
            norm_eps=float(get["attention.layer_norm_" + ("rms_epsilon" if rms else "epsilon")]),
            rope_theta=float(get.get("rope.freq_base", 10000.0)),
            rope_scaling=_scaling(get),
            tie_word_embeddings="output.weight" not in tensors,
            bos_token_id=metadata.get("tokenizer.ggml.bos_token_id"),
            eos_token_ids=() if eos is None else (eos,),
        )
    except KeyError as error:
        raise ModelError(f"GGUF metadata: the field {error.args[0]!r} is missing") from None
    except (ValueError, TypeError, ArithmeticError) as error:
        raise ModelError(f"GGUF metadata: a field cannot be used: {error}") from None


def _scaling(get: Mapping[str, Any]) -> dict[str, Any] | None:
    kind = get.get("rope.scaling.type", "none")
    if kind in ("none", ""):
        return None
    if kind != "linear":
        raise ModelError(f"rope.scaling.type: {kind!r} is not supported; known is linear")
    return {"rope_type": "linear", "factor": get["rope.scaling.factor"]}


class GGUFTensors:
    """The tensors of a GGUF file, with each head's features in the order of transformers.

    Attributes:
        names: of all tensors.
        config: the shape that the file describes.
        metadata: the file's key-value pairs.

    Raises:
        ModelError: see `GGUF` and `read_config`.
    """

    def __init__(self, path: Path) -> None:
        self._file = GGUF(path)
        self.names = frozenset(self._file.tensors)
        self.metadata = self._file.metadata
        config = read_config(self.metadata, self.names)
        if "rope_freqs.weight" in self.names:
            scaling = _llama3_scaling(self._file.load("rope_freqs.weight"), config)
            config = replace(config, rope_scaling=scaling)
        self.config = config
        self.family = str(self.metadata["general.architecture"])
        self.layout = names.GGUF[self.family]

    def load(self, name: str) -> Tensor:
        """A tensor as float32."""
        tensor = self._file.load(name)
        part = name.split(".")[-2] if name.count(".") > 1 else ""
        heads = {
            "attn_q": self.config.num_attention_heads,
            "attn_k": self.config.num_key_value_heads,
        }
        # llama files keep each head's rotary pairs side by side; the others do not.
        if self.family != "llama" or len(tensor) != heads.get(part, 0) * self.config.head_dim:
            return tensor
        return _split_pairs(tensor, heads[part])


def _llama3_scaling(divisors: Tensor, config: LMConfig) -> dict[str, Any]:
    """The rope_scaling of Llama 3.1; GGUF keeps only what it divides each frequency by."""
    scaling = {
        "rope_type": "llama3",
        "factor": float(divisors.max()),
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }
    sizes = config.head_dim, config.rope_theta
    expected = rotary_frequencies(*sizes) / rotary_frequencies(*sizes, scaling)
    if divisors.shape != expected.shape or not torch.allclose(divisors, expected, rtol=1e-4):
        raise ModelError("rope_freqs.weight: only the rope scaling of Llama 3 is supported")
    return scaling


def _split_pairs(tensor: Tensor, heads: int) -> Tensor:
    """From (x0 y0 x1 y1 ...) to (x0 x1 ... y0 y1 ...) within each head's rows."""
    return tensor.view(heads, -1, 2, *tensor.shape[1:]).transpose(1, 2).reshape(tensor.shape)
