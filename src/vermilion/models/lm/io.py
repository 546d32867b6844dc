"""Weights in and out: the one file that knows what published layouts call things.

Reads transformers folders (config.json, *.safetensors, whole or in shards) and GGUF files;
writes transformers folders.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from vermilion.errors import ModelError
from vermilion.models.lm.config import LMConfig
from vermilion.models.lm.gguf import GGUF
from vermilion.models.lm.net import LM
from vermilion.models.lm.tokenizer import Tokenizer

INDEX = "model.safetensors.index.json"

# Our name → the published names that are joined, one above the other, to make it.
_TOP = {
    "embedding.weight": ["model.embed_tokens.weight"],
    "norm.weight": ["model.norm.weight"],
    "head.weight": ["lm_head.weight"],
}
_BLOCK = {
    "attention_norm.weight": ["input_layernorm.weight"],
    "attention.qkv.{}": [f"self_attn.{part}_proj.{{}}" for part in "qkv"],
    "attention.out.{}": ["self_attn.o_proj.{}"],
    "feed_forward_norm.weight": ["post_attention_layernorm.weight"],
    "feed_forward.gate_up.weight": ["mlp.gate_proj.weight", "mlp.up_proj.weight"],
    "feed_forward.down.weight": ["mlp.down_proj.weight"],
}
_GGUF_TOP = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
}
_GGUF_BLOCK = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def published_names(name: str) -> list[str]:
    """What transformers calls the tensors that make up one of ours, in order."""
    if name in _TOP:
        return _TOP[name]
    _, layer, rest = name.split(".", 2)
    stem, ending = rest.rsplit(".", 1)
    parts = _BLOCK.get(rest) or [part.format(ending) for part in _BLOCK[f"{stem}.{{}}"]]
    return [f"model.layers.{layer}.{part}" for part in parts]


def load(
    path: Path, device: str = "cpu", dtype: torch.dtype = torch.float32
) -> tuple[LM, Tokenizer]:
    """Open a model.

    Args:
        path: a transformers folder, or a GGUF file.
        device: where its weights go.
        dtype: of its weights.

    Returns:
        The network, in evaluation mode, and its tokenizer.

    Raises:
        ModelError: a file is missing, broken, truncated, or of an architecture that is not
            supported.
    """
    if path.is_dir():
        config, tokenizer, read = _open_folder(path)
    else:
        config, tokenizer, read = _open_gguf(path)
    with torch.device("meta"):
        net = LM(config)
    state = {}
    for name, expected in net.state_dict().items():
        if name == "head.weight" and config.tie_word_embeddings:
            continue
        parts = published_names(name)
        joined = read(parts[0]) if len(parts) == 1 else _stack(map(read, parts), expected.shape)
        if joined.shape != expected.shape:
            raise ModelError(
                f"{path}: {name} has the shape {tuple(joined.shape)} where the config asks for"
                f" {tuple(expected.shape)}; the model's files do not belong together"
            )
        state[name] = joined.to(device, dtype)
    if config.tie_word_embeddings:
        state["head.weight"] = state["embedding.weight"]
    net.load_state_dict(state, assign=True)
    if config.tie_word_embeddings:
        net.head.weight = net.embedding.weight
    return net.to(device).eval().requires_grad_(requires_grad=False), tokenizer


def _stack(parts: Iterable[Tensor], shape: torch.Size) -> Tensor:
    """The parts one above the other; each is let go before the next is read."""
    out, at = torch.empty(shape), 0
    for part in parts:
        if at + len(part) > len(out) or part.shape[1:] != shape[1:]:
            return torch.empty(0)  # reported by the caller, which knows the tensor's name
        out[at : at + len(part)] = part
        at += len(part)
    return out if at == len(out) else torch.empty(0)


_Opened = tuple[LMConfig, Tokenizer, Callable[[str], Tensor]]


def _open_folder(folder: Path) -> _Opened:
    config = LMConfig.from_transformers(read_json(folder / "config.json"))
    generation = folder / "generation_config.json"
    if generation.exists():  # it may name more end tokens than config.json does
        eos = read_json(generation).get("eos_token_id")
        if eos is not None:
            ids = tuple(eos) if isinstance(eos, list) else (eos,)
            config = LMConfig(**{**_fields(config), "eos_token_ids": ids})
    where = _tensor_files(folder)
    files: dict[Path, Any] = {}

    def read(name: str) -> Tensor:
        if name not in where:
            raise ModelError(f"{folder}: the tensor {name} is missing; pull the model again")
        path = where[name]
        if path not in files:
            files[path] = _open_safetensors(path)
        tensor: Tensor = files[path].get_tensor(name)
        return tensor

    return config, Tokenizer.from_folder(folder), read


def _fields(config: LMConfig) -> dict[str, Any]:
    return {name: getattr(config, name) for name in LMConfig.__slots__}


def _tensor_files(folder: Path) -> dict[str, Path]:
    """Which file holds which tensor."""
    if (folder / INDEX).exists():
        files: Iterable[Path] = {
            folder / f for f in read_json(folder / INDEX)["weight_map"].values()
        }
    else:
        files = sorted(folder.glob("*.safetensors"))
    where = {name: path for path in files for name in _open_safetensors(path).keys()}  # noqa: SIM118
    if not where:
        raise ModelError(f"{folder}: there is no *.safetensors file in this folder")
    return where


def _open_safetensors(path: Path) -> Any:
    try:
        return safe_open(path, framework="pt")
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path}: cannot be read ({error}); pull the model again") from None


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a model's folder.

    Raises:
        ModelError: the file is missing or is no JSON object.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelError(f"{path.parent}: {path.name} is missing; pull the model again") from None
    except ValueError as error:
        raise ModelError(f"{path}: this is not JSON ({error}); pull the model again") from None
    if not isinstance(value, dict):
        raise ModelError(f"{path}: this is not a JSON object; pull the model again")
    return value


def _open_gguf(path: Path) -> _Opened:
    gguf = GGUF(path)
    config = LMConfig.from_gguf(gguf.metadata, gguf.tensors)
    heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}
    # GGUF's llama files keep each head's rotary pairs side by side; qwen2 files do not.
    paired = gguf.metadata["general.architecture"] == "llama"

    def read(name: str) -> Tensor:
        stem, ending = name.rsplit(".", 1)
        if stem in _GGUF_TOP:
            part, stored = "", f"{_GGUF_TOP[stem]}.{ending}"
        else:
            _, _, layer, rest = stem.split(".", 3)
            part = _GGUF_BLOCK[rest]
            stored = f"blk.{layer}.{part}.{ending}"
        if stored not in gguf.tensors:
            raise ModelError(f"{path}: the tensor {stored} is missing; pull the model again")
        tensor = gguf.load(stored)
        return _split_pairs(tensor, heads[part]) if paired and part in heads else tensor

    return config, Tokenizer.from_gguf(gguf.metadata), read


def _split_pairs(tensor: Tensor, heads: int) -> Tensor:
    """From (x0 y0 x1 y1 ...) to (x0 x1 ... y0 y1 ...) within each head's rows."""
    return tensor.view(heads, -1, 2, *tensor.shape[1:]).transpose(1, 2).reshape(tensor.shape)


def save(net: LM, tokenizer: Tokenizer, folder: Path) -> None:
    """Write a folder that `AutoModelForCausalLM.from_pretrained` opens unchanged."""
    folder.mkdir(parents=True, exist_ok=True)
    config = net.config
    groups = [config.num_attention_heads, config.num_key_value_heads, config.num_key_value_heads]
    state: dict[str, Tensor] = {}
    for name, tensor in net.state_dict().items():
        if name == "head.weight" and config.tie_word_embeddings:
            continue
        names = published_names(name)
        sizes = [g * config.head_dim for g in groups] if ".qkv." in name else None
        parts = tensor.split(sizes or len(tensor) // len(names))
        state.update(zip(names, (part.contiguous() for part in parts), strict=True))
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    text = json.dumps(config.to_transformers(), indent=2)
    (folder / "config.json").write_text(text + "\n", encoding="utf-8")
    tokenizer.save(folder)
