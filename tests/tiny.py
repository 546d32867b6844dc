"""Makers of real components at toy size: what they write is what a model hub would hold.

The folders are written by transformers and the GGUF files by the gguf package, so that they are
an independent reference for what Vermilion reads.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gguf
import torch
from safetensors.torch import load_file
from tokenizers import (
    BertWordPieceTokenizer,
    Tokenizer,
    decoders,
    models,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    BertConfig,
    BertModel,
    PreTrainedTokenizerFast,
    Qwen2Tokenizer,
)

VOCAB = 384

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)

SENTENCES = [
    "A small shop sells tea, paper and red ink.",
    "The red of the seal signs the painting.",
    "The painter mixes the red ink and signs the paper with a small seal.",
    '{"name": "tea", "price": 12, "tags": ["red", "small"]}',
    "In the evening the shop is closed, and the painter counts what was sold that day.",
    "印章的红色，画的落款。",
]


def tiny_tokenizer(model_type: str = "llama") -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer with the tokens and the template of ChatML."""
    fast = Tokenizer(models.BPE())
    fast.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    if model_type in (
        "qwen2",
        "qwen3",
    ):  # transformers puts these into any tokenizer of such a model
        theirs = Qwen2Tokenizer().backend_tokenizer
        fast.normalizer, fast.pre_tokenizer = theirs.normalizer, theirs.pre_tokenizer
    fast.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    fast.train_from_iterator(SENTENCES, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=fast,
        bos_token="<|im_start|>",
        eos_token="<|im_end|>",
        chat_template=CHAT_TEMPLATE,
    )


