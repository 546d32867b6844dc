"""LoRA of a UNet and its text tower, in the layouts in which such files are published.

    W' = W + w (alpha / R) B A            Hu et al. 2021, eq. 3; w is how much a person wants

    diffusers, peft    unet.down_blocks.0 ... attn1.to_q.lora_A.weight     A, (R, C)
                       text_encoder.text_model ... q_proj.lora_B.weight    B, (F, R)
    older diffusers    ... attn1.processor.to_q_lora.down.weight, ... to_q.lora.up.weight
    kohya              lora_unet_down_blocks_0 ... attn1_to_q.lora_down.weight, .lora_up.weight,
                       .alpha; lora_te_text_model ...

Of a convolution A is one too, (R, C, k, k), and B is one of size 1, (F, R, 1, 1). Foreign names are
known in this file alone. What is not of these shapes (LoHa, LoKr, DoRA, Tucker's third matrix) is
refused by name.

An adapter is merged into the weights, which costs nothing while pictures are painted, or applied
beside them, which needs no copy of them. Both give the same picture up to rounding.

R rank, C channels in, F channels out, k size of a convolution.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.nn import functional as F

from vermilion.errors import ModelError

# Ends of names: what they are called in each layout, and which matrix it is.
_DOWN = ("lora_A.weight", "lora_down.weight", "lora.down.weight", "lora_linear_layer.down.weight")
_UP = ("lora_B.weight", "lora_up.weight", "lora.up.weight", "lora_linear_layer.up.weight")
_ENDS = {end: letter for letter, ends in (("A", _DOWN), ("B", _UP)) for end in ends}
_ENDS |= {"lora_A.default.weight": "A", "lora_B.default.weight": "B", "alpha": "alpha"}
_UNKNOWN = re.compile(r"hada_|lokr_|lora_mid|dora_scale|magnitude_vector|oft_|\.diff|lora_B\.bias")
_OLD = re.compile(r"\.processor\.(to_q|to_k|to_v|to_out)_lora\.")
# Beginnings of names, and the network that they are of; the rest belongs to the UNet.
_TOWERS = ("text_encoder.", "lora_te1_", "lora_te_")
_UNETS = ("unet.", "lora_unet_")
_OTHERS = ("text_encoder_2.", "lora_te2_", "transformer.")
_METADATA = "lora_adapter_metadata"


@dataclass(frozen=True, slots=True)
class Pair:
    """What is added to one layer.

    Attributes:
        down: A, (R, C) or (R, C, k, k).
        up: B, (F, R) or (F, R, 1, 1).
        scale: alpha / R.
    """

    down: Tensor
    up: Tensor
    scale: float

    def delta(self, shape: torch.Size) -> Tensor:
        """What B and A add, scaled, in the shape of a layer's weight, float32."""
        product = self.up.float().flatten(1) @ self.down.float().flatten(1)  # (F, C k k)
        return self.scale * product.reshape(shape)


@dataclass(frozen=True, slots=True)
class Adapter:
    """What a file adds to a model.

    Attributes:
        path: of the file.
        unet: plain name of a layer → what is added to it; see `plain`.
        tower: likewise, of the text tower.
    """

    path: Path
    unet: Mapping[str, Pair]
    tower: Mapping[str, Pair]

    @classmethod
    def read(cls, path: Path) -> Adapter:
        """Read a safetensors file.

        Raises:
            ModelError: it is broken, no LoRA, or of a kind that is not supported.
        """
        tensors, alphas = _read(path)
        parts: dict[str, dict[str, Tensor]] = {}
        for name, tensor in tensors.items():
            layer, letter = _split(name, path)
            parts.setdefault(layer, {})[letter] = tensor
        unet, tower = dict[str, Pair](), dict[str, Pair]()
        for layer, found in parts.items():
            pair = _pair(layer, found, alphas, path)
            whose, rest = _whose(layer, path)
            (tower if whose == "tower" else unet)[plain(rest)] = pair
        return cls(path, unet, tower)


def plain(layer: str) -> str:
    """A layer's name as all layouts agree on it: without dots, as kohya writes it."""
    return layer.removeprefix("text_model.").removeprefix("text_model_").replace(".", "_")


def _read(path: Path) -> tuple[dict[str, Tensor], Mapping[str, Any]]:
    """A file's tensors, and what its metadata say of alpha."""
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            told = json.loads((file.metadata() or {}).get(_METADATA, "{}"))
    except (SafetensorError, OSError, ValueError) as error:
        raise ModelError(f"{path}: cannot be read ({error}); fetch it again") from None
    return tensors, told if isinstance(told, dict) else {}


def _split(name: str, path: Path) -> tuple[str, str]:
    """The layer that a tensor belongs to, and which of its matrices it is."""
    if _UNKNOWN.search(name):
        raise ModelError(f"{path}: {name} is of another kind than LoRA, which is not supported")
    # Where the processor of an attention holds them, the layer's name comes before "_lora".
    modern = _OLD.sub(lambda found: f".{found[1]}.lora.", name)
    modern = modern.replace(".to_out.lora.", ".to_out.0.lora.")
    for end, letter in _ENDS.items():
        if modern.endswith(f".{end}"):
            return modern.removesuffix(f".{end}"), letter
    raise ModelError(f"{path}: {name} is no part of a LoRA")


