"""Weights in and out: the one file that knows what published layouts call things.

Reads transformers folders (config.json, *.safetensors, whole or in shards) and GGUF files;
writes transformers folders.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from vermilion.errors import ModelError
from vermilion.models.lm.config import LMConfig, read_json
from vermilion.models.lm.gguf import GGUF
from vermilion.models.lm.net import LM
from vermilion.models.lm.tokenizer import Tokenizer
from vermilion.nn.positions import rotary_frequencies

WHOLE = "model.safetensors"
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


# Tensors that may be left over: an output layer that is the embedding matrix written twice, and
# the frequencies of the rotary embedding, which old files keep.
_SPARE = ("lm_head.weight", "rotary_emb.inv_freq", "rope_freqs.weight")


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
    config, tokenizer, read, left = _open_folder(path) if path.is_dir() else _open_gguf(path)
    if config.num_hidden_layers > len(left):
        raise ModelError(f"{path}: there are fewer tensors than layers; pull the model again")
    try:
        with torch.device("meta"):
            net = LM(config)
    except ValueError as error:
        raise ModelError(f"{path}: {error}") from None
    state = {}
    for name, expected in net.state_dict().items():
        if name == "head.weight" and config.tie_word_embeddings:
            continue
        parts = published_names(name)
        joined = read(parts[0]) if len(parts) == 1 else _stack(read, parts, expected.shape)
        if joined.shape != expected.shape:
            raise ModelError(
                f"{path}: {name} has the shape {tuple(joined.shape)} where the config asks for"
                f" {tuple(expected.shape)}; the model's files do not belong together"
            )
        state[name] = joined.to(device, dtype)
    strangers = [name for name in left if not name.endswith(_SPARE)]
    if strangers:
        raise ModelError(
            f"{path}: a network of {config.architecture} has no place for {min(strangers)};"
            " this variant is not supported"
        )
    if config.tie_word_embeddings:
        state["head.weight"] = state["embedding.weight"]
    net.load_state_dict(state, assign=True)
    if config.tie_word_embeddings:
        net.head.weight = net.embedding.weight
    return net.to(device).eval().requires_grad_(requires_grad=False), tokenizer


def _stack(read: Callable[[str], Tensor], parts: list[str], shape: torch.Size) -> Tensor:
    """The parts one above the other; each is let go before the next is read."""
    wrong, out, at = torch.empty(0), torch.empty(0), 0  # the caller reports a wrong shape
    for name in parts:
        part = read(name)
        if part.dim() != len(shape) or part.shape[1:] != shape[1:] or at + len(part) > shape[0]:
            return wrong
        if at == 0:  # none is larger than the first: no memory is taken for an absurd shape
            if len(part) * len(parts) < shape[0]:
                return wrong
            out = torch.empty(shape)
        out[at : at + len(part)] = part
        at += len(part)
    return out if at == shape[0] else wrong


def count_parameters(path: Path) -> int:
    """Number of parameters in a model's files, from their headers alone.

    Raises:
        ModelError: a header cannot be read.
    """
    if not path.is_dir():
        return sum(prod(info.shape) for info in GGUF(path).tensors.values())
    where = _tensor_files(path)
    files = {file: _open_safetensors(file) for file in set(where.values())}
    return sum(prod(files[file].get_slice(name).get_shape()) for name, file in where.items())


class _Opened(NamedTuple):
    config: LMConfig
    tokenizer: Tokenizer
    read: Callable[[str], Tensor]  # by the name that transformers uses
    left: set[str]  # tensors that were not read yet, by the names in the files


def _open_folder(folder: Path) -> _Opened:
    config = LMConfig.from_transformers(read_json(folder / "config.json"))
    generation = folder / "generation_config.json"
    if generation.exists():  # it may name more end tokens than config.json does
        eos = read_json(generation).get("eos_token_id")
        if eos is not None:
            ids = tuple(eos) if isinstance(eos, list) else (eos,)
            config = replace(config, eos_token_ids=ids)
    where = _tensor_files(folder)
    left = set(where)
    files: dict[Path, Any] = {}

    def read(name: str) -> Tensor:
        if name not in where:
            raise ModelError(f"{folder}: the tensor {name} is missing; pull the model again")
        path = where[name]
        if path not in files:
            files[path] = _open_safetensors(path)
        left.discard(name)
        tensor: Tensor = files[path].get_tensor(name)
        return tensor

    return _Opened(config, Tokenizer.from_folder(folder), read, left)


def _tensor_files(folder: Path) -> dict[str, Path]:
    """Which file holds which tensor; found in the order in which transformers looks."""
    files: Iterable[Path]
    if (folder / WHOLE).exists():
        files = [folder / WHOLE]
    elif (folder / INDEX).exists():
        index = read_json(folder / INDEX).get("weight_map")
        if not isinstance(index, dict) or not all(isinstance(f, str) for f in index.values()):
            raise ModelError(
                f"{folder / INDEX}: weight_map: must say which file holds which tensor"
            )
        files = {folder / file for file in index.values()}
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


def _open_gguf(path: Path) -> _Opened:
    gguf = GGUF(path)
    config = LMConfig.from_gguf(gguf.metadata, gguf.tensors)
    if "rope_freqs.weight" in gguf.tensors:
        scaling = _llama3_scaling(gguf.load("rope_freqs.weight"), config)
        config = replace(config, rope_scaling=scaling)
    left = set(gguf.tensors)
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
        left.discard(stored)
        tensor = gguf.load(stored)
        if not paired or len(tensor) != heads.get(part, 0) * config.head_dim:
            return tensor
        return _split_pairs(tensor, heads[part])

    return _Opened(config, Tokenizer.from_gguf(gguf.metadata), read, left)


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
    save_file(state, folder / WHOLE, metadata={"format": "pt"})
    text = json.dumps(config.to_transformers(), indent=2)
    (folder / "config.json").write_text(text + "\n", encoding="utf-8")
    tokenizer.save(folder)
