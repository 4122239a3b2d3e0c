"""A ledger opened and brought together with the segments; made anew from them when it is damaged.

Records say themselves what they are, so what the ledger knew can be read from them, but for what
was used when. Blocks whose heads are damaged are left out. Slices are verified when they are read,
as always; a block whose name had been removed may be found again, with the bytes it had. Of what
was forgotten there is nothing to be found: it was overwritten.

A file beside the ledger says that this is to be done, and goes when it is done: so an interrupted
rebuilding begins again, and damage that is found late is mended when the store is opened next.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

from everlong.errors import DamagedError
from everlong.files import sync_directory
from everlong.memory.disk import Disk
from everlong.memory.ledger import Entry, Ledger, damage_note, note_damage
from everlong.memory.record import PAGE, BlockHead
from everlong.memory.segment import Segment

logger = logging.getLogger(__name__)


def open_ledger(folder: Path, disk: Disk) -> Ledger:
    """The ledger of a store.

    Args:
        folder: of the store.
        disk: see :class:`Disk`.

    Raises:
        StoreError: a file was written by a later version.
        OSError: the disk refuses.
    """
    path = folder / "ledger.sqlite"
    if not damage_note(path).exists():
        try:
            return _reconciled(Ledger(path), disk)
        except DamagedError as error:
            logger.warning("the ledger is damaged: %s", error)
    return _reconciled(_rebuilt(path, disk), disk)


def _reconciled(ledger: Ledger, disk: Disk) -> Ledger:
    """Bring files and ledger together where a crash came between the two.

    Raises:
        DamagedError: the ledger contradicts itself; it is closed then.
    """
    try:
        named = {segment.number for segment in ledger.segments()}
        files = {int(path.stem): path for path in ledger.path.parent.glob("*.segment")}
        for number in files.keys() - named:
            if ledger.in_segment(number):
                raise DamagedError(f"it has blocks in segment {number}, which it does not name")
        for number in files.keys() - named:
            disk.remove(files[number])
        for number in named - files.keys():
            lost = [entry.id for entry in ledger.in_segment(number)]
            logger.warning("segment %d is gone, and with it %d blocks", number, len(lost))
            ledger.remove(lost)
            ledger.remove_segment(number)
        for use in ledger.segments():
            if not use.live:  # as a cleaning that was broken off leaves it
                ledger.remove_segment(use.number)
                disk.remove(files[use.number])
    except BaseException:
        ledger.close()
        raise
    return ledger


def _rebuilt(path: Path, disk: Disk) -> Ledger:
    note_damage(path)
    for old in (path, *(path.with_name(path.name + end) for end in ("-wal", "-shm", "-journal"))):
        old.unlink(missing_ok=True)
    sync_directory(path.parent)
    ledger = Ledger(path)
    try:
        for file in sorted(path.parent.glob("*.segment")):
            try:
                _read(ledger, file, disk)
            except DamagedError as error:
                logger.warning("the blocks of a segment are left out: %s", error)
    except BaseException:
        ledger.close()
        raise
    damage_note(path).unlink(missing_ok=True)
    sync_directory(path.parent)
    blocks, size = ledger.counts()
    logger.warning("the ledger was made anew: %d blocks (%d bytes)", blocks, size)
    return ledger


def _read(ledger: Ledger, path: Path, disk: Disk) -> None:
    segment = Segment(path, disk)
    try:
        if path.stem != f"{segment.number:08}":
            raise DamagedError(f"{path} says that it is segment {segment.number}")
        entries: list[tuple[Entry, bytes, bytes]] = []
        depths: dict[bytes, int] = {}
        used = PAGE
        for place, head in _heads(segment):
            parent = ledger.find(head.parent)
            depth = depths.get(head.parent, parent.depth if parent else -1) + 1
            depths[head.id] = depth
            entry = Entry(head.id, head.parent, depth, segment.number, place, head.record_bytes)
            entries.append((entry, head.namespace, head.fingerprint))
            used = place + head.record_bytes
        ledger.add_segment(segment.number, segment.size, used)
        ledger.add(entries, ())
    finally:
        segment.close()


def _heads(segment: Segment) -> Iterator[tuple[int, BlockHead]]:
    place = PAGE
    while place < segment.size:
        try:
            head = segment.read(place).head
        except DamagedError:
            place += PAGE
            continue
        yield place, head
        place += head.record_bytes
