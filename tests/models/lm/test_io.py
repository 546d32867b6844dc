"""Folders in and out, and what is said of broken ones."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

from tests.models.lm import reference
from tests.models.lm.test_net import LLAMA3, MODELS, random_ids
from tests.tiny import SENTENCES, tiny_lm_folder
from vermilion.errors import ModelError, StorageError, UnsafeModelError
from vermilion.models.lm import io
from vermilion.models.lm.net import LM


def test_shards(folder: Path, tmp_path: Path) -> None:
    sharded = tiny_lm_folder(tmp_path / "sharded", shards=3)
    assert len(list(sharded.glob("*.safetensors"))) >= 3
    assert (sharded / "model.safetensors.index.json").exists()
    whole, _ = io.load(folder)
    net, _ = io.load(sharded)
    ids = random_ids(1, 20)
    assert torch.equal(net(ids), whole(ids))
    assert io.count_parameters(sharded) == io.count_parameters(folder)
    assert io.count_parameters(folder) == sum(p.numel() for p in whole.parameters())


@pytest.mark.parametrize("config", MODELS.values(), ids=MODELS)
def test_transformers_opens_what_is_saved(tmp_path: Path, config: dict[str, Any]) -> None:
    net, tokenizer = io.load(tiny_lm_folder(tmp_path / "original", **config))
    io.save(net, tokenizer, tmp_path / "saved")
    model = reference.open_folder(tmp_path / "saved")
    ids = random_ids(2, 60)
    torch.testing.assert_close(reference.logits(model, ids), net(ids), atol=1e-4, rtol=0)

    theirs = AutoTokenizer.from_pretrained(tmp_path / "saved")
    for text in SENTENCES:
        assert theirs(text, add_special_tokens=False).input_ids == tokenizer.encode(text)
    messages = [{"role": "user", "content": "Red ink?"}]
    assert theirs.eos_token == "<|im_end|>"
    assert tokenizer.chat(messages) == theirs.apply_chat_template(
        messages, tokenize=False, add_generation_prompt=True
    )


def test_saved_and_read_again(folder: Path, tmp_path: Path) -> None:
    net, tokenizer = io.load(folder)
    io.save(net, tokenizer, tmp_path)
    again, _ = io.load(tmp_path)
    assert again.config == net.config
    assert torch.equal(again(random_ids(1, 9)), net(random_ids(1, 9)))


def test_a_gguf_file_becomes_a_folder(gguf_file: Path, folder: Path, tmp_path: Path) -> None:
    io.save(*io.load(gguf_file), tmp_path)
    ids = random_ids(1, 30)
    saved = reference.logits(reference.open_folder(tmp_path), ids)
    expected = reference.logits(reference.open_folder(folder), ids)
    torch.testing.assert_close(saved, expected, atol=1e-5, rtol=0)


def test_several_end_tokens(folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(folder, tmp_path / "copy")
    change(copy / "generation_config.json", eos_token_id=[2, 7])
    net, tokenizer = io.load(copy)
    assert net.config.eos_token_ids == (2, 7)
    io.save(net, tokenizer, tmp_path / "saved")
    assert reference.open_folder(tmp_path / "saved").config.eos_token_id == [2, 7]
    assert io.load(tmp_path / "saved")[0].config.eos_token_ids == (2, 7)


def test_a_window_that_is_not_used(tmp_path: Path) -> None:
    folder = tiny_lm_folder(tmp_path / "qwen2", model_type="qwen2", sliding_window=32)
    assert io.load(folder)[0].config.attention_windows == ()  # use_sliding_window is false


def test_a_window_is_written(tmp_path: Path) -> None:
    folder = tiny_lm_folder(tmp_path / "model", model_type="mistral", sliding_window=32)
    net, tokenizer = io.load(folder)
    io.save(net, tokenizer, tmp_path / "saved")
    model, ids = reference.open_folder(tmp_path / "saved"), random_ids(1, 64)
    assert model.config.sliding_window == 32
    torch.testing.assert_close(net(ids), reference.logits(model, ids), atol=1e-4, rtol=0)


def as_published(folder: Path) -> None:
    """As the files of openai-community/gpt2 are: no "transformer." and the masks beside."""
    path = folder / "model.safetensors"
    tensors = {n.removeprefix("transformer."): t for n, t in load_file(path).items()}
    for layer in range(2):
        tensors[f"h.{layer}.attn.bias"] = torch.ones(1, 1, 256, 256).tril()
        tensors[f"h.{layer}.attn.masked_bias"] = torch.tensor(-1e4)
    save_file(tensors, path)


def test_published_gpt2(tmp_path: Path) -> None:
    folder = tiny_lm_folder(tmp_path / "model", model_type="gpt2")
    expected = reference.logits(reference.open_folder(folder), random_ids(1, 64))
    as_published(folder)
    assert "wte.weight" in load_file(folder / "model.safetensors")
    net, tokenizer = io.load(folder)
    torch.testing.assert_close(net(random_ids(1, 64)), expected, atol=1e-4, rtol=0)
    assert io.count_parameters(folder) == sum(p.numel() for p in net.parameters())
    io.save(net, tokenizer, tmp_path / "saved")
    assert "transformer.wte.weight" in load_file(tmp_path / "saved" / "model.safetensors")


@pytest.mark.parametrize("model_type", ["llama", "gpt2"])
def test_saved_in_shards(tmp_path: Path, model_type: str) -> None:
    net, tokenizer = io.load(tiny_lm_folder(tmp_path / "model", model_type=model_type))
    io.save(net, tokenizer, tmp_path / "saved", max_shard_bytes=100_000)
    files = sorted(path.name for path in (tmp_path / "saved").glob("*.safetensors*"))
    assert len(files) > 3
    assert files[0].startswith("model-00001-of-")
    assert files[-1] == "model.safetensors.index.json"
    ids = random_ids(1, 30)
    assert torch.equal(io.load(tmp_path / "saved")[0](ids), net(ids))
    model = reference.open_folder(tmp_path / "saved")
    torch.testing.assert_close(reference.logits(model, ids), net(ids), atol=1e-4, rtol=0)


def test_saved_in_half_precision(folder: Path, tmp_path: Path) -> None:
    net, tokenizer = io.load(folder)
    io.save(net, tokenizer, tmp_path / "half", dtype=torch.float16)
    stored = load_file(tmp_path / "half" / "model.safetensors").values()
    assert {tensor.dtype for tensor in stored} == {torch.float16}
    again, _ = io.load(tmp_path / "half")
    assert again.embedding.weight.dtype == torch.float32
    difference = (again(random_ids(1, 30)) - net(random_ids(1, 30))).abs().max()
    assert 0 < difference < 0.05
    assert reference.open_folder(tmp_path / "half").dtype == torch.float16


def test_generation_config_is_written(folder: Path, tmp_path: Path) -> None:
    io.save(*io.load(folder), tmp_path / "saved")
    generation = reference.open_folder(tmp_path / "saved").generation_config
    assert (generation.bos_token_id, generation.eos_token_id) == (1, 2)


def test_saving_over_another_model(folder: Path, tmp_path: Path) -> None:
    """What is not the model's stays; weights of the one that was there go."""
    net, tokenizer = io.load(folder)
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved" / "notes.txt").write_text("keep me")
    ids = random_ids(1, 9)
    for size in (100_000, 10**9, 50_000, 200_000):
        io.save(net, tokenizer, tmp_path / "saved", max_shard_bytes=size)
        assert torch.equal(io.load(tmp_path / "saved")[0](ids), net(ids))
        stored = [load_file(path) for path in (tmp_path / "saved").glob("*.safetensors")]
        assert sum(map(len, stored)) == 1 + 2 * 9 + 2
    assert (tmp_path / "saved" / "notes.txt").read_text() == "keep me"
    assert [path.name for path in tmp_path.iterdir()] == ["saved"]


