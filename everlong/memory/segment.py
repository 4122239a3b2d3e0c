"""A file of records: appended to, mapped for reading, never changed in place.

The space of a segment is set aside when it is made, so that a full disk is noticed before a block
is promised a place. A page at its beginning says what the file is. What lies after the last record
that the ledger names is nothing: whatever a crash left there is overwritten.
"""

from __future__ import annotations

import mmap
import os
import struct
from pathlib import Path

import numpy as np
import xxhash

from everlong.errors import DamagedError, StoreError
from everlong.memory.disk import Buffer, Disk
from everlong.memory.record import PAGE, Record, decode, encode

_MAGIC = b"EVLSEGMT"
_VERSION = 1
_HEAD = struct.Struct("<8sIIQQ")
_CHECKSUM = struct.Struct("<Q")
_ERASED_AT_ONCE = 1 << 20


class Segment:
    """One segment file.

    Several threads may read; one writes.

    Args:
        path: the file.
        disk: see :class:`Disk`.

    Raises:
        DamagedError: the file is no segment, or its first page is damaged.
        StoreError: it was written by a later version.
    """

    def __init__(self, path: Path, disk: Disk) -> None:
        self.path = path
        self._disk = disk
        self._descriptor = disk.open(path)
        self._direct: int | None = None
        self._asked_direct = False
        try:
            self.size = os.fstat(self._descriptor).st_size
            self.number = self._verified_number()
            self._map = mmap.mmap(self._descriptor, self.size, prot=mmap.PROT_READ)
        except BaseException:
            os.close(self._descriptor)
            raise

    @classmethod
    def create(cls, path: Path, number: int, size: int, disk: Disk) -> Segment:
        """Make a segment.

        Args:
            path: where; the folder exists, the file does not.
            number: of the segment in its store.
            size: in bytes, whole pages; of which the first is the segment's own.
            disk: see :class:`Disk`.

        Raises:
            OSError: there is no room.
        """
        assert size % PAGE == 0, size
        descriptor = disk.create(path, size)
        try:
            content = _HEAD.pack(_MAGIC, _VERSION, PAGE, number, size)
            content += _CHECKSUM.pack(xxhash.xxh3_64_intdigest(content))
            disk.write(descriptor, [content], 0)
            disk.sync(descriptor)
        finally:
            os.close(descriptor)
        return cls(path, disk)

    def append(self, offset: int, record: Record) -> int:
        """Write a record; it is durable after the next :meth:`sync`.

        Args:
            offset: where the record before it ends, ``PAGE`` in an empty segment.
            record: the block.

        Returns:
            Where the next record goes.

        Raises:
            StoreError: it does not fit; ask :meth:`fits` first.
            OSError: the disk refuses.
        """
        size = record.head.record_bytes
        if not self.fits(offset, size):
            raise StoreError(
                f"{self.path} has {self.size - offset:,} bytes left, and the block takes {size:,}"
            )
        end = bytes(-len(record.payload) % PAGE)
        content: list[Buffer] = [encode(record), record.payload, end]
        if not self._asked_direct:
            self._direct, self._asked_direct = self._disk.open_direct(self.path), True
        if self._direct is not None and not self._disk.write_direct(self._direct, content, offset):
            self._close_direct()
        if self._direct is None:
            self._disk.write(self._descriptor, content, offset)
        return offset + size

    def fits(self, offset: int, size: int) -> bool:
        """Whether a record of so many bytes has a place from ``offset`` on."""
        return offset % PAGE == 0 and offset >= PAGE and offset + size <= self.size

    def sync(self) -> None:
        """Make everything appended so far durable; an error means what :meth:`Disk.sync` says."""
        self._disk.sync(self._descriptor)

    def read(self, offset: int) -> Record:
        """The record at ``offset``, mapped: its slices are the file's own pages.

        The segment cannot be closed while a view of them lives.

        Raises:
            DamagedError: there is none, or its head is damaged.
        """
        if offset % PAGE or not PAGE <= offset < self.size:
            raise DamagedError(f"{self.path} has no place {offset}")
        return decode(memoryview(self._map)[offset:])

    def erase(self, offset: int, length: int) -> int:
        """Overwrite a part that is no record's with zeros, durably; returns how many it took.

        Raises:
            OSError: the disk refuses.
        """
        erased, end = 0, offset + length
        for begin in range(offset, end, _ERASED_AT_ONCE):
            part = memoryview(self._map)[begin : min(begin + _ERASED_AT_ONCE, end)]
            if _any_byte(part):
                self._disk.write(self._descriptor, [bytes(len(part))], begin)
                erased += len(part)
        if erased:
            self.sync()
        return erased

    def will_need(self, offset: int, length: int) -> None:
        """Have the system fetch a part of the file in the background."""
        begin = offset // mmap.PAGESIZE * mmap.PAGESIZE
        self._map.madvise(
            mmap.MADV_WILLNEED, begin, min(length + offset - begin, self.size - begin)
        )

    def close(self) -> None:
        """Unmap and close.

        Raises:
            StoreError: somebody still looks at a block of it.
        """
        try:
            self._map.close()
        except BufferError:
            raise StoreError(f"{self.path} is still read and cannot be closed") from None
        os.close(self._descriptor)
        self._close_direct()

    def _close_direct(self) -> None:
        if self._direct is not None:
            os.close(self._direct)
            self._direct = None

    def _verified_number(self) -> int:
        content = os.pread(self._descriptor, _HEAD.size + _CHECKSUM.size, 0)
        if len(content) < _HEAD.size + _CHECKSUM.size or not content.startswith(_MAGIC):
            raise DamagedError(f"{self.path} is no segment")
        _, version, page, number, size = _HEAD.unpack_from(content)
        (checksum,) = _CHECKSUM.unpack_from(content, _HEAD.size)
        if checksum != xxhash.xxh3_64_intdigest(content[: _HEAD.size]):
            raise DamagedError(f"the first page of {self.path} is damaged")
        if version != _VERSION or page != PAGE:
            raise StoreError(
                f"{self.path} has version {version} (pages of {page} bytes), and {_VERSION} "
                f"(pages of {PAGE}) is known; use the version of Everlong that wrote it"
            )
        if size != self.size:
            raise DamagedError(f"{self.path} has {self.size:,} bytes, and should have {size:,}")
        return int(number)


def _any_byte(view: memoryview) -> bool:
    """Whether any byte is not zero."""
    return bool(np.frombuffer(view, dtype=np.uint8).any())
