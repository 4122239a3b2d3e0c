"""Forgetting: texts, their tokens, and everything that was computed from them.

What goes: the episodes; what messages say of them, and notes that quote them, in every session;
the parts of transcripts from there on; vectors and words in indexes; and of the blocks of the
namespace every one whose whole prefix is not in a transcript that is left. So a block goes wherever
its prefix came from: a session that shared it, one that recalled it, a request of no session.
Blocks can be computed again, so too many may go, and too few never.

A forgetting that a crash interrupts goes on when the memory is opened again.
"""

from __future__ import annotations

import hashlib
import secrets
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Collection, Sequence, Set
from dataclasses import dataclass
from typing import Protocol

from everlong.errors import RequestError
from everlong.memory.block_id import BlockId, chain
from everlong.memory.block_store import BlockStore
from everlong.memory.database import Database
from everlong.memory.episodes import ID_BYTES, Episode, Episodes
from everlong.memory.namespaces import Namespace, Namespaces
from everlong.memory.recall import Recall
from everlong.memory.sessions import Sessions, redact

TABLES = """
create table forgettings (        -- begun and not finished
    id integer primary key,
    namespace blob not null,
    episodes blob not null        -- their ids, one after the other
) strict;
"""


@dataclass(frozen=True)
class Selection:
    """What is to be forgotten: what fits every condition that is given, at least one."""

    episodes: tuple[bytes, ...] = ()
    """Ids."""
    session: str | None = None
    """Name; alone, the whole session goes, what is not remembered as episodes included."""
    source: str | None = None
    query: str | None = None
    """Words that are all in a text, in whatever form."""
    since: float | None = None
    """Seconds since 1970."""
    until: float | None = None
    everything: bool = False
    """All of the namespace; no other condition then."""

    def __post_init__(self) -> None:
        given = (self.episodes, self.session, self.source, self.query, self.since, self.until)
        conditions = sum(condition not in (None, ()) for condition in given)
        if (conditions == 0) != self.everything:
            raise RequestError(
                "say what is forgotten: episodes, session, source, query, since or until; "
                "or everything, alone"
            )

    @property
    def whole_sessions(self) -> bool:
        """Whether sessions go with all they have."""
        rest = (self.episodes, self.source, self.query, self.since, self.until)
        return self.everything or (
            self.session is not None and all(condition in (None, ()) for condition in rest)
        )


@dataclass(frozen=True)
class Receipt:
    """What was forgotten, in numbers; what it was stands nowhere any more."""

    time: float
    episodes: int
    messages: int
    """Messages that lost a text or are gone."""
    notes: int
    """Messages of any session that lost what had been recalled for them."""
    sessions: int
    """Sessions that are gone."""
    vectors: int
    blocks: int
    """Blocks of keys and values that are gone."""
    overwritten_bytes: int
    """In the files of blocks."""
    salt: str
    """32 hexadecimal digits."""
    hashes: tuple[str, ...]
    """SHA-256 of the salt's bytes and each forgotten text: who has a text can tell that it went."""


class Reader(Protocol):
    """Who reads blocks of a memory where they lie."""

    def let_go(self, namespace: bytes, sessions: Collection[str]) -> set[BlockId]:
        """Stop reading for some sessions of a namespace, and for requests of no session.

        Returns:
            Ids of the namespace's blocks that are still read; they stay.
        """

    def drop(self, namespace: bytes, blocks: Set[BlockId]) -> None:
        """Stop reading these blocks of a namespace."""


