"""One SQLite file as the memory uses it: durable at every commit, what is deleted overwritten.

SQLite notices a damaged page when its structure is broken, and returns a changed letter as if it
had been written. So rows that must be what was written have a seal, a checksum of their columns,
that SQLite computes when it writes them::

    create table t (a text, ..., seal integer generated always as (seal(a, ...)) stored);
    select a from t where whole(seal, a, ...)     -- leaves damaged rows out, and logs that it does
"""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import xxhash

from everlong.errors import DamagedError, RequestError, StoreError

_CACHE_KIB = 16 << 10
_PATIENCE = 30.0
"""Seconds to wait for others that use the file."""
_DAMAGE = ("SQLITE_CORRUPT", "SQLITE_NOTADB")

Value = bytes | str | int | float | None

logger = logging.getLogger(__name__)


class Database:
    """A file of tables. Several threads may read; writers wait for one another.

    Args:
        path: of the file; it is made, readable by its owner only, when it is not there.
        application: four letters that mark the file as ours, in SQLite's header.
        tables: statements that make them, each ended by a semicolon at the end of a line.
        migrations: statements that bring a file of the version before to each version from the
            second on; so the version of ``tables`` is one more than there are of them.
        damaged: told whenever SQLite finds the file malformed.

    Raises:
        StoreError: it was written by a later version, or belongs to another program.
        DamagedError: SQLite finds it malformed.

    Every method raises ``StoreError`` when the file cannot be read or written (a full disk, for
    instance); what was committed before stays.
    """

    def __init__(
        self,
        path: Path,
        application: bytes,
        tables: str,
        migrations: Sequence[str] = (),
        damaged: Callable[[], None] = lambda: None,
    ) -> None:
        self.path = path
        self._damaged = damaged
        self._local = threading.local()
        self._connections: list[sqlite3.Connection] = []
        self._guard = threading.Lock()
        try:
            if not path.exists():
                os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
            self._prepare(int.from_bytes(application, "big"), tables, migrations)
        except OSError as error:
            raise StoreError(f"{path} cannot be made: {error}") from None
        except BaseException:
            self.close()
            raise

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All of what is done inside, or nothing; durable when it ends."""
        with self._refusing():
            db = self.connection
            db.execute("begin immediate")
            try:
                yield db
                db.execute("commit")
            except BaseException:
                if db.in_transaction:  # some errors have rolled back already
                    db.execute("rollback")
                raise

    def rows(self, query: str, *values: Value) -> list[Any]:
        """What a query finds."""
        with self._refusing():
            return self.connection.execute(query, values).fetchall()

    def each(self, query: str, *values: Value) -> Iterator[Any]:
        """What a query finds, row by row."""
        with self._refusing():
            yield from self.connection.execute(query, values)

    @property
    def connection(self) -> sqlite3.Connection:
        """This thread's connection."""
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = sqlite3.connect(
                self.path, isolation_level=None, check_same_thread=False, timeout=_PATIENCE
            )
            try:
                connection.create_function("seal", -1, _seal, deterministic=True)
                connection.create_function("whole", -1, self._whole, deterministic=True)
                connection.executescript(
                    f"pragma journal_mode = wal; pragma synchronous = full; "
                    f"pragma secure_delete = on; pragma foreign_keys = on; "
                    f"pragma trusted_schema = on; "  # seals are computed by a function of ours
                    f"pragma cache_size = -{_CACHE_KIB};"
                )
            except BaseException:
                connection.close()
                raise
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
        deadline = time.monotonic() + _PATIENCE
        # SQLite waits for readers, but not for another connection that empties the log, too.
        while self.rows("pragma wal_checkpoint(truncate)")[0][0]:
            if time.monotonic() > deadline:
                raise StoreError(
                    f"{self.path} is being read, and its log cannot be emptied; try again"
                )
            time.sleep(0.001)
        # SQLite leaves it to chance when the log's end reaches the disk.
        log = self.path.with_name(f"{self.path.name}-wal")
        try:
            with log.open("r+b") as file:
                os.fsync(file.fileno())
        except OSError as error:
            raise StoreError(f"{log} cannot be emptied: {error}") from None

    def close(self) -> None:
        """Close all connections; nothing is lost when this is never called."""
        with self._guard:
            for connection in self._connections:
                connection.close()
            self._connections.clear()

    def _whole(self, seal: Value, *values: Value) -> bool:
        if seal == _seal(*values):
            return True
        logger.warning("a row of %s is damaged and left out", self.path)
        return False

    @contextmanager
    def _refusing(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            # Only errors of SQLite itself have a name, not those of Python's module, of which one
            # is a damage: text that is no UTF-8.
            name = getattr(error, "sqlite_errorname", "")
            if name.startswith(_DAMAGE) or "Could not decode" in str(error):
                self._damaged()
                raise DamagedError(f"{self.path} is not a whole database: {error}") from None
            raise StoreError(f"{self.path}: {error}") from None
        except UnicodeDecodeError as error:  # of a name in a damaged schema
            self._damaged()
            raise DamagedError(f"{self.path} is not a whole database: {error}") from None
        except UnicodeEncodeError:
            raise RequestError(
                "a text has a lone surrogate, which is half a character; send valid Unicode"
            ) from None

    def _prepare(self, application: int, tables: str, migrations: Sequence[str]) -> None:
        version = 1 + len(migrations)
        ((found,),) = self.rows("pragma application_id")
        ((written,),) = self.rows("pragma user_version")
        if (found, written) == (0, 0):
            if self.rows("select 1 from sqlite_master"):
                raise StoreError(f"{self.path} belongs to another program; name another folder")
            steps = [tables, f"pragma application_id = {application};\n"]
        elif found != application:
            raise StoreError(f"{self.path} belongs to another program; name another folder")
        elif written > version:
            raise StoreError(
                f"{self.path} has version {written}, and {version} is known; use the version of "
                "Everlong that wrote it"
            )
        else:
            steps = list(migrations[written - 1 :])
        if steps:
            with self.transaction() as db:
                for step in steps:
                    for statement in step.split(";\n"):
                        db.execute(statement)
                db.execute(f"pragma user_version = {version}")
            if written:
                logger.info("%s was of version %d and is of %d now", self.path, written, version)


def _seal(*values: Value) -> int:
    """A checksum of values and their types, as a signed 64-bit number."""
    digest = xxhash.xxh3_64()
    for value in values:
        if isinstance(value, int):
            value = float(value)  # which of the two a column makes of it
        content = value if isinstance(value, bytes) else repr(value).encode("utf-8", "replace")
        digest.update(f"{type(value).__name__} {len(content)} ".encode() + content)
    return digest.intdigest() - (1 << 63)
