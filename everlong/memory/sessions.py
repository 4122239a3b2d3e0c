"""Sessions: conversations as they were told, message by message, and the tokens they became.

Messages are the memory of record. A transcript is what one tokenizer made of them, with the tokens
that the model itself wrote: the same tokens find the same blocks again. It is kept in parts, one
for each answer, so that forgetting a message takes the parts from there on and nothing before.
"""

from __future__ import annotations

import json
import secrets
import sqlite3
import time
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from everlong.errors import RequestError
from everlong.memory.database import Database

MOST_NAME = 128
"""Characters of a session's name."""

# Of each namespace, for its quota.
COUNTING = """
create trigger message_added after insert on messages begin
    update namespaces set
        bytes = bytes + length(cast(new.body as blob)) + length(cast(new.notes as blob))
    where id = (select namespace from sessions where id = new.session); end;
create trigger message_removed after delete on messages begin
    update namespaces set
        bytes = bytes - length(cast(old.body as blob)) - length(cast(old.notes as blob))
    where id = (select namespace from sessions where id = old.session); end;
create trigger message_changed after update of body, notes on messages begin
    update namespaces set bytes = bytes
        + length(cast(new.body as blob)) + length(cast(new.notes as blob))
        - length(cast(old.body as blob)) - length(cast(old.notes as blob))
    where id = (select namespace from sessions where id = new.session); end;
"""

TABLES = f"""
create table sessions (
    id integer primary key,
    namespace blob not null references namespaces (id) on delete cascade,
    name text not null,
    origin text not null,         -- the session it was forked from; '' for most
    paused integer not null,
    created real not null,        -- seconds since 1970
    updated real not null,
    unique (namespace, name)
) strict;
create index sessions_by_use on sessions (namespace, updated);
create table messages (
    session integer not null references sessions (id) on delete cascade,
    place integer not null,       -- order; what is forgotten leaves a gap
    body text not null,           -- the message as templates read it, as JSON
    notes text not null,          -- what was recalled for it and stands before it in the prompt
    told real not null,
    seal integer not null generated always as (seal(session, place, body)) stored,
    notes_seal integer not null generated always as (seal(session, place, notes)) stored,
    primary key (session, place)
) strict, without rowid;
create table message_episodes (   -- what a message was remembered as; forks share it
    episode blob not null,
    session integer not null,
    place integer not null,
    primary key (episode, session, place),
    foreign key (session, place) references messages (session, place) on delete cascade
) strict, without rowid;
create index message_episodes_by_place on message_episodes (session, place);
create table message_notes (      -- what was recalled into a message
    session integer not null,
    place integer not null,
    episode blob not null,
    score real not null,
    primary key (session, place, episode),
    foreign key (session, place) references messages (session, place) on delete cascade
) strict, without rowid;
create index message_notes_by_episode on message_notes (episode);
create table transcripts (
    session integer not null references sessions (id) on delete cascade,
    tokenizer blob not null,      -- its fingerprint
    start integer not null,       -- tokens before these
    first integer not null,       -- no message before this has a token in here,
    last integer not null,        -- and none after this
    tokens blob not null,         -- little-endian int32
    seal integer not null generated always as (seal(session, tokenizer, start, tokens)) stored,
    primary key (session, tokenizer, start)
) strict, without rowid;
{COUNTING}"""


_OF = (
    "session = ? and whole(seal, session, place, body) and whole(notes_seal, session, place, notes)"
)
"""Which messages are a session's, damaged ones left out."""


@dataclass(frozen=True)
class Session:
    """A conversation."""

    id: int
    """Within this memory."""
    namespace: bytes
    name: str
    """As requests give it; unique in its namespace."""
    origin: str
    """Name of the session it was forked from, or empty."""
    paused: bool
    """What is said is not remembered as episodes, and nothing is recalled."""
    created: float
    updated: float


@dataclass(frozen=True)
class Message:
    """One message of a session."""

    place: int
    body: Mapping[str, Any]
    """Role, content and what else chat templates read."""
    notes: str = ""
    """What was recalled for it, as it stands in the prompt."""
    recalled: tuple[tuple[bytes, float], ...] = ()
    """Episodes in the notes, with their scores."""
    told: float = 0.0


