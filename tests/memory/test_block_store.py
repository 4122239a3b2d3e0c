"""The store keeps what it was given, within its limit, through faults and full disks."""

from __future__ import annotations

import errno
import random
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from everlong.errors import ConfigError, EverlongError, StoreError
from everlong.memory.block_store import BlockStore
from everlong.memory.disk import Buffer, Disk
from everlong.memory.record import PAGE, Record
from tests.memory.blocks import RECORD, SLICE_BYTES, block, name


def holds(store: BlockStore, n: int) -> bool:
    """Whether the store has a block; what it has must be what was put."""
    record = store.get(name(n))
    if record is None:
        return False
    assert record.head == block(n).head
    assert bytes(record.verified()) == bytes(block(n).payload)
    return True


@pytest.fixture
def store(tmp_path: Path) -> Iterator[BlockStore]:
    store = BlockStore(tmp_path / "blocks", 1 << 20)
    yield store
    store.close()


def test_what_was_put_is_there_before_and_after_a_restart(store: BlockStore) -> None:
    for n in range(10):
        assert store.put(block(n), n)
        assert holds(store, n)
    assert store.known([name(n) for n in (0, 1, 2, 50, 3)]) == 3
    store.flush()
    assert store.stats().blocks == 10
    assert store.stats().bytes == 10 * RECORD
    store.close()
    again = BlockStore(store.folder, 1 << 20)
    assert all(holds(again, n) for n in range(10))
    assert not holds(again, 10)
    assert again.put(block(10), 10)
    again.flush()
    assert all(holds(again, n) for n in range(11))
    again.close()


def test_one_process_owns_it(store: BlockStore) -> None:
    with pytest.raises(EverlongError, match="is held by"):
        BlockStore(store.folder, 1 << 20)


def test_a_limit_that_holds_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"size is 1,000 bytes; give 65,536 or more"):
        BlockStore(tmp_path, 1000)


def test_the_limit_is_kept_and_what_is_used_stays(tmp_path: Path) -> None:
    capacity = 64 * RECORD
    store = BlockStore(tmp_path, capacity)
    store.hold([name(5)])
    for n in range(300):
        store.put(block(n), n, patience=5)
        if n >= 3:
            store.flush()
            store.touch([name(3)])
        assert sum(p.stat().st_size for p in tmp_path.glob("*.segment")) <= capacity
    assert holds(store, 3)  # used again and again
    assert holds(store, 5)  # in use
    assert not holds(store, 50)
    kept = [n for n in range(300) if holds(store, n)]
    assert kept[-20:] == list(range(280, 300))  # the last ones
    stats = store.stats()
    assert stats.dropped == 300 - len(kept)
    assert stats.bytes <= capacity
    assert stats.left_out == stats.damaged == 0
    store.close()
    again = BlockStore(tmp_path, capacity)
    assert [n for n in range(300) if holds(again, n)] == kept
    again.close()


def test_a_namespace_keeps_to_its_quota_and_takes_nothing_from_others(tmp_path: Path) -> None:
    def of(owner: bytes, n: int) -> Record:
        made = block(n)
        return replace(made, head=replace(made.head, namespace=owner))

    quota = 40 * RECORD
    store = BlockStore(tmp_path, 400 * RECORD, quota=quota)
    one, two = b"1" * 16, b"2" * 16
    for n in range(10):
        store.put(of(two, 1000 + n), n, patience=5)
    store.hold([name(5)])
    for n in range(200):
        store.put(of(one, n), n, patience=5)
        if n >= 3 and n % 10 == 0:
            store.flush()
            store.touch([name(3)])
    store.flush()
    assert quota * 0.9 < store.used_by(one) <= quota
    kept = [n for n in range(200) if store.get(name(n)) is not None]
    assert {3, 5} <= {*kept}  # used again and again; in use
    assert kept[-20:] == list(range(180, 200))
    assert store.stats().dropped == 200 - len(kept)
    assert all(store.get(name(1000 + n)) for n in range(10))
    assert store.used_by(two) == 10 * RECORD
    store.close()


def test_a_store_full_of_what_is_in_use_says_so(tmp_path: Path) -> None:
    store = BlockStore(tmp_path, 64 * RECORD)
    store.hold(name(n) for n in range(300))
    for n in range(100):
        store.put(block(n), n, patience=5)
    store.flush()
    stats = store.stats()
    assert stats.left_out > 0
    assert "in use; give it a larger size" in stats.trouble
    before = [n for n in range(100) if holds(store, n)]
    store.release(name(n) for n in range(300))
    store.put(block(200), 0)
    store.flush()
    assert holds(store, 200)
    assert store.stats().trouble == ""
    assert len(before) >= 40
    store.close()


