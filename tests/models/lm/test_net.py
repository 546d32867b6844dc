"""The network against transformers, number for number."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel

from tests.models.lm import reference
from tests.tiny import VOCAB, tiny_lm_folder
from vermilion.models.lm import io
from vermilion.models.lm.config import LMConfig
from vermilion.models.lm.families import FAMILIES, from_transformers
from vermilion.models.lm.net import LM
from vermilion.nn.attention import KeyValueCache

LINEAR = {"rope_type": "linear", "factor": 4.0, "rope_theta": 10000.0}
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
    "rope_theta": 10000.0,
}
YARN = {
    "rope_type": "yarn",
    "factor": 4.0,
    "original_max_position_embeddings": 64,
    "rope_theta": 10000.0,
}
MODELS: dict[str, dict[str, Any]] = {
    "llama": {},
    "llama, tied": {"tie_word_embeddings": True},
    "llama, head_dim of its own": {"head_dim": 24},
    "llama, a key head for each query head": {"num_key_value_heads": 4},
    "llama, one key head": {"num_key_value_heads": 1},
    "llama, biases": {"attention_bias": True},
    "llama, linear scaling": {"rope_parameters": LINEAR},
    "llama, llama3 scaling": {"rope_parameters": LLAMA3},
    "qwen2": {"model_type": "qwen2"},
    "qwen2, tied": {"model_type": "qwen2", "tie_word_embeddings": True},
    "mistral": {"model_type": "mistral", "sliding_window": None},
    "mistral, head_dim of its own": {"model_type": "mistral", "head_dim": 24},
    "mistral, a window": {"model_type": "mistral", "sliding_window": 32},
    "qwen2, yarn scaling": {"model_type": "qwen2", "rope_parameters": YARN},
    "qwen2, a window in the later layer": {
        "model_type": "qwen2",
        "use_sliding_window": True,
        "sliding_window": 32,
        "max_window_layers": 1,
    },
    "qwen3": {"model_type": "qwen3", "head_dim": 24},
    "qwen3, tied, biases": {
        "model_type": "qwen3",
        "head_dim": 16,
        "tie_word_embeddings": True,
        "attention_bias": True,
    },
    "gpt2": {"model_type": "gpt2"},
    "gpt2, untied": {"model_type": "gpt2", "tie_word_embeddings": False},
    "gpt2, other choices": {
        "model_type": "gpt2",
        "n_inner": 96,
        "activation_function": "relu",
        "scale_attn_weights": False,
        "layer_norm_epsilon": 1e-3,
    },
    "gpt2, exact gelu": {"model_type": "gpt2", "activation_function": "gelu"},
    "gpt-neo": {"model_type": "gpt_neo"},
    "gpt-neo, global layers": {
        "model_type": "gpt_neo",
        "attention_types": [[["global"], 2]],
        "intermediate_size": 96,
    },
    "llama, biases everywhere": {"attention_bias": True, "mlp_bias": True},
}


def random_ids(*shape: int, seed: int = 0) -> Tensor:
    return torch.randint(VOCAB, shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("config", MODELS.values(), ids=MODELS)
def test_logits_agree_with_transformers(tmp_path: Path, config: dict[str, Any]) -> None:
    folder = tiny_lm_folder(tmp_path / "model", **config)
    net, _ = io.load(folder)
    ids = random_ids(2, 200)
    expected = reference.logits(reference.open_folder(folder), ids)
    assert expected.std() > 0.5  # else the weights are too small for a mistake to show
    torch.testing.assert_close(net(ids), expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("scaling", [LINEAR, LLAMA3, YARN], ids=["linear", "llama3", "yarn"])
def test_rope_scaling_matters(tmp_path: Path, scaling: dict[str, Any]) -> None:
    plain, _ = io.load(tiny_lm_folder(tmp_path / "plain"))
    scaled, _ = io.load(tiny_lm_folder(tmp_path / "scaled", rope_parameters=scaling))
    ids = random_ids(1, 200)
    assert (plain(ids) - scaled(ids)).abs().max() > 0.01


def test_older_config_with_rope_scaling() -> None:
    """transformers 4 wrote rope_theta and rope_scaling, with "type" in the first versions."""
    config = from_transformers(
        {
            "architectures": ["LlamaForCausalLM"],
            "vocab_size": VOCAB,
            "hidden_size": 64,
            "intermediate_size": 96,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "max_position_embeddings": 256,
            "rms_norm_eps": 1e-5,
            "rope_theta": 500000,
            "rope_scaling": {"type": "linear", "factor": 2},
        }
    )
    assert config.rope_theta == 500000
    assert config.rope_scaling == {"rope_type": "linear", "factor": 2}
    assert config.num_key_value_heads == 4
    assert LM(config).rotary.frequencies[0] == 0.5


def test_bfloat16_is_close(folder: Path, net: LM) -> None:
    half, _ = io.load(folder, dtype=torch.bfloat16)
    ids = random_ids(2, 30)
    logits = half(ids)
    assert half.embedding.weight.dtype == torch.bfloat16
    assert logits.dtype == torch.float32
    torch.testing.assert_close(logits, net(ids), atol=0.15, rtol=0)


def test_only_the_logits_that_are_wanted(net: LM) -> None:
    ids = random_ids(3, 9)
    some = net(ids, last=torch.tensor([8, 17, 3]))
    every = net(ids)
    expected = torch.stack((every[0, 8], every[1, 8], every[0, 3]))
    torch.testing.assert_close(some, expected, atol=1e-5, rtol=0)


def positions(start: int, stop: int) -> Tensor:
    return torch.arange(start, stop)[None]


def at(cache: KeyValueCache, places: Tensor, row: int = 0) -> dict[str, Any]:
    return {"positions": places, "past": cache.at(places, row)}


def test_pieces_with_a_cache_are_the_whole(net: LM) -> None:
    ids = random_ids(1, 40)
    cache, whole = net.new_cache(1, 40), net(ids)
    cuts = [0, 7, 8, 20, *range(21, 41)]
    parts = [net(ids[:, a:b], **at(cache, positions(a, b))) for a, b in pairwise(cuts)]
    torch.testing.assert_close(torch.cat(parts, dim=1), whole, atol=1e-5, rtol=0)


def test_rows_of_different_lengths(net: LM) -> None:
    texts = [random_ids(1, n, seed=n) for n in (3, 17, 1, 9)]
    cache = net.new_cache(5, 20)
    cache.keys.fill_(100.0)  # what lies beyond a row's length must not be looked at
    cache.values.fill_(100.0)
    for row, ids in enumerate(texts, start=1):
        net(ids, **at(cache, positions(0, ids.shape[1]), row))
    new = random_ids(4, 1)
    lengths = torch.tensor([[ids.shape[1]] for ids in texts])
    together = net(new, **at(cache, lengths, 1))
    for row, ids in enumerate(texts):
        alone = net(torch.cat((ids, new[row : row + 1]), dim=1))[0, -1:]
        torch.testing.assert_close(together[row], alone, atol=1e-5, rtol=0)


def test_a_copied_row_goes_its_own_way(net: LM) -> None:
    ids, tail = random_ids(1, 12), random_ids(1, 6, seed=1)
    cache = net.new_cache(3, 20)
    net(ids, **at(cache, positions(0, 12)))
    cache.copy_row(0, 2, 8)
    other = net(tail, **at(cache, positions(8, 14), 2))
    expected = net(torch.cat((ids[:, :8], tail), dim=1))[:, 8:]
    torch.testing.assert_close(other, expected, atol=1e-5, rtol=0)
    first = net(tail[:, :1], **at(cache, positions(12, 13)))  # row 0 is as it was
    expected = net(torch.cat((ids, tail[:, :1]), dim=1))[:, -1:]
    torch.testing.assert_close(first, expected, atol=1e-5, rtol=0)


def test_a_cache_that_grows_keeps_what_it_holds(net: LM) -> None:
    ids = random_ids(1, 10)
    cache = net.new_cache(1, 8)
    net(ids[:, :8], **at(cache, positions(0, 8)))
    cache.grow(length=10)
    assert cache.length == 10
    rest = net(ids[:, 8:], **at(cache, positions(8, 10)))
    torch.testing.assert_close(rest, net(ids)[:, 8:], atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    "config",
    [
        {"model_type": "gpt_neo"},
        {"model_type": "gpt2"},
        {"model_type": "mistral", "sliding_window": 9},
        {"model_type": "qwen3", "head_dim": 24},
    ],
    ids=["gpt-neo", "gpt2", "mistral, a window", "qwen3"],
)
def test_pieces_with_a_cache_are_the_whole_in_every_family(
    tmp_path: Path, config: dict[str, Any]
) -> None:
    net, _ = io.load(tiny_lm_folder(tmp_path / "model", **config))
    ids = random_ids(2, 40)
    cache, whole = net.new_cache(2, 40), net(ids)
    cuts = [0, 7, 8, 20, *range(21, 41)]
    parts = [
        net(ids[:, a:b], **at(cache, positions(a, b).expand(2, -1))) for a, b in pairwise(cuts)
    ]
    torch.testing.assert_close(torch.cat(parts, dim=1), whole, atol=1e-5, rtol=0)


def fresh(seed: int, **fields: Any) -> LM:
    shape = {
        "vocab_size": 500,
        "hidden_size": 64,
        "intermediate_size": 256,
        "num_hidden_layers": 8,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "head_dim": 16,
        "max_position_embeddings": 100,
    }
    net = LM(LMConfig(**shape | fields))
    net.init_weights(seed)
    return net


GPT2_SHAPE: dict[str, Any] = {
    **FAMILIES["GPT2LMHeadModel"].fixed,
    "activation": "gelu_new",
    "tie_word_embeddings": True,
    "architecture": "GPT2LMHeadModel",
}


@pytest.mark.parametrize("fields", [{}, GPT2_SHAPE], ids=["llama", "gpt2"])
def test_first_weights(fields: dict[str, Any]) -> None:
    """GPT-2's rule, as transformers draws GPT-2."""
    torch.manual_seed(0)  # which decides nothing
    net, again, other = fresh(3, **fields), fresh(3, **fields), fresh(4, **fields)
    for (name, weight), (_, same) in zip(
        net.named_parameters(), again.named_parameters(), strict=True
    ):
        assert torch.equal(weight, same)
        if name.endswith("bias"):
            assert not weight.any()
        elif weight.dim() == 1:
            assert (weight == 1).all()
        else:
            adds = ".out." in name or ".down." in name
            expected = 0.02 / math.sqrt(2 * 8) if adds else 0.02
            assert weight.std().item() == pytest.approx(expected, rel=0.05)
    assert not torch.equal(net.embedding.weight, other.embedding.weight)


