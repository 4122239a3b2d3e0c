"""A file of weights mapped into memory."""

from __future__ import annotations

import mmap
import os
import stat
import sys
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from everlong.errors import CheckpointError


class Identity(NamedTuple):
    """What changes when a file does, without reading it."""

    size: int
    modified_ns: int
    changed_ns: int
    """Last change of content or status; unlike the time before, it cannot be set."""
    inode: int


class MappedFile:
    """The bytes of a regular file, without reading them.

    The mapping is private (copy on write): the file cannot be changed through it, and tensors
    over it are ordinary writable tensors to PyTorch. It lives as long as a tensor looks at it.

    Args:
        path: a regular file that is not empty. It must not be truncated while it is mapped.

    Raises:
        CheckpointError: the file is missing, unreadable, empty, or not a regular file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            # Never wait for a writer: the path could name a pipe.
            descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | _BINARY)
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            raise CheckpointError(f"{path} cannot be opened: {reason}") from None
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise CheckpointError(f"{path} is not a regular file")
            if status.st_size == 0:
                raise CheckpointError(f"{path} is empty")
            self.size = status.st_size
            self.identity = _identity(status)
            self.buffer = _map_privately(descriptor, self.size)
        except OSError as error:
            raise CheckpointError(f"{path} cannot be mapped: {error.strerror}") from None
        finally:
            os.close(descriptor)
        self.bytes: Tensor = torch.frombuffer(self.buffer, dtype=torch.uint8)
        """uint8 [size], over the mapping."""

    def is_unchanged(self) -> bool:
        """Whether ``path`` still names the file that was mapped, untouched since."""
        try:
            return _identity(self.path.stat()) == self.identity
        except OSError:
            return False

    def release(self) -> None:
        """Let the system take back the memory of pages read so far; they can be read again."""
        if hasattr(mmap, "MADV_DONTNEED"):
            self.buffer.madvise(mmap.MADV_DONTNEED)


def _map_privately(descriptor: int, size: int) -> mmap.mmap:
    if sys.platform != "linux":
        return mmap.mmap(descriptor, size, access=mmap.ACCESS_COPY)
    # Linux reserves memory for a private mapping, in case all of it were written to, and refuses
    # one larger than the memory. Nothing is written to this one.
    flags = mmap.MAP_PRIVATE | _MAP_NORESERVE
    return mmap.mmap(descriptor, size, flags, mmap.PROT_READ | mmap.PROT_WRITE)


def _identity(status: os.stat_result) -> Identity:
    return Identity(status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)


# Python names it from 3.12 on; the number is that of x86-64, Arm and RISC-V.
_MAP_NORESERVE: int = getattr(mmap, "MAP_NORESERVE", 0x4000)
_BINARY: int = getattr(os, "O_BINARY", 0)