_SIZES: dict[str, dict[str, Any]] = {
    "llama": {
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 256,
        "rms_norm_eps": 1e-5,
    },
    "gpt2": {"n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 256},
    "gpt_neo": {
        "hidden_size": 64,
        "num_layers": 2,
        "num_heads": 4,
        "max_position_embeddings": 256,
        "attention_types": [[["global", "local"], 1]],
        "window_size": 16,
    },
}


def tiny_lm_folder(
    path: Path, *, seed: int = 0, model_type: str = "llama", shards: int = 1, **config: Any
) -> Path:
    """Write a language model with random weights as transformers does, and return its folder.

    Args:
        path: of the folder.
        seed: of the weights.
        model_type: llama, mistral, qwen2, qwen3, gpt2 or gpt_neo.
        shards: about how many files the weights are cut into.
        config: fields of config.json that are to differ.
    """
    fields = {"vocab_size": VOCAB, "bos_token_id": 1, "eos_token_id": 2}
    fields |= _SIZES.get(model_type, _SIZES["llama"]) | config
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(model_type, **fields))
    draw_weights(model, seed)
    size = sum(weight.numel() * 4 for weight in model.parameters())
    model.save_pretrained(path, max_shard_size=size if shards == 1 else size // shards)
    tiny_tokenizer(model_type).save_pretrained(path)
    return path


def tiny_encoder_folder(path: Path, *, seed: int = 0, **config: Any) -> Path:
    """Write a BERT with random weights as sentence-transformers does, and return its folder.

    Args:
        path: of the folder.
        seed: of the weights.
        config: fields of config.json that are to differ.
    """
    fields: dict[str, Any] = {
        "vocab_size": 300,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 128,
    }
    model = BertModel(BertConfig(**fields | config))
    draw_weights(model, seed)
    model.save_pretrained(path)
    words = BertWordPieceTokenizer(lowercase=True)
    words.train_from_iterator(SENTENCES, vocab_size=300, show_progress=False)
    ends = [(token, words.token_to_id(token)) for token in ("[SEP]", "[CLS]")]
    fast = Tokenizer.from_str(words.to_str())
    fast.post_processor = processors.BertProcessing(*ends)
    PreTrainedTokenizerFast(tokenizer_object=fast, pad_token="[PAD]").save_pretrained(path)
    modules = ("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")
    steps = [
        {"idx": number, "name": str(number), "path": place, "type": f"sentence_transformers.{kind}"}
        for number, (place, kind) in enumerate(modules)
    ]
    pooling = {"word_embedding_dimension": 32, "pooling_mode_mean_tokens": True}
    pooling |= {"pooling_mode_cls_token": False, "pooling_mode_max_tokens": False}
    (path / "1_Pooling").mkdir()
    (path / "modules.json").write_text(json.dumps(steps))
    (path / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    (path / "sentence_bert_config.json").write_text('{"max_seq_length": 64}')
    return path


def draw_weights(model: torch.nn.Module, seed: int) -> None:
    """Larger weights than transformers draws, and no bias 0 nor norm 1: each has to matter."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            norm = any(word in name for word in ("norm", "Norm", "ln_")) and "weight" in name
            weight.normal_(1.0 if norm else 0.0, 0.1, generator=generator)


def tiny_gguf(
    path: Path,
    folder: Path,
    quantization: str = "F32",
    *,
    pairs: Mapping[str, int | str | None] | None = None,
    extra: Mapping[str, torch.Tensor] | None = None,
    leave_out: str = "",
) -> Path:
    """Write the model of a folder, see `tiny_lm_folder`, as a GGUF file, and return its path.

    Args:
        path: of the file.
        folder: the model.
        quantization: of its matrices, a name of gguf.GGMLQuantizationType.
        pairs: metadata to add or to put in the place of others; None leaves a pair out.
        extra: tensors to add.
        leave_out: name of a tensor to leave out.
    """
    config = json.loads((folder / "config.json").read_text())
    arch = config["model_type"]
    writer = gguf.GGUFWriter(path, arch)
    if arch == "gpt2":
        layers, heads, size = config["n_layer"], config["n_head"], config["n_embd"]
        writer.add_context_length(config["n_positions"])
        writer.add_feed_forward_length(config["n_inner"] or 4 * size)
        writer.add_layer_norm_eps(config["layer_norm_epsilon"])
    else:
        layers, heads = config["num_hidden_layers"], config["num_attention_heads"]
        size = config["hidden_size"]
        writer.add_context_length(config["max_position_embeddings"])
        writer.add_feed_forward_length(config["intermediate_size"])
        writer.add_head_count_kv(config["num_key_value_heads"])
        writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
        rope = config["rope_parameters"]
        writer.add_rope_freq_base(rope["rope_theta"])
        if rope["rope_type"] == "linear":
            writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
            writer.add_rope_scaling_factor(rope["factor"])
    writer.add_embedding_length(size)
    writer.add_block_count(layers)
    writer.add_head_count(heads)
    if config.get("head_dim"):
        writer.add_key_length(config["head_dim"])
        writer.add_value_length(config["head_dim"])

    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    vocab = sorted(tokenizer["model"]["vocab"].items(), key=lambda pair: pair[1])
    special = {token["id"] for token in tokenizer["added_tokens"]}
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2" if arch.startswith("qwen") else "gpt-2")
    types = [gguf.TokenType.CONTROL if i in special else gguf.TokenType.NORMAL for _, i in vocab]
    pads = range(len(vocab), config["vocab_size"])
    writer.add_token_list([token for token, _ in vocab] + [f"[PAD{i}]" for i in pads])
    writer.add_token_types(types + [gguf.TokenType.UNUSED for _ in pads])
    writer.add_token_merges([" ".join(pair) for pair in tokenizer["model"]["merges"]])
    writer.add_bos_token_id(config["bos_token_id"])
    writer.add_eos_token_id(config["eos_token_id"])
    writer.add_chat_template(CHAT_TEMPLATE)
    for key, value in (pairs or {}).items():
        writer.kv_data[0].pop(key, None)
        if isinstance(value, str):
            writer.add_string(key, value)
        elif value is not None:
            writer.add_uint32(key, value)

    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH[arch.upper()], layers)
    turned = {"q_proj": heads, "k_proj": config.get("num_key_value_heads")}
    tensors: dict[str, torch.Tensor] = {}
    for name, weight in load_file(folder / "model.safetensors").items():
        part = name.split(".")[-2]
        if arch == "llama" and part in turned:  # llama.cpp turns neighbours, not halves
            shape = weight.shape
            weight = weight.view(turned[part], 2, -1, *shape[1:]).transpose(1, 2).reshape(shape)
        if part.startswith("c_"):  # of a Conv1D
            weight = weight.t().contiguous() if weight.dim() > 1 else weight
        tensors[names.get_name(name, try_suffixes=(".weight", ".bias"))] = weight
    tensors.pop(leave_out, None)
    for name, tensor in (tensors | dict(extra or {})).items():
        kind = gguf.GGMLQuantizationType[quantization if tensor.dim() > 1 else "F32"]
        data = gguf.quants.quantize(tensor.numpy(), kind)
        writer.add_tensor(name, data, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
