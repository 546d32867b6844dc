"""GGUF files: block formats against the gguf package, and broken files of many kinds."""

from __future__ import annotations

import random
import struct
import time
import tracemalloc
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from transformers import LlamaConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from tests.models.lm import reference
from tests.models.lm.test_net import random_ids
from tests.tiny import tiny_gguf, tiny_lm_folder
from vermilion.errors import ModelError
from vermilion.models.lm import io
from vermilion.models.lm.gguf import GGUF

CAN_BE_QUANTISED_TO = ["F16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0"]
TYPES = ["F32", *CAN_BE_QUANTISED_TO, "Q4_K", "Q5_K", "Q6_K"]


def write_tensor(
    path: Path, data: NDArray[np.generic], kind: gguf.GGMLQuantizationType, name: str = "x"
) -> Path:
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_tensor(name, data, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.mark.parametrize("name", TYPES)
@pytest.mark.filterwarnings("ignore:(invalid|overflow) value:RuntimeWarning")
def test_blocks_of_random_bytes(tmp_path: Path, name: str) -> None:
    kind = gguf.GGMLQuantizationType[name]
    _, size = gguf.GGML_QUANT_SIZES[kind]
    data = np.random.default_rng(0).integers(0, 256, (40, 8 * size), dtype=np.uint8)
    found = GGUF(write_tensor(tmp_path / "x.gguf", data, kind)).load("x").numpy()
    stored = data.view({"F32": np.float32, "F16": np.float16}.get(name, np.uint8))
    expected = gguf.quants.dequantize(stored, kind)
    finite = np.isfinite(expected)
    assert finite.mean() > 0.9
    assert found.dtype == np.float32
    np.testing.assert_array_equal(np.isfinite(found), finite)
    np.testing.assert_array_equal(found[finite], expected[finite])


@pytest.mark.parametrize("name", CAN_BE_QUANTISED_TO)
def test_blocks_of_weights(tmp_path: Path, name: str) -> None:
    kind = gguf.GGMLQuantizationType[name]
    weights = np.random.default_rng(0).normal(size=(24, 96)).astype(np.float32)
    data = gguf.quants.quantize(weights, kind)
    found = GGUF(write_tensor(tmp_path / "x.gguf", data, kind)).load("x").numpy()
    np.testing.assert_array_equal(found, gguf.quants.dequantize(data, kind))
    assert np.abs(found - weights).max() < 0.5


@pytest.mark.parametrize("name", ["F32", *CAN_BE_QUANTISED_TO])
def test_logits_agree_with_transformers(folder: Path, tmp_path: Path, name: str) -> None:
    path = tiny_gguf(tmp_path / "tiny.gguf", folder, name)
    net, _ = io.load(path)
    expected = reference.logits(reference.open_gguf(path), random_ids(2, 60))
    torch.testing.assert_close(net(random_ids(2, 60)), expected, atol=1e-4, rtol=0)
    assert io.count_parameters(path) == sum(p.numel() for p in net.parameters())


def test_logits_are_the_folders(gguf_file: Path, folder: Path) -> None:
    ids = random_ids(2, 60)
    assert torch.equal(io.load(gguf_file)[0](ids), io.load(folder)[0](ids))


@pytest.mark.parametrize(
    "config",
    [{"head_dim": 24}, {"tie_word_embeddings": True}, {"vocab_size": 400}],
    ids=["head_dim", "tied", "padded vocabulary"],
)
def test_other_shapes(tmp_path: Path, config: dict[str, int]) -> None:
    folder = tiny_lm_folder(tmp_path / "model", **config)
    path = tiny_gguf(tmp_path / "model.gguf", folder)
    ids = random_ids(1, 30)
    assert torch.equal(io.load(path)[0](ids), io.load(folder)[0](ids))


FAMILIES: dict[str, dict[str, Any]] = {
    "qwen2": {"model_type": "qwen2"},
    "qwen2, tied": {"model_type": "qwen2", "tie_word_embeddings": True},
    "qwen3": {"model_type": "qwen3", "head_dim": 24},
    "gpt2": {"model_type": "gpt2"},
    "linear scaling": {
        "rope_parameters": {"rope_type": "linear", "factor": 4.0, "rope_theta": 10000.0}
    },
}


@pytest.mark.parametrize("config", FAMILIES.values(), ids=FAMILIES)
def test_other_families(tmp_path: Path, config: dict[str, Any]) -> None:
    """Against the folder that the file was made from, opened by transformers."""
    folder = tiny_lm_folder(tmp_path / "model", **config)
    net, tokenizer = io.load(tiny_gguf(tmp_path / "model.gguf", folder))
    ids = random_ids(2, 60)
    expected = reference.logits(reference.open_folder(folder), ids)
    torch.testing.assert_close(net(ids), expected, atol=1e-4, rtol=0)
    io.save(net, tokenizer, tmp_path / "saved")
    saved = reference.logits(reference.open_folder(tmp_path / "saved"), ids)
    torch.testing.assert_close(saved, expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    "config",
    [{"model_type": "qwen3"}, {"model_type": "gpt2", "n_positions": 1024}],  # it reads no other
    ids=["qwen3", "gpt2"],
)
def test_other_families_as_transformers_reads_them(tmp_path: Path, config: dict[str, Any]) -> None:
    folder = tiny_lm_folder(tmp_path / "model", **config)
    path = tiny_gguf(tmp_path / "model.gguf", folder)
    expected = reference.logits(reference.open_gguf(path), random_ids(2, 60))
    torch.testing.assert_close(io.load(path)[0](random_ids(2, 60)), expected, atol=1e-4, rtol=0)


def test_llama3_rope_scaling(tmp_path: Path) -> None:
    """GGUF keeps what the frequencies are divided by and forgets why."""
    scaling = {
        "rope_type": "llama3",
        "factor": 32.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
        "rope_theta": 500000.0,
    }
    config = LlamaConfig(hidden_size=64, num_attention_heads=4, rope_parameters=scaling)
    scaled, _ = ROPE_INIT_FUNCTIONS["llama3"](config, "cpu")
    plain = 500000.0 ** -(torch.arange(0, 16, 2) / 16)
    folder = tiny_lm_folder(tmp_path / "model", rope_parameters=scaling)
    path = tiny_gguf(tmp_path / "model.gguf", folder, extra={"rope_freqs.weight": plain / scaled})
    net, tokenizer = io.load(path)
    ids = random_ids(1, 200)
    expected = reference.logits(reference.open_folder(folder), ids)
    torch.testing.assert_close(net(ids), expected, atol=1e-4, rtol=0)
    io.save(net, tokenizer, tmp_path / "saved")
    saved = reference.logits(reference.open_folder(tmp_path / "saved"), ids)
    torch.testing.assert_close(saved, expected, atol=1e-4, rtol=0)

    other = {"rope_freqs.weight": torch.linspace(1, 3, 8)}
    with pytest.raises(ModelError, match=r"rope_freqs.weight: only the rope scaling of Llama 3"):
        io.load(tiny_gguf(tmp_path / "other.gguf", folder, extra=other))


def test_a_tensor_that_the_network_has_not(folder: Path, tmp_path: Path) -> None:
    extra = {"blk.0.attn_q.bias": torch.zeros(64)}
    with pytest.raises(ModelError, match=r"no place for blk.0.attn_q.bias"):
        io.load(tiny_gguf(tmp_path / "model.gguf", folder, extra=extra))


def test_a_missing_tensor(folder: Path, tmp_path: Path) -> None:
    path = tiny_gguf(tmp_path / "model.gguf", folder, leave_out="blk.1.ffn_up.weight")
    with pytest.raises(ModelError, match=r"model.gguf: the tensor blk.1.ffn_up.weight is missing"):
        io.load(path)


def test_a_wrong_shape(folder: Path, tmp_path: Path) -> None:
    extra = {"blk.0.ffn_down.weight": torch.zeros(64, 32)}
    path = tiny_gguf(tmp_path / "m.gguf", folder, leave_out="blk.0.ffn_down.weight", extra=extra)
    with pytest.raises(ModelError, match=r"feed_forward.down.weight has the shape \(64, 32\)"):
        io.load(path)


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ({"general.architecture": "mamba"}, "general.architecture: 'mamba' is not supported"),
        ({"llama.rope.scaling.type": "yarn"}, "rope.scaling.type: 'yarn' is not supported"),
        ({"llama.rope.scaling.type": "linear"}, "the field 'rope.scaling.factor' is missing"),
        ({"tokenizer.ggml.model": "llama"}, "tokenizer.ggml.model: 'llama' is not supported"),
        ({"tokenizer.ggml.pre": "tekken"}, "tokenizer.ggml.pre: 'tekken' is not supported"),
        ({"llama.attention.head_count": None}, "the field 'attention.head_count' is missing"),
        ({"tokenizer.ggml.merges": None}, "the field 'tokenizer.ggml.merges' is missing"),
        ({"tokenizer.ggml.tokens": None}, "the field 'tokenizer.ggml.tokens' is missing"),
        ({"tokenizer.ggml.merges": "a b"}, "tokenizer.ggml: this is not a tokenizer"),
        ({"tokenizer.ggml.eos_token_id": 9999}, "tokenizer.ggml: this is not a tokenizer"),
        ({"llama.attention.head_count": 0}, "GGUF metadata: a field cannot be used"),
        ({"llama.attention.head_count": "four"}, "GGUF metadata: a field cannot be used"),
        ({"llama.rope.dimension_count": 8}, "rope.dimension_count: must be the size of a head"),
        ({"llama.block_count": 2**31}, "num_hidden_layers: must be a whole number above 0"),
        ({"llama.block_count": 2**30}, "fewer tensors than layers"),
        ({"llama.context_length": 0}, "max_position_embeddings: must be a whole number above 0"),
        ({"general.alignment": 0}, "general.alignment is 0"),
        ({"general.alignment": 12}, "general.alignment is 12"),
        ({"general.alignment": "32"}, "general.alignment is '32'"),
    ],
)
def test_metadata_that_cannot_be_used(
    folder: Path, tmp_path: Path, pairs: dict[str, int | str | None], message: str
) -> None:
    path = tiny_gguf(tmp_path / "model.gguf", folder, pairs=pairs)
    with pytest.raises(ModelError, match=message) as caught:
        io.load(path)
    assert "\n" not in str(caught.value)


