"""Foreign names of weights, known in this file alone.

Ours are diffusers'. Two others are published: the names that the first Stable Diffusion had (ldm,
in a single file of everything), and those that diffusers itself had for attention in the beginning.

    ours                                          ldm
    down_blocks.0.resnets.1.conv1                 model.diffusion_model.input_blocks.2.0.in_layers.2
    mid_block.attentions.0.proj_in                model.diffusion_model.middle_block.1.proj_in
    decoder.up_blocks.0.resnets.2.norm1 (VAE)     first_stage_model.decoder.up.3.block.2.norm1
    text_model.final_layer_norm (CLIP)            cond_stage_model.transformer.text_model ...
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

from torch import Tensor

from vermilion.errors import ModelError
from vermilion.models.diffusion.config import UNetConfig, VAEConfig
from vermilion.models.weights import Tensors

UNET = "model.diffusion_model."
VAE = "first_stage_model."
TEXT = "cond_stage_model.transformer."

_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
_VAE_RESNET = {"conv_shortcut": "nin_shortcut"}
_VAE_ATTENTION = {
    "group_norm": "norm",
    "to_q": "q",
    "to_k": "k",
    "to_v": "v",
    "to_out.0": "proj_out",
}
_OLD_ATTENTION = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
_PRODUCT = re.compile(r"\.to_(q|k|v|out\.0)\.weight$")

Places = dict[str, tuple[str, Mapping[str, str]]]
"""Our name of a module → theirs, and their names of its parts where they are others."""


class Renamed:
    """Published tensors under our names; what has none of ours keeps its own.

    Products of attention that are published as convolutions of size 1 lose those two dimensions.

    Args:
        tensors: what is published.
        names: ours → theirs.
    """

    def __init__(self, tensors: Tensors, names: Mapping[str, str]) -> None:
        self._tensors = tensors
        self._names = {ours: name for ours, name in names.items() if name in tensors.names}
        left = set(tensors.names) - set(self._names.values())
        self.names = frozenset(self._names) | left

    def load(self, name: str) -> Tensor:
        """One of them, on the CPU."""
        return self._tensors.load(self._names.get(name, name)).reshape(self.shape(name))

    def shape(self, name: str) -> tuple[int, ...]:
        """Of one of them, which is not loaded for it."""
        shape = self._tensors.shape(self._names.get(name, name))
        return shape[:2] if shape[2:] == (1, 1) and _PRODUCT.search(name) else shape


def unet_to_ldm(config: UNetConfig, names: Iterable[str]) -> dict[str, str]:
    """Names of a UNet's weights → those of ldm, without the prefix `UNET`."""
    places: Places = {
        "time_embedding.linear_1": ("time_embed.0", {}),
        "time_embedding.linear_2": ("time_embed.2", {}),
        "conv_in": ("input_blocks.0.0", {}),
        "mid_block.resnets.0": ("middle_block.0", _RESNET),
        "mid_block.attentions.0": ("middle_block.1", {}),
        "mid_block.resnets.1": ("middle_block.2", _RESNET),
        "conv_norm_out": ("out.0", {}),
        "conv_out": ("out.2", {}),
    }
    places.update(_down_places(config))
    places.update(_up_places(config))
    return dict(_translated(places, names))


def _down_places(config: UNetConfig) -> Iterator[tuple[str, tuple[str, Mapping[str, str]]]]:
    """Residual blocks and halvings are counted through all levels; the first convolution is 0."""
    count = 1
    for level, layers in enumerate(config.each_level("layers_per_block")):
        ours = f"down_blocks.{level}"
        for i in range(layers):
            yield f"{ours}.resnets.{i}", (f"input_blocks.{count}.0", _RESNET)
            yield f"{ours}.attentions.{i}", (f"input_blocks.{count}.1", {})
            count += 1
        yield f"{ours}.downsamplers.0.conv", (f"input_blocks.{count}.0.op", {})
        count += 1


def _up_places(config: UNetConfig) -> Iterator[tuple[str, tuple[str, Mapping[str, str]]]]:
    """On the way up a doubling stands behind its level's last attention, or residual block."""
    count = 0
    layers = config.each_level("layers_per_block")[::-1]
    for number, kind in enumerate(config.up_block_types):
        ours = f"up_blocks.{number}"
        for i in range(layers[number] + 1):
            yield f"{ours}.resnets.{i}", (f"output_blocks.{count}.0", _RESNET)
            yield f"{ours}.attentions.{i}", (f"output_blocks.{count}.1", {})
            count += 1
        behind = 2 if "Attn" in kind else 1
        yield f"{ours}.upsamplers.0.conv", (f"output_blocks.{count - 1}.{behind}.conv", {})


