from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.models.lm import reference
from tests.tiny import tiny_gguf, tiny_lm_folder
from vermilion.models.lm import io
from vermilion.models.lm.net import LM
from vermilion.models.lm.tokenizer import Tokenizer


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Several threads that wait for cores which other programs use are many times slower."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Llama, to be read only."""
    return tiny_lm_folder(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def gguf_file(folder: Path) -> Path:
    """The same model as a GGUF file."""
    return tiny_gguf(folder.with_suffix(".gguf"), folder)


@pytest.fixture(scope="session")
def opened(folder: Path) -> tuple[LM, Tokenizer]:
    return io.load(folder)


@pytest.fixture
def net(opened: tuple[LM, Tokenizer]) -> LM:
    return opened[0]


@pytest.fixture
def tokenizer(opened: tuple[LM, Tokenizer]) -> Tokenizer:
    return opened[1]


@pytest.fixture(scope="session")
def transformers_model(folder: Path) -> Any:
    """The same model, opened by transformers."""
    return reference.open_folder(folder)
