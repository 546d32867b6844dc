"""LoRA of language models, in the layout of the `peft` library: adapter_config.json and
adapter_model.safetensors, with a pair of matrices for each projection of the published model.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from vermilion.errors import InputError, ModelError
from vermilion.models.files import read_json, write_json, written_whole
from vermilion.models.lm.names import TRANSFORMERS
from vermilion.models.lm.net import LM
from vermilion.nn.lora import LoRALinear, replace

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_PREFIX = "base_model.model."


def adapt(
    net: LM,
    *,
    rank: int,
    alpha: float,
    dropout: float = 0.0,
    targets: Collection[str] | None = None,
    seed: int = 0,
) -> None:
    """Freeze a network and put adapters beside the projections in its blocks.

    Args:
        net: the network, changed in place.
        rank: R.
        alpha: see `nn.lora.LoRALinear`.
        dropout: likewise.
        targets: last parts of the published projections' names, such as "q_proj"; None: all.
        seed: of the first weights.

    Raises:
        InputError: a target that the network does not have.
    """
    net.requires_grad_(requires_grad=False)
    draw = torch.Generator().manual_seed(seed)
    layers = [(n, m) for n, m in net.blocks.named_modules() if isinstance(m, nn.Linear)]
    known = {_last(part) for name, _ in layers for part in _parts(net, f"blocks.{name}")}
    unknown = sorted(set(targets or ()) - known)
    if unknown:
        raise InputError(
            f"lora_targets: the model has no {unknown[0]}; it has {', '.join(sorted(known))}"
        )
    for name, layer in layers:
        parts = _parts(net, f"blocks.{name}")
        adapted = [targets is None or _last(part) in targets for part in parts]
        if not any(adapted):
            continue
        sizes = _sizes(net, name, layer.out_features, len(parts))
        added = LoRALinear(layer, sizes, adapted, rank=rank, alpha=alpha, dropout=dropout)
        added.draw(draw)
        replace(net, f"blocks.{name}", added)


def _parts(net: LM, name: str) -> list[str]:
    """Published names of the projections that one of our layers joins."""
    parts = TRANSFORMERS[net.config.architecture].parts(f"{name}.weight")
    return [part.removesuffix(".weight") for part in parts]


def _last(name: str) -> str:
    return name.rpartition(".")[2]


def _sizes(net: LM, name: str, features: int, parts: int) -> list[int]:
    """How many features each projection of a layer gives."""
    if name.endswith(".qkv") and parts == 3:
        config = net.config
        keys = config.num_key_value_heads * config.head_dim
        return [config.num_attention_heads * config.head_dim, keys, keys]
    return [features // parts] * parts


def _adapters(net: LM) -> Iterator[tuple[str, nn.Parameter, nn.Parameter]]:
    """Published name, A and B of every adapted projection."""
    for name, layer in net.named_modules():
        if isinstance(layer, LoRALinear):
            parts = _parts(net, name)
            yield from ((parts[number], a, b) for number, a, b in layer.pairs())


def save_adapters(net: LM, folder: Path, *, base: str, rank: int, alpha: float) -> None:
    """Write the adapters of a network as `peft` reads them.

    Args:
        net: a network that `adapt` changed.
        folder: where to.
        base: name of the model that they belong to.
        rank: R.
        alpha: as it was adapted with.

    Raises:
        StorageError: the disk is full or read-only.
    """
    layout = TRANSFORMERS[net.config.architecture]
    tensors, targets = {}, set()
    for part, a, b in _adapters(net):
        targets.add(part)
        tensors[f"{_PREFIX}{part}.lora_A.weight"] = a.detach().cpu().contiguous()
        tensors[f"{_PREFIX}{part}.lora_B.weight"] = b.detach().cpu().contiguous()
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "r": rank,
        "lora_alpha": alpha,
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": any(layout.is_transposed(f"{part}.weight") for part in targets),
        "target_modules": sorted(_targets(targets)),
        "inference_mode": True,
    }
    with written_whole(folder) as staged:
        save_file(tensors, staged / WEIGHTS, metadata={"format": "pt"})
        write_json(staged / CONFIG, config)


def _targets(parts: Collection[str]) -> set[str]:
    """The shortest ends of names that tell the projections; "attn.c_proj" is not "mlp.c_proj"."""
    return {".".join(part.split(".")[-2:]) for part in parts}


def load_adapters(net: LM, folder: Path) -> None:
    """Put adapters that `save_adapters` or `peft` wrote beside a network's projections.

    Raises:
        ModelError: they are broken, of a kind that is not supported, or of another model.
    """
    config = read_json(folder / CONFIG)
    rank = _supported(config, folder)
    try:
        tensors = load_file(folder / WEIGHTS)
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{folder / WEIGHTS}: cannot be read ({error})") from None
    for name, layer in [(n, m) for n, m in net.named_modules() if isinstance(m, nn.Linear)]:
        if not name.startswith("blocks."):
            continue
        parts = _parts(net, name)
        adapted = [f"{_PREFIX}{part}.lora_A.weight" in tensors for part in parts]
        if any(adapted):
            sizes = _sizes(net, name, layer.out_features, len(parts))
            alpha = float(config["lora_alpha"])
            replace(net, name, LoRALinear(layer, sizes, adapted, rank=rank, alpha=alpha))
    with torch.no_grad():
        for part, a, b in _adapters(net):
            for letter, mine in (("A", a), ("B", b)):
                found = tensors.pop(f"{_PREFIX}{part}.lora_{letter}.weight", None)
                if found is None or found.shape != mine.shape:
                    raise ModelError(f"{folder}: lora_{letter} of {part} does not fit the model")
                mine.copy_(found)
    if tensors:
        raise ModelError(f"{folder}: the model has no place for {min(tensors)}")


def _supported(config: dict[str, Any], folder: Path) -> int:
    strange = [
        field
        for field in ("use_dora", "use_rslora", "rank_pattern", "alpha_pattern", "modules_to_save")
        if config.get(field)
    ]
    if config.get("peft_type") != "LORA" or config.get("bias", "none") != "none" or strange:
        what = strange[0] if strange else "another kind than LoRA without biases"
        raise ModelError(f"{folder / CONFIG}: {what} is not supported")
    rank = config.get("r")
    if not isinstance(rank, int) or rank < 1:
        raise ModelError(f"{folder / CONFIG}: r: must be a whole number above 0")
    return rank
