"""Episodes: pieces of text with where they come from.

Texts are the memory of record. Their words are indexed in the same transaction. Vectors come later,
from whoever has an embedder, and can be made again.
"""

from __future__ import annotations

import re
import secrets
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from everlong.errors import RequestError
from everlong.memory.database import Database
from everlong.memory.word_index import Row, WordIndex

# Of each namespace, for its quota.
COUNTING = """
create trigger episode_added after insert on episodes begin
    update namespaces set bytes = bytes + length(cast(new.body as blob))
    where id = new.namespace; end;
create trigger episode_removed after delete on episodes begin
    update namespaces set bytes = bytes - length(cast(old.body as blob))
    where id = old.namespace; end;
"""

NUMBERING = """
create table numbering (         -- one row: the last number that was given
    last integer not null
) strict;
insert into numbering select coalesce(max(number), 0) from episodes;
"""

TABLES = f"""
create table episodes (
    number integer primary key,
    id blob not null unique,
    namespace blob not null references namespaces (id) on delete cascade,
    session text not null,       -- name of the session; '' for a document
    place integer not null,      -- order in its session or document
    source text not null,
    speaker text not null,
    told real not null,          -- seconds since 1970
    body text not null,
    seal integer not null generated always as (
        seal(id, namespace, session, place, source, speaker, told, body)
    ) stored
) strict;
create index episodes_by_place on episodes (namespace, session, source, place);
create index episodes_by_time on episodes (namespace, told);
create table vectors (
    embedder text not null,
    number integer not null references episodes (number) on delete cascade,
    vector blob not null,        -- float16
    primary key (embedder, number)
) strict, without rowid;
create index vectors_by_number on vectors (number);
{NUMBERING}{COUNTING}"""

ID_BYTES = 16
_AT_ONCE = 500
"""Rows that one statement names."""
_YEARS = -62_135_500_000.0, 253_402_200_000.0
"""The years 1 to 9999, but for a day, in seconds since 1970: what a calendar can tell."""

V = TypeVar("V")


@dataclass(frozen=True)
class NewEpisode:
    """A piece of text that is to be remembered."""

    text: str
    session: str = ""
    """Name of its session; empty for a document."""
    source: str = "chat"
    """Where it comes from: ``chat``, or the name of a document."""
    speaker: str = ""
    """Who said it."""
    time: float = 0.0
    """Seconds since 1970; 0: now."""

    def __post_init__(self) -> None:
        checked_time(self.time)


@dataclass(frozen=True)
class Episode:
    """A piece of text that is remembered."""

    id: bytes
    """16 random bytes."""
    session: str
    place: int
    """Order in its session or document."""
    source: str
    speaker: str
    time: float
    text: str
    number: int
    """Within this memory; larger is later, and none is given twice."""

    @property
    def teller(self) -> str:
        """Who said it, or where it stands."""
        return self.speaker or self.source

    @property
    def day(self) -> str:
        """When it was told, in words."""
        return time.strftime("%d %B %Y", time.localtime(self.time))


def checked_time(seconds: float) -> float:
    """When something was told, in seconds since 1970.

    Raises:
        RequestError: no calendar has it, and whoever reads what was told would fail.
    """
    first, last = _YEARS
    if not first <= seconds <= last:
        raise RequestError(f"time is seconds since 1970, in the years 1 to 9999, not {seconds}")
    return seconds


def passages(text: str, most: int = 200) -> list[str]:
    """A text in parts of at most ``most`` words, cut where paragraphs, sentences or words end.

    Put one after the other, with what space is between them, they are the text.
    """
    parts = [text.strip()]
    for end in (r"\n\s*\n", r"(?<=[.!?])\s+|\n", r"\s+"):
        finer: list[str] = []
        for part in parts:
            pieces = re.split(end, part) if len(part.split()) > most else [part]
            finer += [piece.strip() for piece in pieces if piece.strip()]
        parts = finer
    joined: list[str] = []
    begin = end_of_last = 0
    for part in parts:
        at = text.index(part, end_of_last)
        end_of_last = at + len(part)
        if joined and len(text[begin:end_of_last].split()) <= most:
            joined[-1] = text[begin:end_of_last]
        else:
            joined.append(part)
            begin = at
    return joined


