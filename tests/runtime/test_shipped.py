"""Models that come with the package: found without a pull, and never if they were changed."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from tests.tiny import tiny_encoder_folder
from vermilion.errors import InputError, ModelError, NotFoundError
from vermilion.runtime import shipped
from vermilion.runtime.cards import Card, FileFacts, catalog, write_card
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


HALF = {torch.float16, torch.int64}
SHIPPED = [name for name, card in catalog().items() if card.source.startswith("package:")]


@pytest.mark.parametrize("name", SHIPPED)
def test_each_shipped_model_is_ready_without_a_pull(tmp_path: Path, name: str) -> None:
    store = Store(tmp_path)
    for need in catalog()[name].needs:
        with pytest.raises(NotFoundError, match=f"{name!r} needs another one: model {need!r} is"):
            store.locate(name)
        assert store.show(name).state == "available"
        assert store.needs(name) == (need,)
        put(tmp_path, need)
    card, path = store.locate(name)
    assert card.licence
    assert card.size is not None
    assert card.size < 45_000_000
    assert store.show(name).state == "ready"
    assert store.plan(name).download_bytes == 0
    listed = {file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file()}
    assert listed == set(card.files)
    for weights in path.rglob("*.safetensors"):
        with safe_open(weights, framework="pt") as opened:
            assert {opened.get_tensor(one).dtype for one in opened.keys()} <= HALF  # noqa: SIM118
    with pytest.raises(InputError, match="belongs to an installed package"):
        store.remove(name)
    store.pull(name)
    assert store.verify(name).files == card.files


def test_what_a_model_needs_is_pulled_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, store = tiny_encoder_folder(tmp_path / "reader"), Store(tmp_path / "models")
    known = {
        "reader": Card(name="reader", kind="embedding", family="encoder", source=str(folder)),
        "writer": replace(catalog()["verse"], name="writer", needs=("reader",)),
    }
    monkeypatch.setattr("vermilion.runtime.store.catalog", lambda: known)
    with pytest.raises(NotFoundError, match="'writer' needs another one: model 'reader' is not"):
        store.locate("writer")
    assert store.plan("writer").download_bytes == 0
    store.pull("writer")
    assert store.locate("reader")[0].name == "reader"
    assert store.locate("writer")[0].needs == ("reader",)


def test_there_are_shipped_models() -> None:
    assert {"verse"} <= set(SHIPPED)


def put(models: Path, name: str) -> None:
    """A folder that is taken for a model of the catalog."""
    folder, data = models / name, b"{}"
    folder.mkdir(parents=True)
    (folder / "config.json").write_bytes(data)
    facts = FileFacts(hashlib.sha256(data).hexdigest(), len(data))
    write_card(folder, replace(catalog()[name], files={"config.json": facts}))