def vae_to_ldm(config: VAEConfig, names: Iterable[str]) -> dict[str, str]:
    """Names of an autoencoder's weights → those of ldm, without the prefix `VAE`."""
    places: Places = {"quant_conv": ("quant_conv", {}), "post_quant_conv": ("post_quant_conv", {})}
    levels, layers = len(config.block_out_channels), config.layers_per_block
    for side in ("encoder", "decoder"):
        places[f"{side}.conv_in"] = (f"{side}.conv_in", {})
        places[f"{side}.conv_norm_out"] = (f"{side}.norm_out", {})
        places[f"{side}.conv_out"] = (f"{side}.conv_out", {})
        places[f"{side}.mid_block.attentions.0"] = (f"{side}.mid.attn_1", _VAE_ATTENTION)
        for i in range(2):
            places[f"{side}.mid_block.resnets.{i}"] = (f"{side}.mid.block_{i + 1}", _VAE_RESNET)
    for level in range(levels):
        ours, theirs = f"encoder.down_blocks.{level}", f"encoder.down.{level}"
        for i in range(layers):
            places[f"{ours}.resnets.{i}"] = (f"{theirs}.block.{i}", _VAE_RESNET)
        places[f"{ours}.downsamplers.0"] = (f"{theirs}.downsample", {})
        ours, theirs = f"decoder.up_blocks.{levels - 1 - level}", f"decoder.up.{level}"
        for i in range(layers + 1):
            places[f"{ours}.resnets.{i}"] = (f"{theirs}.block.{i}", _VAE_RESNET)
        places[f"{ours}.upsamplers.0"] = (f"{theirs}.upsample", {})
    return dict(_translated(places, names))


def older_names(names: Iterable[str]) -> dict[str, str]:
    """Names of our weights → those that diffusers had for attention before version 0.16."""
    return {
        name: f"{name.removesuffix(f'{new}.{kind}')}{old}.{kind}"
        for name in names
        for new, old in _OLD_ATTENTION.items()
        for kind in ("weight", "bias")
        if name.endswith(f".{new}.{kind}") and "transformer_blocks" not in name
    }


def _translated(places: Places, names: Iterable[str]) -> Iterator[tuple[str, str]]:
    for name in names:
        prefix = name
        while prefix and prefix not in places:
            prefix = prefix.rpartition(".")[0]
        theirs, parts = places.get(prefix, ("", {}))
        rest = name[len(prefix) + 1 :]  # as conv1.weight
        part, _, kind = rest.rpartition(".")
        if prefix:
            within = f"{parts.get(part, part)}.{kind}" if part else kind
            yield name, f"{theirs}.{within}"


_FIRST = "transformer_blocks.0.norm1.emb."
_COPY = re.compile(r"transformer_blocks\.[1-9]\d*\.norm1\.emb\.")
_DIT_EMBEDDING = {
    "time_embedding.": "norm1.emb.timestep_embedder.",
    "class_embedding.": "norm1.emb.class_embedder.embedding_table.",
}


class OneEmbedding:
    """A DiT's published tensors, of whose equal embeddings in each block one is enough.

    Args:
        tensors: what is published.
    """

    def __init__(self, tensors: Tensors) -> None:
        self._tensors = tensors
        self._copies = {name for name in tensors.names if _COPY.match(name)}
        self.names = frozenset(tensors.names) - self._copies

    def load(self, name: str) -> Tensor:
        """One of them, on the CPU.

        Raises:
            ModelError: the blocks have different ones, which is another network.
        """
        tensor = self._tensors.load(name)
        if _FIRST in name:
            rest = name.partition(_FIRST)[2]
            for copy in sorted(self._copies):
                if copy.endswith(f"norm1.emb.{rest}") and not self._tensors.load(copy).equal(
                    tensor
                ):
                    raise ModelError(
                        f"{copy}: differs from that of the first block, which is not supported"
                    )
        return tensor

    def shape(self, name: str) -> tuple[int, ...]:
        """Of one of them, which is not loaded for it."""
        return self._tensors.shape(name)


def dit_from_diffusers(names: Iterable[str]) -> dict[str, str]:
    """Names of a DiT's weights → diffusers', which has the embeddings in each block."""
    return {name: _in_block(name, 0) for name in names}


def dit_to_diffusers(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A DiT's weights as diffusers has them: the embeddings once for each block."""
    blocks = {name.split(".")[1] for name in state if name.startswith("transformer_blocks.")}
    return {
        _in_block(name, block): weight.clone() if block else weight  # no file holds one twice
        for name, weight in state.items()
        for block in range(len(blocks) if name.startswith(tuple(_DIT_EMBEDDING)) else 1)
    }


def _in_block(name: str, block: int) -> str:
    for ours, theirs in _DIT_EMBEDDING.items():
        if name.startswith(ours):
            return f"transformer_blocks.{block}.{theirs}{name.removeprefix(ours)}"
    return name