class Episodes:
    """The episodes of a memory.

    Args:
        database: has ``TABLES``, and those of namespaces.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self.words = WordIndex(database)
        self.added = threading.Event()
        """Set whenever there are new ones; whoever waits for them clears it."""
        self.added.set()
        self.vectors_changed = 0
        """Counts what changed them since the memory was opened."""
        self.added_to: Counter[bytes] = Counter()
        """How many came to each namespace since the memory was opened."""

    def add(self, namespace: bytes, new: Sequence[NewEpisode]) -> list[Episode]:
        """Remember texts, all or none of them, durably.

        Args:
            namespace: whose.
            new: in their order; each follows what its session or document has already.
        """
        now = time.time()
        added: list[Episode] = []
        places: dict[tuple[str, str], int] = {}
        with self._database.transaction() as db:
            (last,) = db.execute("select last from numbering").fetchone()
            for number, one in enumerate(new, last + 1):
                key = one.session, one.source
                if key not in places:
                    places[key] = db.execute(
                        "select coalesce(max(place), -1) + 1 from episodes "
                        "where namespace = ? and session = ? and source = ?",
                        (namespace, *key),
                    ).fetchone()[0]
                identity, told = secrets.token_bytes(ID_BYTES), one.time or now
                row = (identity, one.session, places[key], one.source, one.speaker, told, one.text)
                db.execute(
                    "insert into episodes (namespace, id, session, place, source, speaker, told, "
                    "body, number) values (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    (namespace, *row, number),
                )
                added.append(Episode(*row, number))
                places[key] += 1
            db.execute("update numbering set last = last + ?", (len(new),))
            self.words.add(db, namespace, map(_row, added))
        self.added_to[namespace] += len(added)
        self.added.set()
        return added

    def get(self, namespace: bytes, ids: Iterable[bytes]) -> list[Episode]:
        """Episodes by id; those that are not there are left out."""
        return list(self._in("id", namespace, list(ids)))

    def numbered(self, namespace: bytes, numbers: Iterable[int]) -> list[Episode]:
        """Episodes by number; those of other namespaces are left out."""
        return list(self._in("number", namespace, list(numbers)))

    def page(
        self,
        namespace: bytes,
        *,
        limit: int,
        before: int | None = None,
        session: str | None = None,
        source: str | None = None,
    ) -> list[Episode]:
        """Episodes, the latest first.

        Args:
            namespace: whose.
            limit: most episodes.
            before: number of the last one of the page before this.
            session, source: only those of it.
        """
        conditions, values = _conditions(session=session, source=source)
        if before is not None:
            conditions.append("number < ?")
            values.append(before)
        return self._select(
            " and ".join(["namespace = ?", *conditions]) + " order by number desc limit ?",
            namespace,
            *values,
            limit,
        )

    def all(self, namespace: bytes) -> Iterator[Episode]:
        """All episodes, the oldest first."""
        last = 0
        while some := self._select(
            "namespace = ? and number > ? order by number limit ?", namespace, last, _AT_ONCE
        ):
            yield from some
            last = some[-1].number

    def has(self, namespace: bytes, one: NewEpisode) -> bool:
        """Whether the same was said by the same at the same time."""
        return bool(
            self._select(
                "namespace = ? and session = ? and source = ? and speaker = ? and told = ? "
                "and body = ? limit 1",
                namespace,
                one.session,
                one.source,
                one.speaker,
                one.time,
                one.text,
            )
        )

    def around(self, namespace: bytes, episode: Episode, reach: int) -> list[Episode]:
        """An episode and up to ``reach`` before and after it in its session or document."""
        return self._select(
            "namespace = ? and session = ? and source = ? and place between ? and ? order by place",
            namespace,
            episode.session,
            episode.source,
            episode.place - reach,
            episode.place + reach,
        )

    def matching(
        self,
        namespace: bytes,
        *,
        session: str | None = None,
        source: str | None = None,
        since: float | None = None,
        until: float | None = None,
        query: str | None = None,
    ) -> list[Episode]:
        """All episodes that fit every condition that is given, damaged ones too: they go with them.

        Args:
            namespace: whose.
            session, source: of which they are.
            since, until: seconds since 1970 between which they were told.
            query: words that are all in the text, in whatever form.
        """
        conditions, values = _conditions(session=session, source=source)
        if since is not None:
            conditions.append("told >= ?")
            values.append(since)
        if until is not None:
            conditions.append("told <= ?")
            values.append(until)
        if query is not None:
            found = self.words.having_all(namespace, query)
            if found is None:
                return []
            subquery, value = found
            conditions.append(f"number in ({subquery})")
            values.append(value)
        return self._select(
            " and ".join(["namespace = ?", *conditions]) + " order by number",
            namespace,
            *values,
            damaged=True,
        )

    def count(self, namespace: bytes) -> int:
        """Episodes of a namespace."""
        ((count,),) = self._database.rows(
            "select count(*) from episodes where namespace = ?", namespace
        )
        return int(count)

    def mean_length(self, namespace: bytes, most: int) -> float:
        """Mean length in characters of the ``most`` episodes that were told last; 0: none."""
        ((mean,),) = self._database.rows(
            "select avg(length(body)) from "
            "(select body from episodes where namespace = ? order by told desc limit ?)",
            namespace,
            most,
        )
        return float(mean or 0.0)

    def remove(self, namespace: bytes, ids: Sequence[bytes]) -> tuple[list[int], int]:
        """Remove episodes: texts, words and vectors; no byte of them stays in the files.

        Returns:
            Numbers of the episodes that there were, and how many vectors went.
        """
        found = list(self._in("id", namespace, list(ids), damaged=True))
        if not found:
            return [], 0
        vectors = 0
        with self._database.transaction() as db:
            self.words.remove(db, namespace, map(_row, found))
            for episode in found:
                vectors += db.execute(
                    "delete from vectors where number = ?", (episode.number,)
                ).rowcount
                db.execute("delete from episodes where number = ?", (episode.number,))
        self._database.compact()
        return [episode.number for episode in found], vectors

    def without_vector(self, embedder: str, limit: int) -> list[Episode]:
        """The next episodes, of all namespaces, that get a vector of an embedder.

        They get theirs in order, so that new vectors are those past the last.
        """
        return self._select(
            "number > (select coalesce(max(v.number), 0) from vectors v where v.embedder = ?) "
            "order by number limit ?",
            embedder,
            limit,
        )

    def set_vectors(
        self, embedder: str, episodes: Sequence[Episode], vectors: NDArray[np.float32]
    ) -> None:
        """Keep vectors of episodes that are still there.

        Args:
            embedder: name of what made them.
            episodes: n of them.
            vectors: [n, dimensions].
        """
        half = vectors.astype(np.float16)
        with self._database.transaction() as db:
            for episode, vector in zip(episodes, half, strict=True):
                db.execute(
                    "insert or replace into vectors select ?, number, ? from episodes where id = ?",
                    (embedder, vector.tobytes(), episode.id),
                )
        self.vectors_changed += 1

    def vectors(
        self, namespace: bytes, embedder: str, after: int = 0, limit: int = -1
    ) -> tuple[NDArray[np.int64], NDArray[np.float16]]:
        """Numbers [n] and vectors [n, dimensions] of a namespace's episodes past a number.

        Args:
            namespace: whose.
            embedder: name of what made them.
            after: the number.
            limit: most of them; -1: all.
        """
        rows = self._database.rows(
            "select v.number, v.vector from vectors v join episodes e on e.number = v.number "
            "where v.embedder = ? and v.number > ? and e.namespace = ? order by v.number limit ?",
            embedder,
            after,
            namespace,
            limit,
        )
        numbers = np.array([number for number, _ in rows], np.int64)
        flat = np.frombuffer(b"".join(vector for _, vector in rows), np.float16)
        return numbers, flat.reshape(len(rows), -1) if rows else flat.reshape(0, 0)

    def around_all(
        self, namespace: bytes, numbers: Iterable[int], reach: int
    ) -> list[tuple[int, int, int, str, str | None, str | None, int]]:
        """Where episodes stand, and what stands up to ``reach`` before and after them.

        Returns:
            For each, itself included: the episode's number; the distance (before it: below 0); of
            what stands there the number and the speaker; and of the episode itself, at distance 0,
            its session, its source and whether it ends with a question.
        """
        found: list[tuple[int, int, int, str, str | None, str | None, int]] = []
        for some, marks in _batches(list(numbers)):
            found += self._database.rows(
                "select c.number, n.place - c.place, n.number, n.speaker, "
                "iif(n.number = c.number, n.session, null), "
                "iif(n.number = c.number, n.source, null), "
                "n.number = c.number and rtrim(n.body, ' \n') like '%?' "
                "from episodes c join episodes n on n.namespace = c.namespace "
                "and n.session = c.session and n.source = c.source "
                "and n.place between c.place - ? and c.place + ? "
                # The sign keeps SQLite from going through all of the namespace.
                f"where +c.namespace = ? and c.number in ({marks})",
                reach,
                reach,
                namespace,
                *some,
            )
        return found

    def lengths(self, namespace: bytes, numbers: Sequence[int]) -> dict[int, int]:
        """Characters of the texts of episodes, by number."""
        found: dict[int, int] = {}
        for some, marks in _batches(numbers):
            rows = self._database.rows(
                f"select number, length(body) from episodes "
                f"where +namespace = ? and number in ({marks})",
                namespace,
                *some,
            )
            found.update(rows)
        return found

    def _in(
        self,
        column: str,
        namespace: bytes,
        values: Sequence[bytes | int],
        damaged: bool = False,
    ) -> Iterator[Episode]:
        for some, marks in _batches(values):
            # The sign keeps SQLite from going through all of the namespace.
            condition = f"+namespace = ? and {column} in ({marks})"
            yield from self._select(condition, namespace, *some, damaged=damaged)

    def _select(
        self, condition: str, *values: bytes | str | float | int, damaged: bool = False
    ) -> list[Episode]:
        """Episodes; those whose row is not what was written only when they are asked for."""
        columns = "id, session, place, source, speaker, told, body"
        whole = "whole(seal, id, namespace, session, place, source, speaker, told, body)"
        rows = self._database.rows(
            f"select {columns}, number from episodes where ({damaged:d} or {whole}) "
            f"and {condition}",
            *values,
        )
        return [Episode(*row) for row in rows]


def _row(episode: Episode) -> Row:
    return episode.number, episode.text, episode.speaker


def _batches(values: Sequence[V]) -> Iterator[tuple[Sequence[V], str]]:
    """As many values at a time as a statement names, and the marks that stand for them."""
    for start in range(0, len(values), _AT_ONCE):
        some = values[start : start + _AT_ONCE]
        yield some, ", ".join("?" * len(some))


def _conditions(**equal: str | None) -> tuple[list[str], list[str | float]]:
    given = {name: value for name, value in equal.items() if value is not None}
    return [f"{name} = ?" for name in given], list(given.values())