class Header:
    """Bytes of a GGUF file's beginning, made by hand where the gguf package would refuse."""

    def __init__(self, tensors: int = 0, pairs: int = 0, version: int = 3) -> None:
        self.bytes = b"GGUF" + struct.pack("<IQQ", version, tensors, pairs)

    def number(self, layout: str, *values: int) -> Header:
        self.bytes += struct.pack("<" + layout, *values)
        return self

    def string(self, text: str) -> Header:
        self.bytes += struct.pack("<Q", len(text)) + text.encode()
        return self


HUGE = 2**40
ABSURD = {
    "nothing": b"",
    "magic only": b"GGUF",
    "another magic": b"PK\x03\x04" + bytes(100),
    "version 1": Header(version=1).bytes,
    "version 9": Header(version=9).bytes,
    "the other byte order": b"GGUF" + struct.pack(">IQQ", 3, 0, 0),
    "tensors without end": Header(tensors=HUGE).bytes,
    "pairs without end": Header(pairs=HUGE).bytes,
    "pairs without end, of zeros": Header(pairs=HUGE).bytes + bytes(10_000),
    "a long key": Header(pairs=1).number("Q", HUGE).bytes,
    "a key longer than numbers are": Header(pairs=1).number("Q", 2**64 - 1).bytes,
    "a long string": Header(pairs=1).string("a").number("IQ", 8, HUGE).bytes,
    "no text": Header(pairs=1).string("a").number("IQ", 8, 2).bytes + b"\xff\xff",
    "a long array": Header(pairs=1).string("a").number("IIQ", 9, 4, HUGE).bytes,
    "the longest array": Header(pairs=1).string("a").number("IIQ", 9, 10, 2**64 - 1).bytes,
    "a long array of strings": Header(pairs=1).string("a").number("IIQ", 9, 8, HUGE).bytes,
    "an array of arrays": Header(pairs=1).string("a").number("IIQ", 9, 9, 1).bytes,
    "an unknown kind of value": Header(pairs=1).string("a").number("I", 99).bytes,
    "dimensions without end": Header(tensors=1).string("x").number("I", 2**32 - 1).bytes,
    "a huge dimension": Header(tensors=1).string("x").number("IQIQ", 1, 2**63, 0, 0).bytes,
    "huge dimensions": Header(tensors=1).string("x").number("IQQIQ", 2, HUGE, HUGE, 0, 0).bytes,
    "no dimension": Header(tensors=1).string("x").number("IIQ", 0, 0, 0).bytes + bytes(64),
    "a dimension of 0": Header(tensors=1).string("x").number("IQIQ", 1, 0, 0, 0).bytes + bytes(64),
    "half a block": Header(tensors=1).string("x").number("IQIQ", 1, 33, 2, 0).bytes + bytes(64),
    "a far offset": Header(tensors=1).string("x").number("IQIQ", 1, 1, 0, 2**63).bytes + bytes(64),
    "an odd offset": Header(tensors=1).string("x").number("IQIQ", 1, 1, 1, 1).bytes + bytes(64),
    "an unknown type": Header(tensors=1).string("x").number("IQIQ", 1, 1, 77, 0).bytes + bytes(64),
}


