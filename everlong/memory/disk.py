"""The few things the store does to a disk, in one place.

Every byte that must survive goes through a :class:`Disk`. Tests put others in its place: one that
fails at a chosen call, and one that records, so that a cut of the power can be replayed.
"""

from __future__ import annotations

import errno
import mmap
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from everlong.files import sync_directory

Buffer = bytes | bytearray | memoryview


class Disk:
    """The system's own files, readable and writable by their owner only."""

    def __init__(self) -> None:
        self._pages = mmap.mmap(-1, mmap.PAGESIZE)

    def create(self, path: Path, size: int) -> int:
        """Make a file of ``size`` bytes whose space is set aside; returns its descriptor.

        The file and its name are durable when this returns.

        Raises:
            OSError: there is no room (``ENOSPC``), or the file exists; nothing is left then.
        """
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            _allocate(descriptor, size)
            os.fsync(descriptor)
            sync_directory(path.parent)
        except BaseException:
            os.close(descriptor)
            path.unlink(missing_ok=True)
            raise
        return descriptor

    def open(self, path: Path) -> int:
        """Open a file for reading and writing; returns its descriptor."""
        return os.open(path, os.O_RDWR | os.O_CLOEXEC)

    def open_direct(self, path: Path) -> int | None:
        """Open a file for :meth:`write_direct`; None: the system has nothing of the kind."""
        if not hasattr(os, "O_DIRECT"):
            return None
        try:
            return os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_DIRECT)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            return None

    def write_direct(self, descriptor: int, buffers: Sequence[Buffer], offset: int) -> bool:
        """As :meth:`write`, past the page cache; one thread at a time.

        Copying a block into the page cache takes the processor seven times as long as handing it to
        the disk (docs/experiments.md, section 19), and would push out what is read.

        Args:
            descriptor: from :meth:`open_direct`.
            buffers: whole pages, taken together.
            offset: a multiple of the page size.

        Returns:
            False: the file system refuses this kind of write; some of it may be written.
        """
        size = sum(len(memoryview(buffer).cast("B")) for buffer in buffers)
        if size > len(self._pages):
            self._pages = mmap.mmap(-1, size)  # its memory begins at a page
        self._pages.seek(0)
        for buffer in buffers:
            self._pages.write(buffer)
        try:
            with memoryview(self._pages) as pages:
                self.write(descriptor, [pages[:size]], offset)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            return False
        return True

    def write(self, descriptor: int, buffers: Sequence[Buffer], offset: int) -> None:
        """Write all buffers, one after the other, from ``offset`` on.

        Raises:
            OSError: the disk refuses; some of it may be written.
        """
        left = [memoryview(buffer).cast("B") for buffer in buffers]
        while left:
            written = os.pwritev(descriptor, left, offset)
            offset += written
            while left and written >= len(left[0]):
                written -= len(left.pop(0))
            if left:
                left[0] = left[0][written:]

    def sync(self, descriptor: int) -> None:
        """Make everything written so far durable.

        Raises:
            OSError: it may not be, and asking again says nothing: the system forgets which pages
                it could not write (Rebello et al., "Can Applications Recover from fsync
                Failures?", USENIX ATC 2020).
        """
        os.fdatasync(descriptor)

    def remove(self, path: Path) -> None:
        """Delete a file durably."""
        path.unlink()
        sync_directory(path.parent)


def make_folder(path: Path) -> None:
    """Make a folder for its owner only, with those above it; its name is durable.

    Raises:
        OSError: it cannot be made.
    """
    if not path.parent.is_dir():
        make_folder(path.parent)
    path.mkdir(mode=0o700, exist_ok=True)
    # Also when it was there: whoever made it may have been killed before this.
    with suppress(PermissionError):  # somebody else's folder, which may not be read
        sync_directory(path.parent)


def _allocate(descriptor: int, size: int) -> None:
    if hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(descriptor, 0, size)
            return
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
                raise
    os.ftruncate(descriptor, size)  # a file system that sets nothing aside
