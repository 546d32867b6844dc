"""Nothing half-written: whatever line a program dies at, the whole asset is there or none."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from vermilion.library import Library

from .helpers import keep, kept_files, pending

_PROGRAM = [sys.executable, str(Path(__file__).with_name("crash.py"))]


def _run(*words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*_PROGRAM, *map(str, words)], capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize(
    ("step", "files_left"),
    [("file is being written", 0), ("file is in its place, its row is not", 1)],
)
def test_killed_while_keeping(directory, step, files_left):
    with Library.open(directory) as before:
        assert _run("die-at", step, directory).returncode == -signal.SIGKILL

        assert before.list() == before.find("second") == []
        assert len(kept_files(directory)) == files_left
        assert pending(directory) != []

    with Library.open(directory) as after:
        assert after.list() == []
        assert kept_files(directory) == pending(directory) == []
        assert after.read(keep(after, "second")) == b"second"


def test_what_was_left_over_does_not_harm_the_same_content_kept_again(directory):
    """A program that was open all the time never swept, and keeps what the dead one wanted to."""
    with Library.open(directory) as library:
        _run("die-at", "file is in its place, its row is not", directory)
        kept = keep(library, "second")
    with Library.open(directory) as library:
        assert pending(directory) == []
        assert library.read(kept) == b"second"


@pytest.mark.parametrize(
    ("task", "outcomes"),
    [
        ("keep", {("first",), ("first", "second")}),
        ("keep the same", {("first",), ("first", "first")}),
        ("remove", {("first",), ()}),
    ],
)
def test_killed_at_any_line(tmp_path, directory, task, outcomes):
    with Library.open(directory) as library:
        keep(library, "first")
    ran = _run("die-everywhere", task, directory, tmp_path / "out")
    assert ran.returncode == 0, ran.stderr

    seen, swept = set(), 0
    for copy in (tmp_path / "out").iterdir():
        swept += bool(pending(copy))
        with Library.open(copy) as library:
            assets = library.list()[::-1]
            assert all(library.read(asset) == asset.text.encode() for asset in assets)
            assert {asset.path for asset in assets} == set(kept_files(copy))
            with library._database.read() as connection:
                indexed = connection.exec_driver_sql("SELECT text FROM asset_words").scalars()
                assert sorted(indexed) == sorted(asset.text for asset in assets)
            assert pending(copy) == []
            seen.add(tuple(asset.text for asset in assets))
    assert seen == outcomes
    assert swept > 0


@pytest.mark.parametrize("step", ["file is being written", "file is in its place, its row is not"])
def test_a_sweep_leaves_alone_what_a_living_writer_is_doing(directory, step):
    with subprocess.Popen(
        [*_PROGRAM, "wait-at", step, str(directory)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as writer:
        assert writer.stdin is not None
        assert writer.stdout is not None
        assert writer.stdout.readline() == "waiting\n"
        with Library.open(directory) as library:
            assert library.list() == []
            assert len(pending(directory)) == 1

        writer.communicate("\n" * 10, timeout=30)
        assert writer.returncode == 0
    with Library.open(directory) as library:
        (kept,) = library.list()
        assert library.read(kept) == b"second"
        assert pending(directory) == []


def test_two_programs_keep_at_once_and_lose_nothing(directory):
    programs = [
        subprocess.Popen([*_PROGRAM, "keep-many", word, str(directory)]) for word in ("a", "b")
    ]
    assert [program.wait(60) for program in programs] == [0, 0]
    with Library.open(directory) as library:
        assets = library.list(limit=200)
        wanted = {f"{word} {number}" for word in "ab" for number in range(50)}
        assert {asset.text for asset in assets} == wanted
        assert len({asset.id for asset in assets}) == len(assets) == 100
        assert len(kept_files(directory)) == 50
        assert all(library.read(asset).startswith(b"content") for asset in assets)
        assert pending(directory) == []


def test_several_programs_open_a_new_library_at_once(tmp_path):
    ran = _run("open-together", 3, tmp_path)
    assert ran.returncode == 0, ran.stderr
    for number in range(3):
        with Library.open(tmp_path / str(number)) as library:
            assert len(library.list()) == 6


def test_a_sweep_leaves_alone_what_is_not_the_librarys(directory):
    with Library.open(directory):
        stranger = directory / "files" / "pending" / "notes.txt"
        stranger.touch()
    with Library.open(directory):
        assert stranger.exists()