def test_first_weights_are_as_transformers_draws_them() -> None:
    torch.manual_seed(0)
    theirs = GPT2LMHeadModel(GPT2Config(vocab_size=500, n_embd=64, n_layer=8, n_head=4))
    net = fresh(0, **GPT2_SHAPE)
    pairs = [
        (net.embedding.weight, theirs.transformer.wte.weight),
        (net.positions.weight, theirs.transformer.wpe.weight),
        (net.blocks[0].attention.qkv.weight, theirs.transformer.h[0].attn.c_attn.weight),
        (net.blocks[0].attention.out.weight, theirs.transformer.h[0].attn.c_proj.weight),
        (net.blocks[0].feed_forward.down.weight, theirs.transformer.h[0].mlp.c_proj.weight),
    ]
    for ours, other in pairs:
        assert ours.std().item() == pytest.approx(other.std().item(), rel=0.05)


def test_a_new_network_expects_every_token_alike() -> None:
    with torch.no_grad():
        logits = fresh(0, **GPT2_SHAPE)(torch.randint(500, (4, 60)))
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), torch.randint(500, (240,)))
    assert loss.item() == pytest.approx(math.log(500), abs=0.1)


@pytest.mark.parametrize("fields", [{}, GPT2_SHAPE], ids=["llama", "gpt2"])
def test_dropout_in_training_only(fields: dict[str, Any]) -> None:
    ids = torch.randint(500, (2, 30))
    plain, dropping = fresh(0, **fields), fresh(0, **fields, dropout=0.3)
    with torch.no_grad():
        assert not torch.equal(dropping(ids), dropping(ids))
        assert torch.equal(dropping.eval()(ids), plain.eval()(ids))
        assert torch.equal(dropping(ids), dropping(ids))
    loss = fresh(0, **fields, dropout=0.3)(ids).square().mean()
    loss.backward()
    assert loss.isfinite()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"hidden_size": 0}, r"hidden_size: must be a whole number above 0 \(found 0\)"),
        ({"hidden_size": 1.5}, "hidden_size: must be a whole number above 0"),
        ({"head_dim": 15}, "head_dim: must be even"),
        ({"num_key_value_heads": 3}, "num_attention_heads: must be a multiple"),
        ({"norm": "batch"}, "norm: must be one of rms, layer"),
        ({"positions": "none"}, "positions: must be one of rotary, learned"),
        ({"activation": "tanh"}, "activation: must be one of silu, gelu, gelu_new, relu"),
        ({"dropout": 1.0}, "dropout: must be from 0 to below 1"),
        ({"dropout": -0.1}, "dropout: must be from 0 to below 1"),
        ({"attention_windows": (0,)}, "attention_windows: must be a whole number above 0"),
        ({"attention_windows": (1,) * 9}, "attention_windows: there are 9 for 8 layers"),
    ],
)
def test_shapes_that_cannot_be(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fresh(0, **fields)


def test_windows_are_repeated() -> None:
    config = fresh(0, attention_windows=(None, 16)).config
    assert config.attention_windows == (None, 16) * 4
    assert [config.window(layer) for layer in range(3)] == [None, 16, None]
    assert fresh(0, attention_windows=(None,)).config.attention_windows == ()
