"""CLIP's two towers (Radford et al. 2021, sec. 2.4; Dosovitskiy et al. 2021).

    x = x + attention(norm(x))        } in every block; pictures look in both directions,
    x = x + feed_forward(norm(x))     } texts back only

The modules have the names of transformers' CLIPModel, so that state dicts are the same.

N items, T tokens, V tokens of the vocabulary, H heads, D features.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vermilion.errors import ModelError
from vermilion.models.contrast.config import TextConfig, TowerConfig, section
from vermilion.models.contrast.weights import Part, fill, laid_out
from vermilion.models.files import TensorFiles, read_json
from vermilion.nn.attention import attention
from vermilion.nn.feed_forward import ACTIVATIONS
from vermilion.nn.linear import Embedding, Linear
from vermilion.nn.norm import LayerNorm
from vermilion.nn.positions import LearnedPositions

# The token that ends a text is, in the folders published first, the one with this number,
# which means the highest of the vocabulary.
_HIGHEST = 2
# What may stand beside a tower that is opened alone.
_HEADS = ("text_projection", "visual_projection", "vision_model", "logit_scale")


class Attention(nn.Module):
    """Multi-head attention of a sequence to itself (Vaswani et al. 2017, sec. 3.2.2)."""

    def __init__(self, config: TowerConfig) -> None:
        super().__init__()
        size = config.hidden_size
        self.heads = config.num_attention_heads
        self.q_proj = Linear(size, size)
        self.k_proj = Linear(size, size)
        self.v_proj = Linear(size, size)
        self.out_proj = Linear(size, size)

    def forward(self, x: Tensor, causal: bool) -> Tensor:
        """(N, T, D) → (N, T, D); with `causal` a token looks at itself and those before it."""
        q, k, v = (
            project(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (N, H, T, D/H)
            for project in (self.q_proj, self.k_proj, self.v_proj)
        )
        y: Tensor = self.out_proj(attention(q, k, v, causal=causal).transpose(1, 2).flatten(2))
        return y  # (N, T, D)


class FeedForward(nn.Module):
    """fc2(f(fc1(x))) for each token by itself (Vaswani et al. 2017, eq. 2)."""

    def __init__(self, config: TowerConfig) -> None:
        super().__init__()
        self.activation = ACTIVATIONS[config.hidden_act]
        self.fc1 = Linear(config.hidden_size, config.intermediate_size)
        self.fc2 = Linear(config.intermediate_size, config.hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        """(N, T, D) → (N, T, D)."""
        y: Tensor = self.fc2(self.activation(self.fc1(x)))
        return y


class Block(nn.Module):
    """Attention and feed-forward, each added to the stream from a normalised copy of it."""

    def __init__(self, config: TowerConfig) -> None:
        super().__init__()
        self.layer_norm1 = LayerNorm(config.hidden_size, config.layer_norm_eps)
        self.self_attn = Attention(config)
        self.layer_norm2 = LayerNorm(config.hidden_size, config.layer_norm_eps)
        self.mlp = FeedForward(config)

    def forward(self, x: Tensor, causal: bool) -> Tensor:
        """(N, T, D) → (N, T, D)."""
        x = x + self.self_attn(self.layer_norm1(x), causal)
        y: Tensor = x + self.mlp(self.layer_norm2(x))
        return y


class Blocks(nn.Module):
    """All blocks of a tower."""

    def __init__(self, config: TowerConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Block(config) for _ in range(config.num_hidden_layers))

    def forward(self, x: Tensor, *, causal: bool, skip: int = 0) -> Tensor:
        """(N, T, D) → (N, T, D), without the last `skip` blocks."""
        for layer in self.layers[: len(self.layers) - skip]:
            x = layer(x, causal)
        return x


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
        kind = config.get("model_type")
        if kind not in ("clip", "clip_text_model"):
            raise ModelError(
                f"{folder}: model_type: {kind!r} has no text tower of CLIP; known are clip and"
                " clip_text_model"
            )
        sizes = TextConfig.from_transformers(section(config, "text_config") or config)
        tensors = TensorFiles(folder)
        # transformers writes a tower that stands alone with this prefix, and since version 5
        # without it.
        inner = Part(tensors, "text_model.")
        tower = laid_out(lambda: cls(sizes), sizes.num_hidden_layers, tensors, str(folder))
        fill(tower, inner if inner.names else tensors, str(folder), device, dtype, _HEADS)
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
