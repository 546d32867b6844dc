"""CLIP: two towers whose vectors are compared (Radford et al. 2021, sec. 2; fig. 3).

    I = normalised(vision_model(picture) W_i)         D features of a tower → P of a vector
    T = normalised(text_model(text) W_t)
    logits = exp(logit_scale) I Tᵀ  (+ logit_bias)

The modules have the names of transformers' CLIPModel, so that state dicts are the same.

N items, T tokens, V tokens of the vocabulary, C channels, S side of a picture.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vermilion.errors import ModelError
from vermilion.models.contrast.blocks import Blocks, draw_first_weights
from vermilion.models.contrast.config import TextConfig, VisionConfig, section
from vermilion.models.contrast.resnet import ResNet
from vermilion.models.files import TensorFiles, read_json
from vermilion.models.weights import Part, Tensors, fill, laid_out
from vermilion.nn.linear import Conv2d, Embedding, Linear
from vermilion.nn.norm import LayerNorm
from vermilion.nn.positions import LearnedPositions

# The token that ends a text is, in the folders published first, the one with this number,
# which means the highest of the vocabulary.
_HIGHEST = 2
# What may stand beside a tower that is opened alone.
_HEADS = ("text_projection", "visual_projection", "vision_model", "logit_scale")


class TextEmbeddings(nn.Module):
    """Features of tokens and of their places."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.token_embedding = Embedding(config.vocab_size, config.hidden_size)
        self.position_embedding = LearnedPositions(
            config.max_position_embeddings, config.hidden_size
        )

    def tokens(self, ids: Tensor, extra: Tensor | None = None) -> Tensor:
        """Features of tokens alone: (N, T) → (N, T, D); see `TextTransformer.hidden`."""
        if extra is None:
            found: Tensor = self.token_embedding(ids)
            return found  # (N, T, D)
        known = self.token_embedding.num_embeddings
        usual = self.token_embedding(ids.clamp(max=known - 1))  # (N, T, D)
        added = F.embedding((ids - known).clamp(min=0), extra)  # (N, T, D)
        return torch.where((ids >= known)[..., None], added.to(usual.dtype), usual)

    def forward(self, tokens: Tensor) -> Tensor:
        """(N, T, D) → (N, T, D)."""
        return tokens + self.position_embedding.weight[: tokens.shape[1]]


