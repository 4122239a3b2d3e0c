"""Files that survive a crash: atomic writes, checksums, a lock, the cache folder."""

from __future__ import annotations

import hashlib
import os
import secrets
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from everlong.errors import ConfigError, EverlongError

_READ_BYTES = 4 << 20


def cache_dir() -> Path:
    """Folder for pulled models and derived data; it may not exist yet.

    ``$EVERLONG_HOME``, else ``$XDG_CACHE_HOME/everlong``, else ``~/.cache/everlong``.
    """
    if home := os.environ.get("EVERLONG_HOME"):
        return Path(home).expanduser()
    if cache := os.environ.get("XDG_CACHE_HOME"):
        return Path(cache).expanduser() / "everlong"
    return Path.home() / ".cache" / "everlong"


def data_dir() -> Path:
    """Folder for what must not be lost; it may not exist yet.

    ``$EVERLONG_HOME``, else ``$XDG_DATA_HOME/everlong``, else ``~/.local/share/everlong``.
    """
    if home := os.environ.get("EVERLONG_HOME"):
        return Path(home).expanduser()
    if data := os.environ.get("XDG_DATA_HOME"):
        return Path(data).expanduser() / "everlong"
    return Path.home() / ".local" / "share" / "everlong"


def sync_directory(path: Path) -> None:
    """Make renames and new entries in the folder ``path`` durable, where the system can."""
    if sys.platform == "win32":
        return  # folders cannot be opened there; NTFS journals its own renames
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def atomic_writer(path: Path, *, mode: int = 0o666) -> Iterator[BinaryIO]:
    """Write a file that is either the old one or the complete new one, after any crash.

    The bytes go to a hidden file beside ``path``, are flushed to the disk, and take its name
    when the block ends. If the block raises, ``path`` is untouched and nothing is left.

    Args:
        path: where the file shall be; its folder must exist.
        mode: permissions before the umask; 0o600 for what belongs to one user.
    """
    partial = path.with_name(f".{path.name}.{secrets.token_hex(6)}.partial")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def atomic_write(path: Path, data: bytes, *, mode: int = 0o666) -> None:
    """Replace the content of ``path`` with ``data``; see :func:`atomic_writer`."""
    with atomic_writer(path, mode=mode) as file:
        file.write(data)


def named_files(path: Path) -> Iterator[tuple[Path, Path]]:
    """What a user means by a path: a file, a folder with all that is in it, or a pattern.

    Args:
        path: such as ``notes.txt``, ``notes`` or ``books/*.txt.gz``.

    Yields:
        Files in the order of their names, each behind the folder it was found from: its own, of a
        folder that was named that one, of a pattern the last one before its first sign, which is
        ``books`` of ``books/**/*.txt``.

    Raises:
        FileNotFoundError: it is none of these; a pattern may have no files.
    """
    if path.is_file():
        yield path.parent, path
    elif path.is_dir():
        yield from ((path, one) for one in sorted(path.rglob("*")) if one.is_file())
    elif any(sign in str(path) for sign in "*?["):
        signs = [any(sign in part for sign in "*?[") for part in path.parts]
        root, pattern = path.parts[: signs.index(True)], path.parts[signs.index(True) :]
        found = sorted(Path(*root).glob(str(Path(*pattern))))
        yield from ((Path(*root), one) for one in found if one.is_file())
    else:
        raise FileNotFoundError(f"{path} is not there")


def refuse_used(folder: Path) -> None:
    """See that a folder can be written anew.

    Raises:
        ConfigError: it exists, and is not an empty folder.
    """
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise ConfigError(f"{folder} exists already; name a new folder, or remove it first")


def read_text(path: Path) -> str:
    """The text of a file that a user named.

    Raises:
        ConfigError: it cannot be read, or is not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read as text: {error}") from None


def sha256_file(path: Path, progress: Callable[[int], None] | None = None) -> str:
    """SHA-256 of a file's bytes in lower-case hexadecimal.

    Args:
        path: a regular file.
        progress: called with the number of bytes read since the last call.
    """
    digest = hashlib.sha256()
    buffer = bytearray(_READ_BYTES)
    view = memoryview(buffer)
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(buffer):
            digest.update(view[:count])
            if progress is not None:
                progress(count)
    return digest.hexdigest()


class FileLock:
    """An exclusive lock between processes (and between threads), held on a file.

    The lock is the operating system's: it disappears with the process that held it. The file
    stays, and holds the process id of its last owner for the error message.

    Args:
        path: the lock file; it is created, its folder must exist.
        timeout: seconds to wait while another holds it; 0 tries once, None waits for ever.
    """

    _POLL_SECONDS = 0.05

    def __init__(self, path: Path, timeout: float | None = None) -> None:
        self.path = path
        self.timeout = timeout
        self._file: BinaryIO | None = None

    def __enter__(self) -> Self:
        """Take the lock.

        Raises:
            EverlongError: another process held it for the whole timeout.
        """
        assert self._file is None, f"{self.path} is locked by this object already"
        file = os.fdopen(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600), "r+b", buffering=0)
        deadline = None if self.timeout is None else time.monotonic() + self.timeout
        try:
            while not _try_lock(file):
                if deadline is not None and time.monotonic() >= deadline:
                    raise EverlongError(
                        f"{self.path} is held by {_owner(file)} (waited {self.timeout:g} s); "
                        "stop it, or wait until it has finished"
                    )
                time.sleep(self._POLL_SECONDS)
            file.seek(_OWNER_OFFSET)
            file.truncate()
            file.write(str(os.getpid()).encode())
        except BaseException:
            file.close()
            raise
        self._file = file
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._file is not None, f"{self.path} is not locked"
        file, self._file = self._file, None
        _unlock(file)
        file.close()


# The first byte is what is locked: on Windows a locked byte cannot be read by others, and the
# owner's process id must be readable.
_OWNER_OFFSET = 1


def _owner(file: BinaryIO) -> str:
    """The holder of a lock in words, for an error message."""
    with suppress(OSError, ValueError):
        file.seek(_OWNER_OFFSET)
        return f"process {int(file.read(20))}"
    return "another process"


if sys.platform == "win32":
    import msvcrt

    def _try_lock(file: BinaryIO) -> bool:
        file.seek(0)
        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

    def _unlock(file: BinaryIO) -> None:
        file.seek(0)
        msvcrt.locking(file.fileno(), msvcrt.LK_UNLCK, 1)

else:
    import fcntl

    def _try_lock(file: BinaryIO) -> bool:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _unlock(file: BinaryIO) -> None:
        fcntl.flock(file, fcntl.LOCK_UN)
