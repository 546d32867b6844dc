"""What published files call the tensors of a network. No other file knows it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """One layout: our names → its names. All are without their ending, .weight or .bias.

    Attributes:
        top: of what stands outside the blocks. Several names are joined, one above the other.
        block: of what stands in a block, after `blocks` and the block's number.
        blocks: what goes before the number of a block.
        prefix: begins every name but the head's; some published files leave it out.
        transposed: published names whose matrices are stored with rows and columns exchanged.
        spare: patterns of published tensors that hold nothing which the network needs.
    """

    top: Mapping[str, tuple[str, ...]]
    block: Mapping[str, tuple[str, ...]]
    blocks: str
    prefix: str = ""
    transposed: frozenset[str] = frozenset()
    spare: tuple[str, ...] = ()

    def parts(self, name: str) -> list[str]:
        """The published tensors that make up one of ours, in order."""
        stem, ending = name.rsplit(".", 1)
        if stem in self.top:
            return [f"{part}.{ending}" for part in self.top[stem]]
        _, layer, rest = stem.split(".", 2)
        return [f"{self.blocks}{layer}.{part}.{ending}" for part in self.block[rest]]

    def spellings(self, part: str) -> list[str]:
        """How files spell the name of a published tensor, the usual one first."""
        plain = part.removeprefix(self.prefix)
        # TensorFlow's words for a norm's weight and bias, in the oldest files.
        old = plain.replace("Norm.weight", "Norm.gamma").replace("Norm.bias", "Norm.beta")
        return list(dict.fromkeys((part, plain, self.prefix + old, old)))

    def is_transposed(self, part: str) -> bool:
        """Whether a published tensor is stored with rows and columns exchanged."""
        stem, ending = part.rsplit(".", 1)
        return ending == "weight" and stem.endswith(tuple(self.transposed))

    def is_spare(self, part: str) -> bool:
        """Whether a published tensor may be left over."""
        return any(fnmatchcase(part, pattern) for pattern in self.spare)


# Old files keep the rotary frequencies.
LLAMA = Names(
    top={
        "embedding": ("model.embed_tokens",),
        "norm": ("model.norm",),
        "head": ("lm_head",),
    },
    blocks="model.layers.",
    block={
        "attention_norm": ("input_layernorm",),
        "attention.qkv": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
        "attention.q_norm": ("self_attn.q_norm",),
        "attention.k_norm": ("self_attn.k_norm",),
        "attention.out": ("self_attn.o_proj",),
        "feed_forward_norm": ("post_attention_layernorm",),
        "feed_forward.gate_up": ("mlp.gate_proj", "mlp.up_proj"),
        "feed_forward.down": ("mlp.down_proj",),
    },
    spare=("*rotary_emb.inv_freq",),
)

_GPT_TOP = {
    "embedding": ("transformer.wte",),
    "positions": ("transformer.wpe",),
    "norm": ("transformer.ln_f",),
    "head": ("lm_head",),
}
_GPT_BLOCK = {
    "attention_norm": ("ln_1",),
    "feed_forward_norm": ("ln_2",),
    "feed_forward.up": ("mlp.c_fc",),
    "feed_forward.down": ("mlp.c_proj",),
}

# The files keep the causal mask, "attn.bias", beside the weights.
GPT2 = Names(
    top=_GPT_TOP,
    blocks="transformer.h.",
    block={**_GPT_BLOCK, "attention.qkv": ("attn.c_attn",), "attention.out": ("attn.c_proj",)},
    prefix="transformer.",
    transposed=frozenset({"attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"}),
    spare=("*h.*.attn.bias", "*h.*.attn.masked_bias"),
)
GPT_NEO = Names(
    top=_GPT_TOP,
    blocks="transformer.h.",
    block={
        **_GPT_BLOCK,
        "attention.qkv": tuple(f"attn.attention.{part}_proj" for part in "qkv"),
        "attention.out": ("attn.attention.out_proj",),
    },
    prefix="transformer.",
    spare=("*.attn.attention.bias", "*.attn.attention.masked_bias"),
)
BERT = Names(
    top={
        "embedding": ("bert.embeddings.word_embeddings",),
        "positions": ("bert.embeddings.position_embeddings",),
        "token_types": ("bert.embeddings.token_type_embeddings",),
        "norm": ("bert.embeddings.LayerNorm",),
    },
    blocks="bert.encoder.layer.",
    block={
        "attention.qkv": tuple(f"attention.self.{part}" for part in ("query", "key", "value")),
        "attention.out": ("attention.output.dense",),
        "attention_norm": ("attention.output.LayerNorm",),
        "feed_forward.up": ("intermediate.dense",),
        "feed_forward.down": ("output.dense",),
        "feed_forward_norm": ("output.LayerNorm",),
    },
    prefix="bert.",
    spare=("*embeddings.position_ids", "*pooler.dense.*", "cls.*"),
)

TRANSFORMERS = {
    "LlamaForCausalLM": LLAMA,
    "MistralForCausalLM": LLAMA,
    "Qwen2ForCausalLM": LLAMA,
    "Qwen3ForCausalLM": LLAMA,
    "GPT2LMHeadModel": GPT2,
    "GPTNeoForCausalLM": GPT_NEO,
}
"""The layouts of transformers, by architecture."""

_GGUF_LLAMA = Names(
    top={
        "embedding": ("token_embd",),
        "positions": ("position_embd",),
        "norm": ("output_norm",),
        "head": ("output",),
    },
    blocks="blk.",
    block={
        "attention_norm": ("attn_norm",),
        "attention.qkv": ("attn_q", "attn_k", "attn_v"),
        "attention.q_norm": ("attn_q_norm",),
        "attention.k_norm": ("attn_k_norm",),
        "attention.out": ("attn_output",),
        "feed_forward_norm": ("ffn_norm",),
        "feed_forward.gate_up": ("ffn_gate", "ffn_up"),
        "feed_forward.up": ("ffn_up",),
        "feed_forward.down": ("ffn_down",),
    },
    spare=("rope_freqs.weight",),
)
GGUF = {
    "llama": _GGUF_LLAMA,
    "qwen2": _GGUF_LLAMA,
    "qwen3": _GGUF_LLAMA,
    "gpt2": replace(_GGUF_LLAMA, block={**_GGUF_LLAMA.block, "attention.qkv": ("attn_qkv",)}),
}
"""The layouts of GGUF files, by `general.architecture`."""
