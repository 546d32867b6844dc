"""Models that come with the package: found without a pull, and never if they were changed."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from vermilion.errors import InputError, ModelError
from vermilion.runtime import shipped
from vermilion.runtime.cards import Card, FileFacts, catalog
from vermilion.runtime.sources import quiet
from vermilion.runtime.store import Store


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Card:
    """The card of a model in a package's folder that is made for the test."""
    data = b"{}"
    (tmp_path / "toy").mkdir()
    (tmp_path / "toy" / "config.json").write_bytes(data)
    monkeypatch.setattr(shipped, "WEIGHTS", tmp_path)
    facts = FileFacts(hashlib.sha256(data).hexdigest(), len(data))
    return Card(
        name="toy", kind="text", family="lm", source="package:toy", files={"config.json": facts}
    )


def test_it_is_used_where_it_lies(toy: Card, tmp_path: Path) -> None:
    for found in (shipped.find(toy), shipped.fetch(toy, tmp_path / "none", quiet)):
        assert found is not None
        assert (found.folder, found.in_place) == (tmp_path / "toy", True)
    assert shipped.plan(toy).download_bytes == 0


@pytest.mark.parametrize("content", [None, b"[]", b"{ }"])
def test_what_was_changed_is_not_used(toy: Card, tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "toy" / "config.json"
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    assert shipped.find(toy) is None
    with pytest.raises(ModelError, match="install it anew"):
        shipped.fetch(toy, tmp_path, quiet)


SHIPPED = [name for name, card in catalog().items() if card.source.startswith("package:")]


@pytest.mark.parametrize("name", SHIPPED)
def test_each_shipped_model_is_ready_without_a_pull(tmp_path: Path, name: str) -> None:
    store = Store(tmp_path)
    card, path = store.locate(name)
    assert card.licence
    assert card.size is not None
    assert card.size < 30_000_000
    assert store.show(name).state == "ready"
    assert store.plan(name).download_bytes == 0
    listed = {file.name for file in path.iterdir() if file.suffix in (".json", ".safetensors")}
    assert listed == set(card.files)
    assert json.loads((path / "config.json").read_text())["dtype"] == "float16"
    with pytest.raises(InputError, match="belongs to an installed package"):
        store.remove(name)
    store.pull(name)
    assert store.verify(name).files == card.files


def test_there_are_shipped_models() -> None:
    assert "verse" in SHIPPED
