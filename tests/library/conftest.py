from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from vermilion.library import Library


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "library"


@pytest.fixture(scope="session")
def _empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated library without assets: copying it is faster than making it anew."""
    directory = tmp_path_factory.mktemp("empty") / "library"
    Library.open(directory).close()
    return directory


@pytest.fixture
def library(directory: Path, _empty: Path) -> Iterator[Library]:
    shutil.copytree(_empty, directory)
    with Library.open(directory) as library:
        yield library
