"""What a disk holds after its power was cut: the replay of a recorded log.

What is assumed of the file system (ext4 and XFS give it, and more):

- What was written, truncated or allocated in a file before a sync of that file that succeeded is
  there. Of what came later each operation is there or not, each sector (512 bytes) of a write on
  its own, in any combination: the page cache writes back when and in which order it likes. A sector
  is never half written. What was never written reads as zeros, never as what another file held.
- Names (made, renamed, removed) are there once their folder was synced. Of what was done to the
  names of a folder later, the first so many are there (both file systems journal names in order),
  how many nobody knows. Syncing a file does not make its name durable, though on ext4 it would.
- A name whose file was never synced is there with whatever of the file is.
- A cut during a call is one before it ended: its sectors may be there, its sync says nothing.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from tests.crash.shim import Kind, Operation

SECTOR = 512


@dataclass
class _File:
    durable: bytearray = field(default_factory=bytearray)
    pending: list[Operation] = field(default_factory=list)


@dataclass
class _Folder:
    durable: dict[str, _File | _Folder] = field(default_factory=dict)
    current: dict[str, _File | _Folder] = field(default_factory=dict)
    pending: list[tuple[str, _File | _Folder | None]] = field(default_factory=list)
    """Names with what they mean now; None: nothing."""

    def name(self, name: str, meaning: _File | _Folder | None) -> None:
        self.pending.append((name, meaning))
        _set(self.current, name, meaning)

    def sync(self) -> None:
        self.durable = dict(self.current)
        self.pending.clear()


class CutDisk:
    """The files under a folder as operations come in, durable and not.

    Args:
        root: the folder whose files were recorded.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._files: dict[int, _File] = {}
        self._top = _Folder()

    def apply(self, operation: Operation) -> None:
        """The next operation."""
        match operation.kind:
            case Kind.CREATE:
                file = self._files[operation.inode] = _File()
                self._parent(operation.path).name(Path(operation.path).name, file)
            case Kind.WRITE | Kind.TRUNCATE | Kind.ALLOCATE:
                self._files[operation.inode].pending.append(operation)
            case Kind.SYNC:
                file = self._files[operation.inode]
                for earlier in file.pending:
                    _perform(file.durable, earlier)
                file.pending.clear()
            case Kind.SYNC_FOLDER:
                self._folder(operation.path).sync()
            case Kind.MKDIR:
                self._parent(operation.path).name(Path(operation.path).name, _Folder())
            case Kind.UNLINK | Kind.RMDIR:
                self._parent(operation.path).name(Path(operation.path).name, None)
            case Kind.RENAME:
                old, new = Path(operation.path), Path(os.fsdecode(operation.data))
                assert old.parent == new.parent, "renames within a folder are understood"
                folder = self._parent(operation.path)
                # One entry of the journal: never one name without the other.
                moved = folder.current[old.name]
                folder.pending.append((f"{old.name}/{new.name}", moved))
                _set(folder.current, f"{old.name}/{new.name}", moved)
            case Kind.MARK:
                pass

    def apply_all(self, operations: Iterable[Operation]) -> None:
        """The next operations."""
        for operation in operations:
            self.apply(operation)

    def image(self, folder: Path, draw: random.Random) -> None:
        """Write to an empty ``folder`` what may be on the disk if the power is cut now."""
        # Nothing, everything, most, little or half of what is not durable.
        kept = draw.choice([0.0, 0.1, 0.5, 0.9, 1.0])
        _write_folder(self._top, folder, draw, kept)

    def whole(self, folder: Path) -> None:
        """Write to an empty ``folder`` what is there while the power stays on."""
        _write_folder(self._top, folder, None, 1.0)

    def _parent(self, path: str) -> _Folder:
        return self._folder(str(Path(path).parent))

    def _folder(self, path: str) -> _Folder:
        found = self._top
        for part in Path(path).relative_to(self._root).parts:
            inner = found.current[part]
            assert isinstance(inner, _Folder), path
            found = inner
        return found


def _set(names: dict[str, _File | _Folder], name: str, meaning: _File | _Folder | None) -> None:
    if "/" in name:
        old, new = name.split("/")
        del names[old]
        assert meaning is not None
        names[new] = meaning
    elif meaning is None:
        del names[name]
    else:
        names[name] = meaning


def _write_folder(folder: _Folder, path: Path, draw: random.Random | None, kept: float) -> None:
    names = dict(folder.durable)
    count = len(folder.pending)
    if draw is not None:
        count = draw.choice([0, count, draw.randint(0, count)])
    for name, meaning in folder.pending[:count]:
        _set(names, name, meaning)
    for name, meaning in names.items():
        if isinstance(meaning, _Folder):
            (path / name).mkdir()
            _write_folder(meaning, path / name, draw, kept)
        else:
            content = bytearray(meaning.durable)
            for operation in meaning.pending:
                _perform(content, operation, draw, kept)
            (path / name).write_bytes(content)


def _perform(
    content: bytearray, operation: Operation, draw: random.Random | None = None, kept: float = 1.0
) -> None:
    """Do to a file what an operation did, or what a cut may leave of it."""
    offset, data = operation.offset, operation.data
    whole = draw is None or draw.random() < kept
    match operation.kind:
        case Kind.WRITE if whole:
            _put(content, offset, data)
        case Kind.WRITE:
            assert draw is not None
            if not kept or draw.random() < 0.5:
                return  # dropped
            begin = 0
            while begin < len(data):  # torn
                end = min(len(data), (offset + begin) // SECTOR * SECTOR + SECTOR - offset)
                if draw.random() < 0.5:
                    _put(content, offset + begin, data[begin:end])
                begin = end
        case Kind.TRUNCATE if whole:
            del content[operation.length :]
            content.extend(bytes(operation.length - len(content)))
        case Kind.ALLOCATE if whole:
            keeps_size, clears = data
            end = offset + operation.length
            if not keeps_size:
                content.extend(bytes(max(0, end - len(content))))
            if clears:
                end = min(end, len(content))
                content[offset:end] = bytes(max(0, end - offset))
        case _:
            pass


def _put(content: bytearray, offset: int, data: bytes) -> None:
    content.extend(bytes(max(0, offset - len(content))))
    content[offset : offset + len(data)] = data
