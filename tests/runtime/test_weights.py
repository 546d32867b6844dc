from __future__ import annotations

import pickle
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from vermilion.errors import ModelError, UnsafeModelError
from vermilion.runtime.weights import check_file, select, stays_inside

MODEL = {"config.json", "tokenizer.json", "model.safetensors"}


def _write(folder: Path, name: str, content: bytes) -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    "name", ["model.bin", "model.pt", "model.pth", "model.ckpt", "model.pkl", "m.pickle"]
)
def test_names_of_pickles_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UnsafeModelError, match=r"save_file.*config\.json"):
        check_file(_write(tmp_path, name, b"anything"), "pull it again")


@pytest.mark.parametrize("name", ["model.safetensors", "model.gguf", "voice.onnx", "vocab.json"])
def test_pickles_under_other_names_are_refused(tmp_path: Path, name: str) -> None:
    for protocol in (2, 3, 4, 5):
        path = _write(tmp_path, name, pickle.dumps({"weight": [1.0] * 100}, protocol))
        with pytest.raises(UnsafeModelError, match="is a pickle"):
            check_file(path, "pull it again")
    with zipfile.ZipFile(tmp_path / name, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps([]))
    with pytest.raises(UnsafeModelError, match="is a pickle"):
        check_file(tmp_path / name, "pull it again")


def test_numpy_arrays_of_objects_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "extra.npy"
    np.save(path, np.array([{}], dtype=object))
    with pytest.raises(UnsafeModelError):
        check_file(path, "pull it again")


def test_safetensors_that_begins_like_a_pickle_is_accepted(tmp_path: Path) -> None:
    content = save({"w": np.zeros(4, np.float32)})
    (length,) = struct.unpack("<Q", content[:8])
    header = content[8 : 8 + length].ljust(0x0280)
    content = struct.pack("<Q", 0x0280) + header + content[8 + length :]
    assert content[:2] == b"\x80\x02"
    check_file(_write(tmp_path, "model.safetensors", content), "pull it again")


def test_the_files_of_an_encoder() -> None:
    modules = {"modules.json", "sentence_bert_config.json", "1_Pooling/config.json"}
    others = {"README.md", "onnx/model.onnx", "data_config.json", "2_Dense/config.json"}
    assert set(select(MODEL | modules | others, "here")) == MODEL | modules
    inside = {f"pkg/model/{name}" for name in MODEL | modules}
    assert set(select(inside | {"pkg/__init__.py"}, "here")) == inside
    words = MODEL - {"tokenizer.json"} | {"vocab.txt"}
    assert set(select(words, "here")) == words


@pytest.mark.parametrize("cut", [0, 4, 8, 20, -1])
def test_truncated_safetensors(tmp_path: Path, cut: int) -> None:
    content = save({"w": np.zeros(100, np.float32)})
    path = _write(tmp_path, "model.safetensors", content[:cut])
    with pytest.raises(ModelError, match=r"model\.safetensors .*; run: vermilion models pull x"):
        check_file(path, "run: vermilion models pull x")


@pytest.mark.parametrize("header", [b"{]", b"{}[]", b'{"a": 1}', b'{"a": {"data_offsets": 3}}'])
def test_broken_safetensors_headers(tmp_path: Path, header: bytes) -> None:
    path = _write(tmp_path, "model.safetensors", struct.pack("<Q", len(header)) + header)
    with pytest.raises(ModelError, match="broken safetensors header"):
        check_file(path, "pull it again")


@pytest.mark.parametrize(("name", "content"), [("a.gguf", b"GGML"), ("a.onnx", b"<html>")])
def test_other_headers(tmp_path: Path, name: str, content: bytes) -> None:
    with pytest.raises(ModelError, match=f"{name} has no"):
        check_file(_write(tmp_path, name, content), "pull it again")


def test_index_with_a_missing_shard(tmp_path: Path) -> None:
    content = b'{"weight_map": {"w": "model-00001-of-00002.safetensors"}}'
    path = _write(tmp_path, "model.safetensors.index.json", content)
    with pytest.raises(ModelError, match="model-00001-of-00002"):
        check_file(path, "pull it again")


def test_select_takes_one_model_and_nothing_else() -> None:
    others = {"README.md", "model.gguf", "pytorch_model.bin", "consolidated.safetensors"}
    assert set(select(MODEL | others | {"vocab.json"}, "here")) == MODEL | {"vocab.json"}


def test_select_takes_all_shards() -> None:
    shards = {f"model-0000{n}-of-00002.safetensors" for n in (1, 2)}
    names = {"config.json", "tokenizer.json", "model.safetensors.index.json"} | shards
    assert set(select(names | {"consolidated.safetensors"}, "here")) == names


def test_select_finds_the_folder_in_a_wheel() -> None:
    assert select({"pkg/__init__.py", "pkg/m.gguf"}, "here") == ("pkg/m.gguf",)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ({"README.md"}, r"holds no \*\.safetensors"),
        ({"a.gguf", "b.gguf"}, r"2 GGUF files \(a\.gguf, b\.gguf\); name one"),
        ({"a/x.gguf", "b/x.gguf"}, "several folders"),
        (MODEL - {"tokenizer.json"}, r"has no tokenizer\.json; save"),
        (MODEL - {"config.json"}, r"has no config\.json; save"),
    ],
)
def test_select_refuses(names: set[str], message: str) -> None:
    with pytest.raises(ModelError, match=f"^here .*{message}"):
        select(names, "here")


def test_select_refuses_pickles_only() -> None:
    with pytest.raises(UnsafeModelError, match=r"here: pytorch_model\.bin is a pickle"):
        select({"config.json", "tokenizer.json", "pytorch_model.bin"}, "here")


@pytest.mark.parametrize(
    "name", ["", "/x", "../x", "a/../x", "a//x", "./x", "a\\x", "C:x", "a/", "a\0"]
)
def test_names_that_leave_the_folder(name: str) -> None:
    assert not stays_inside(name)


def test_names_that_stay() -> None:
    assert stays_inside("pkg/assets/model..v2.gguf")
