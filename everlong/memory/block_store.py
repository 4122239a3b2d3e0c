"""The block store: blocks by id, on disk, within a limit, written by a thread of its own.

Order of a write: the bytes into a segment, made durable, then the name into the ledger. Nobody
waits for it: whoever puts a block goes on, and the block is found in memory until it is on disk.
When the disk is slower than the blocks come, blocks are left out rather than anybody held up.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Container, Iterable, Sequence, Set
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from everlong.errors import ConfigError, DamagedError, StoreError
from everlong.files import FileLock
from everlong.memory.disk import Disk, make_folder
from everlong.memory.rebuild import open_ledger
from everlong.memory.record import Record
from everlong.memory.segment_log import LEAST_CAPACITY, SegmentLog

_QUOTA_SLACK = 0.05
"""Of a quota: so much more is dropped than must be, so that it is not done at every write."""

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
        quota: most bytes of one namespace; None: no limit but the capacity.
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
        quota: int | None = None,
        disk: Disk | None = None,
    ) -> None:
        if capacity < LEAST_CAPACITY:
            raise ConfigError(
                f"the memory's size is {capacity:,} bytes; give {LEAST_CAPACITY:,} or more"
            )
        self.folder = folder
        self._quota = quota
        self._stats = StoreStats(0, 0, capacity, 0)
        self._held: Counter[bytes] = Counter()
        self._queue_bytes = queue_bytes
        self._waiting: dict[bytes, tuple[Record, int]] = {}
        self._waiting_bytes = 0
        self._touched: dict[bytes, None] = {}
        self._jobs: list[Callable[[], None]] = []
        self._closing = False
        self._changed = threading.Condition()
        disk = disk or Disk()
        try:
            with ExitStack() as opened:  # what a failure lets go of
                make_folder(folder)
                self._owner = opened.enter_context(FileLock(folder / "lock", timeout=0))
                self._ledger = open_ledger(folder, disk)
                opened.callback(self._ledger.close)
                self._log = SegmentLog(
                    folder,
                    self._ledger,
                    capacity,
                    disk,
                    held=self._in_use,
                    dropped=lambda count: self._count(dropped=count),
                    damaged=self.damaged,
                )
                opened.pop_all()
        except OSError as error:
            raise StoreError(f"{folder} cannot be used: {error}") from None
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
                    return self._log.read(entry)
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

    def used_by(self, namespace: bytes) -> int:
        """Bytes of the blocks of a namespace on disk."""
        return self._ledger.used_by(namespace)

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
                self._log.will_need(entry)
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
                    self._log.read(entry).verified()
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
            self._log.close()
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
                self._log.write(batch)
                self._keep_quota({record.head.namespace for record, _ in batch})
                self._note(trouble="")
            # Also what nobody thought of: with this thread, everybody who waits for it would end.
            except Exception as error:
                expected = isinstance(error, OSError | StoreError)
                self._count(left_out=len(batch))
                self._note(trouble=str(error) or repr(error))
                logger.warning(
                    "%d blocks are not stored: %s", len(batch), error, exc_info=not expected
                )
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
        erased = self._log.erase_unnamed()
        self._ledger.compact()
        return removed, erased

    def _keep_quota(self, namespaces: Set[bytes]) -> None:
        """Drop the coldest blocks of namespaces that have more than they may."""
        if self._quota is None:
            return
        for namespace in namespaces:
            if (used := self._ledger.used_by(namespace)) > self._quota:
                excess = used - int((1 - _QUOTA_SLACK) * self._quota)
                cold = self._ledger.coldest(namespace, excess, self._in_use())
                self._count(dropped=self._ledger.remove(cold))

    def _first_waiting(self) -> list[tuple[Record, int]]:
        """As many as fit half a segment: what has no name yet keeps its segments from cleaning."""
        batch: list[tuple[Record, int]] = []
        size = 0
        for record, depth in self._waiting.values():
            size += record.head.record_bytes
            if batch and size > self._log.segment_bytes // 2:
                break
            batch.append((record, depth))
        return batch

    def _in_use(self) -> set[bytes]:
        with self._changed:
            return set(self._held)

    def _count(self, **more: int) -> None:
        with self._changed:
            self._stats = replace(
                self._stats, **{k: getattr(self._stats, k) + v for k, v in more.items()}
            )

    def _note(self, trouble: str) -> None:
        with self._changed:
            self._stats = replace(self._stats, trouble=trouble)
