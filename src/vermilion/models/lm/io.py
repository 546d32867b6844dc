"""Language models in and out: transformers folders both ways, GGUF files in.

What published files call the weights is in `names`, how they describe a network in `families`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from vermilion.errors import ModelError
from vermilion.models.files import (
    MAX_SHARD_BYTES,
    TensorFiles,
    read_json,
    save_tensors,
    write_json,
    written_whole,
)
from vermilion.models.lm.config import LMConfig
from vermilion.models.lm.families import from_transformers, to_transformers
from vermilion.models.lm.gguf import GGUF
from vermilion.models.lm.gguf_model import GGUFTensors
from vermilion.models.lm.names import TRANSFORMERS, Names
from vermilion.models.lm.net import LM
from vermilion.models.lm.tokenizer import Tokenizer


class Tensors(Protocol):
    """Published tensors, read one at a time."""

    @property
    def names(self) -> Collection[str]:
        """Of all of them."""
        ...

    def load(self, name: str) -> Tensor:
        """One of them, on the CPU."""
        ...


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
    opened = _open_folder(path) if path.is_dir() else _open_gguf(path)
    config, tensors = opened.config, opened.tensors
    if config.num_hidden_layers > len(tensors.names):
        raise ModelError(f"{path}: there are fewer tensors than layers; pull the model again")
    try:
        with torch.device("meta"):
            net = LM(config)
    except (ValueError, ArithmeticError) as error:
        raise ModelError(f"{path}: {error}") from None
    tied = {"head.weight": "embedding.weight"} if config.tie_word_embeddings else {}
    fill(net, tensors, opened.layout, str(path), device, dtype, tied)
    if config.tie_word_embeddings:
        net.head.weight = net.embedding.weight
    return net.to(device).eval().requires_grad_(requires_grad=False), opened.tokenizer


def fill(
    net: nn.Module,
    tensors: Tensors,
    layout: Names,
    where: str,
    device: str,
    dtype: torch.dtype,
    tied: dict[str, str],
) -> None:
    """Put published tensors into a network that was laid out on the meta device.

    Args:
        net: the network.
        tensors: what is published.
        layout: how its names are to be read.
        where: it lies, for messages.
        device: where the weights go.
        dtype: of the weights.
        tied: our names of weights that are other weights → those. Their own may be left over.

    Raises:
        ModelError: a tensor is missing, left over, or of another shape.
    """
    left = set(tensors.names)

    def read(part: str) -> Tensor:
        spelt = next((name for name in layout.spellings(part) if name in tensors.names), None)
        if spelt is None:
            raise ModelError(f"{where}: the tensor {part} is missing; pull the model again")
        left.discard(spelt)
        tensor = tensors.load(spelt)
        return tensor.t().contiguous() if layout.is_transposed(part) else tensor

    state: dict[str, Tensor] = {}
    for name, expected in net.state_dict().items():
        if name in tied:
            continue
        parts = layout.parts(name)
        joined = read(parts[0]) if len(parts) == 1 else _stack(read, parts, expected.shape)
        if joined.shape != expected.shape:
            raise ModelError(
                f"{where}: {name} has the shape {tuple(joined.shape)} where the config asks for"
                f" {tuple(expected.shape)}; the model's files do not belong together"
            )
        state[name] = joined.to(device, dtype)
    for name, same in tied.items():
        state[name] = state[same]
        left.difference_update(*map(layout.spellings, layout.parts(name)))
    strangers = [name for name in left if not layout.is_spare(name)]
    if strangers:
        raise ModelError(
            f"{where}: the network that the config describes has no place for {min(strangers)};"
            " this variant is not supported"
        )
    net.load_state_dict(state, assign=True)


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
    layout = TRANSFORMERS[from_transformers(read_json(path / "config.json")).architecture]
    return TensorFiles(path).count(layout.is_spare)


class _Opened(NamedTuple):
    config: LMConfig
    tokenizer: Tokenizer
    tensors: Tensors
    layout: Names


def _open_folder(folder: Path) -> _Opened:
    config = from_transformers(read_json(folder / "config.json"))
    generation = folder / "generation_config.json"
    if generation.exists():  # it may name more end tokens than config.json does
        eos = read_json(generation).get("eos_token_id")
        if eos is not None:
            ids = tuple(eos) if isinstance(eos, list) else (eos,)
            config = replace(config, eos_token_ids=ids)
    tokenizer = Tokenizer.from_folder(folder)
    _name_ends(tokenizer, config)
    return _Opened(config, tokenizer, TensorFiles(folder), TRANSFORMERS[config.architecture])


def _name_ends(tokenizer: Tokenizer, config: LMConfig) -> None:
    """Say which tokens begin and end a text, where config.json alone does, as GPT-2's."""
    ends = {"bos_token": config.bos_token_id, "eos_token": next(iter(config.eos_token_ids), None)}
    for role, number in ends.items():
        if not isinstance(number, int) or not 0 <= number < tokenizer.fast.get_vocab_size():
            continue
        token = tokenizer.fast.id_to_token(number)
        if token is not None:
            tokenizer.special.setdefault(role, token)


def _open_gguf(path: Path) -> _Opened:
    tensors = GGUFTensors(path)
    tokenizer = Tokenizer.from_gguf(tensors.metadata)
    return _Opened(tensors.config, tokenizer, tensors, tensors.layout)


def save(
    net: LM,
    tokenizer: Tokenizer,
    folder: Path,
    *,
    dtype: torch.dtype | None = None,
    max_shard_bytes: int = MAX_SHARD_BYTES,
) -> None:
    """Write a folder that `AutoModelForCausalLM.from_pretrained` opens unchanged.

    The files are written aside and take their places when all of them are complete; see
    `models.files.written_whole`.

    Args:
        net: the network.
        tokenizer: its tokenizer.
        folder: where to; made if it does not exist.
        dtype: of the weights in the files, e.g. torch.float16; None: as they are.
        max_shard_bytes: most bytes in a file of weights; more of them go into further files.

    Raises:
        ModelError: the network is none that its architecture in transformers can describe.
        StorageError: the disk is full or read-only.
    """
    config = net.config
    described = to_transformers(config)
    written = next(net.parameters()).dtype if dtype is None else dtype
    described["dtype"] = str(written).removeprefix("torch.")
    ends = {"bos_token_id": described["bos_token_id"], "eos_token_id": described["eos_token_id"]}
    with written_whole(folder) as staged:
        save_tensors(_published(net, dtype), staged, max_shard_bytes=max_shard_bytes)
        write_json(staged / "config.json", described)
        write_json(
            staged / "generation_config.json",
            {"_from_model_config": True, **{k: v for k, v in ends.items() if v is not None}},
        )
        tokenizer.save(staged)


def _published(net: LM, dtype: torch.dtype | None) -> dict[str, Tensor]:
    """The weights under the names and in the layout of transformers."""
    config, layout = net.config, TRANSFORMERS[net.config.architecture]
    heads = [config.num_attention_heads, config.num_key_value_heads, config.num_key_value_heads]
    state: dict[str, Tensor] = {}
    for name, tensor in net.state_dict().items():
        if name == "head.weight" and config.tie_word_embeddings:
            continue
        parts = layout.parts(name)
        sizes = [count * config.head_dim for count in heads] if ".qkv." in name else []
        split = len(parts) > 1
        rows = tensor.split(sizes or len(tensor) // len(parts)) if split else (tensor,)
        for part, stored in zip(parts, rows, strict=True):
            turned = stored.t() if layout.is_transposed(part) else stored
            state[part] = turned.to("cpu", dtype).contiguous()
    return state
