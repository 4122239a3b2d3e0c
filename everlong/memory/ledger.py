"""The ledger: which blocks are in the store, and where; one SQLite file.

A block is in the store when the ledger says so, and the ledger says so only after the block's bytes
are durable. So after any crash the ledger is right about every block it names, and what it does not
name is free space. Nothing about blocks is held in memory beyond SQLite's page cache, whose size is
fixed: a million blocks cost as much memory as one.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Container, Iterable
from dataclasses import dataclass
from pathlib import Path

from everlong.errors import DamagedError
from everlong.files import atomic_write
from everlong.memory.database import Database

_APPLICATION = b"EVLM"

logger = logging.getLogger(__name__)

# Of each origin, so that a namespace's share is known without reading a row of every block.
_COUNTING = """
create trigger block_added after insert on blocks
    begin update origins set bytes = bytes + new.length where id = new.origin; end;
create trigger block_removed after delete on blocks
    begin update origins set bytes = bytes - old.length where id = old.origin; end;
"""

_TABLES = f"""
create table segments (
    number integer primary key,
    size integer not null,
    used integer not null        -- bytes up to the end of the last record that is named
) strict;
create table origins (           -- what blocks have in common, kept once
    id integer primary key,
    namespace blob not null,
    fingerprint blob not null,
    bytes integer not null default 0,
    unique (namespace, fingerprint)
) strict;
create table blocks (
    id blob primary key,
    origin integer not null references origins (id),
    parent blob not null,
    depth integer not null,      -- blocks before it in its sequence
    segment integer not null,
    place integer not null,
    length integer not null,
    touched integer not null     -- when it was last attached, in the store's own count
) strict, without rowid;
create index blocks_by_place on blocks (segment, place);
create index blocks_by_use on blocks (touched, depth);
{_COUNTING}"""

_MIGRATIONS = (
    f"""
