"""One SQLite file as the memory uses it: durable at every commit, what is deleted overwritten."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from everlong.errors import DamagedError, StoreError

_CACHE_KIB = 16 << 10
_DAMAGE = ("SQLITE_CORRUPT", "SQLITE_NOTADB")

Value = bytes | str | int | float | None


class Database:
    """A file of tables. Several threads may read; writers wait for one another.

    Args:
        path: of the file; it is made, readable by its owner only, when it is not there.
        application: four letters that mark the file as ours, in SQLite's header.
        version: of the tables.
        tables: statements that make them, each ended by a semicolon at the end of a line.

    Raises:
        StoreError: it was written by another version, or belongs to another program.
        DamagedError: SQLite finds it malformed.

    Every method raises ``StoreError`` when the file cannot be read or written (a full disk, for
    instance); what was committed before stays.
    """

    def __init__(self, path: Path, application: bytes, version: int, tables: str) -> None:
        self.path = path
        self._local = threading.local()
        self._connections: list[sqlite3.Connection] = []
        self._guard = threading.Lock()
        if not path.exists():
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        try:
            self._prepare(int.from_bytes(application, "big"), version, tables)
        except sqlite3.DatabaseError as error:
            self.close()
            raise DamagedError(f"{path} is not a whole database: {error}") from None
        except StoreError:
            self.close()
            raise

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All of what is done inside, or nothing; durable when it ends."""
        db = self.connection
        try:
            db.execute("begin immediate")
            try:
                yield db
                db.execute("commit")
            except BaseException:
                if db.in_transaction:  # some errors have rolled back already
                    db.execute("rollback")
                raise
        except sqlite3.Error as error:
            raise self._refusal(error) from None

    def rows(self, query: str, *values: Value) -> list[Any]:
        """What a query finds."""
        try:
            return self.connection.execute(query, values).fetchall()
        except sqlite3.Error as error:
            raise self._refusal(error) from None

    @property
    def connection(self) -> sqlite3.Connection:
        """This thread's connection."""
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = sqlite3.connect(
                self.path, isolation_level=None, check_same_thread=False, timeout=30
            )
            connection.executescript(
                f"pragma journal_mode = wal; pragma synchronous = full; "
                f"pragma secure_delete = on; pragma foreign_keys = on; "
                f"pragma cache_size = -{_CACHE_KIB};"
            )
            self._local.connection = connection
            with self._guard:
                self._connections.append(connection)
        return connection

    def check(self) -> str:
        """``ok``, or what SQLite finds wrong with the file, in its words."""
        return "; ".join(str(row[0]) for row in self.rows("pragma integrity_check(5)"))

    def compact(self) -> None:
        """Empty the log of writes, where removed rows may still be read.

        Raises:
            StoreError: a reader holds on to it.
        """
        ((busy, _, _),) = self.rows("pragma wal_checkpoint(truncate)")
        if busy:
            raise StoreError(f"{self.path} is being read, and its log cannot be emptied; try again")

    def close(self) -> None:
        """Close all connections; nothing is lost when this is never called."""
        with self._guard:
            for connection in self._connections:
                connection.close()
            self._connections.clear()

    def _refusal(self, error: sqlite3.Error) -> StoreError:
        kind = DamagedError if error.sqlite_errorname in _DAMAGE else StoreError
        return kind(f"{self.path}: {error}")

    def _prepare(self, application: int, version: int, tables: str) -> None:
        db = self.connection
        found = db.execute("pragma application_id").fetchone()[0]
        written = db.execute("pragma user_version").fetchone()[0]
        if (found, written) == (0, 0):
            if db.execute("select 1 from sqlite_master").fetchone():
                raise StoreError(f"{self.path} belongs to another program; name another folder")
            with self.transaction():
                for statement in tables.split(";\n"):
                    db.execute(statement)
                db.execute(f"pragma application_id = {application}")
                db.execute(f"pragma user_version = {version}")
        elif found != application:
            raise StoreError(f"{self.path} belongs to another program; name another folder")
        elif written != version:
            raise StoreError(
                f"{self.path} has version {written}, and {version} is known; use the version of "
                "Everlong that wrote it"
            )
