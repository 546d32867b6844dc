from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.tiny import SENTENCES


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "shop.txt"
    path.write_text("\n".join(SENTENCES * 20), encoding="utf-8")
    return path