def test_a_save_that_breaks_off_leaves_what_was_there(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    net, tokenizer = io.load(folder)
    io.save(net, tokenizer, tmp_path / "saved")
    before = {path.name: path.read_bytes() for path in (tmp_path / "saved").iterdir()}
    other, _ = io.load(tiny_lm_folder(tmp_path / "other", seed=1))

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tokenizer, "save", full)
    with pytest.raises(StorageError, match="saved: cannot be written \\(No space left"):
        io.save(other, tokenizer, tmp_path / "saved")
    with pytest.raises(StorageError):
        io.save(other, tokenizer, tmp_path / "new")
    assert before == {path.name: path.read_bytes() for path in (tmp_path / "saved").iterdir()}
    assert {path.name for path in tmp_path.iterdir()} == {"saved", "other"}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"qk_norm": True}, "qk_norm: LlamaForCausalLM cannot be True, it is False"),
        ({"norm": "layer"}, "norm: LlamaForCausalLM cannot be 'layer'"),
        ({"attention_scale": 1.0}, "attention_scale: LlamaForCausalLM cannot be 1.0"),
        ({"attention_windows": (8,)}, "attention_windows: LlamaForCausalLM cannot be"),
        ({"qkv_bias": True}, "qkv_bias: LlamaForCausalLM cannot be True"),
        ({"architecture": "Mamba"}, "architecture: 'Mamba' is not one of"),
    ],
)
def test_a_network_that_its_architecture_cannot_describe(
    folder: Path, tmp_path: Path, fields: dict[str, Any], message: str
) -> None:
    net, tokenizer = io.load(folder)
    other = LM(replace(net.config, **fields))
    with pytest.raises(ModelError, match=message):
        io.save(other, tokenizer, tmp_path / "saved")
    assert not list(tmp_path.iterdir())


