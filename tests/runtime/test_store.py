from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.numpy import load, save

from vermilion.errors import (
    InputError,
    ModelError,
    NotFoundError,
    StorageError,
    UnsafeModelError,
)
from vermilion.runtime.cards import catalog
from vermilion.runtime.store import Store

from .conftest import GGUF


def test_an_empty_store_knows_the_catalog(store: Store, socket_disabled: None) -> None:
    names = [listing.name for listing in store.list()]
    assert names == sorted(catalog())
    assert store.show("smollm2-135m").state == "available"
    assert not store.models_dir.exists()


def test_messages_of_models_that_are_not_here(store: Store) -> None:
    with pytest.raises(NotFoundError) as info:
        store.locate("smollm2-135m")
    assert str(info.value) == (
        "model 'smollm2-135m' is not here yet: vermilion models pull smollm2-135m (93 MB)"
    )
    with pytest.raises(NotFoundError, match=r"models pull qwen2\.5-0\.5b \(about 1\.0 GB\)"):
        store.locate("qwen2.5-0.5b")
    with pytest.raises(NotFoundError, match="no model 'smolm2'; there is: smollm2-135m"):
        store.pull("smolm2")
    with pytest.raises(NotFoundError, match="vermilion models pull hf:owner/x"):
        store.locate("hf:owner/x")
    with pytest.raises(NotFoundError):
        store.verify("qwen2.5-0.5b")
    with pytest.raises(NotFoundError):
        store.remove("qwen2.5-0.5b")


@pytest.mark.parametrize("name", ["a b", "a\0b", "x" * 65, ""])
def test_names_are_checked(store: Store, model_folder: Path, name: str) -> None:
    for call in (store.locate, store.show, store.verify, store.remove, store.pull):
        with pytest.raises(InputError, match="use up to 64 letters"):
            call(name)
    with pytest.raises(InputError, match="use up to 64 letters"):
        store.pull(str(model_folder), name=name)


def test_names_do_not_escape(store: Store, model_folder: Path) -> None:
    for name in ("../x", "..", ".locks"):
        for call in (store.show, store.verify, store.remove):
            with pytest.raises(InputError):
                call(name)
        with pytest.raises(InputError):
            store.pull(str(model_folder), name=name)


def test_a_folder_is_used_in_place(store: Store, model_folder: Path) -> None:
    before = sorted(model_folder.iterdir())
    plan = store.plan(str(model_folder))
    assert (plan.name, plan.download_bytes) == ("my-model", 0)
    assert plan.disk_bytes == sum(path.stat().st_size for path in before)
    card = store.pull(str(model_folder))
    assert card.name == "my-model"
    assert set(card.files) == {path.name for path in before}
    assert store.locate("my-model") == (card, model_folder)
    assert store.verify("my-model") == card
    assert store.show("my-model").state == "ready"
    assert [path.name for path in (store.models_dir / "my-model").iterdir()] == ["card.json"]
    store.remove("my-model")
    assert sorted(model_folder.iterdir()) == before
    assert not (store.models_dir / "my-model").exists()


def test_a_folder_that_was_trained_on_is_noticed(store: Store, model_folder: Path) -> None:
    before = store.pull(str(model_folder), name="mine")
    weights = model_folder / "model.safetensors"
    (model_folder / "config.json").touch()
    assert store.locate("mine")[0] == before
    weights.write_bytes(
        save({name: tensor + 1 for name, tensor in load(weights.read_bytes()).items()})
    )
    os.utime(weights, ns=(1, 1))
    with pytest.raises(ModelError, match=r"changed since it was pulled; .*models pull mine"):
        store.locate("mine")
    assert store.show("mine").state == "broken"
    after = store.pull("mine")
    assert after.weights_sha256 != before.weights_sha256
    assert store.locate("mine")[0] == after


def test_a_file_changed_behind_its_time(store: Store, model_folder: Path) -> None:
    card = store.pull(str(model_folder), name="mine")
    config = model_folder / "config.json"
    config.write_bytes(config.read_bytes().swapcase())
    stamp = card.stamps["config.json"]
    os.utime(config, ns=(stamp, stamp))
    store.locate("mine")
    with pytest.raises(ModelError, match=r"config\.json is not the file that was pulled"):
        store.verify("mine")


