"""The block store: blocks by id, on disk, within a limit, written by a thread of its own.

Order of a write: the bytes into a segment, made durable, then the name into the ledger. Nobody
waits for it: whoever puts a block goes on, and the block is found in memory until it is on disk.
When the disk is slower than the blocks come, blocks are left out rather than anybody held up.

Space: segments of equal size, as many as the limit allows. When there is no free one, the segment
with the least warm bytes is cleaned: its warm blocks move on, its cold ones are dropped, the file
goes (Rosenblum and Ousterhout, "The Design and Implementation of a Log-Structured File System",
1992, section 3.4). Cold is what was not attached for long, and of that the ends of sequences first.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Container, Iterable, Sequence, Set
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from everlong.errors import ConfigError, DamagedError, StoreError
from everlong.files import FileLock
from everlong.memory.disk import Disk, make_folder
from everlong.memory.ledger import Entry, Ledger, damage_note
from everlong.memory.rebuild import rebuild
from everlong.memory.record import PAGE, Record
from everlong.memory.segment import Segment

_MOST_SEGMENT_BYTES = 256 << 20
_LEAST_SEGMENTS = 8
_WARM_SHARE = 0.7
"""Of the room: what survives cleaning. The nearer to 1, the more is kept and the more is moved."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class StoreStats:
    """What is in the store, and what happened since it was opened."""

    blocks: int
    bytes: int
    capacity: int
    waiting: int
    """Blocks that are not on disk yet."""
    left_out: int = 0
    """Not written: the disk was too slow, or refused."""
    dropped: int = 0
    """Removed to make room."""
    damaged: int = 0
    """Found to be not what was written, and removed."""
    trouble: str = ""
    """What the disk said last, when it refused; empty while all is well."""