class Sessions:
    """The sessions of a memory.

    Args:
        database: has ``TABLES``, and those of namespaces.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def find(self, namespace: bytes, name: str) -> Session | None:
        """The session of this name, or None."""
        return next(iter(self._select("namespace = ? and name = ?", namespace, name)), None)

    def open(self, namespace: bytes, name: str | None = None, origin: str = "") -> Session:
        """The session of this name; it is made when there is none. Without a name: a new one.

        Raises:
            RequestError: the name is empty, too long, or cannot be printed.
        """
        name = f"session-{secrets.token_hex(8)}" if name is None else name
        if not 1 <= len(name) <= MOST_NAME or not name.isprintable():
            raise RequestError(
                f"a session's name has 1 to {MOST_NAME} printable characters, not {name[:200]!r}"
            )
        now = time.time()
        with self._database.transaction() as db:
            db.execute(
                "insert or ignore into sessions (namespace, name, origin, paused, created, updated)"
                " values (?, ?, ?, 0, ?, ?)",
                (namespace, name, origin, now, now),
            )
        found = self.find(namespace, name)
        assert found is not None, "it was just made"
        return found

    def page(
        self, namespace: bytes, *, limit: int, before: tuple[float, int] | None = None
    ) -> list[Session]:
        """Sessions, the one used last first.

        Args:
            namespace: whose.
            limit: most sessions.
            before: when the last one of the page before this was used, and its id.
        """
        used, last = before or (float("inf"), 0)
        return self._select(
            "namespace = ? and (updated, id) < (?, ?) order by updated desc, id desc limit ?",
            namespace,
            used,
            last,
            limit,
        )

    def count(self, namespace: bytes) -> tuple[int, int]:
        """Sessions and messages of a namespace."""
        ((sessions, messages),) = self._database.rows(
            "select count(distinct s.id), count(m.place) from sessions s "
            "left join messages m on m.session = s.id where s.namespace = ?",
            namespace,
        )
        return int(sessions), int(messages)

    def messages(self, session: Session) -> list[Message]:
        """All messages, in order."""
        recalled: dict[int, list[tuple[bytes, float]]] = {}
        for place, episode, score in self._database.rows(
            "select place, episode, score from message_notes where session = ? "
            "order by place, score desc",
            session.id,
        ):
            recalled.setdefault(place, []).append((episode, score))
        return [
            Message(place, json.loads(body), notes, tuple(recalled.get(place, ())), told)
            for place, body, notes, told in self._database.rows(
                f"select place, body, notes, told from messages where {_OF} order by place",
                session.id,
            )
        ]

    def glance(self, session: Session) -> tuple[int, str]:
        """How many messages a session has, and the first that the user said."""
        ((count,),) = self._database.rows(f"select count(*) from messages where {_OF}", session.id)
        for (body,) in self._database.each(
            f"select body from messages where {_OF} order by place", session.id
        ):
            message = json.loads(body)
            if message["role"] == "user":
                return int(count), str(message.get("content") or "")
        return int(count), ""

    def append(self, session: Session, messages: Iterable[Message]) -> list[Message]:
        """Add messages at the end, durably; their places are given here."""
        added = []
        now = time.time()
        with self._database.transaction() as db:
            (place,) = db.execute(
                "select coalesce(max(place), -1) from messages where session = ?", (session.id,)
            ).fetchone()
            for message in messages:
                place += 1
                told = message.told or now
                db.execute(
                    "insert into messages values (?, ?, ?, ?, ?)",
                    (session.id, place, _json(message.body), message.notes, told),
                )
                db.executemany(
                    "insert into message_notes values (?, ?, ?, ?)",
                    [(session.id, place, episode, score) for episode, score in message.recalled],
                )
                added.append(Message(place, message.body, message.notes, message.recalled, told))
            db.execute("update sessions set updated = ? where id = ?", (now, session.id))
        return added

    def remembered_as(self, session: Session, place: int, episodes: Sequence[bytes]) -> None:
        """Note which episodes a message became."""
        with self._database.transaction() as db:
            db.executemany(
                "insert or ignore into message_episodes values (?, ?, ?)",
                [(episode, session.id, place) for episode in episodes],
            )

    def episodes(self, session: Session) -> dict[int, list[bytes]]:
        """Episodes that messages became, by the message's place."""
        found: dict[int, list[bytes]] = {}
        for place, episode in self._database.rows(
            "select place, episode from message_episodes where session = ? order by place",
            session.id,
        ):
            found.setdefault(place, []).append(episode)
        return found

    def transcript(self, session: Session, tokenizer: bytes) -> list[int]:
        """Tokens as they were read and written, as far as they are kept for this tokenizer."""
        tokens: list[int] = []
        for start, part in self._database.rows(
            "select start, tokens from transcripts where session = ? and tokenizer = ? "
            "and whole(seal, session, tokenizer, start, tokens) order by start",
            session.id,
            tokenizer,
        ):
            if start != len(tokens):  # what was between is forgotten
                break
            tokens += array("i", part)
        return tokens

    def transcripts(self, namespace: bytes) -> list[list[int]]:
        """The transcripts of all sessions of a namespace, for every tokenizer."""
        rows = self._database.rows(
            "select distinct s.id, t.tokenizer from sessions s join transcripts t "
            "on t.session = s.id where s.namespace = ?",
            namespace,
        )
        found = []
        for identity, tokenizer in rows:
            (session,) = self._select("id = ?", identity)
            found.append(self.transcript(session, tokenizer))
        return found

    def write_transcript(
        self, session: Session, tokenizer: bytes, start: int, last: int, tokens: Sequence[int]
    ) -> None:
        """Tokens from ``start`` on are now these.

        Args:
            session: whose.
            tokenizer: fingerprint of the tokenizer.
            start: tokens before, which stay as they are.
            last: place of the last message that one of ``tokens`` is of.
            tokens: token ids.
        """
        with self._database.transaction() as db:
            parts = db.execute(
                "select start, first, last, tokens, whole(seal, session, tokenizer, start, tokens) "
                "from transcripts where session = ? and tokenizer = ? order by start",
                (session.id, tokenizer),
            ).fetchall()
            first = 0
            for at, begins, ends, part, whole in parts:
                if whole and at + len(part) // 4 <= start:
                    first = ends + 1
                    continue
                # Where a part is cut, what follows may be of any of its messages.
                first = min(first, begins) if at >= start else begins
                db.execute(
                    "delete from transcripts where session = ? and tokenizer = ? and start = ?",
                    (session.id, tokenizer, at),
                )
                if whole and at < start:
                    kept = part[: 4 * (start - at)]
                    db.execute(
                        "insert into transcripts values (?, ?, ?, ?, ?, ?)",
                        (session.id, tokenizer, at, begins, ends, kept),
                    )
            db.execute(
                "insert into transcripts values (?, ?, ?, ?, ?, ?)",
                (session.id, tokenizer, start, first, last, array("i", tokens).tobytes()),
            )

    def beginning(self, namespace: bytes, name: str, limit: int) -> list[Session]:
        """Sessions whose names begin so, the one used last first."""
        return self._select(
            "namespace = ? and substr(name, 1, ?) = ? order by updated desc, id desc limit ?",
            namespace,
            len(name),
            name,
            limit,
        )

    def fork(
        self, session: Session, messages: Sequence[Message], name: str | None = None
    ) -> Session:
        """A new session that begins with the first messages of another.

        Args:
            session: the other.
            messages: its first ones, which the new one has, too; the tokens come with them.
            name: of the new one, which no session has; None: any.
        """
        new = self.open(session.namespace, name, origin=session.name)
        if session.paused:
            self.pause(new, True)
            new = replace(new, paused=True)
        self.append(new, messages)
        places = [message.place for message in messages]
        with self._database.transaction() as db:
            for copy, place in enumerate(places):
                db.execute(
                    "insert into message_episodes select episode, ?, ? from message_episodes "
                    "where session = ? and place = ?",
                    (new.id, copy, session.id, place),
                )
            # Only parts without a token of a message that the new session does not have.
            for tokenizer, start, first, last, tokens in db.execute(
                "select tokenizer, start, first, last, tokens from transcripts "
                "where session = ? and last <= ? "
                "and whole(seal, session, tokenizer, start, tokens)",
                (session.id, max(places, default=-1)),
            ).fetchall():
                numbered = bisect_left(places, first), bisect_right(places, last) - 1
                db.execute(
                    "insert into transcripts values (?, ?, ?, ?, ?, ?)",
                    (new.id, tokenizer, start, *numbered, tokens),
                )
        return new

    def withdraw(self, session: Session, messages: Sequence[Message]) -> None:
        """Remove messages that were not answered, and a session that has no others."""
        with self._database.transaction() as db:
            for message in messages:
                db.execute(
                    "delete from messages where session = ? and place = ?",
                    (session.id, message.place),
                )
            db.execute(
                "delete from sessions where id = ? and not exists "
                "(select 1 from messages where session = ?)",
                (session.id, session.id),
            )

    def pause(self, session: Session, paused: bool) -> None:
        """Have what is said from now on remembered, or not."""
        with self._database.transaction() as db:
            db.execute("update sessions set paused = ? where id = ?", (paused, session.id))

    def _select(self, condition: str, *values: bytes | str | float | int) -> list[Session]:
        rows = self._database.rows(
            "select id, namespace, name, origin, paused, created, updated from sessions "
            f"where {condition}",
            *values,
        )
        return [
            Session(identity, owner, name, origin, bool(paused), created, updated)
            for identity, owner, name, origin, paused, created, updated in rows
        ]


