"""Shape of a language model: few fields that vary on their own make every family."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from reprlib import repr as shortened
from typing import Any, Literal

_SIZES = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "max_position_embeddings",
)
_CHOICES = {
    "norm": ("rms", "layer"),
    "positions": ("rotary", "learned"),
    "activation": ("silu", "gelu", "gelu_new", "relu"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class LMConfig:
    """What a network is made of, in the words of transformers' config.json where it has them.

    Left alone, the choices are Llama's. GPT-2 is norm="layer", positions="learned",
    activation="gelu_new", gated=False, all three biases, and tied embeddings.

    Attributes:
        vocab_size: V, number of tokens.
        hidden_size: C, features of a token between the blocks.
        intermediate_size: F, features within a feed-forward layer.
        num_hidden_layers: number of blocks.
        num_attention_heads: H, query heads.
        num_key_value_heads: G, key and value heads; H is a multiple of it.
        head_dim: D, size of a head; even with rotary positions.
        max_position_embeddings: longest text, in tokens.
        norm: "rms" (RMSNorm) or "layer" (LayerNorm).
        norm_eps: what it adds to the variance.
        positions: "rotary" turns queries and keys; "learned" adds a vector to each embedding.
        rope_theta: base of the rotary frequencies.
        rope_scaling: see `nn.positions.rotary_frequencies`.
        activation: "silu", "gelu", "gelu_new" (the tanh form) or "relu".
        gated: whether the feed-forward layer multiplies by a second projection (SwiGLU).
        qkv_bias: whether the projections to queries, keys and values have a bias.
        out_bias: whether the projection after attention has one.
        mlp_bias: whether those of the feed-forward layer have one.
        qk_norm: whether each head's query and key are normalised before they are turned.
        attention_scale: what q·k is multiplied by; None: 1/sqrt(D).
        attention_windows: over how many tokens each layer looks back, itself included; None
            is all of them. A shorter list is repeated: (None, 256) is every other layer.
            Read back it has an entry a layer, or none where no layer has a window.
        dropout: probability that a feature is dropped in training, 0 to below 1: after the
            embedding, of the attention's weights, and of what each layer adds.
        tie_word_embeddings: whether the output layer is the embedding matrix.
        architecture: class of transformers that opens the same folder.
        bos_token_id: begins a text, if any does.
        eos_token_ids: any of these ends a text.

    Raises:
        ValueError: a size that is no whole number above 0, a choice that there is not, or
            sizes that do not fit together.
    """

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    max_position_embeddings: int
    norm: Literal["rms", "layer"] = "rms"
    norm_eps: float = 1e-5
    positions: Literal["rotary", "learned"] = "rotary"
    rope_theta: float = 10000.0
    rope_scaling: Mapping[str, Any] | None = None
    activation: Literal["silu", "gelu", "gelu_new", "relu"] = "silu"
    gated: bool = True
    qkv_bias: bool = False
    out_bias: bool = False
    mlp_bias: bool = False
    qk_norm: bool = False
    attention_scale: float | None = None
    attention_windows: tuple[int | None, ...] = ()
    dropout: float = 0.0
    tie_word_embeddings: bool = False
    architecture: str = "LlamaForCausalLM"
    bos_token_id: int | None = None
    eos_token_ids: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for name in _SIZES:
            check_size(name, getattr(self, name))
        for name, known in _CHOICES.items():
            if getattr(self, name) not in known:
                raise ValueError(
                    f"{name}: must be one of {', '.join(known)}"
                    f" (found {shortened(getattr(self, name))})"
                )
        if self.num_attention_heads % self.num_key_value_heads:
            raise ValueError("num_attention_heads: must be a multiple of num_key_value_heads")
        if self.positions == "rotary" and self.head_dim % 2:
            raise ValueError(f"head_dim: must be even (found {self.head_dim})")
        if isinstance(self.dropout, bool) or not 0 <= self.dropout < 1:
            raise ValueError(f"dropout: must be from 0 to below 1 (found {self.dropout})")
        for window in self.attention_windows:
            if window is not None:
                check_size("attention_windows", window)
        object.__setattr__(self, "attention_windows", self._window_of_each_layer())

    def _window_of_each_layer(self) -> tuple[int | None, ...]:
        given, layers = self.attention_windows, self.num_hidden_layers
        if set(given) <= {None} or len(given) == layers:
            return () if set(given) <= {None} else given
        if len(given) > layers:
            raise ValueError(f"attention_windows: there are {len(given)} for {layers} layers")
        if layers > 2**16:
            raise ValueError(f"num_hidden_layers: {layers} are too many")
        return tuple(given[layer % len(given)] for layer in range(layers))

    def window(self, layer: int) -> int | None:
        """Over how many tokens a layer looks back, itself included; None: over all."""
        return self.attention_windows[layer] if self.attention_windows else None


def check_size(name: str, value: Any) -> None:
    """Raise ValueError unless a size is a whole number above 0 and not absurd."""
    if type(value) is not int or not 0 < value < 2**31:
        raise ValueError(f"{name}: must be a whole number above 0 (found {shortened(value)})")
