"""The families: published configurations to `LMConfig` and back.

What sets a family apart is written in this file and, for the names of its weights, in
`names`. The network knows no family.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from vermilion.errors import ModelError
from vermilion.models.lm.config import LMConfig

Fields = dict[str, Any]

_ACTIVATIONS = {
    "silu": "silu",
    "swish": "silu",
    "gelu": "gelu",
    "gelu_new": "gelu_new",
    "gelu_pytorch_tanh": "gelu_new",
    "relu": "relu",
}


@dataclass(frozen=True, slots=True)
class Family:
    """How a family writes its configuration.

    Attributes:
        architecture: its class in transformers.
        model_type: its name in config.json.
        fixed: fields of `LMConfig` that are the same in every network of the family.
        read: config.json → the other fields, but for those that all families share.
        write: the way back.
    """

    architecture: str
    model_type: str
    fixed: Fields
    read: Callable[[Mapping[str, Any]], Fields]
    write: Callable[[LMConfig], Fields]


def from_transformers(config: Mapping[str, Any]) -> LMConfig:
    """The shape that a parsed config.json describes.

    Raises:
        ModelError: an architecture that is not known, or a field that is missing or cannot
            be used.
    """
    try:
        architecture = str((config.get("architectures") or ["none"])[0])
        if architecture not in FAMILIES:
            raise ModelError(
                f"config.json: the architecture {architecture} is not supported;"
                f" known are {', '.join(FAMILIES)}"
            )
        eos = config.get("eos_token_id")
        family = FAMILIES[architecture]
        return LMConfig(
            **{**family.read(config), **family.fixed},
            vocab_size=config["vocab_size"],
            architecture=architecture,
            bos_token_id=config.get("bos_token_id"),
            eos_token_ids=() if eos is None else tuple(eos if isinstance(eos, list) else [eos]),
        )
    except KeyError as error:
        raise ModelError(f"config.json: the field {error.args[0]!r} is missing") from None
    except (ValueError, TypeError, ArithmeticError) as error:
        raise ModelError(f"config.json: a field cannot be used: {error}") from None


def to_transformers(config: LMConfig) -> dict[str, Any]:
    """The config.json that transformers opens.

    Raises:
        ModelError: the network is none that its architecture can describe.
    """
    if config.architecture not in FAMILIES:
        raise ModelError(f"architecture: {config.architecture!r} is not one of {list(FAMILIES)}")
    family, eos = FAMILIES[config.architecture], list(config.eos_token_ids)
    written = {
        "architectures": [family.architecture],
        "model_type": family.model_type,
        "vocab_size": config.vocab_size,
        "tie_word_embeddings": config.tie_word_embeddings,
        "bos_token_id": config.bos_token_id,
        "eos_token_id": eos[0] if len(eos) == 1 else (eos or None),
        **family.write(config),
    }
    again = from_transformers(written)
    for name in LMConfig.__dataclass_fields__:
        wanted, found = getattr(config, name), getattr(again, name)
        if wanted != found:
            raise ModelError(
                f"{name}: {config.architecture} cannot be {wanted!r}, it is {found!r};"
                " choose another architecture"
            )
    return written


def _activation(config: Mapping[str, Any], field: str, default: str) -> str:
    name = config.get(field, default)
    if name not in _ACTIVATIONS:
        raise ModelError(
            f"config.json: {field}: {name!r} is not supported; known are {', '.join(_ACTIVATIONS)}"
        )
    return _ACTIVATIONS[name]


# GPT-2 (Radford et al. 2019) and GPT-Neo, which differ in attention. Heads are C/H wide.
_GPT: Fields = {
    "norm": "layer",
    "positions": "learned",
    "gated": False,
    "out_bias": True,
    "mlp_bias": True,
}


def _read_gpt2(config: Mapping[str, Any]) -> Fields:
    if config.get("scale_attn_by_inverse_layer_idx", False):
        raise ModelError("config.json: scale_attn_by_inverse_layer_idx is not supported")
    size, heads = config["n_embd"], config["n_head"]
    inner = config.get("n_inner")
    return {
        "hidden_size": size,
        "intermediate_size": 4 * size if inner is None else inner,
        "num_hidden_layers": config["n_layer"],
        "num_attention_heads": heads,
        "num_key_value_heads": heads,
        "head_dim": size // heads,
        "max_position_embeddings": config["n_positions"],
        "norm_eps": float(config.get("layer_norm_epsilon", 1e-5)),
        "activation": _activation(config, "activation_function", "gelu_new"),
        "attention_scale": None if config.get("scale_attn_weights", True) else 1.0,
        "dropout": float(config.get("resid_pdrop", 0.1)),
        "tie_word_embeddings": bool(config.get("tie_word_embeddings", True)),
    }


def _write_gpt2(config: LMConfig) -> Fields:
    return {
        "n_embd": config.hidden_size,
        "n_inner": config.intermediate_size,
        "n_layer": config.num_hidden_layers,
        "n_head": config.num_attention_heads,
        "n_positions": config.max_position_embeddings,
        "layer_norm_epsilon": config.norm_eps,
        "activation_function": config.activation,
        "scale_attn_weights": config.attention_scale is None,
        **dict.fromkeys(("embd_pdrop", "attn_pdrop", "resid_pdrop"), config.dropout),
    }


def _read_gpt_neo(config: Mapping[str, Any]) -> Fields:
    size, heads, inner = config["hidden_size"], config["num_heads"], config.get("intermediate_size")
    kinds = [kind for kinds, times in config["attention_types"] for kind in kinds * times]
    if len(kinds) != config["num_layers"] or not set(kinds) <= {"global", "local"}:
        raise ValueError("attention_types: must name global or local for each layer")
    window = config.get("window_size", 256)
    return {
        "hidden_size": size,
        "intermediate_size": 4 * size if inner is None else inner,
        "num_hidden_layers": config["num_layers"],
        "num_attention_heads": heads,
        "num_key_value_heads": heads,
        "head_dim": size // heads,
        "max_position_embeddings": config["max_position_embeddings"],
        "norm_eps": float(config.get("layer_norm_epsilon", 1e-5)),
        "activation": _activation(config, "activation_function", "gelu_new"),
        "attention_windows": tuple(window if kind == "local" else None for kind in kinds),
        "dropout": float(config.get("resid_dropout", 0.0)),
        "tie_word_embeddings": bool(config.get("tie_word_embeddings", True)),
    }


def _write_gpt_neo(config: LMConfig) -> Fields:
    windows = [config.window(layer) for layer in range(config.num_hidden_layers)]
    kinds = ["global" if window is None else "local" for window in windows]
    return {
        "hidden_size": config.hidden_size,
        "intermediate_size": config.intermediate_size,
        "num_layers": config.num_hidden_layers,
        "num_heads": config.num_attention_heads,
        "max_position_embeddings": config.max_position_embeddings,
        "layer_norm_epsilon": config.norm_eps,
        "activation_function": config.activation,
        "attention_types": [[kinds, 1]],
        "window_size": max((w for w in windows if w is not None), default=256),
        **dict.fromkeys(
            ("embed_dropout", "attention_dropout", "resid_dropout"), float(config.dropout)
        ),
    }


# Llama (Touvron et al. 2023) and the families that are made like it.
def _read_llama(config: Mapping[str, Any]) -> Fields:
    size, heads = config["hidden_size"], config["num_attention_heads"]
    # transformers 5 writes rope_parameters, 4 wrote rope_theta and rope_scaling.
    rope = dict(config.get("rope_parameters") or config.get("rope_scaling") or {})
    theta = rope.pop("rope_theta", config.get("rope_theta", 10000.0))
    if "type" in rope:  # the first versions' word for it
        kind = rope.pop("type")
        rope.setdefault("rope_type", kind)
    scaled = rope.get("rope_type", "default") != "default"
    bias = bool(config.get("attention_bias", False))
    return {
        "hidden_size": size,
        "intermediate_size": config["intermediate_size"],
        "num_hidden_layers": config["num_hidden_layers"],
        "num_attention_heads": heads,
        "num_key_value_heads": config.get("num_key_value_heads") or heads,
        "head_dim": config.get("head_dim") or size // heads,
        "max_position_embeddings": config["max_position_embeddings"],
        "norm_eps": float(config["rms_norm_eps"]),
        "rope_theta": float(theta),
        "rope_scaling": rope if scaled else None,
        "activation": _activation(config, "hidden_act", "silu"),
        "qkv_bias": bias,
        "out_bias": bias,
        "mlp_bias": bool(config.get("mlp_bias", False)),
        "dropout": float(config.get("attention_dropout") or 0.0),
        "tie_word_embeddings": bool(config.get("tie_word_embeddings", False)),
    }


def _write_llama(config: LMConfig) -> Fields:
    rope = config.rope_scaling or {"rope_type": "default"}
    return {
        "hidden_size": config.hidden_size,
        "intermediate_size": config.intermediate_size,
        "num_hidden_layers": config.num_hidden_layers,
        "num_attention_heads": config.num_attention_heads,
        "num_key_value_heads": config.num_key_value_heads,
        "head_dim": config.head_dim,
        "max_position_embeddings": config.max_position_embeddings,
        "hidden_act": config.activation,
        "rms_norm_eps": config.norm_eps,
        "rope_parameters": {**rope, "rope_theta": config.rope_theta},
        "attention_bias": config.out_bias,
        "mlp_bias": config.mlp_bias,
        "attention_dropout": config.dropout,
    }


def _read_mistral(config: Mapping[str, Any]) -> Fields:
    window = config.get("sliding_window", 4096)
    return _read_llama(config) | {"attention_windows": () if window is None else (window,)}


def _write_mistral(config: LMConfig) -> Fields:
    return _write_llama(config) | {"sliding_window": config.window(0)}


def _read_qwen(config: Mapping[str, Any]) -> Fields:
    return _read_llama(config) | {"attention_windows": _qwen_windows(config)}


def _read_qwen3(config: Mapping[str, Any]) -> Fields:
    return _read_qwen({"head_dim": 128, **config})


def _qwen_windows(config: Mapping[str, Any]) -> tuple[int | None, ...]:
    if not config.get("use_sliding_window", False):
        return ()
    window, first = config.get("sliding_window", 4096), config.get("max_window_layers", 28)
    kinds = config.get("layer_types")
    if kinds is not None:
        return tuple(window if kind == "sliding_attention" else None for kind in kinds)
    layers = config["num_hidden_layers"]
    if layers > 2**16:
        raise ValueError(f"num_hidden_layers: {layers} are too many")
    return tuple(window if layer >= first else None for layer in range(layers))


def _write_qwen(config: LMConfig) -> Fields:
    windows = [config.window(layer) for layer in range(config.num_hidden_layers)]
    slides = [window for window in windows if window is not None]
    kinds = ["full_attention" if window is None else "sliding_attention" for window in windows]
    return _write_llama(config) | {
        "use_sliding_window": bool(slides),
        "sliding_window": max(slides, default=None),
        "layer_types": kinds,
    }


_NO_BIAS: Fields = {"qkv_bias": False, "out_bias": False, "mlp_bias": False}

FAMILIES = {
    family.architecture: family
    for family in (
        Family("LlamaForCausalLM", "llama", {}, _read_llama, _write_llama),
        Family("MistralForCausalLM", "mistral", _NO_BIAS, _read_mistral, _write_mistral),
        Family("Qwen2ForCausalLM", "qwen2", _NO_BIAS | {"qkv_bias": True}, _read_qwen, _write_qwen),
        Family(
            "Qwen3ForCausalLM",
            "qwen3",
            {"qk_norm": True, "mlp_bias": False},
            _read_qwen3,
            _write_qwen,
        ),
        Family("GPT2LMHeadModel", "gpt2", _GPT | {"qkv_bias": True}, _read_gpt2, _write_gpt2),
        Family(
            "GPTNeoForCausalLM",
            "gpt_neo",
            _GPT | {"attention_scale": 1.0},  # trained without a scale
            _read_gpt_neo,
            _write_gpt_neo,
        ),
    )
}
"""By the name of their class in transformers."""