def test_ends_that_only_config_names(tmp_path: Path) -> None:
    """As the files of openai-community/gpt2 are: the tokenizer names no special tokens."""
    folder = tiny_lm_folder(tmp_path / "model", model_type="gpt2")
    (folder / "tokenizer_config.json").write_text('{"model_max_length": 256}')
    _, tokenizer = io.load(folder)
    assert tokenizer.special == {"bos_token": "<|im_start|>", "eos_token": "<|im_end|>"}
    change(folder / "config.json", bos_token_id=10**9, eos_token_id=[10**9, 2])
    change(folder / "generation_config.json", eos_token_id=None)
    assert io.load(folder)[1].special == {}


def test_model_safetensors_goes_before_other_files(folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(folder, tmp_path / "copy")
    save_file({"layers.0.wq.weight": torch.zeros(2)}, copy / "consolidated.safetensors")
    io.load(copy)


def test_frequencies_kept_by_old_files_are_passed_over(folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(folder, tmp_path / "copy")
    add_tensor(copy, "model.layers.0.self_attn.rotary_emb.inv_freq", torch.zeros(8))
    io.load(copy)


def change(path: Path, **fields: Any) -> None:
    values = json.loads(path.read_text()) | fields
    path.write_text(json.dumps({k: v for k, v in values.items() if v is not ...}))


def add_tensor(folder: Path, name: str, tensor: torch.Tensor) -> None:
    path = folder / "model.safetensors"
    save_file(load_file(path) | {name: tensor}, path)


def drop_tensor(folder: Path, name: str) -> None:
    tensors = load_file(folder / "model.safetensors")
    del tensors[name]
    save_file(tensors, folder / "model.safetensors")


def cut(path: Path, size: int) -> None:
    path.write_bytes(path.read_bytes()[:size])


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "no config": (lambda f: (f / "config.json").unlink(), "config.json is missing"),
    "config is no JSON": (lambda f: cut(f / "config.json", 40), "config.json: this is not JSON"),
    "config is no text": (
        lambda f: (f / "config.json").write_bytes(b"\xff\xfe\x00"),
        "config.json: this is not JSON",
    ),
    "config is nested deeply": (
        lambda f: (f / "config.json").write_text("[" * 100_000),
        "config.json: this is not JSON",
    ),
    "config is a list": (
        lambda f: (f / "config.json").write_text("[1]"),
        "config.json: this is not a JSON object",
    ),
    "a missing field": (
        lambda f: change(f / "config.json", hidden_size=...),
        r"config.json: the field 'hidden_size' is missing",
    ),
    "an unknown architecture": (
        lambda f: change(f / "config.json", architectures=["MambaForCausalLM"]),
        r"config.json: the architecture MambaForCausalLM is not supported",
    ),
    "no architecture": (
        lambda f: change(f / "config.json", architectures=None),
        r"config.json: the architecture none is not supported",
    ),
    "an unknown rope scaling": (
        lambda f: change(f / "config.json", rope_parameters={"rope_type": "dynamic"}),
        r"rope_scaling: 'dynamic' is not supported",
    ),
    "half a rope scaling": (
        lambda f: change(f / "config.json", rope_parameters=LLAMA3 | {"low_freq_factor": "1"}),
        r"rope_scaling: low_freq_factor: must be a number above 0",
    ),
    "rope scaling without a factor": (
        lambda f: change(f / "config.json", rope_parameters={"rope_type": "linear"}),
        r"rope_scaling: factor: must be a number above 0 \(found None\)",
    ),
    "another activation": (
        lambda f: change(f / "config.json", hidden_act="mish"),
        r"hidden_act: 'mish' is not supported",
    ),
    "an absurd size": (
        lambda f: change(f / "config.json", intermediate_size=2**31 - 1),
        r"feed_forward.gate_up.weight has the shape",
    ),
    "another size": (
        lambda f: change(f / "config.json", intermediate_size=97),
        r"feed_forward.gate_up.weight has the shape .* do not belong together",
    ),
    "more layers": (
        lambda f: change(f / "config.json", num_hidden_layers=3),
        r"the tensor model.layers.2.input_layernorm.weight is missing",
    ),
    "absurdly many layers": (
        lambda f: change(f / "config.json", num_hidden_layers=2**30),
        "fewer tensors than layers",
    ),
    "fewer layers": (
        lambda f: change(f / "config.json", num_hidden_layers=1),
        r"no place for model.layers.1.",
    ),
    "a missing tensor": (
        lambda f: drop_tensor(f, "model.layers.1.self_attn.k_proj.weight"),
        r"the tensor model.layers.1.self_attn.k_proj.weight is missing",
    ),
    "a bias that the network has not": (
        lambda f: add_tensor(f, "model.layers.0.mlp.up_proj.bias", torch.ones(96)),
        r"no place for model.layers.0.mlp.up_proj.bias",
    ),
    "a number for a matrix": (
        lambda f: add_tensor(f, "model.layers.0.self_attn.q_proj.weight", torch.tensor(1.0)),
        r"attention.qkv.weight has the shape",
    ),
    "cut within the header": (
        lambda f: cut(f / "model.safetensors", 100),
        r"model.safetensors: cannot be read",
    ),
    "cut within a tensor": (
        lambda f: cut(f / "model.safetensors", 100_000),
        r"model.safetensors: cannot be read",
    ),
    "empty weights": (
        lambda f: cut(f / "model.safetensors", 0),
        r"model.safetensors: cannot be read",
    ),
    "no weights": (
        lambda f: (f / "model.safetensors").unlink(),
        r"there is no \*\.safetensors file",
    ),
    "an index without a map": (
        lambda f: (
            (f / "model.safetensors").unlink(),
            (f / "model.safetensors.index.json").write_text('{"weight_map": [1]}'),
        ),
        r"model.safetensors.index.json: weight_map",
    ),
    "a shard that is not there": (
        lambda f: (
            (f / "model.safetensors").unlink(),
            (f / "model.safetensors.index.json").write_text('{"weight_map": {"a": "b"}}'),
        ),
        r"/b: cannot be read",
    ),
    "no tokenizer": (lambda f: (f / "tokenizer.json").unlink(), "tokenizer.json is missing"),
    "tokenizer is no JSON": (
        lambda f: cut(f / "tokenizer.json", 500),
        "tokenizer.json: this is not a tokenizer",
    ),
    "tokenizer_config is no JSON": (
        lambda f: cut(f / "tokenizer_config.json", 20),
        "tokenizer_config.json: this is not JSON",
    ),
    "generation_config is no JSON": (
        lambda f: cut(f / "generation_config.json", 20),
        "generation_config.json: this is not JSON",
    ),
}


@pytest.mark.parametrize(("damage", "message"), BROKEN.values(), ids=BROKEN)
def test_broken_folders(
    folder: Path, tmp_path: Path, damage: Callable[[Path], object], message: str
) -> None:
    copy = shutil.copytree(folder, tmp_path / "copy")
    damage(copy)
    with pytest.raises(ModelError, match=message) as caught:
        io.load(copy)
    assert "\n" not in str(caught.value)


def test_a_pickle_is_not_opened(folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(folder, tmp_path / "copy")
    (copy / "model.safetensors").unlink()
    torch.save({"model.norm.weight": torch.ones(64)}, copy / "pytorch_model.bin")
    with pytest.raises(
        UnsafeModelError, match=r"pytorch_model.bin is a pickle, which may run code"
    ):
        io.load(copy)


def test_no_value_in_tokenizer_config_does_harm(folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(folder, tmp_path / "copy")
    (copy / "chat_template.jinja").unlink()
    text = (copy / "tokenizer_config.json").read_text()
    for field in ("chat_template", "bos_token", "eos_token", "backend"):
        for value in (None, True, "x", 3, [], [1], [{}], {}, {"content": 3}):
            change(copy / "tokenizer_config.json", **{field: value})
            _, tokenizer = io.load(copy)
            assert tokenizer.decode(tokenizer.encode("red")) == "red"
            (copy / "tokenizer_config.json").write_text(text)


def test_no_such_path(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"nothing.gguf: cannot be read \(No such file"):
        io.load(tmp_path / "nothing.gguf")


def test_no_value_in_config_does_worse_than_a_model_error(folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(folder, tmp_path / "copy")
    text = (copy / "config.json").read_text()
    messages = []
    for field in json.loads(text):
        for value in (None, True, "x", -1, 0, 3, 1.5, 2**40, 10**400, [], [[]], {}, {"a": {}}):
            change(copy / "config.json", **{field: value})
            try:
                io.load(copy)
            except ModelError as error:
                messages.append(str(error))
            except Exception as error:
                raise AssertionError((field, value)) from error
            (copy / "config.json").write_text(text)
    assert len(messages) > 100
    assert not any("\n" in message for message in messages)