class TextTransformer(nn.Module):
    """CLIP's text tower: transformers' CLIPTextModel.

    Args:
        config: its sizes.

    Attributes:
        size: D, features of a text's vector before it is projected.
    """

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.config, self.size = config, config.hidden_size
        self.embeddings = TextEmbeddings(config)
        self.encoder = Blocks(config)
        self.final_layer_norm = LayerNorm(config.hidden_size, config.layer_norm_eps)
        draw_first_weights(self, config)

    @classmethod
    def from_folder(
        cls, folder: Path, device: str = "cpu", dtype: torch.dtype = torch.float32
    ) -> TextTransformer:
        """Open the text tower of a transformers folder: of a CLIPTextModel or of a CLIPModel.

        Args:
            folder: with config.json and safetensors; what does not belong to the tower is not
                read.
            device: where its weights go.
            dtype: of its weights.

        Returns:
            The tower in evaluation mode, without gradients.

        Raises:
            ModelError: a file is missing or broken, or it is of another kind.
        """
        config = read_json(folder / "config.json")
        return cls.from_tensors(config, TensorFiles(folder), str(folder), device, dtype)

    @classmethod
    def from_tensors(
        cls,
        config: Mapping[str, Any],
        tensors: Tensors,
        where: str,
        device: str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> TextTransformer:
        """The same from a parsed config.json and tensors, as where one file holds a pipeline.

        Args:
            config: of a CLIPTextModel or of a CLIPModel.
            tensors: with transformers' names, with "text_model." before them or without.
            where: they lie, for messages.
            device: where the weights go.
            dtype: of the weights.

        Raises:
            ModelError: see `from_folder`.
        """
        kind = config.get("model_type")
        if kind not in ("clip", "clip_text_model"):
            raise ModelError(
                f"{where}: model_type: {kind!r} has no text tower of CLIP; known are clip and"
                " clip_text_model"
            )
        sizes = TextConfig.from_transformers(section(config, "text_config") or config)
        # transformers writes a tower that stands alone with this prefix, and since version 5
        # without it.
        inner = Part(tensors, "text_model.")
        tower = laid_out(lambda: cls(sizes), sizes.num_hidden_layers, tensors, where)
        fill(tower, inner if inner.names else tensors, where, device, dtype, _HEADS)
        return tower.eval().requires_grad_(requires_grad=False)

    def hidden(
        self,
        ids: Tensor,
        skip: int = 0,
        *,
        extra: Tensor | None = None,
        tokens: Tensor | None = None,
    ) -> Tensor:
        """Features of every token after the final normalisation, as a diffusion model reads them.

        Args:
            ids: (N, T), int64, with the tokens that begin and end a text, padded.
            skip: how many of the last blocks are left out, 0 to all: diffusers' `clip_skip`.
            extra: (K, D), features of further tokens, whose ids are V to V + K - 1 (textual
                inversion, Gal et al. 2022).
            tokens: (N, T, D), features of the tokens in the place of those of `ids`; places are
                added to them here.

        Returns:
            (N, T, D).

        Raises:
            ValueError: a text is longer than the tower allows, or there are fewer blocks.
        """
        most, layers = self.config.max_position_embeddings, self.config.num_hidden_layers
        if ids.shape[1] > most:
            raise ValueError(f"ids: at most {most} tokens (found {ids.shape[1]})")
        if not 0 <= skip <= layers:
            raise ValueError(f"skip: must be 0 to {layers} (found {skip})")
        given = self.embeddings.tokens(ids, extra) if tokens is None else tokens  # (N, T, D)
        x = self.encoder(self.embeddings(given), causal=True, skip=skip)  # (N, T, D)
        y: Tensor = self.final_layer_norm(x)
        return y  # (N, T, D)

    def forward(self, ids: Tensor) -> Tensor:
        """A vector for each text: the features where it ends. (N, T), int64 → (N, D)."""
        ends = self.ends(ids)  # (N,)
        return self.hidden(ids)[torch.arange(len(ids), device=ids.device), ends]  # (N, D)

    def ends(self, ids: Tensor) -> Tensor:
        """The place of the first token that ends each text: (N, T) → (N,), int64."""
        end = self.config.eos_token_id
        if end != _HIGHEST:
            return (ids == end).int().argmax(1)
        # Tokens of textual inversion have still higher numbers.
        return ids.masked_fill(ids >= self.config.vocab_size, 0).argmax(1)


class VisionEmbeddings(nn.Module):
    """Features of patches, before them those of a picture as a whole, and of their places."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        size, patch = config.hidden_size, config.patch_size
        self.class_embedding = nn.Parameter(torch.zeros(size))
        self.patch_embedding = Conv2d(config.num_channels, size, patch, stride=patch, bias=False)
        places = (config.image_size // patch) ** 2 + 1
        self.position_embedding = LearnedPositions(places, size)

    def forward(self, pictures: Tensor) -> Tensor:
        """(N, C, S, S) → (N, T, D)."""
        patches = self.patch_embedding(pictures).flatten(2).transpose(1, 2)  # (N, T - 1, D)
        whole = self.class_embedding.expand(len(pictures), 1, -1)  # (N, 1, D)
        return torch.cat((whole, patches), dim=1) + self.position_embedding.weight


class VisionTransformer(nn.Module):
    """CLIP's picture tower: transformers' CLIPVisionModel.

    Args:
        config: its sizes.

    Attributes:
        size: D, features of a picture's vector before it is projected.
    """

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.config, self.size = config, config.hidden_size
        self.embeddings = VisionEmbeddings(config)
        self.pre_layrnorm = LayerNorm(config.hidden_size, config.layer_norm_eps)
        self.encoder = Blocks(config)
        self.post_layernorm = LayerNorm(config.hidden_size, config.layer_norm_eps)
        draw_first_weights(self, config)

    def hidden(self, pictures: Tensor) -> Tensor:
        """Features of every patch, the picture as a whole first: (N, C, S, S) → (N, T, D).

        Raises:
            ValueError: the pictures are of another size.
        """
        side = self.config.image_size
        if pictures.shape[1:] != (self.config.num_channels, side, side):
            raise ValueError(
                f"pictures: must be (N, {self.config.num_channels}, {side}, {side})"
                f" (found {tuple(pictures.shape)})"
            )
        x: Tensor = self.encoder(self.pre_layrnorm(self.embeddings(pictures)), causal=False)
        return x  # (N, T, D)

    def forward(self, pictures: Tensor) -> Tensor:
        """A vector for each picture: (N, C, S, S), normalised as its `Preprocess` does → (N, D)."""
        y: Tensor = self.post_layernorm(self.hidden(pictures)[:, 0])
        return y


class CLIP(nn.Module):
    """Two towers, their projections, and the scale of the logits.

    A tower is locked where its parameters do not require gradients (LiT, Zhai et al. 2022). The
    text tower may be any module that gives vectors; `nn.Identity` takes vectors that were made
    beforehand.

    Args:
        vision_model: (N, C, S, S) → (N, D); its attribute `size` is D.
        text_model: whatever the texts are → (N, text_size).
        text_size: features that the text tower gives; None: its attribute `size`.
        projection_dim: P; None: the texts' vectors stay as they are, and pictures come to lie
            beside them.
        logit_bias: whether there is one, as the sigmoid loss wants it (Zhai et al. 2023, sec. 3.2).

    Attributes:
        logit_scale: a logarithm; it begins at ln(1/0.07), with a bias at ln 10.
    """

    def __init__(
        self,
        vision_model: VisionTransformer | ResNet,
        text_model: nn.Module,
        *,
        text_size: int | None = None,
        projection_dim: int | None = 512,
        logit_bias: bool = False,
    ) -> None:
        super().__init__()
        given = int(getattr(text_model, "size", 0)) if text_size is None else text_size
        if not given:
            raise ValueError("text_size: must be given; the text tower does not tell its size")
        self.projection_dim = given if projection_dim is None else projection_dim
        self.vision_model = vision_model
        self.text_model = text_model
        self.visual_projection = _projection(vision_model.size, self.projection_dim)
        self.text_projection = (
            nn.Identity() if projection_dim is None else _projection(given, projection_dim)
        )
        self.logit_scale = nn.Parameter(torch.tensor(math.log(10 if logit_bias else 1 / 0.07)))
        self.logit_bias = nn.Parameter(torch.tensor(-10.0)) if logit_bias else None

    def get_image_features(self, pictures: Tensor) -> Tensor:
        """Vectors of pictures, of any length: (N, C, S, S) → (N, P)."""
        y: Tensor = self.visual_projection(self.vision_model(pictures))
        return y

    def get_text_features(self, *texts: Tensor) -> Tensor:
        """Vectors of texts, of any length: what the text tower takes → (N, P)."""
        y: Tensor = self.text_projection(self.text_model(*texts))
        return y

    def forward(self, pictures: Tensor, *texts: Tensor) -> tuple[Tensor, Tensor]:
        """Vectors of length 1 of pictures and of texts, (N, P) each, for a loss."""
        return (
            F.normalize(self.get_image_features(pictures), dim=-1),
            F.normalize(self.get_text_features(*texts), dim=-1),
        )

    def logits(self, pictures: Tensor, texts: Tensor) -> Tensor:
        """How well they go together: vectors of length 1, (N, P) and (M, P) → (N, M)."""
        logits = self.logit_scale.exp() * pictures @ texts.T  # (N, M)
        return logits if self.logit_bias is None else logits + self.logit_bias


def _projection(size: int, projection_dim: int) -> Linear:
    layer = Linear(size, projection_dim, bias=False)
    if not layer.weight.is_meta:
        nn.init.normal_(layer.weight, std=size**-0.5)
    return layer
