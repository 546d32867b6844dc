from __future__ import annotations

import errno
import os
import re
import sqlite3
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from vermilion.errors import StorageError
from vermilion.library import Library, db
from vermilion.library.faults import LibraryBusyError

from .helpers import keep, kept_files, pending


def _is_not_full_text(name, type_, _):
    return type_ != "table" or not name.startswith("asset_words")


def test_the_migrations_make_the_tables_that_the_program_knows(directory):
    with Library.open(directory) as library, library._database.read() as connection:
        options = {"include_name": _is_not_full_text, "compare_server_default": True}
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, db.metadata) == []
        assert context.get_current_revision() == db.HEAD


def test_the_migrations_are_numbered_in_one_line():
    scripts = ScriptDirectory(str(db._MIGRATIONS))
    revisions = [script.revision for script in scripts.walk_revisions()][::-1]
    assert revisions == [f"{number:04}" for number in range(1, len(revisions) + 1)]
    assert scripts.get_heads() == [db.HEAD]


def test_a_failing_migration_leaves_nothing(directory, monkeypatch):
    directory.mkdir()
    other = sqlite3.connect(directory / "library.db")
    other.execute("CREATE TABLE asset_words (x)")  # in the way of the last statement
    other.close()
    with pytest.raises(StorageError, match="table asset_words already exists"):
        Library.open(directory)
    left = sqlite3.connect(directory / "library.db")
    assert left.execute("SELECT name FROM sqlite_master").fetchall() == [("asset_words",)]
    left.close()


def test_a_folder_with_a_percent_sign(tmp_path):
    with Library.open(tmp_path / "100% mine") as library:
        keep(library, "x")


@pytest.mark.parametrize("revision", ["0003", "9999", "later"])
def test_a_library_of_a_newer_version_is_refused(directory, revision):
    Library.open(directory).close()
    database = sqlite3.connect(directory / "library.db", isolation_level=None)
    database.execute("UPDATE alembic_version SET version_num = ?", (revision,))
    database.close()
    with pytest.raises(StorageError, match=r"a newer version of Vermilion wrote it .*upgrade with"):
        Library.open(directory)


def test_opening_again_does_not_import_alembic(directory):
    Library.open(directory).close()
    program = (
        "import sys; from pathlib import Path; from vermilion.library import Library\n"
        "with Library.open(Path(sys.argv[1])) as library: library.list()\n"
        "sys.exit('alembic' in sys.modules or 'torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program, str(directory)], check=True, timeout=60)


def test_the_database_is_set_up_to_lose_nothing(library):
    with library._database.read() as connection:
        pragmas = ("journal_mode", "synchronous", "foreign_keys")
        values = [connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in pragmas]
    assert values == ["wal", 2, 1]


def test_a_reader_sees_one_moment_and_does_not_wait(library):
    with library._database.write() as writer:
        writer.execute(db.asset_parent.delete())
        assert library.list() == []


def test_one_writer_at_a_time(library):
    with library._database.write(), pytest.raises(LibraryBusyError, match="wait until"):  # noqa: SIM117
        with library._database.write(wait=False):
            pass


def test_threads_of_one_program(library):
    def work(number: int) -> None:
        kept = keep(library, f"text {number}")
        assert library.get(kept.id) == kept
        library.rate(kept.id, 3)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(24)))
    assert len(library.list(limit=100)) == 24


def test_threads_open_new_libraries_at_once(tmp_path):
    gate = threading.Barrier(4)

    def work(number: int) -> None:
        gate.wait()
        Library.open(tmp_path / str(number % 2)).close()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))


def test_a_file_that_is_no_database(directory):
    content = b"not a database, but long enough to look at " * 50
    directory.mkdir()
    (directory / "library.db").write_bytes(content)
    with pytest.raises(StorageError, match=r"library\.db: it is damaged .* restore") as caught:
        Library.open(directory)
    assert "\n" not in str(caught.value)
    assert (directory / "library.db").read_bytes() == content


def test_a_damaged_database(directory):
    with Library.open(directory) as library:
        for number in range(20):
            keep(library, f"{number} " * 500)
    path = directory / "library.db"
    whole = path.read_bytes()
    path.write_bytes(whole[:4096] + b"\xff" * (len(whole) - 4096))
    with pytest.raises(StorageError, match=r"library\.db: it is damaged"):
        Library.open(directory)


def test_a_file_where_the_folder_has_to_be(tmp_path):
    file = tmp_path / "file"
    file.touch()
    for path in (file, file / "library"):
        with pytest.raises(StorageError, match="a file is where a folder has to be"):
            Library.open(path)


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(StorageError, match="cannot be written; give yourself permission"):
        Library.open(tmp_path / "library")


def test_a_folder_where_the_database_has_to_be(directory):
    (directory / "library.db").mkdir(parents=True)
    with pytest.raises(StorageError, match=r"library\.db: it cannot be written"):
        Library.open(directory)


def test_a_full_disk_for_the_database(library, directory):
    kept = keep(library, "before")
    with library._database.read() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
        connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(StorageError, match="the disk is full; free some room"):
        keep(library, "much " * 100_000, b"small")
    assert library.list() == [kept]
    assert kept_files(directory) == [kept.path]
    assert pending(directory) == []


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (errno.ENOSPC, "the disk is full; free some room"),
        (errno.EROFS, "cannot be written; give yourself permission"),
        (errno.EIO, re.escape(os.strerror(errno.EIO)) + "; check the disk"),
    ],
)
def test_a_disk_that_refuses_a_file(library, directory, monkeypatch, code, words):
    def refuse(_):
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", refuse)
        with pytest.raises(StorageError, match=words) as caught:
            keep(library, "x")
    assert str(directory) in str(caught.value)
    assert library.list() == []
    assert kept_files(directory) == pending(directory) == []
    keep(library, "x")
