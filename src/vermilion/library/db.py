"""The library's tables, and the one way to read and to write them.

SQLite in WAL mode: readers never wait, and there is one writer at a time. A writer takes the
lock before its first statement (BEGIN IMMEDIATE), because a transaction that reads first and
asks for the lock later can be refused after half of its work.

Python's sqlite3 opens transactions by rules of its own and leaves schema changes outside of
them. It is told to keep out (isolation_level None) and SQLAlchemy's "begin" event sends the
BEGIN, so that a migration is one transaction like everything else.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from sqlalchemy import (
    URL,
    CheckConstraint,
    Column,
    Connection,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    create_engine,
    event,
)

from vermilion.errors import StorageError
from vermilion.library.faults import storage_errors

HEAD = "0002"
"""The newest of the numbered migrations, which this program reads and writes."""

_MIGRATIONS = Path(__file__).parent / "migrations"
_PATIENCE_S = 30.0

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# `number` grows with every asset: it orders them whatever the clock did, and it is the row's
# name in the full-text index, which knows integers only.
asset = Table(
    "asset",
    metadata,
    Column("number", Integer, primary_key=True),
    Column("id", Text, nullable=False, unique=True),
    Column("kind", Text, nullable=False, index=True),
    Column("media_type", Text, nullable=False),
    Column("sha256", Text, nullable=False),
    Column("suffix", Text, nullable=False),
    Column("size", Integer, nullable=False),
    Column("created_at", Text, nullable=False),
    Column("text", Text, nullable=False),
    Column("recipe", Text, nullable=False),
    Column("notes", Text, nullable=False),
    Column("set_id", Text, index=True),
    Column("step", Text),
    Column("index", Integer, nullable=False),
    Column("licence", Text, nullable=False),
    Column("rating", Integer),
    CheckConstraint("rating BETWEEN 1 AND 5", name="rating"),
    Index(None, "sha256", "suffix"),
)

# A parent may be removed while its children stay, so parent_id refers to no row.
asset_parent = Table(
    "asset_parent",
    metadata,
    Column("asset_id", Text, ForeignKey("asset.id", ondelete="CASCADE"), primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("parent_id", Text, nullable=False, index=True),
)

asset_vector = Table(
    "asset_vector",
    metadata,
    Column("encoder", Text, primary_key=True),
    Column(
        "asset_id",
        Text,
        ForeignKey("asset.id", ondelete="CASCADE"),
        primary_key=True,
        index=True,
    ),
    Column("vector", LargeBinary, nullable=False),
)

# The full-text index `asset_words` is a virtual table, which metadata cannot describe: see
# migration 0001 and search.py.

# Alembic keeps the running migration in module globals.
_one_migration = threading.Lock()


class Database:
    """A library's database. Safe to use from several threads and several processes.

    Args:
        path: the file; it is created when it is first used, its folder has to exist.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._engine = create_engine(
            URL.create("sqlite", database=str(path)),
            creator=partial(_connect, path),
            max_overflow=-1,
        )
        event.listen(self._engine, "begin", _begin)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction that sees one moment of the library, whatever is written meanwhile.

        Raises:
            StorageError: the database is damaged, or its disk refuses.
        """
        with storage_errors(self.path), self._engine.begin() as connection:
            yield connection

    @contextmanager
    def write(self, *, wait: bool = True) -> Iterator[Connection]:
        """A transaction that holds the one write lock from its first statement to its commit.

        Args:
            wait: for another writer, up to 30 s; else not at all.

        Raises:
            LibraryBusyError: another writer did not finish in that time.
            StorageError: the disk is full, read-only or broken, or the database is damaged.
        """
        options = {
            "library_begin": "BEGIN IMMEDIATE",
            "library_patience_s": _PATIENCE_S if wait else 0,
        }
        with (
            storage_errors(self.path),
            self._engine.connect().execution_options(**options) as connection,
            connection.begin(),
        ):
            yield connection

    def migrate(self) -> None:
        """Bring the tables to the newest revision, all of them or none.

        Raises:
            StorageError: a newer version of the program wrote it, or it cannot be opened.
        """
        with self.read() as connection:
            if self._is_current(connection):
                return
        # Alembic takes 0.3 s to import, and only a new or an old library needs it.
        from alembic import command  # noqa: PLC0415
        from alembic.config import Config  # noqa: PLC0415

        config = Config()
        config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
        with _one_migration, self.write() as connection:
            # Somebody else may have migrated it while this one waited for the lock.
            if not self._is_current(connection):
                config.attributes["connection"] = connection
                command.upgrade(config, HEAD)

    def close(self) -> None:
        """Close the connections. It may be called more than once."""
        self._engine.dispose()

    def _is_current(self, connection: Connection) -> bool:
        has_revision = "SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'"
        if connection.exec_driver_sql(has_revision).first() is None:
            return False
        select_revision = "SELECT version_num FROM alembic_version"
        revision: str | None = connection.exec_driver_sql(select_revision).scalar()
        if revision is not None and revision > HEAD:
            raise StorageError(
                f"library: {self.path}: a newer version of Vermilion wrote it (revision "
                f"{revision}, this one knows {HEAD}); upgrade with: pip install -U vermilion"
            )
        return revision == HEAD


def _connect(path: Path) -> sqlite3.Connection:
    # Connections move between threads, one at a time: SQLAlchemy's pool sees to that.
    connection = sqlite3.connect(
        path, timeout=_PATIENCE_S, isolation_level=None, check_same_thread=False
    )
    try:
        connection.execute("PRAGMA foreign_keys = ON")
        # NORMAL would lose the last commits when the power fails; nothing kept may be lost.
        connection.execute("PRAGMA synchronous = FULL")
        _use_wal(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _use_wal(connection: sqlite3.Connection) -> None:
    # While two programs turn a new file to WAL, one is refused at once: SQLite does not wait
    # where waiting could deadlock.
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            return


def _begin(connection: Connection) -> None:
    options = connection.get_execution_options()
    patience_ms = round(options.get("library_patience_s", _PATIENCE_S) * 1000)
    connection.exec_driver_sql(f"PRAGMA busy_timeout = {patience_ms}")
    connection.exec_driver_sql(options.get("library_begin", "BEGIN"))
