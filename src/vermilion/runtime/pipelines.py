"""Diffusers' folders, and what a single file of tensors is: told by names, opened by nobody.

A published pipeline lies there many times over: as pickles and as safetensors, in float32 and in
float16, with and without the average of training, whole and in one file. One of each network is
enough.
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from vermilion.errors import ModelError
from vermilion.runtime.weights import PICKLES, unsafe

INDEX = "model_index.json"
OURS = "vermilion.json"  # what diffusers' files cannot say of a model that was trained here
# Folder of a network → what its weights are called there.
NETWORKS = {
    "unet": "diffusion_pytorch_model",
    "transformer": "diffusion_pytorch_model",
    "vae": "diffusion_pytorch_model",
    "text_encoder": "model",
}
_BESIDE = (
    INDEX,
    OURS,
    "scheduler/scheduler_config.json",
    "tokenizer/vocab.json",
    "tokenizer/merges.txt",
    "tokenizer/vocab.txt",
    "tokenizer/tokenizer.json",
    "tokenizer/tokenizer_config.json",
    "tokenizer/special_tokens_map.json",
    "tokenizer/added_tokens.json",
)
_LORA = re.compile(r"[._]lora(_A|_B|_down|_up|\.down|\.up|_linear_layer\.(down|up))\b")
_LARGEST_WORD = 4096  # features of a word's vector; what is wider is no learnt word
_MAX_HEADER = 100_000_000


def is_pipeline(names: Iterable[str]) -> bool:
    """Whether the files of a place are a diffusers pipeline."""
    return INDEX in names


def select_pipeline(names: Iterable[str], where: str, *, half: bool) -> tuple[str, ...]:
    """The files that make a pipeline, each network once, as safetensors.

    A checker of pictures is no part of it: it is larger than a VAE and a text tower together, and
    what is painted is judged where all pictures are, by the seal.

    Args:
        names: of all that lies there, relative to it, with "/" between folders.
        where: the place, for messages.
        half: whether float16 is taken where every network is there in it, which is half as much
            to fetch; else the full weights come first.

    Raises:
        UnsafeModelError: a network is there as a pickle only.
        ModelError: a network or its configuration is missing.
    """
    every = set(names)
    networks = {
        folder: stem
        for folder, stem in NETWORKS.items()
        if any(name.startswith(f"{folder}/") for name in every)
    }
    if not {"unet", "transformer"} & set(networks):
        raise ModelError(f"{where} holds {INDEX} and no unet; name a pipeline with one")
    for variants in ((".fp16", ""), ("", ".fp16")) if half else (("", ".fp16"),):
        chosen = [_weights(every, *network, variants[:1]) for network in networks.items()]
        if all(chosen):
            break
    chosen = [_weights(every, *network, variants) for network in networks.items()]
    for folder, found in zip(networks, chosen, strict=True):
        if not found:
            raise _missing(every, folder, where)
        if f"{folder}/config.json" not in every:
            raise ModelError(f"{where}/{folder} has no config.json; save the pipeline again")
    configs = {f"{folder}/config.json" for folder in networks}
    beside = (configs | set(_BESIDE)) & every
    return tuple(sorted(beside.union(*chosen)))


def _weights(every: set[str], folder: str, stem: str, variants: tuple[str, ...]) -> set[str]:
    """The safetensors of one network, of the first variant that is there, whole or in shards."""
    for variant in variants:
        whole = f"{folder}/{stem}{variant}.safetensors"
        if whole in every:
            return {whole}
        index = f"{folder}/{stem}.safetensors.index{variant}.json"
        shard = re.compile(rf"{folder}/{stem}{re.escape(variant)}-\d+-of-\d+\.safetensors")
        shards = {name for name in every if shard.fullmatch(name)}
        if index in every and shards:
            return shards | {index}
    return set()


def _missing(every: set[str], folder: str, where: str) -> Exception:
    pickles = sorted(n for n in every if n.startswith(f"{folder}/") and n.endswith(PICKLES))
    if pickles:
        return unsafe(f"{where}: {pickles[0]}")
    return ModelError(
        f"{where}/{folder} holds no safetensors; save the pipeline with safe_serialization=True"
    )


def family_of_tensors(path: Path) -> tuple[str, str]:
    """What a single safetensors file is, by the names and shapes in its header.

    Returns:
        Kind and family for its card: a whole Stable Diffusion ("picture", "diffusion"), an adapter
        ("adapter", "lora") or a learnt word ("adapter", "textual-inversion"); two empty strings:
        a part of something, or none of these.
    """
    tensors = _header(path)
    if any(name.startswith("model.diffusion_model.") for name in tensors):
        return "picture", "diffusion"
    if any(_LORA.search(name) for name in tensors):
        return "adapter", "lora"
    shapes = [tensor.get("shape") for tensor in tensors.values() if isinstance(tensor, dict)]
    if len(shapes) == 1 and isinstance(shapes[0], list) and 1 <= len(shapes[0]) <= 2:
        return ("adapter", "textual-inversion") if shapes[0][-1] <= _LARGEST_WORD else ("", "")
    return "", ""


def _header(path: Path) -> Mapping[str, Any]:
    """A safetensors file's header; empty where it is broken, which `check_file` reports."""
    with path.open("rb") as file:
        head = file.read(8)
        length = struct.unpack("<Q", head)[0] if len(head) == 8 else 0
        text = file.read(length) if 0 < length <= _MAX_HEADER else b""
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    found = found if isinstance(found, dict) else {}
    return {name: value for name, value in found.items() if name != "__metadata__"}