class BlockStore:
    """Blocks in a folder. One process owns it; several of its threads may use it.

    Args:
        folder: where; it is made.
        capacity: most bytes of segment files.
        queue_bytes: most bytes that wait to be written.
        disk: see :class:`Disk`.

    Raises:
        ConfigError: the capacity is too small for a store.
        StoreError: another process owns the folder, or a file of it cannot be used.
    """

    def __init__(
        self,
        folder: Path,
        capacity: int,
        *,
        queue_bytes: int = 64 << 20,
        disk: Disk | None = None,
    ) -> None:
        self._segment_bytes = min(_MOST_SEGMENT_BYTES, capacity // _LEAST_SEGMENTS // PAGE * PAGE)
        if self._segment_bytes < 2 * PAGE:
            least = 2 * PAGE * _LEAST_SEGMENTS
            raise ConfigError(f"the memory's size is {capacity:,} bytes; give {least:,} or more")
        self.folder = folder
        self.capacity = capacity
        self._disk = disk or Disk()
        self._maps = threading.RLock()
        self._segments: dict[int, Segment] = {}
        self._leaving: list[Segment] = []
        self._last_number = 0
        self._owner = FileLock(folder / "lock", timeout=0)
        try:
            make_folder(folder)
            self._owner.__enter__()
        except OSError as error:
            raise StoreError(f"{folder} cannot be used: {error}") from None
        try:
            self._ledger = self._opened_ledger(folder / "ledger.sqlite")
            try:
                self._current = self._unfinished()
            except BaseException:
                self._ledger.close()
                raise
        except OSError as error:
            self._owner.__exit__(None, None, None)
            raise StoreError(f"{folder} cannot be used: {error}") from None
        except BaseException:
            self._owner.__exit__(None, None, None)
            raise
        self._stats = StoreStats(0, 0, capacity, 0)
        self._held: Counter[bytes] = Counter()
        self._queue_bytes = queue_bytes
        self._waiting: dict[bytes, tuple[Record, int]] = {}
        self._waiting_bytes = 0
        self._touched: dict[bytes, None] = {}
        self._jobs: list[Callable[[], None]] = []
        self._closing = False
        self._changed = threading.Condition()
        self._writer = threading.Thread(target=self._work, name="everlong-store", daemon=True)
        self._writer.start()

    def put(self, record: Record, depth: int, patience: float = 0.0) -> bool:
        """Have a block written soon.

        Args:
            record: the block; its payload must not change any more.
            depth: blocks before it in its sequence.
            patience: seconds to wait for a place in the queue.

        Returns:
            Whether it is, or will be, in the store; False: there was no place in time.
        """
        size = record.head.record_bytes
        deadline = time.monotonic() + patience
        with self._changed:
            if record.head.id in self._waiting:
                return True
            while self._waiting_bytes + size > self._queue_bytes and self._waiting:
                left = deadline - time.monotonic()
                if left <= 0 or not self._changed.wait(left):
                    self._count(left_out=1)
                    return False
            self._waiting[record.head.id] = record, depth
            self._waiting_bytes += size
            self._changed.notify_all()
        return True

    def get(self, block: bytes) -> Record | None:
        """A block, or None when it is not in the store, or not whole there.

        Slices are verified when they are read (:meth:`Record.slice`); whoever finds one damaged
        says so with :meth:`damaged`.
        """
        with self._changed:
            if (waiting := self._waiting.get(block)) is not None:
                return waiting[0]
        try:
            # A block can move between the two looks; then its old place is gone.
            for _ in range(3):
                entry = self._ledger.find(block)
                if entry is None:
                    return None
                try:
                    return self._read(entry)
                except (DamagedError, OSError) as error:
                    if self._ledger.find(block) == entry:
                        self.damaged(block, str(error))
                        return None
        except StoreError as error:  # the ledger cannot be read: the block is computed again
            self._note(trouble=str(error))
        return None

    def known(self, blocks: Sequence[bytes]) -> int:
        """How many blocks, from the first on, are in the store without a gap."""
        count = 0
        for block in blocks:
            if block not in self._waiting and self._ledger.find(block) is None:
                break
            count += 1
        return count

    def fingerprints(self, namespace: bytes) -> list[bytes]:
        """Of the models that a namespace has blocks of, or had."""
        with self._changed:
            waiting = {record.head.fingerprint for record, _ in self._waiting.values()}
        return list({*waiting, *self._ledger.fingerprints(namespace)})

    def damaged(self, block: bytes, why: str) -> None:
        """A block is not what was written: from now on it is not in the store."""
        logger.warning("a stored block is damaged and will be computed again: %s", why)
        if self._ledger.remove([block]):
            self._count(damaged=1)

    def hold(self, blocks: Iterable[bytes]) -> None:
        """Blocks are in use: they are not dropped until they are released as often."""
        with self._changed:
            self._held.update(blocks)

    def release(self, blocks: Iterable[bytes]) -> None:
        """Blocks are in use no more, by one user."""
        with self._changed:
            for block in blocks:
                self._held[block] -= 1
                if self._held[block] <= 0:
                    del self._held[block]

    def touch(self, blocks: Iterable[bytes]) -> None:
        """Blocks were used now: they are kept longer than those that were not.

        Noted with the next write, or soon; nobody waits for it.
        """
        with self._changed:
            self._touched.update(dict.fromkeys(blocks))
            self._changed.notify_all()

    def will_need(self, blocks: Sequence[bytes]) -> int:
        """Have the disk read, in the background, blocks that are asked for soon.

        Returns:
            How many of them, from the first on, are there.
        """
        try:
            for count, block in enumerate(blocks):
                if block in self._waiting:
                    continue
                if (entry := self._ledger.find(block)) is None:
                    return count
                with self._maps, suppress(DamagedError, OSError):
                    self._segment(entry.segment).will_need(entry.place, entry.length)
        except StoreError as error:
            self._note(trouble=str(error))
            return 0
        return len(blocks)

    def forget(
        self,
        namespace: bytes,
        keep: Container[bytes],
        gone: Callable[[Set[bytes]], None] = lambda blocks: None,
    ) -> tuple[int, int]:
        """Remove blocks of a namespace; no byte of what is not in the store stays in its files.

        Args:
            namespace: whose.
            keep: ids of blocks that stay.
            gone: told which blocks are found no more; nobody may read them when it returns.

        Returns:
            How many went, and how many bytes were overwritten.

        Raises:
            StoreError: the disk refuses; what is not gone goes when this is tried again.
        """
        done: Future[tuple[int, int]] = Future()

        def work() -> None:
            try:
                done.set_result(self._forget(namespace, keep, gone))
            except (OSError, StoreError) as error:
                done.set_exception(StoreError(f"not everything is forgotten: {error}"))
            except BaseException as error:
                done.set_exception(error)

        with self._changed:
            assert not self._closing, "the store is closed"
            self._jobs.append(work)
            self._changed.notify_all()
        return done.result()

    def verify(self, progress: Callable[[int, int], None] = lambda done, of: None) -> int:
        """Read every block and verify it; damaged ones are in the store no more.

        Args:
            progress: told how many blocks of how many are read.

        Returns:
            How many were damaged.

        Raises:
            DamagedError: the ledger is damaged; it is made anew when the store is opened next.
        """
        self._ledger.check()
        total, _ = self._ledger.counts()
        done = damaged = 0
        for use in self._ledger.segments():
            for entry in self._ledger.in_segment(use.number):
                try:
                    self._read(entry).verified()
                except (DamagedError, OSError) as error:
                    # Unless it was moved or dropped meanwhile.
                    if self._ledger.find(entry.id) == entry:
                        self.damaged(entry.id, str(error))
                        damaged += 1
                done += 1
                progress(done, max(done, total))
        return damaged

    def flush(self) -> None:
        """Wait until every block that was put is on disk, or was refused."""
        with self._changed:
            self._changed.wait_for(lambda: not self._waiting)

    def stats(self) -> StoreStats:
        """What is there, and what happened."""
        blocks, size = self._ledger.counts()
        with self._changed:
            return replace(self._stats, blocks=blocks, bytes=size, waiting=len(self._waiting))

    def close(self) -> None:
        """Write what waits, and let go of the folder.

        Raises:
            StoreError: somebody still reads a block; what was put is on disk all the same.
        """
        with self._changed:
            if self._closing:
                return
            self._closing = True
            self._changed.notify_all()
        self._writer.join()
        self._ledger.close()
        try:
            with self._maps:
                self._close_leaving()
                for segment in [*self._segments.values(), *self._leaving]:
                    segment.close()
        finally:
            self._owner.__exit__(None, None, None)

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(
                    lambda: self._waiting or self._touched or self._jobs or self._closing
                )
                jobs, self._jobs = self._jobs, []
            for job in jobs:
                job()
            with self._changed:  # after the jobs, which may empty the queue
                batch = self._first_waiting()
                touched, self._touched = self._touched, {}
            if not batch and not touched and not jobs:
                return
            try:
                if touched:
                    self._ledger.touch(touched)
                self._write(batch)
                self._note(trouble="")
            except (OSError, StoreError) as error:
                # What was appended has no name and is overwritten; a segment whose bytes may not
                # have reached the disk is not appended to again.
                self._current = None
                self._count(left_out=len(batch))
                self._note(trouble=str(error))
                logger.warning("%d blocks are not stored: %s", len(batch), error)
            with self._changed:
                for record, _ in batch:
                    del self._waiting[record.head.id]
                    self._waiting_bytes -= record.head.record_bytes
                self._changed.notify_all()

    def _forget(
        self, namespace: bytes, keep: Container[bytes], gone: Callable[[Set[bytes]], None]
    ) -> tuple[int, int]:
        with self._changed:
            for record, _ in list(self._waiting.values()):
                if record.head.namespace == namespace and record.head.id not in keep:
                    del self._waiting[record.head.id]
                    self._waiting_bytes -= record.head.record_bytes
            self._changed.notify_all()
        going = {block for block in self._ledger.of_namespace(namespace) if block not in keep}
        removed = self._ledger.remove(going)
        gone(going)
        erased = 0
        for use in self._ledger.segments():
            # Between the blocks, too, lies what was removed earlier, and what a crash left.
            entries, begin = self._ledger.in_segment(use.number), PAGE
            try:
                segment = self._segment(use.number)
            except DamagedError as error:
                logger.warning("%d blocks go with their segment: %s", len(entries), error)
                self._ledger.remove(entry.id for entry in entries)
                self._remove_segment(use.number)
                continue
            for entry in entries:
                erased += segment.erase(begin, entry.place - begin)
                begin = entry.place + entry.length
            erased += segment.erase(begin, use.size - begin)
        self._ledger.compact()
        return removed, erased

    def _first_waiting(self) -> list[tuple[Record, int]]:
        """As many as fit half a segment: what has no name yet keeps its segments from cleaning."""
        batch: list[tuple[Record, int]] = []
        size = 0
        for record, depth in self._waiting.values():
            size += record.head.record_bytes
            if batch and size > self._segment_bytes // 2:
                break
            batch.append((record, depth))
        return batch

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
        if size > self._segment_bytes - PAGE:
            raise StoreError(
                f"a block takes {size:,} bytes, and a segment has {self._segment_bytes:,}; "
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
        if self._remove_empty(busy) < self.capacity // self._segment_bytes - 1:
            return self._new_segment(), PAGE
        return self._cleaned(size, busy)

    def _new_segment(self) -> Segment:
        self._last_number += 1
        number = self._last_number
        segment = Segment.create(self._path(number), number, self._segment_bytes, self._disk)
        self._ledger.add_segment(number, self._segment_bytes, PAGE)
        with self._maps:
            self._segments[number] = segment
        return segment

    def _cleaned(self, size: int, busy: set[int]) -> tuple[Segment, int]:
        """Clean the segment that has the least worth keeping; returns where it is appended now."""
        # Neither the segment kept for cleaning nor a busy one has room to offer.
        room = self.capacity - (1 + len(busy)) * self._segment_bytes
        warm = self._ledger.warm(int(_WARM_SHARE * room))
        with self._changed:
            held = set(self._held)
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
        if victim is None or PAGE + kept[victim] + size > self._segment_bytes:
            raise StoreError(
                f"all of the memory's {self.capacity:,} bytes are in use; give it a larger size"
            )
        self._count(dropped=self._ledger.remove(cold[victim]))
        target, end = self._new_segment(), PAGE
        moved: list[tuple[bytes, int, int]] = []
        for entry in self._ledger.in_segment(victim):
            try:
                record = self._read(entry)
                record.verified()
            except (DamagedError, OSError) as error:
                self.damaged(entry.id, str(error))
                continue
            moved.append((entry.id, target.number, end))
            end = target.append(end, record)
            del record  # or the segment stays mapped
        target.sync()
        self._ledger.move(moved, [(target.number, end)])
        self._remove_segment(victim)
        return target, end

    def _remove_empty(self, busy: set[int]) -> int:
        """Give back segments without a block, as a cleaning that was broken off leaves them.

        Returns:
            How many segments there are then.
        """
        uses = self._ledger.segments()
        empty = [use.number for use in uses if not use.live and use.number not in busy]
        for number in empty:
            self._remove_segment(number)
        return len(uses) - len(empty)

    def _remove_segment(self, number: int) -> None:
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

    def _read(self, entry: Entry) -> Record:
        # Under the lock, or the segment could be unmapped before there is a view of it.
        with self._maps:
            record = self._segment(entry.segment).read(entry.place)
        if (record.head.id, record.head.record_bytes) != (entry.id, entry.length):
            raise DamagedError(f"another block lies where {entry.id.hex()[:16]} should")
        return record

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

    def _opened_ledger(self, path: Path) -> Ledger:
        """The ledger, brought together with the files; one that is damaged is made anew."""
        if not damage_note(path).exists():
            try:
                self._ledger = Ledger(path)
                try:
                    self._reconcile()
                except BaseException:
                    self._ledger.close()
                    raise
                return self._ledger
            except DamagedError as error:
                logger.warning("the ledger is damaged: %s", error)
        self._ledger = rebuild(path, self._disk)
        self._reconcile()
        return self._ledger

    def _reconcile(self) -> None:
        """Bring files and ledger together where a crash came between the two.

        Raises:
            DamagedError: the ledger contradicts itself.
        """
        named = {segment.number for segment in self._ledger.segments()}
        files = {int(path.stem): path for path in self.folder.glob("*.segment")}
        for number in files.keys() - named:
            if self._ledger.in_segment(number):
                raise DamagedError(f"it has blocks in segment {number}, which it does not name")
        self._last_number = max([0, *named, *files])
        for number in files.keys() - named:
            self._disk.remove(files[number])
        for number in named - files.keys():
            lost = [entry.id for entry in self._ledger.in_segment(number)]
            logger.warning("segment %d is gone, and with it %d blocks", number, len(lost))
            self._ledger.remove(lost)
            self._ledger.remove_segment(number)
        self._remove_empty(set())

    def _count(self, **more: int) -> None:
        with self._changed:
            self._stats = replace(
                self._stats, **{k: getattr(self._stats, k) + v for k, v in more.items()}
            )

    def _note(self, trouble: str) -> None:
        with self._changed:
            self._stats = replace(self._stats, trouble=trouble)