alter table origins add column bytes integer not null default 0;
update origins set bytes = (select coalesce(sum(length), 0) from blocks where origin = origins.id);
{_COUNTING}""",
)


@dataclass(frozen=True)
class Entry:
    """Where a block is."""

    id: bytes
    parent: bytes
    depth: int
    segment: int
    place: int
    length: int


@dataclass(frozen=True)
class SegmentUse:
    """How much of a segment is in use."""

    number: int
    size: int
    used: int
    """Where the next record goes."""
    live: int
    """Bytes of blocks that are in the store."""


class Ledger:
    """The ledger of one store. Several threads may read; one writes.

    Args:
        path: of the SQLite file; it is made when it is not there.

    Raises:
        StoreError: it was written by a later version, or belongs to another program.
        DamagedError: SQLite finds it malformed.

    Every method raises ``StoreError`` when the file cannot be read or written (a full disk, for
    instance); what was named before stays named.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._database = Database(
            path, _APPLICATION, _TABLES, _MIGRATIONS, damaged=lambda: note_damage(path)
        )

    def find(self, block: bytes) -> Entry | None:
        """Where a block is; None: it is not in the store."""
        rows = self._database.rows(
            "select id, parent, depth, segment, place, length from blocks where id = ?", block
        )
        return Entry(*rows[0]) if rows else None

    def add(
        self, entries: Iterable[tuple[Entry, bytes, bytes]], used: Iterable[tuple[int, int]]
    ) -> None:
        """Name blocks whose bytes are durable, all or none of them.

        Args:
            entries: blocks, each with its namespace and fingerprint.
            used: segments, each with the end of its last record.
        """
        with self._database.transaction() as db:
            now = self._tick(db)
            for entry, namespace, fingerprint in entries:
                db.execute(
                    "insert or ignore into origins (namespace, fingerprint) values (?, ?)",
                    (namespace, fingerprint),
                )
                db.execute(
                    "insert into blocks (id, origin, parent, depth, segment, place, "
                    "length, touched) select ?, id, ?, ?, ?, ?, ?, ? from origins "
                    "where namespace = ? and fingerprint = ? "
                    # A segment that is read for a new ledger may have one that was moved.
                    "on conflict (id) do update set segment = excluded.segment, "
                    "place = excluded.place",
                    (
                        entry.id,
                        entry.parent,
                        entry.depth,
                        entry.segment,
                        entry.place,
                        entry.length,
                        now,
                        namespace,
                        fingerprint,
                    ),
                )
            self._note_ends(db, used)

    def move(
        self, places: Iterable[tuple[bytes, int, int]], used: Iterable[tuple[int, int]]
    ) -> None:
        """Name new places, whose bytes are durable, of blocks that are still in the store.

        Args:
            places: id, segment and place.
            used: see :meth:`add`.
        """
        with self._database.transaction() as db:
            db.executemany(
                "update blocks set segment = ?, place = ? where id = ?",
                [(segment, place, block) for block, segment, place in places],
            )
            self._note_ends(db, used)

    def warm(self, size: int) -> tuple[int, int]:
        """When the blocks that were used last were used, as many as take ``size`` bytes.

        The beginning of a sequence outlives its end, because blocks are of no use without those
        before them.

        Returns:
            Use and negative depth of the one of them that can be missed best.
        """
        total, last = 0, (0, 0)
        for touched, depth, length in self._database.each(
            "select touched, depth, length from blocks order by touched desc, depth"
        ):
            total += length
            if total > size:
                break
            last = (touched, -depth)
        return last

    def cold_in_segment(self, number: int, warm: tuple[int, int]) -> list[bytes]:
        """Blocks of a segment that can be missed better than all warm ones."""
        touched, depth = warm
        rows = self._database.rows(
            "select id from blocks where segment = ? and (touched, -depth) < (?, ?)",
            number,
            touched,
            depth,
        )
        return [row[0] for row in rows]

    def used_by(self, namespace: bytes) -> int:
        """Bytes of the blocks of a namespace."""
        ((used,),) = self._database.rows(
            "select coalesce(sum(bytes), 0) from origins where namespace = ?", namespace
        )
        return int(used)

    def coldest(self, namespace: bytes, size: int, keep: Container[bytes]) -> list[bytes]:
        """Blocks of a namespace that can be missed best, as many as take ``size`` bytes.

        Args:
            namespace: whose.
            size: bytes.
            keep: ids of blocks that are not among them.
        """
        found: list[bytes] = []
        for block, length in self._database.each(
            "select b.id, b.length from blocks b join origins o on o.id = b.origin "
            "where o.namespace = ? order by b.touched, b.depth desc",
            namespace,
        ):
            if size <= 0:
                break
            if block not in keep:
                found.append(block)
                size -= length
        return found

    def of_namespace(self, namespace: bytes) -> list[bytes]:
        """Ids of all blocks of a namespace."""
        rows = self._database.rows(
            "select b.id from blocks b join origins o on o.id = b.origin where o.namespace = ?",
            namespace,
        )
        return [row[0] for row in rows]

    def fingerprints(self, namespace: bytes) -> list[bytes]:
        """Of the models that a namespace has blocks of."""
        rows = self._database.rows("select fingerprint from origins where namespace = ?", namespace)
        return [row[0] for row in rows]

    def remove(self, blocks: Iterable[bytes]) -> int:
        """Forget where blocks are; their bytes become free space. Returns how many there were."""
        with self._database.transaction() as db:
            return sum(
                db.execute("delete from blocks where id = ?", (block,)).rowcount for block in blocks
            )

    def touch(self, blocks: Iterable[bytes]) -> None:
        """Note that blocks were used now."""
        with self._database.transaction() as db:
            now = self._tick(db)
            db.executemany(
                "update blocks set touched = ? where id = ?", [(now, block) for block in blocks]
            )

    def in_segment(self, number: int) -> list[Entry]:
        """The blocks of a segment, in their order there."""
        rows = self._database.rows(
            "select id, parent, depth, segment, place, length from blocks where segment = ? "
            "order by place",
            number,
        )
        return [Entry(*row) for row in rows]

    def add_segment(self, number: int, size: int, used: int) -> None:
        """Name a segment file that is durable."""
        with self._database.transaction() as db:
            db.execute(
                "insert into segments (number, size, used) values (?, ?, ?)", (number, size, used)
            )

    def remove_segment(self, number: int) -> None:
        """Forget a segment that no block is in.

        Raises:
            DamagedError: there is one, which what was asked before did not tell.
        """
        with self._database.transaction() as db:
            if db.execute("select 1 from blocks where segment = ?", (number,)).fetchone():
                note_damage(self.path)
                raise DamagedError(
                    f"{self.path} has blocks in segment {number} that it does not count"
                )
            db.execute("delete from segments where number = ?", (number,))

    def segments(self) -> list[SegmentUse]:
        """All segments, in order."""
        rows = self._database.rows(
            "select s.number, s.size, s.used, coalesce(sum(b.length), 0) from segments s "
            "left join blocks b on b.segment = s.number group by s.number order by s.number"
        )
        return [SegmentUse(*row) for row in rows]

    def counts(self) -> tuple[int, int]:
        """Blocks in the store, and their bytes."""
        ((blocks, size),) = self._database.rows(
            "select count(*), coalesce(sum(length), 0) from blocks"
        )
        return int(blocks), int(size)

    def check(self) -> None:
        """Look for damage that reads do not meet; the next opening makes a damaged ledger anew.

        Raises:
            DamagedError: there is some.
        """
        if (found := self._database.check()) != "ok":
            note_damage(self.path)
            raise DamagedError(f"{self.path} is not a whole database: {found}")

    def compact(self) -> None:
        """Leave nothing of what was removed in the files."""
        self._database.compact()

    def close(self) -> None:
        """Close the file; nothing is lost when this is never called."""
        self._database.close()

    @staticmethod
    def _note_ends(db: sqlite3.Connection, used: Iterable[tuple[int, int]]) -> None:
        db.executemany(
            "update segments set used = max(used, ?) where number = ?",
            [(end, number) for number, end in used],
        )

    @staticmethod
    def _tick(db: sqlite3.Connection) -> int:
        """The store's own count of writes: unlike a clock it never goes back."""
        row = db.execute("select coalesce(max(touched), 0) + 1 from blocks").fetchone()
        return int(row[0])


def damage_note(ledger: Path) -> Path:
    """The file that says that a ledger has to be made anew; see :mod:`everlong.memory.rebuild`."""
    return ledger.with_name(f"{ledger.name}.damaged")


def note_damage(ledger: Path) -> None:
    """Have a ledger made anew when its store is opened next."""
    try:
        atomic_write(damage_note(ledger), b"", mode=0o600)
    except OSError as error:
        logger.warning("%s is damaged, and that cannot be noted: %s", ledger, error)
