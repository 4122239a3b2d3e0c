"""Atomic writes, checksums, the lock, the cache folder."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from everlong.errors import EverlongError
from everlong.files import (
    FileLock,
    atomic_write,
    atomic_writer,
    cache_dir,
    named_files,
    sha256_file,
)


def test_atomic_write_replaces_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    atomic_write(path, b"old")
    atomic_write(path, b"new", mode=0o600)
    assert path.read_bytes() == b"new"
    assert [p.name for p in tmp_path.iterdir()] == ["a.bin"]
    if os.name == "posix":
        assert path.stat().st_mode & 0o777 == 0o600


def test_a_failing_writer_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    atomic_write(path, b"old")

    def write_half() -> None:
        with atomic_writer(path) as file:
            file.write(b"ne")
            raise RuntimeError("half way")

    with pytest.raises(RuntimeError, match="half way"):
        write_half()
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.bin"]


@pytest.mark.parametrize("written", [0, 1, 2])
def test_a_killed_writer_leaves_the_old_file_or_the_new_one(tmp_path: Path, written: int) -> None:
    path = tmp_path / "a.bin"
    atomic_write(path, b"old")
    program = (
        "import os, sys; from pathlib import Path; from everlong.files import atomic_writer\n"
        "path, step = Path(sys.argv[1]), int(sys.argv[2])\n"
        "with atomic_writer(path) as file:\n"
        "    for i in range(2):\n"
        "        if i == step: os._exit(9)\n"
        "        file.write(b'new'); file.flush()\n"
        "os._exit(9)\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(path), str(written)], check=False)
    assert done.returncode == 9
    assert path.read_bytes() == (b"newnew" if written == 2 else b"old")


def test_sha256_file_agrees_with_hashlib_and_reports_every_byte(tmp_path: Path) -> None:
    data = os.urandom((4 << 20) + 12345)
    path = tmp_path / "a.bin"
    path.write_bytes(data)
    seen: list[int] = []
    assert sha256_file(path, seen.append) == hashlib.sha256(data).hexdigest()
    assert sum(seen) == len(data)


def test_a_held_lock_is_refused_with_the_owner_and_then_freed(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with FileLock(path), pytest.raises(EverlongError, match=f"process {os.getpid()}"):
        FileLock(path, 0).__enter__()
    with FileLock(path, 0):
        pass


def test_a_lock_dies_with_its_process(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    program = (
        "import os, sys; from pathlib import Path; from everlong.files import FileLock\n"
        "FileLock(Path(sys.argv[1])).__enter__(); os._exit(9)\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(path)], check=False)
    assert done.returncode == 9
    with FileLock(path, 0):
        pass


def test_cache_dir_follows_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVERLONG_HOME", str(tmp_path / "home"))
    assert cache_dir() == tmp_path / "home"
    monkeypatch.delenv("EVERLONG_HOME")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_dir() == tmp_path / "xdg" / "everlong"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_dir() == Path.home() / ".cache" / "everlong"


def test_what_a_user_means_by_a_path(tmp_path: Path) -> None:
    for name in ("b/two.txt", "a.txt", "b/one.md", "b/c/three.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    folder = tmp_path / "b"
    assert [*named_files(tmp_path / "a.txt")] == [(tmp_path, tmp_path / "a.txt")]
    names = ("c/three.txt", "one.md", "two.txt")
    assert [*named_files(folder)] == [(folder, folder / name) for name in names]
    assert [*named_files(folder / "*.txt")] == [(folder, folder / "two.txt")]
    assert [*named_files(folder / "*.pdf")] == []
    with pytest.raises(FileNotFoundError, match="is not there"):
        [*named_files(tmp_path / "nothing")]
