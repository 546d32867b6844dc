"""LoRA of a UNet or a DiT, written as diffusers reads it. R rank, C features in, F features out."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

from vermilion.errors import InputError
from vermilion.models.diffusion.dit import DiT
from vermilion.models.diffusion.net import UNet
from vermilion.nn.lora import LoRALinear, replace
from vermilion.train.diffusion.options import Adapters

FILE = "pytorch_lora_weights.safetensors"
"""Name that `load_lora_weights` looks for in a folder."""


def adapt(net: UNet | DiT, options: Adapters, seed: int) -> None:
    """Freeze a network and put adapters beside its layers.

    Args:
        net: the network, changed in place.
        options: which layers, and how.
        seed: of the first weights.

    Raises:
        InputError: the network has no such layers.
    """
    net.requires_grad_(requires_grad=False)
    layers = {name: m for name, m in net.named_modules() if isinstance(m, nn.Linear)}
    chosen: dict[str, nn.Linear] = {}
    for target in options.lora_targets:
        found = {n: m for n, m in layers.items() if n == target or n.endswith(f".{target}")}
        if not found:
            some = sorted({".".join(name.split(".")[-2:]) for name in layers})[:20]
            raise InputError(
                f"lora_targets: no layer is called {target}; such are {', '.join(some)}"
            )
        chosen |= found
    draw = torch.Generator().manual_seed(seed)
    for name, layer in chosen.items():
        added = LoRALinear(
            layer,
            [layer.out_features],
            [True],
            rank=options.lora_r,
            alpha=options.lora_alpha,
            dropout=options.lora_dropout,
        )
        added.draw(draw)
        replace(net, name, added)


def save_lora(net: UNet | DiT, folder: Path) -> None:
    """Write the adapters of a network that `adapt` changed.

    What scales them is multiplied into B, since without metadata alpha is the rank.

        unet.LAYER.lora_A.weight    A, (R, C)
        unet.LAYER.lora_B.weight    alpha/R B, (F, R)

    Of a DiT, which diffusers loads no adapters into, the names begin with the layer.
    """
    tensors, whose = {}, "" if isinstance(net, DiT) else "unet."
    for name, layer in net.named_modules():
        if isinstance(layer, LoRALinear):
            for _, a, b in layer.pairs():
                tensors[f"{whose}{name}.lora_A.weight"] = a.detach().cpu().contiguous()
                tensors[f"{whose}{name}.lora_B.weight"] = (
                    (layer.scale * b.detach()).cpu().contiguous()
                )
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / FILE, metadata={"format": "pt"})