class Forgetting:
    """Forgets, in all that a memory has.

    Args:
        database: with the tables of all parts.
        namespaces: part of the memory, as are those that follow.
        sessions: likewise.
        episodes: likewise.
        recall: likewise.
        blocks: likewise.
    """

    def __init__(
        self,
        database: Database,
        namespaces: Namespaces,
        sessions: Sessions,
        episodes: Episodes,
        recall: Recall,
        blocks: BlockStore,
    ) -> None:
        self._database = database
        self._namespaces = namespaces
        self._sessions = sessions
        self._episodes = episodes
        self._recall = recall
        self._blocks = blocks
        self._forgotten: Counter[tuple[bytes, str]] = Counter()
        self.readers: set[Reader] = set()
        """Who reads blocks, besides through ``blocks.get``: asked to let go before some go."""
        self.telling = threading.RLock()
        """Held while something is recalled into a session, or forgotten."""

    def forget(self, namespace: Namespace, selection: Selection) -> Receipt:
        """Forget what is selected, in all that a namespace has.

        Raises:
            StoreError: the disk refuses; the texts are gone from what is found, and what is left of
                them on the disk goes when the memory is opened again.
        """
        owner = namespace.id
        with self.telling:
            found = self.selected(namespace, selection)
            ids = [episode.id for episode in found]
            with self._database.transaction() as db:
                cursor = db.execute(
                    "insert into forgettings (namespace, episodes) values (?, ?)",
                    (owner, b"".join(ids)),
                )
                assert cursor.lastrowid is not None, "a row was inserted"
                changed, messages, notes = redact(db, {e.id: e.text for e in found})
                names = _names(db, changed)
                gone = _remove_sessions(db, owner, changed, selection)
            affected = names | gone
            self._forgotten.update((owner, session) for session in affected)
        vectors, blocks, overwritten = self._finish(namespace, cursor.lastrowid, ids, affected)
        salt = secrets.token_bytes(16)
        return Receipt(
            time=time.time(),
            episodes=len(found),
            messages=messages,
            notes=notes,
            sessions=len(gone),
            vectors=vectors,
            blocks=blocks,
            overwritten_bytes=overwritten,
            salt=salt.hex(),
            hashes=tuple(hashlib.sha256(salt + e.text.encode()).hexdigest() for e in found),
        )

    def selected(self, namespace: Namespace, selection: Selection) -> list[Episode]:
        """The episodes that would be forgotten."""
        named = self._episodes.get(namespace.id, selection.episodes)
        conditions = {
            "session": selection.session,
            "source": selection.source,
            "since": selection.since,
            "until": selection.until,
            "query": selection.query,
        }
        if all(condition is None for condition in conditions.values()) and not selection.everything:
            return named
        found = self._episodes.matching(namespace.id, **conditions)  # type: ignore[arg-type]
        return [episode for episode in found if not selection.episodes or episode in named]

    def times(self, namespace: bytes, session: str) -> int:
        """How often something was forgotten that a session has, or had recalled."""
        return self._forgotten[namespace, session]

    def finish_interrupted(self) -> int:
        """Finish what a crash interrupted; returns how many forgettings that were."""
        rows = self._database.rows("select id, namespace, episodes from forgettings order by id")
        for number, owner, episodes in rows:
            ids = [episodes[at : at + ID_BYTES] for at in range(0, len(episodes), ID_BYTES)]
            namespace = self._namespaces.find(owner)
            assert namespace is not None, "namespaces stay"
            self._finish(namespace, number, ids, set())
        return len(rows)

    def _finish(
        self, namespace: Namespace, number: int, ids: Sequence[bytes], sessions: set[str]
    ) -> tuple[int, int, int]:
        """Remove what a begun forgetting left: vectors, blocks, and bytes that overwritten ones
        were.

        Returns:
            Vectors and blocks that are gone, and bytes of blocks that were overwritten.
        """
        numbers, vectors = self._episodes.remove(namespace.id, ids)
        self._recall.forget(namespace.id, numbers)
        clean: set[BlockId] = set()
        readers = list(self.readers)
        for reader in readers:
            clean |= reader.let_go(namespace.id, sessions)
        fingerprints = self._blocks.fingerprints(namespace.id)
        for tokens in self._sessions.transcripts(namespace.id):
            for fingerprint in fingerprints:
                clean.update(chain(namespace.secret, fingerprint, tokens))

        def gone(blocks: Set[BlockId]) -> None:
            for reader in readers:
                reader.drop(namespace.id, blocks)

        blocks, overwritten = self._blocks.forget(namespace.id, clean, gone)
        with self._database.transaction() as db:
            db.execute("delete from forgettings where id = ?", (number,))
        self._database.compact()
        return vectors, blocks, overwritten


def _names(db: sqlite3.Connection, sessions: set[int]) -> set[str]:
    return {
        db.execute("select name from sessions where id = ?", (session,)).fetchone()[0]
        for session in sessions
    }


def _remove_sessions(
    db: sqlite3.Connection, owner: bytes, changed: set[int], selection: Selection
) -> set[str]:
    """Remove sessions that go whole, and those that have nothing left; returns their names."""
    if selection.whole_sessions:
        rows = db.execute(
            "select id, name from sessions where namespace = ? and (? or name = ?)",
            (owner, selection.everything, selection.session),
        ).fetchall()
    else:
        rows = [
            row
            for session in changed
            for row in db.execute(
                "select id, name from sessions where id = ? and not exists "
                "(select 1 from messages where session = ?)",
                (session, session),
            )
        ]
    for session, _ in rows:
        db.execute("delete from messages where session = ?", (session,))  # first: they are counted
        db.execute("delete from sessions where id = ?", (session,))
    return {name for _, name in rows}