@pytest.mark.parametrize("content", ABSURD.values(), ids=ABSURD)
def test_absurd_headers(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "absurd.gguf"
    path.write_bytes(content)
    tracemalloc.start()
    start = time.monotonic()
    with pytest.raises(ModelError, match=r"absurd\.gguf") as caught:
        GGUF(path)
    assert time.monotonic() - start < 5
    assert tracemalloc.get_traced_memory()[1] < 10_000_000
    tracemalloc.stop()
    assert "\n" not in str(caught.value)


def test_an_unknown_type_is_named(tmp_path: Path) -> None:
    data = np.zeros((2, 110), dtype=np.uint8)
    path = write_tensor(tmp_path / "x.gguf", data, gguf.GGMLQuantizationType.Q3_K, name="blk.0.y")
    with pytest.raises(ModelError, match=r"the tensor blk.0.y is of GGUF type 11; readable are"):
        GGUF(path)


def test_cut_anywhere(gguf_file: Path, tmp_path: Path) -> None:
    content, path = gguf_file.read_bytes(), tmp_path / "cut.gguf"
    cuts = [*range(0, 400, 7), *range(400, len(content), 9973), len(content) - 1]
    for size in cuts:
        path.write_bytes(content[:size])
        with pytest.raises(ModelError, match=r"cut\.gguf"):
            GGUF(path)
    path.write_bytes(content[: len(content) - 40_000])
    with pytest.raises(ModelError, match=r"cut\.gguf: the file is truncated, it ends within"):
        io.load(path)


def test_any_damage_is_a_model_error_or_none(gguf_file: Path, tmp_path: Path) -> None:
    content, path = gguf_file.read_bytes(), tmp_path / "damaged.gguf"
    header = min(info.offset for info in GGUF(gguf_file).tensors.values())
    draw, messages = random.Random(0), []
    for _ in range(300):
        damaged = bytearray(content)
        for _ in range(draw.choice((1, 1, 4))):
            damaged[draw.randrange(header)] = draw.choice((0, 1, 0x7F, 0xFF, draw.randrange(256)))
        path.write_bytes(damaged)
        try:
            io.load(path)
        except ModelError as error:
            messages.append(str(error))
    assert len(messages) > 50
    assert not any("\n" in message for message in messages)
