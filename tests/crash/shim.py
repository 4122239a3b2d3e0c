"""What a process does to files, recorded and made to fail: the Python side of ``shim.c``.

The shim is compiled when it is needed; where there is no C compiler, or another system than Linux,
there is none, and whoever needs it says so.
"""

from __future__ import annotations

import ctypes
import enum
import hashlib
import json
import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
FAST = Path("/dev/shm") if Path("/dev/shm").is_dir() else None
"""A folder in memory; None: the system has none, and the ordinary one for temporary files does."""
_SOURCE = Path(__file__).with_name("shim.c")
_HEAD = struct.Struct("<IIQQQQ")


class Kind(enum.IntEnum):
    """What was done; the numbers are those of ``shim.c``, but for ``MARK``."""

    CREATE = 1
    WRITE = 2
    TRUNCATE = 3
    ALLOCATE = 4
    SYNC = 5
    SYNC_FOLDER = 6
    RENAME = 7
    UNLINK = 8
    MKDIR = 9
    RMDIR = 10
    MARK = 100
    """What the process itself says, between what it does."""


class Fault(enum.IntEnum):
    """How a call fails."""

    EIO = 1
    ENOSPC = 2
    SHORT = 3
    """A write writes half and says so; other calls go on."""
    TORN = 4
    """A write writes half, then the process is killed; other calls go on."""
    KILL = 5
    """The process is killed before the call."""


@dataclass(frozen=True)
class Operation:
    """One thing that was done."""

    kind: Kind
    inode: int
    path: str
    offset: int
    length: int
    data: bytes
    """What was written; the new name of a rename; two flags of an allocation: keeps the size,
    clears what was there; a mark's JSON."""


def missing() -> str:
    """Why there is no shim here; empty when there is one."""
    if sys.platform != "linux":
        return "the shim replaces functions of Linux's libc"
    if _compiler() is None:
        return "the shim needs a C compiler (cc)"
    return ""


def compiled(folder: Path) -> Path:
    """The shim as a shared object in ``folder``, compiled unless it is there."""
    source = _SOURCE.read_bytes()
    path = folder / f"shim-{hashlib.sha256(source).hexdigest()[:16]}.so"
    if not path.exists():
        compiler = _compiler()
        assert compiler is not None, missing()
        subprocess.run(
            [compiler, "-shared", "-fPIC", "-O2", "-o", path, _SOURCE, "-ldl", "-lpthread"],
            check=True,
        )
    return path


def run(
    shim: Path, module: str, *arguments: str, given: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run a module of the tests under the shim."""
    return subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=ROOT,
        env={**os.environ, "LD_PRELOAD": str(shim), "PYTHONDONTWRITEBYTECODE": "1"},
        input=given,
        capture_output=True,
        text=True,
        check=False,
    )


class Shim:
    """The shim of this process, which was started under it."""

    def __init__(self) -> None:
        self._functions = ctypes.CDLL(None)
        self._functions.crash_fail.argtypes = [ctypes.c_long, ctypes.c_int, ctypes.c_long]
        self._functions.crash_calls.restype = ctypes.c_long
        self._log = -1

    def watch(self, folder: Path, log: Path | None = None) -> None:
        """From now on see what is done under ``folder``.

        Args:
            folder: it is there; what is in it is durable.
            log: where to write all of it down, from what is there already on.
        """
        if log is not None:
            self._log = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            self._write_down(folder)
        self._functions.crash_record(os.fsencode(folder), self._log)

    def mark(self, content: Mapping[str, Any]) -> None:
        """Append to the log what is true from now on."""
        self._append(Operation(Kind.MARK, 0, "", 0, 0, json.dumps(content).encode()))

    def fail(self, call: int, fault: Fault, count: int) -> None:
        """Let ``count`` calls fail, the first of them the ``call``-th from now on; 0: none."""
        self._functions.crash_fail(call, fault, count)

    def calls(self) -> int:
        """How many calls there were that can fail."""
        return int(self._functions.crash_calls())

    def _write_down(self, folder: Path) -> None:
        for path in sorted(folder.iterdir()):
            inode = path.stat().st_ino
            if path.is_dir():
                self._append(Operation(Kind.MKDIR, 0, str(path), 0, 0, b""))
                self._write_down(path)
            else:
                self._append(Operation(Kind.CREATE, inode, str(path), 0, 0, b""))
                self._append(Operation(Kind.WRITE, inode, "", 0, 0, path.read_bytes()))
                self._append(Operation(Kind.SYNC, inode, "", 0, 0, b""))
        self._append(Operation(Kind.SYNC_FOLDER, 0, str(folder), 0, 0, b""))

    def _append(self, done: Operation) -> None:
        name = os.fsencode(done.path)
        sizes = done.inode, done.offset, done.length, len(done.data)
        whole = _HEAD.pack(done.kind, len(name), *sizes) + name + done.data
        # One write to a file that is appended to: it comes between two records, never into one.
        assert os.write(self._log, whole) == len(whole)


def read_log(path: Path) -> Iterator[Operation]:
    """What was recorded, in order; a last record that a kill cut short is left out."""
    content = memoryview(path.read_bytes())
    at = 0
    while at + _HEAD.size <= len(content):
        kind, path_bytes, inode, offset, length, data_bytes = _HEAD.unpack_from(content, at)
        begin = at + _HEAD.size
        at = begin + path_bytes + data_bytes
        if at > len(content):
            return
        name = os.fsdecode(bytes(content[begin : begin + path_bytes]))
        data = bytes(content[begin + path_bytes : at])
        yield Operation(Kind(kind), inode, name, offset, length, data)


def _compiler() -> str | None:
    return shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