def test_a_view_outlives_its_file(tmp_path: Path) -> None:
    store = BlockStore(tmp_path, 64 * RECORD)
    store.put(block(0), 0)
    store.flush()
    record = store.get(name(0))
    assert record is not None
    for n in range(1, 200):
        store.put(block(n), n, patience=5)
    store.flush()
    assert not holds(store, 0)
    assert bytes(record.verified()) == bytes(block(0).payload)
    del record
    store.close()


def test_damage_is_a_miss(store: BlockStore) -> None:
    for n in range(3):
        store.put(block(n), n)
    store.close()
    (path,) = store.folder.glob("*.segment")
    content = bytearray(path.read_bytes())
    content[PAGE + 3] ^= 1  # the head of block 0
    content[PAGE + RECORD + PAGE + 2 * SLICE_BYTES] ^= 1  # a slice of block 1
    path.write_bytes(content)
    again = BlockStore(store.folder, 1 << 20)
    assert again.get(name(0)) is None
    record = again.get(name(1))
    assert record is not None
    assert bytes(record.slice(0)) == bytes(block(1).slice(0))
    with pytest.raises(StoreError):
        record.slice(2)
    again.damaged(name(1), "slice 2")
    del record
    assert again.get(name(1)) is None
    assert holds(again, 2)
    assert again.stats().damaged == 2
    again.put(block(0), 0)
    again.flush()
    assert holds(again, 0)
    again.close()


def test_verify_finds_every_damaged_block(store: BlockStore) -> None:
    for n in range(12):
        store.put(block(n), n)
    store.close()
    (path,) = store.folder.glob("*.segment")
    content = bytearray(path.read_bytes())
    hit = sorted(random.Random(1).sample(range(12), 4))
    for n in hit:
        # A bit of the head, or of a slice.
        content[PAGE + n * RECORD + (PAGE if n % 2 else 0) + 5] ^= 4
    path.write_bytes(content)
    again = BlockStore(store.folder, 1 << 20)
    told: list[tuple[int, int]] = []
    assert again.verify(lambda *at: told.append(at)) == 4
    assert told[-1] == (12, 12)
    assert [n for n in range(12) if not holds(again, n)] == hit
    assert again.verify() == 0
    again.close()


def test_files_that_nobody_named_go_and_lost_ones_are_misses(store: BlockStore) -> None:
    store.put(block(0), 0)
    store.close()
    (path,) = store.folder.glob("*.segment")
    (store.folder / "00000007.segment").write_bytes(b"left by a crash")
    again = BlockStore(store.folder, 1 << 20)
    assert sorted(store.folder.glob("*.segment")) == [path]
    assert holds(again, 0)
    again.close()
    path.unlink()
    third = BlockStore(store.folder, 1 << 20)
    assert not holds(third, 0)
    third.put(block(0), 0)
    third.flush()
    assert holds(third, 0)
    third.close()


class FailingDisk(Disk):
    """Fails at the calls that are told to."""

    def __init__(self) -> None:
        super().__init__()
        self.fail: set[str] = set()
        self.gate = threading.Event()
        self.gate.set()

    def create(self, path: Path, size: int) -> int:
        if "create" in self.fail:
            raise OSError(errno.ENOSPC, "no space left on device")
        return super().create(path, size)

    def write(self, descriptor: int, buffers: Sequence[Buffer], offset: int) -> None:
        self.gate.wait()
        if "write" in self.fail:
            super().write(descriptor, [bytes(buffers[0])[:100]], offset)  # torn
            raise OSError(errno.EIO, "input/output error")
        super().write(descriptor, buffers, offset)

    def sync(self, descriptor: int) -> None:
        if "sync" in self.fail:
            raise OSError(errno.EIO, "input/output error")
        super().sync(descriptor)


@pytest.mark.parametrize("call", ["create", "write", "sync"])
def test_a_disk_that_refuses_loses_nothing_that_was_kept(tmp_path: Path, call: str) -> None:
    disk = FailingDisk()
    store = BlockStore(tmp_path, 1 << 20, disk=disk)
    for n in range(3):
        store.put(block(n), n)
    store.flush()
    disk.fail.add(call)
    more = range(3, 40)  # more than fit the segment, so that a new one is asked for
    for n in more:
        store.put(block(n), n, patience=5)
        store.flush()
    stats = store.stats()
    assert stats.left_out > 0
    assert "no space" in stats.trouble or "input/output" in stats.trouble
    assert all(holds(store, n) for n in range(3))
    disk.fail.clear()
    for n in more:
        store.put(block(n), n, patience=5)
    store.flush()
    assert store.stats().trouble == ""
    assert all(holds(store, n) for n in range(40))
    store.close()
    again = BlockStore(tmp_path, 1 << 20)
    assert all(holds(again, n) for n in range(40))
    again.close()