def redact(db: sqlite3.Connection, episodes: Mapping[bytes, str]) -> tuple[set[int], int, int]:
    """Take the texts of episodes out of messages, of notes in any session, and of transcripts.

    A message keeps what it says besides; one that says nothing more is removed.

    Args:
        db: inside a transaction.
        episodes: texts by id.

    Returns:
        Sessions that changed, and how many messages and notes did.
    """
    changed: set[int] = set()
    messages = notes = 0
    for episode, text in episodes.items():
        for session, place, body in db.execute(
            "select m.session, m.place, m.body from messages m join message_episodes e "
            "on e.session = m.session and e.place = m.place where e.episode = ?",
            (episode,),
        ).fetchall():
            left = json.loads(body)
            content = str(left.get("content") or "")
            left["content"] = content.replace(text, "").strip()
            if left["content"] and left["content"] != content:
                db.execute(
                    "update messages set body = ? where session = ? and place = ?",
                    (_json(left), session, place),
                )
            else:
                db.execute("delete from messages where session = ? and place = ?", (session, place))
            messages += 1
            changed.add(session)
            _cut_transcripts(db, session, place)
        for session, place in db.execute(
            "select session, place from message_notes where episode = ?", (episode,)
        ).fetchall():
            db.execute(
                "update messages set notes = '' where session = ? and place = ?", (session, place)
            )
            db.execute(
                "delete from message_notes where session = ? and place = ?", (session, place)
            )
            notes += 1
            changed.add(session)
            _cut_transcripts(db, session, place)
        db.execute("delete from message_episodes where episode = ?", (episode,))
    return changed, messages, notes


def _cut_transcripts(db: sqlite3.Connection, session: int, place: int) -> None:
    """Remove the parts of transcripts from the one on that may have a token of a message."""
    for tokenizer, start in db.execute(
        "select tokenizer, min(start) from transcripts where session = ? and first <= ? "
        "and last >= ? group by tokenizer",
        (session, place, place),
    ).fetchall():
        db.execute(
            "delete from transcripts where session = ? and tokenizer = ? and start >= ?",
            (session, tokenizer, start),
        )


def _json(body: Mapping[str, Any]) -> str:
    return json.dumps(body, ensure_ascii=False)