def test_paths_need_no_pull(store: Store, model_folder: Path, tmp_path: Path) -> None:
    card, path = store.locate(str(model_folder))
    assert path == model_folder
    assert card.weights_sha256
    gguf = tmp_path / "Tiny Model.gguf"
    gguf.write_bytes(GGUF)
    card, path = store.locate(str(gguf))
    assert (card.name, path, list(card.files)) == ("tiny-model", gguf, ["Tiny Model.gguf"])
    assert not store.models_dir.exists()


@pytest.mark.parametrize("change", ["truncate", "remove"])
def test_broken_folders(store: Store, model_folder: Path, change: str) -> None:
    store.pull(str(model_folder))
    weights = model_folder / "model.safetensors"
    if change == "truncate":
        weights.write_bytes(weights.read_bytes()[:-8])
    else:
        weights.unlink()
    for name in ("my-model", str(model_folder)):
        with pytest.raises(ModelError, match="My Model"):
            store.locate(name)
    listing = next(found for found in store.list() if found.name == "my-model")
    assert listing.state == "broken"
    assert "vermilion models pull my-model" in listing.problem


def test_pickles_are_refused(store: Store, model_folder: Path) -> None:
    weights = model_folder / "model.safetensors"
    weights.rename(model_folder / "pytorch_model.bin")
    for source in (model_folder, model_folder / "pytorch_model.bin"):
        for call in (store.locate, store.pull, store.plan):
            with pytest.raises(UnsafeModelError, match=r"safetensors\.torch\.save_file"):
                call(str(source))
    weights.write_bytes(b"\x80\x04\x95" + bytes(100))
    with pytest.raises(UnsafeModelError):
        store.pull(str(model_folder))
    assert store.list() == Store(store.models_dir / "none").list()


@pytest.mark.parametrize(
    ("source", "error", "words"),
    [
        ("./nothing", NotFoundError, "does not exist"),
        ("model.safetensors", InputError, "only a part of a model"),
        ("./config.json", ModelError, "is not a model"),
        ("modelscope:o/n", InputError, "modelscope: is not known; use pypi:, hf:"),
    ],
)
def test_sources_that_cannot_be_used(
    store: Store,
    model_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    source: str,
    error: type[Exception],
    words: str,
) -> None:
    monkeypatch.chdir(model_folder)
    with pytest.raises(error, match=words):
        store.pull(source)


def test_a_taken_name(store: Store, model_folder: Path, tmp_path: Path) -> None:
    store.pull(str(model_folder), name="mine")
    other = shutil.copytree(model_folder, tmp_path / "other")
    for name in ("mine", "smollm2-135m"):
        with pytest.raises(InputError, match="choose another with --name"):
            store.pull(str(other), name=name)
    assert store.pull(str(other)).name == "other"


def test_a_folder_inside_the_store(store: Store, model_folder: Path) -> None:
    inside = shutil.copytree(model_folder, store.models_dir / "mine")
    with pytest.raises(InputError, match="is in the store already"):
        store.pull(str(inside))


def test_a_renamed_folder_is_a_renamed_model(store: Store, model_folder: Path) -> None:
    store.pull(str(model_folder), name="old")
    (store.models_dir / "old").rename(store.models_dir / "new")
    assert store.locate("new")[0].name == "new"


def test_a_card_that_cannot_be_read(store: Store, model_folder: Path) -> None:
    card = store.pull(str(model_folder), name="mine")
    (store.models_dir / "mine" / "card.json").write_text("{}")
    with pytest.raises(ModelError, match=r"card\.json: name: Field required; remove the model"):
        store.locate("mine")
    assert store.show("mine").problem
    assert store.pull(str(model_folder), name="mine") == card


def test_folders_of_others_are_left_alone(store: Store, model_folder: Path) -> None:
    store.pull(str(model_folder), name="mine")
    for name in ("no name", "no-card", "-x"):
        (store.models_dir / name).mkdir()
    (store.models_dir / "no name" / "card.json").touch()
    assert {listing.name for listing in store.list()} == {"mine", *catalog()}
    with pytest.raises(NotFoundError):
        store.remove("no-card")
    assert (store.models_dir / "no-card").exists()


def test_a_store_that_cannot_be_written(tmp_path: Path, model_folder: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="VERMILION_HOME"):
        Store(tmp_path / "file" / "models").pull(str(model_folder))


def test_importing_the_store_is_light() -> None:
    code = (
        "import sys, vermilion.runtime.store\n"
        "assert not {'torch', 'huggingface_hub', 'requests'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
