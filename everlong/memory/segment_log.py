"""The segments of a store as one log: appended to, read anywhere, cleaned when there is no room.

Segments are of equal size, as many as the capacity allows. When there is no free one, the segment
with the least warm bytes is cleaned: its warm blocks move on, its cold ones are dropped, the file
goes (Rosenblum and Ousterhout, "The Design and Implementation of a Log-Structured File System",
1992, section 3.4). Cold is what was not attached for long, and of that the ends of sequences first.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence, Set
from contextlib import suppress
from pathlib import Path

from everlong.errors import DamagedError, StoreError
from everlong.memory.disk import Disk
from everlong.memory.ledger import Entry, Ledger
from everlong.memory.record import PAGE, Record
from everlong.memory.segment import Segment

_MOST_SEGMENT_BYTES = 256 << 20
_LEAST_SEGMENTS = 8
LEAST_CAPACITY = 2 * PAGE * _LEAST_SEGMENTS
"""Bytes."""
_WARM_SHARE = 0.7
"""Of the room: what survives cleaning. The nearer to 1, the more is kept and the more is moved."""

logger = logging.getLogger(__name__)


class SegmentLog:
    """The segments of a store. One thread writes; several read.

    Args:
        folder: where they are.
        ledger: names what is in them.
        capacity: most bytes of them, at least ``LEAST_CAPACITY``.
        disk: see :class:`Disk`.
        held: ids of blocks that are not dropped, because they are in use.
        dropped: told how many blocks were, to make room.
        damaged: told the id of a block that is not what was written, and why.
    """

    def __init__(
        self,
        folder: Path,
        ledger: Ledger,
        capacity: int,
        disk: Disk,
        *,
        held: Callable[[], Set[bytes]],
        dropped: Callable[[int], None],
        damaged: Callable[[bytes, str], None],
    ) -> None:
        assert capacity >= LEAST_CAPACITY, capacity
        self.folder = folder
        self.capacity = capacity
        self.segment_bytes = min(_MOST_SEGMENT_BYTES, capacity // _LEAST_SEGMENTS // PAGE * PAGE)
        self._ledger, self._disk = ledger, disk
        self._held, self._dropped, self._damaged = held, dropped, damaged
        self._maps = threading.RLock()
        self._segments: dict[int, Segment] = {}
        self._leaving: list[Segment] = []
        files = (int(path.stem) for path in folder.glob("*.segment"))
        self._last_number = max([0, *files, *(use.number for use in ledger.segments())])
        self._current = self._unfinished()

    def write(self, batch: Sequence[tuple[Record, int]]) -> None:
        """Write blocks durably and name them, all or none; those that are there stay as they are.

        Args:
            batch: blocks, each with how many are before it in its sequence.

        Raises:
            OSError, StoreError: the disk refuses, or everything is in use.
        """
        try:
            self._write(batch)
        except BaseException:
            # What was appended has no name and is overwritten; a segment whose bytes may not have
            # reached the disk is not appended to again.
            self._current = None
            raise

    def read(self, entry: Entry) -> Record:
        """A block where the ledger says it is, mapped; its segment stays while a view of it lives.

        Raises:
            DamagedError: something else lies there.
            OSError: the segment cannot be opened.
        """
        # Under the lock, or the segment could be unmapped before there is a view of it.
        with self._maps:
            record = self._segment(entry.segment).read(entry.place)
        if (record.head.id, record.head.record_bytes) != (entry.id, entry.length):
            raise DamagedError(f"another block lies where {entry.id.hex()[:16]} should")
        return record

    def will_need(self, entry: Entry) -> None:
        """Have the system fetch a block in the background."""
        with self._maps, suppress(DamagedError, OSError):
            self._segment(entry.segment).will_need(entry.place, entry.length)

    def erase_unnamed(self) -> int:
        """Overwrite what lies in the segments and is no block of the store.

        Returns:
            How many bytes were not zero already.

        Raises:
            OSError: the disk refuses.
        """
        erased = 0
        for use in self._ledger.segments():
            # Between the blocks, too, lies what was removed earlier, and what a crash left.
            entries, begin = self._ledger.in_segment(use.number), PAGE
            try:
                segment = self._segment(use.number)
            except DamagedError as error:
                logger.warning("%d blocks go with their segment: %s", len(entries), error)
                self._ledger.remove(entry.id for entry in entries)
                self._remove(use.number)
                continue
            for entry in entries:
                erased += segment.erase(begin, entry.place - begin)
                begin = entry.place + entry.length
            erased += segment.erase(begin, use.size - begin)
        return erased

    def close(self) -> None:
        """Unmap and close every file.

        Raises:
            StoreError: somebody still reads a block.
        """
        with self._maps:
            self._close_leaving()
            for segment in [*self._segments.values(), *self._leaving]:
                segment.close()

    def _write(self, batch: Sequence[tuple[Record, int]]) -> None:
        entries: list[tuple[Entry, bytes, bytes]] = []
        ends: dict[int, int] = {}
        for record, depth in batch:
            head = record.head
            if self._ledger.find(head.id) is not None:
                continue
            segment, place = self._append(record, ends)
            entry = Entry(head.id, head.parent, depth, segment, place, head.record_bytes)
            entries.append((entry, head.namespace, head.fingerprint))
        if not entries:
            return
        for number in ends:
            self._segment(number).sync()
        self._ledger.add(entries, ends.items())

    def _append(self, record: Record, ends: dict[int, int]) -> tuple[int, int]:
        """Write a record; returns its segment and place, and notes the end in ``ends``."""
        size = record.head.record_bytes
        if size > self.segment_bytes - PAGE:
            raise StoreError(
                f"a block takes {size:,} bytes, and a segment has {self.segment_bytes:,}; "
                "give the memory a larger size"
            )
        while self._current is None or not self._current[0].fits(self._current[1], size):
            self._current = self._next_place(size, set(ends))
        segment, place = self._current
        ends[segment.number] = place  # from now on it is busy
        end = segment.append(place, record)
        ends[segment.number] = end
        self._current = segment, end
        return segment.number, place

    def _next_place(self, size: int, busy: set[int]) -> tuple[Segment, int]:
        """Where the next record goes when the current segment has no room for it.

        Args:
            size: of the record.
            busy: segments with blocks that have no name yet.
        """
        # One segment is kept for cleaning: it takes what another still has.
        if self._remove_empty(busy) < self.capacity // self.segment_bytes - 1:
            return self._new_segment(), PAGE
        return self._cleaned(size, busy)

    def _new_segment(self) -> Segment:
        self._last_number += 1
        number = self._last_number
        segment = Segment.create(self._path(number), number, self.segment_bytes, self._disk)
        self._ledger.add_segment(number, self.segment_bytes, PAGE)
        with self._maps:
            self._segments[number] = segment
        return segment

    def _cleaned(self, size: int, busy: set[int]) -> tuple[Segment, int]:
        """Clean the segment that has the least worth keeping; returns where it is appended now."""
        # Neither the segment kept for cleaning nor a busy one has room to offer.
        room = self.capacity - (1 + len(busy)) * self.segment_bytes
        warm = self._ledger.warm(int(_WARM_SHARE * room))
        held = self._held()
        cold: dict[int, list[bytes]] = {}
        kept: dict[int, int] = {}
        for number in (use.number for use in self._ledger.segments()):
            if number in busy:
                continue
            entries = self._ledger.in_segment(number)
            below = set(self._ledger.cold_in_segment(number, warm)) - held
            cold[number] = [entry.id for entry in entries if entry.id in below]
            kept[number] = sum(entry.length for entry in entries if entry.id not in below)
        victim = min(kept, key=kept.__getitem__, default=None)
        if victim is None or PAGE + kept[victim] + size > self.segment_bytes:
            raise StoreError(
                f"all of the memory's {self.capacity:,} bytes are in use; give it a larger size"
            )
        self._dropped(self._ledger.remove(cold[victim]))
        target, end = self._new_segment(), PAGE
        moved: list[tuple[bytes, int, int]] = []
        for entry in self._ledger.in_segment(victim):
            try:
                record = self.read(entry)
                record.verified()
            except (DamagedError, OSError) as error:
                self._damaged(entry.id, str(error))
                continue
            moved.append((entry.id, target.number, end))
            end = target.append(end, record)
            del record  # or the segment stays mapped
        target.sync()
        self._ledger.move(moved, [(target.number, end)])
        self._remove(victim)
        return target, end

    def _remove_empty(self, busy: set[int]) -> int:
        """Give back segments without a block, as a cleaning that was broken off leaves them.

        Returns:
            How many segments there are then.
        """
        uses = self._ledger.segments()
        empty = [use.number for use in uses if not use.live and use.number not in busy]
        for number in empty:
            self._remove(number)
        return len(uses) - len(empty)

    def _remove(self, number: int) -> None:
        self._ledger.remove_segment(number)
        self._disk.remove(self._path(number))
        with self._maps:
            if (segment := self._segments.pop(number, None)) is not None:
                self._leaving.append(segment)
            self._close_leaving()

    def _close_leaving(self) -> None:
        """Unmap removed files that nobody reads any more."""
        still = []
        for segment in self._leaving:
            try:
                segment.close()
            except StoreError:
                still.append(segment)
        self._leaving = still

    def _segment(self, number: int) -> Segment:
        with self._maps:
            if number not in self._segments:
                self._segments[number] = Segment(self._path(number), self._disk)
            return self._segments[number]

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:08}.segment"

    def _unfinished(self) -> tuple[Segment, int] | None:
        """The last segment and where it goes on, if it has room."""
        segments = self._ledger.segments()
        if not segments or segments[-1].used + PAGE > segments[-1].size:
            return None
        try:
            return self._segment(segments[-1].number), segments[-1].used
        except DamagedError as error:
            logger.warning("a segment is left as it is: %s", error)
            return None
