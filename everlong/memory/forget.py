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
import time
from collections.abc import Sequence, Set
from dataclasses import dataclass
from typing import TYPE_CHECKING

from everlong.errors import RequestError
from everlong.memory.block_id import BlockId, chain
from everlong.memory.episodes import ID_BYTES, Episode
from everlong.memory.namespaces import Namespace
from everlong.memory.sessions import redact

if TYPE_CHECKING:
    from everlong.memory.memory import Memory

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


def forget(memory: Memory, namespace: Namespace, selection: Selection) -> Receipt:
    """Forget what is selected, in all that a namespace has.

    Raises:
        StoreError: the disk refuses; the texts are gone from what is found, and what is left of
            them on the disk goes when the memory is opened again.
    """
    owner = namespace.id
    with memory.telling:
        found = selected(memory, namespace, selection)
        ids = [episode.id for episode in found]
        with memory.database.transaction() as db:
            cursor = db.execute(
                "insert into forgettings (namespace, episodes) values (?, ?)",
                (owner, b"".join(ids)),
            )
            assert cursor.lastrowid is not None, "a row was inserted"
            changed, messages, notes = redact(db, {e.id: e.text for e in found})
            names = _names(db, changed)
            gone = _remove_sessions(db, owner, changed, selection)
        affected = names | gone
        memory.has_forgotten(owner, affected)
    vectors, blocks, overwritten = _finish(memory, namespace, cursor.lastrowid, ids, affected)
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


def selected(memory: Memory, namespace: Namespace, selection: Selection) -> list[Episode]:
    """The episodes that would be forgotten."""
    named = memory.episodes.get(namespace.id, selection.episodes)
    conditions = {
        "session": selection.session,
        "source": selection.source,
        "since": selection.since,
        "until": selection.until,
        "query": selection.query,
    }
    if all(condition is None for condition in conditions.values()) and not selection.everything:
        return named
    found = memory.episodes.matching(namespace.id, **conditions)  # type: ignore[arg-type]
    return [episode for episode in found if not selection.episodes or episode in named]


def finish_interrupted(memory: Memory) -> int:
    """Finish what a crash interrupted; returns how many forgettings that were."""
    rows = memory.database.rows("select id, namespace, episodes from forgettings order by id")
    for number, owner, episodes in rows:
        ids = [episodes[at : at + ID_BYTES] for at in range(0, len(episodes), ID_BYTES)]
        namespace = memory.namespaces.find(owner)
        assert namespace is not None, "namespaces stay"
        _finish(memory, namespace, number, ids, set())
    return len(rows)


def _finish(
    memory: Memory, namespace: Namespace, number: int, ids: Sequence[bytes], sessions: set[str]
) -> tuple[int, int, int]:
    """Remove what a begun forgetting left: vectors, blocks, and bytes that overwritten ones were.

    Returns:
        Vectors and blocks that are gone, and bytes of blocks that were overwritten.
    """
    numbers, vectors = memory.episodes.remove(namespace.id, ids)
    memory.recall.forget(namespace.id, numbers)
    clean: set[BlockId] = set()
    readers = list(memory.readers)
    for reader in readers:
        clean |= reader.let_go(namespace.id, sessions)
    fingerprints = memory.blocks.fingerprints(namespace.id)
    for tokens in memory.sessions.transcripts(namespace.id):
        for fingerprint in fingerprints:
            clean.update(chain(namespace.secret, fingerprint, tokens))

    def gone(blocks: Set[BlockId]) -> None:
        for reader in readers:
            reader.drop(namespace.id, blocks)

    blocks, overwritten = memory.blocks.forget(namespace.id, clean, gone)
    with memory.database.transaction() as db:
        db.execute("delete from forgettings where id = ?", (number,))
    memory.database.compact()
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