def _whose(layer: str, path: Path) -> tuple[str, str]:
    for beginnings, whose in ((_OTHERS, ""), (_TOWERS, "tower"), (_UNETS, "unet")):
        for beginning in beginnings:
            if layer.startswith(beginning):
                if not whose:
                    raise ModelError(
                        f"{path}: {layer} belongs to a larger model than Stable Diffusion 1;"
                        " name an adapter that was made for this one"
                    )
                return whose, layer.removeprefix(beginning)
    return "unet", layer


def _pair(layer: str, found: Mapping[str, Tensor], told: Mapping[str, Any], path: Path) -> Pair:
    """Join what belongs to a layer."""
    if not {"A", "B"} <= set(found):
        raise ModelError(f"{path}: {layer} has one of its two matrices only; fetch the file again")
    down, up = found["A"], found["B"]
    if down.dim() not in (2, 4) or up.flatten(1).shape[1] != down.shape[0]:
        raise ModelError(f"{path}: the matrices of {layer} do not fit together")
    rank = down.shape[0]
    alpha = float(found["alpha"]) if "alpha" in found else _told(layer, told, rank)
    return Pair(down, up, alpha / rank)


def _told(layer: str, told: Mapping[str, Any], rank: int) -> float:
    """Alpha as peft's configuration in the metadata has it; without any it is the rank."""
    whose, _, rest = layer.partition(".")
    patterns = told.get(f"{whose}.alpha_pattern")
    for pattern, alpha in (patterns if isinstance(patterns, dict) else {}).items():
        if re.search(rf"(^|\.){pattern}$", rest):
            return float(alpha)
    return float(told.get(f"{whose}.lora_alpha", rank))


Named = Mapping[str, Any]
Wanted = Sequence[tuple[Adapter, float]]
"""Adapters and how much of each: 1 as it was made, 0 none of it."""


Layer = nn.Linear | nn.Conv2d


def _found(net: nn.Module, part: str, wanted: Wanted) -> Iterator[tuple[Layer, Pair, float]]:
    """Each layer that is adapted, with what is added to it and how much.

    Raises:
        ModelError: the network has no such layer, or it is of another size.
    """
    layers = {
        plain(name): module
        for name, module in net.named_modules()
        if isinstance(module, nn.Linear | nn.Conv2d)
    }
    for adapter, weight in wanted:
        for name, pair in getattr(adapter, part).items():
            module = layers.get(name)
            if module is None:
                raise ModelError(
                    f"{adapter.path}: the model has no layer {name}; the adapter was made for"
                    " another model"
                )
            shape = module.weight.shape
            if (pair.up.shape[0], pair.down[0].numel()) != (shape[0], shape[1:].numel()):
                raise ModelError(
                    f"{adapter.path}: {name} is of another size; the adapter was made for another"
                    " model"
                )
            yield module, pair, weight


class Merged:
    """The adapters that are merged into a network now.

    Args:
        net: the network; its layers have the published names.
        part: "unet" or "tower": which side of an adapter is its.
    """

    def __init__(self, net: nn.Module, part: str) -> None:
        self._net, self._part = net, part
        self._kept: list[tuple[Layer, Tensor]] = []

    @torch.no_grad()
    def use(self, wanted: Wanted) -> None:
        """Have these adapters merged and no others.

        The weights as they were are kept, and put back bit for bit before others are merged:
        taking a product off again would leave its rounding behind.

        Raises:
            ModelError: an adapter is of another model; the network is as it was published then.
        """
        for module, weight in self._kept:
            module.weight.copy_(weight)
        self._kept.clear()
        deltas: dict[Layer, Tensor] = {}
        for module, pair, amount in _found(self._net, self._part, wanted):
            delta = amount * pair.delta(module.weight.shape).to(module.weight.device)
            deltas[module] = deltas[module] + delta if module in deltas else delta
        for module, delta in deltas.items():
            self._kept.append((module, module.weight.detach().clone()))
            module.weight.copy_(module.weight.float() + delta)


@contextmanager
def applied(net: nn.Module, part: str, wanted: Wanted) -> Iterator[None]:
    """Let adapters work beside a network's layers until the block ends.

    Args:
        net: see `Merged`.
        part: likewise.
        wanted: the adapters.

    Raises:
        ModelError: an adapter is of another model.
    """
    with ExitStack() as stack:
        for module, pair, weight in list(_found(net, part, wanted)):
            beside = _beside(module, pair, weight * pair.scale)
            stack.callback(module.register_forward_hook(beside, with_kwargs=True).remove)
        yield


def _beside(module: Layer, pair: Pair, scale: float) -> Any:
    """What is added to a layer's output, as a hook."""
    like = module.weight
    down, up = (matrix.to(like.device, like.dtype) for matrix in (pair.down, pair.up))

    def linear(_: nn.Module, given: tuple[Tensor, ...], named: Named, out: Tensor) -> Tensor:
        thin = F.linear(given[0], down.flatten(1))  # (..., R)
        return out + scale * F.linear(thin, up.flatten(1))  # (..., F)

    def convolution(
        layer: nn.Conv2d, given: tuple[Tensor, ...], named: Named, out: Tensor
    ) -> Tensor:
        x, kernel = given[0], down.reshape(-1, *layer.weight.shape[1:])  # (R, C, k, k)
        if named.get("scale", 1) != 1:  # the layer enlarges what it is given, see nn.convolution
            x = F.interpolate(x, scale_factor=named["scale"], mode="nearest")
        thin = F.conv2d(x, kernel, None, layer.stride, layer.padding)  # (N, R, H, W)
        return out + scale * F.conv2d(thin, up.reshape(*up.shape[:2], 1, 1))  # (N, F, H, W)

    return convolution if isinstance(module, nn.Conv2d) else linear
