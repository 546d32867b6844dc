"""What all tests share: a home of their own, and tiny real models."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import painter
from tests.tiny import tiny_lm_folder
from vermilion.line.run import Line
from vermilion.settings import get_settings


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty home folder, and settings that point to it."""
    folder = tmp_path / "home"
    monkeypatch.setenv("VERMILION_HOME", str(folder))
    get_settings.cache_clear()
    yield folder
    get_settings.cache_clear()


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The path of a language model with random weights."""
    return str(tiny_lm_folder(tmp_path_factory.mktemp("models") / "tiny"))


@pytest.fixture
def line(home: Path) -> Iterator[Line]:
    """A line with an empty library."""
    with Line() as opened:
        yield opened


@pytest.fixture(scope="session")
def painter_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that paints, and what reads its prompts; see `tests.painter`."""
    return painter.write(tmp_path_factory.mktemp("painter"))


@pytest.fixture
def easel(home: Path, painter_folder: Path) -> Iterator[Line]:
    """A line with an empty library and a model that paints, "stickers"."""
    painter.install(home, painter_folder)
    with Line() as opened:
        yield opened
