"""Namespaces: whose memory is whose.

A namespace is a random id with a random secret that keys the ids of its blocks, so that one can
neither find nor guess another's. Credentials open namespaces: they can be replaced, and what is
remembered stays. Of a credential only a slow salted hash is kept.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from dataclasses import dataclass

from everlong.errors import DamagedError, RequestError
from everlong.memory.database import Database, Value
from everlong.memory.record import NAMESPACE_BYTES

LOCAL = "local"
"""Name of the namespace of the command line, and of a server without keys."""

TABLES = """
create table namespaces (
    id blob primary key,
    name text not null unique,
    secret blob not null,
    created real not null,       -- seconds since 1970
    seal integer not null generated always as (seal(id, name, secret)) stored,
    bytes integer not null default 0   -- of the texts of its messages and episodes
) strict;
create table credentials (
    digest blob primary key,
    namespace blob not null references namespaces (id)
) strict;
create table salts (
    salt blob not null           -- one row: of this file's credentials
) strict;
"""


@dataclass(frozen=True)
class Namespace:
    """Whose blocks, sessions and episodes."""

    id: bytes
    """16 random bytes."""
    name: str
    secret: bytes
    """32 random bytes that key block ids."""

    @classmethod
    def new(cls, name: str) -> Namespace:
        """A namespace that nothing was remembered in yet."""
        return cls(secrets.token_bytes(NAMESPACE_BYTES), name, secrets.token_bytes(32))


class Namespaces:
    """The namespaces of a memory, and what opens them.

    Args:
        database: has ``TABLES``.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        with database.transaction() as db:
            if db.execute("select 1 from salts").fetchone() is None:
                db.execute("insert into salts values (?)", (secrets.token_bytes(16),))
        ((self._salt,),) = database.rows("select salt from salts")

    def named(self, name: str) -> Namespace:
        """The namespace of this name; it is made when there is none."""
        new = Namespace.new(name)
        with self._database.transaction() as db:
            db.execute(
                "insert or ignore into namespaces (id, name, secret, created) values (?, ?, ?, ?)",
                (new.id, name, new.secret, time.time()),
            )
        found = self._select("namespaces n where n.name = ?", name)
        assert found is not None, "it was just made"
        return found

    def find(self, identity: bytes) -> Namespace | None:
        """The namespace with this id, or None."""
        return self._select("namespaces n where n.id = ?", identity)

    def used_by(self, namespace: bytes) -> int:
        """Bytes of the texts of a namespace's messages and episodes."""
        ((used,),) = self._database.rows("select bytes from namespaces where id = ?", namespace)
        return int(used)

    def opened_by(self, credential: str) -> Namespace:
        """The namespace that a credential opens; a new credential opens a new one."""
        digest = self._digest(credential)
        if (found := self._find(digest)) is None:
            found = self.named(f"key-{secrets.token_hex(8)}")
            with self._database.transaction() as db:
                db.execute("insert into credentials values (?, ?)", (digest, found.id))
        return found

    def replace(self, old: str, new: str) -> Namespace:
        """A new credential opens what an old one opened, which opens nothing any more.

        Raises:
            RequestError: the old one opens nothing, or the new one opens something.
        """
        before, after = self._digest(old), self._digest(new)
        found = self._find(before)
        if found is None:
            raise RequestError("the old key opens nothing here; give the one that was served last")
        if self._find(after) is not None:
            raise RequestError("the new key opens a namespace of its own; choose another")
        with self._database.transaction() as db:
            db.execute("update credentials set digest = ? where digest = ?", (after, before))
        return found

    def _find(self, digest: bytes) -> Namespace | None:
        return self._select(
            "credentials c join namespaces n on n.id = c.namespace where c.digest = ?", digest
        )

    def _select(self, source: str, value: Value) -> Namespace | None:
        rows = self._database.rows(
            f"select n.id, n.name, n.secret, whole(n.seal, n.id, n.name, n.secret) from {source}",
            value,
        )
        if not rows:
            return None
        *columns, whole = rows[0]
        if not whole:
            raise DamagedError(
                "a namespace is not what was written, and its blocks cannot be named; "
                "restore records.sqlite from a copy, or name another folder with --memory"
            )
        return Namespace(*columns)

    def _digest(self, credential: str) -> bytes:
        # Slow on purpose: whoever reads the file shall not find a weak key by trying.
        return hashlib.scrypt(credential.encode(), salt=self._salt, n=1 << 14, r=8, p=1, dklen=32)
