"""The ledger names what is durable, all of a transaction or nothing, after any kill."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from everlong.errors import DamagedError, StoreError
from everlong.memory.ledger import Entry, Ledger, damage_note
from everlong.memory.record import NO_PARENT
from tests.memory.blocks import name


def entry(n: int, segment: int = 1) -> Entry:
    return Entry(name(n), name(n - 1) if n > 1 else NO_PARENT, n - 1, segment, 4096 * n, 4096)


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    ledger = Ledger(tmp_path / "ledger.sqlite")
    ledger.add_segment(1, 1 << 20, 4096)
    ledger.add([(entry(n), b"n" * 16, b"f" * 32) for n in range(1, 5)], [(1, 5 * 4096)])
    return ledger


def test_what_was_named_is_found_again(ledger: Ledger) -> None:
    again = Ledger(ledger.path)
    for found in (ledger, again):
        assert found.find(name(3)) == entry(3)
        assert found.find(name(9)) is None
        assert [found.find(name(n)) for n in (1, 2, 4)] == [entry(1), entry(2), entry(4)]
        assert found.counts() == (4, 4 * 4096)
        (segment,) = found.segments()
        assert (segment.number, segment.used, segment.live) == (1, 5 * 4096, 4 * 4096)
    assert ledger.path.stat().st_mode & 0o777 == 0o600
    assert ledger.remove([name(2), name(7)]) == 1
    assert again.find(name(1)) == entry(1)
    assert again.find(name(2)) is None
    assert [e.id for e in again.in_segment(1)] == [name(1), name(3), name(4)]


def test_the_beginning_of_a_sequence_is_missed_last(ledger: Ledger) -> None:
    assert set(ledger.cold_in_segment(1, ledger.warm(2 * 4096))) == {name(3), name(4)}
    ledger.touch([name(1), name(4)])
    assert set(ledger.cold_in_segment(1, ledger.warm(2 * 4096))) == {name(2), name(3)}
    assert ledger.cold_in_segment(1, ledger.warm(3 * 4096)) == [name(3)]
    assert ledger.cold_in_segment(1, ledger.warm(4 * 4096)) == []


def test_what_a_namespace_has_is_counted_and_its_coldest_found(ledger: Ledger) -> None:
    ledger.add([(entry(n), b"m" * 16, b"f" * 32) for n in (7, 8)], [])
    assert (ledger.used_by(b"n" * 16), ledger.used_by(b"m" * 16)) == (4 * 4096, 2 * 4096)
    assert ledger.used_by(b"x" * 16) == 0
    assert ledger.coldest(b"n" * 16, 4097, set()) == [name(4), name(3)]
    ledger.touch([name(4)])
    assert ledger.coldest(b"n" * 16, 4096, {name(3)}) == [name(2)]
    assert ledger.coldest(b"m" * 16, 1, set()) == [name(8)]
    ledger.add([(entry(7, segment=2), b"m" * 16, b"f" * 32)], [])  # again, elsewhere
    ledger.remove([name(n) for n in (1, 8, 9)])
    assert (ledger.used_by(b"n" * 16), ledger.used_by(b"m" * 16)) == (3 * 4096, 4096)


def test_a_segment_with_blocks_is_not_forgotten(ledger: Ledger) -> None:
    with pytest.raises(DamagedError, match="blocks in segment 1 that it does not count"):
        ledger.remove_segment(1)
    assert damage_note(ledger.path).exists()  # made anew when it is opened next
    ledger.remove([name(n) for n in range(1, 5)])
    ledger.remove_segment(1)
    assert ledger.segments() == []


def test_a_transaction_that_fails_leaves_nothing(ledger: Ledger) -> None:
    def entries():  # type: ignore[no-untyped-def]
        yield entry(8), b"n" * 16, b"f" * 32
        raise KeyError("the caller's own trouble")

    with pytest.raises(KeyError):
        ledger.add(entries(), [(1, 9 * 4096)])
    assert ledger.find(name(8)) is None
    assert ledger.segments()[0].used == 5 * 4096
    ledger.add([(entry(8), b"n" * 16, b"f" * 32)], [(1, 9 * 4096)])
    assert ledger.find(name(8)) == entry(8)


def test_a_full_disk_leaves_what_was_named(ledger: Ledger) -> None:
    pages = ledger._database.connection.execute("pragma page_count").fetchone()[0]
    ledger._database.connection.execute(f"pragma max_page_count = {pages}")
    many = [(entry(n), b"n" * 16, b"f" * 32) for n in range(100, 1000)]
    with pytest.raises(StoreError, match="full"):
        ledger.add(many, [])
    assert ledger.counts() == (4, 4 * 4096)
    ledger._database.connection.execute("pragma max_page_count = 100000")
    ledger.add(many, [])
    assert ledger.counts()[0] == 904


def test_threads_read_while_one_writes(ledger: Ledger) -> None:
    wrong: list[object] = []

    def read() -> None:
        for _ in range(200):
            if ledger.find(name(1)) != entry(1):
                wrong.append(ledger.find(name(1)))

    threads = [threading.Thread(target=read) for _ in range(3)]
    for thread in threads:
        thread.start()
    for n in range(10, 60):
        ledger.add([(entry(n), b"n" * 16, b"f" * 32)], [])
    for thread in threads:
        thread.join()
    assert not wrong
    assert ledger.counts()[0] == 54


def test_other_files_are_refused(tmp_path: Path) -> None:
    other = tmp_path / "other.sqlite"
    sqlite3.connect(other).executescript("create table t (x); insert into t values (1);")
    with pytest.raises(StoreError, match="another program"):
        Ledger(other)
    junk = tmp_path / "junk.sqlite"
    junk.write_bytes(b"no database " * 1000)
    with pytest.raises(DamagedError, match="not a whole database"):
        Ledger(junk)
    later = tmp_path / "later.sqlite"
    Ledger(later).close()
    connection = sqlite3.connect(later)
    connection.execute("pragma user_version = 99")
    connection.close()
    with pytest.raises(StoreError, match="version 99, and 2 is known"):
        Ledger(later)


def test_a_killed_writer_leaves_whole_transactions(tmp_path: Path) -> None:
    source = (
        "import sys, pathlib; from tests.memory.test_ledger import *\n"
        "ledger = Ledger(pathlib.Path(sys.argv[1])); ledger.add_segment(1, 1 << 30, 4096)\n"
        "n = 1\n"
        "while True:\n"
        "    ledger.add([(entry(n + i), b'n' * 16, b'f' * 32) for i in range(5)], [])\n"
        "    n += 5; print(n - 1, flush=True)\n"
    )
    path = tmp_path / "ledger.sqlite"
    writer = subprocess.Popen(
        [sys.executable, "-c", source, str(path)], stdout=subprocess.PIPE, text=True
    )
    assert writer.stdout is not None
    told = [int(writer.stdout.readline()) for _ in range(20)][-1]
    os.kill(writer.pid, signal.SIGKILL)
    rest = writer.stdout.read().split()
    writer.wait()
    writer.stdout.close()
    told = max([told, *map(int, rest)])
    ledger = Ledger(path)
    count, _ = ledger.counts()
    assert count >= told
    assert count % 5 == 0
    assert all(ledger.find(name(n)) == entry(n) for n in range(1, count + 1))
    ledger.close()