def test_a_fault_that_nobody_thought_of_does_not_end_the_writer(
    store: BlockStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def wrong(*_: object) -> None:
        raise ZeroDivisionError("of our own making")

    with monkeypatch.context() as patched:
        patched.setattr("everlong.memory.segment_log.SegmentLog._append", wrong)
        store.put(block(0), 0)
        store.flush()
    assert (store.stats().left_out, store.stats().trouble) == (1, "of our own making")
    assert "ZeroDivisionError" in caplog.text
    store.put(block(1), 1)
    store.flush()
    assert holds(store, 1)
    assert store.stats().trouble == ""


def test_a_ledger_that_refuses_is_a_miss(
    store: BlockStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.put(block(0), 0)
    store.flush()

    def refuse(*_: object) -> None:
        raise StoreError("the ledger: database or disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(store._ledger, "add", refuse)
        store.put(block(1), 1)
        store.flush()
        assert "disk is full" in store.stats().trouble
        patched.setattr(store._ledger, "find", refuse)
        assert store.get(name(0)) is None
    assert holds(store, 0)
    assert not holds(store, 1)
    store.put(block(1), 1)
    store.flush()
    assert holds(store, 1)
    assert store.stats().trouble == ""


def test_a_slow_disk_holds_nobody_up(tmp_path: Path) -> None:
    disk = FailingDisk()
    store = BlockStore(tmp_path, 1 << 20, queue_bytes=3 * RECORD, disk=disk)
    disk.gate.clear()
    put = [store.put(block(n), n) for n in range(10)]
    assert put == [True] * 3 + [False] * 7
    assert holds(store, 2)  # from the queue
    assert store.stats().left_out == 7
    disk.gate.set()
    store.flush()
    assert [n for n in range(10) if holds(store, n)] == [0, 1, 2]
    store.close()


def test_blocks_are_read_while_others_are_written_and_dropped(tmp_path: Path) -> None:
    store = BlockStore(tmp_path, 64 * RECORD)
    errors: list[BaseException] = []
    done = threading.Event()

    def read() -> None:
        draw = random.Random(threading.get_ident())
        try:
            while not done.wait(0.0005):  # or the writer hardly gets Python's lock
                holds(store, draw.randrange(400))
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=read) for _ in range(3)]
    for thread in threads:
        thread.start()
    for n in range(400):
        store.put(block(n), n, patience=5)
    store.flush()
    done.set()
    for thread in threads:
        thread.join()
    assert not errors
    assert store.stats().damaged == 0
    assert store.stats().dropped > 0
    store.close()


def test_a_block_that_no_segment_holds_is_said(tmp_path: Path) -> None:
    store = BlockStore(tmp_path, 1 << 20)
    large = replace(block(0).head, slices=40, slice_bytes=PAGE)
    store.put(Record.of(large, bytes(large.payload_bytes)), 0)
    store.flush()
    assert "give the memory a larger size" in store.stats().trouble
    store.close()


def test_what_is_forgotten_is_in_no_file(store: BlockStore) -> None:
    for n in range(60):
        store.put(block(n), n, patience=10)
    store.flush()
    store.damaged(name(45), "a test says so")  # its bytes are still there
    kept = {name(n) for n in range(30)}
    for n in range(60, 70):
        store.put(block(n), n)  # some may wait in memory
    gone, erased = store.forget(b"n" * 16, kept)
    assert gone >= 29
    assert erased > 0
    store.flush()
    held = b"".join(path.read_bytes() for path in store.folder.iterdir())
    for n in range(70):
        if name(n) in kept:
            assert holds(store, n)
        else:
            assert not holds(store, n)
            assert bytes(block(n).payload)[:32] not in held
    store.put(block(71), 71)
    store.close()
    again = BlockStore(store.folder, 1 << 20)
    assert holds(again, 71)
    assert again.verify() == 0
    again.close()


def test_another_namespace_forgets_nothing_here(store: BlockStore) -> None:
    store.put(block(1), 0)
    store.flush()
    assert store.forget(b"m" * 16, set()) == (0, 0)
    assert holds(store, 1)


def test_forgetting_says_when_the_disk_refuses(
    store: BlockStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.put(block(1), 0)
    store.flush()

    def refuse(*_: object) -> None:
        raise OSError(errno.EIO, "no luck")

    with monkeypatch.context() as broken:
        broken.setattr(Disk, "write", refuse)
        with pytest.raises(StoreError, match="no luck"):
            store.forget(b"n" * 16, set())
    assert store.forget(b"n" * 16, set())[1] > 0
    store.put(block(2), 0)
    store.flush()
    assert holds(store, 2)
