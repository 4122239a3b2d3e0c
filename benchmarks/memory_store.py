"""The block store: how fast it opens, reads and writes, and what a block costs in memory.

Blocks have the shape of SmolLM2-135M's: 30 layers, 3 heads, keys and values of 64 tokens in
bfloat16, 1.47 MB. What the disk can do is measured beside it, in turn, with the same bytes.
"""

from __future__ import annotations

import gc
import os
import random
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.report import Measured
from benchmarks.rounds import ratios, spread, turns
from everlong.memory.block_store import BlockStore
from everlong.memory.ledger import Entry, Ledger
from everlong.memory.record import NO_PARENT, BlockHead, Record

CLAIMS = (
    "open_16gb",
    "block_read_p99_verified_warm",
    "block_read_cold_vs_raw_read",
    "write_vs_disk",
    "ram_per_block",
)

_MEGA = 1_000_000
_SLICES, _SLICE_BYTES = 30 * 3 * 2, 64 * 64 * 2
_ROUND_BYTES = 200 * _MEGA
"""Short rounds: a disk that is rented slows down after some gigabytes, for both."""
_SYNC_BYTES = 64 << 20
"""Between two calls of fdatasync: what the store's queue holds."""
_WARM_BYTES = 2_000 * _MEGA
_SMALL = 1_000_000
"""Small blocks; SQLite's page cache, whose size is fixed, is full after some 90,000."""
_CHAIN = 100
"""Blocks of a sequence."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class Size:
    """How much is measured."""

    store_bytes: int
    write_rounds: int
    small_blocks: int
    warm_reads: int
    cold_reads: int

    @classmethod
    def of(cls, quick: bool) -> Size:
        """All of it, or what takes two minutes."""
        if quick:
            return cls(2_500 * _MEGA, 9, _SMALL, 2_000, 100)
        return cls(16_000 * _MEGA, 15, _SMALL, 10_000, 400)


def measure(folder: Path, quick: bool, say: Say) -> tuple[dict[str, Measured], dict[str, Any]]:
    """All claims, and the single measurements behind them.

    Args:
        folder: an empty one on the disk that is measured; what is made in it is removed again.
        quick: a store of 2.5 GB instead of 16, of which nothing is claimed about opening.
    """
    size = Size.of(quick)
    samples: dict[str, Any] = {}
    measured: dict[str, Measured] = {}
    with emptied(folder / "store"):
        store_folder = folder / "store"
        # A segment is kept for cleaning.
        capacity = size.store_bytes + (1 << 30)
        measured["write_vs_disk"] = _writes(store_folder, capacity, size, samples, say)
        opened = _opens(store_folder, capacity, samples, say)
        if not quick:  # the claim is on 16 GB
            measured["open_16gb"] = opened
        measured["block_read_cold_vs_raw_read"] = _cold_reads(
            store_folder, capacity, size, samples, say
        )
        measured["block_read_p99_verified_warm"] = _warm_reads(
            store_folder, capacity, size, samples, say
        )
    with emptied(folder / "small"):
        measured["ram_per_block"] = _memory_per_block(folder / "small", size, samples, say)
    return measured, samples


class Blocks:
    """Blocks without end, each with its own bytes, made faster than a disk takes them."""

    def __init__(self, slices: int = _SLICES, slice_bytes: int = _SLICE_BYTES) -> None:
        self._slices, self._slice_bytes = slices, slice_bytes
        self._bytes = np.random.default_rng(0).bytes(16 << 20)

    def record(self, number: int) -> Record:
        """A block; it follows the one before it, a hundred to a sequence."""
        head = BlockHead(
            id=self.name(number),
            parent=self.name(number - 1) if number % _CHAIN else NO_PARENT,
            namespace=b"n" * 16,
            fingerprint=b"f" * 32,
            token_ids=tuple(range(number, number + 64)),
            slices=self._slices,
            slice_bytes=self._slice_bytes,
        )
        first = 64 * number % (len(self._bytes) - head.payload_bytes)
        return Record.of(head, memoryview(self._bytes)[first : first + head.payload_bytes])

    @staticmethod
    def name(number: int) -> bytes:
        """Id of a block: as evenly spread as hashes are."""
        return random.Random(number).randbytes(32)


def _writes(folder: Path, capacity: int, size: Size, samples: dict[str, Any], say: Say) -> Measured:
    """Fill the store, for some rounds in turn with plain writes of as many bytes.

    The plain files stay until the end: what was just freed is faster to write again than space
    that the disk has not given out for a while, and the store needs new space in every round.
    """
    store, blocks = BlockStore(folder, capacity), Blocks()
    per_round = _ROUND_BYTES // blocks.record(0).head.record_bytes
    speeds: dict[str, list[float]] = {"store": [], "disk": []}
    number = 0

    def fill() -> None:
        nonlocal number
        begin, last = time.perf_counter(), number + per_round
        while number < last:
            record = blocks.record(number)
            assert store.put(record, number % _CHAIN, patience=60)
            number += 1
        store.flush()
        seconds = time.perf_counter() - begin
        speeds["store"].append(per_round * record.head.record_bytes / seconds)

    def write_plainly(path: Path) -> None:
        content = [blocks.record(n).payload for n in range(per_round)]
        speeds["disk"].append(_plain_write(path, content))

    plain = [folder / f"plain-{n}" for n in range(size.write_rounds)]
    for n, path in enumerate(plain):
        for turn in turns((fill, lambda: write_plainly(path)), n):  # noqa: B023 (called here)
            turn()
        say(
            f"writes, round {n + 1} of {len(plain)}: store {speeds['store'][-1] / _MEGA:.0f}, "
            f"disk {speeds['disk'][-1] / _MEGA:.0f} MB/s"
        )
    for path in plain:
        path.unlink()
    while store.stats().bytes < size.store_bytes:
        fill()
        say(f"the store has {store.stats().bytes / 1e9:.1f} GB")
    stats = store.stats()
    assert stats.left_out == stats.dropped == 0, stats
    store.close()
    samples["writes"] = {kind: [v / _MEGA for v in values] for kind, values in speeds.items()}
    compared = speeds["store"][: len(plain)]
    ratio = spread(ratios(compared, speeds["disk"]))
    ours, disk = (spread([v / _MEGA for v in values]) for values in (compared, speeds["disk"]))
    return Measured(
        ratio.median,
        f"{ratio}, rounds of {_ROUND_BYTES / 1e6:.0f} MB in turn; store {ours} MB/s, plain writes "
        f"into a file whose space is set aside, fdatasync every {_SYNC_BYTES >> 20} MB, {disk} "
        f"MB/s; {stats.blocks:,} blocks of {stats.bytes / 1e9:.1f} GB in the end",
    )


def _plain_write(path: Path, content: Sequence[memoryview]) -> float:
    """Bytes per second of writing ``content`` to a new file."""
    total = sum(map(len, content))
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL)
    try:
        os.posix_fallocate(descriptor, 0, total)
        os.fsync(descriptor)
        begin = time.perf_counter()
        unsynced = 0
        for part in content:
            unsynced += os.write(descriptor, part)
            if unsynced >= _SYNC_BYTES:
                os.fdatasync(descriptor)
                unsynced = 0
        os.fdatasync(descriptor)
        seconds = time.perf_counter() - begin
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)
    return total / seconds


def _opens(folder: Path, capacity: int, samples: dict[str, Any], say: Say) -> Measured:
    """From nothing to the first verified block, with files on the disk only and in memory."""
    seconds: dict[str, list[float]] = {"disk": [], "memory": []}
    for number in range(5):
        for kind, times in seconds.items():
            if kind == "disk":
                forget_pages(folder)
            begin = time.perf_counter()
            store = BlockStore(folder, capacity)
            record = store.get(Blocks.name(number))
            assert record is not None
            record.verified()
            times.append(time.perf_counter() - begin)
            del record
            store.close()
    samples["opens"] = seconds
    disk, memory = spread(seconds["disk"]), spread(seconds["memory"])
    say(f"open: {disk} s from the disk, {memory} s from memory")
    ledger = (folder / "ledger.sqlite").stat().st_size
    return Measured(
        disk.median,
        f"to the first verified block, no file in the page cache: {disk} s; all in it: {memory} s; "
        f"ledger of {ledger / 1e6:.1f} MB",
    )


def _cold_reads(
    folder: Path, capacity: int, size: Size, samples: dict[str, Any], say: Say
) -> Measured:
    """Blocks that are on the disk only, by the store and by ``pread``, each block once."""
    entries = _entries(folder)
    chosen = random.Random(1).sample(entries, min(2 * size.cold_reads, len(entries)))
    forget_pages(folder)
    store = BlockStore(folder, capacity)
    times: dict[str, list[float]] = {"store": [], "pread": []}
    for number, entry in enumerate(chosen):
        # In turn, and every second time in the other order.
        kind = ("store", "pread", "pread", "store")[number % 4]
        begin = time.perf_counter()
        if kind == "store":
            assert store.will_need([entry.id]) == 1
            record = store.get(entry.id)
            assert record is not None
            record.verified()
            times[kind].append(time.perf_counter() - begin)
            del record
        else:
            descriptor = os.open(folder / f"{entry.segment:08}.segment", os.O_RDONLY)
            read = os.pread(descriptor, entry.length, entry.place)
            times[kind].append(time.perf_counter() - begin)
            os.close(descriptor)
            assert len(read) == entry.length
    store.close()
    samples["cold reads"] = {kind: [1000 * t for t in values] for kind, values in times.items()}
    ours, theirs = (np.array(times[kind]) * 1000 for kind in ("store", "pread"))
    ratio = float(np.median(ours) / np.median(theirs))
    worst = float(np.percentile(ours, 99) / np.percentile(theirs, 99))
    say(f"cold reads: {ratio:.2f} x")
    return Measured(
        ratio,
        f"medians of {len(ours)} blocks each, in turn, after the files left the page cache: store "
        f"(verified) {np.median(ours):.2f} ms, pread {np.median(theirs):.2f} ms; p99 "
        f"{np.percentile(ours, 99):.2f} and {np.percentile(theirs, 99):.2f} ms ({worst:.2f} x)",
    )


def _warm_reads(
    folder: Path, capacity: int, size: Size, samples: dict[str, Any], say: Say
) -> Measured:
    """Random blocks of a working set that was read before, all checksums verified."""
    entries = _entries(folder)
    most = min(len(entries), _WARM_BYTES // entries[0].length)
    chosen = random.Random(2).sample(entries, most)
    store = BlockStore(folder, capacity)

    def read(block: bytes) -> float:
        begin = time.perf_counter()
        record = store.get(block)
        assert record is not None
        record.verified()
        return time.perf_counter() - begin

    for entry in chosen:
        read(entry.id)
    draw = random.Random(3)
    times = 1000 * np.array([read(draw.choice(chosen).id) for _ in range(size.warm_reads)])
    store.close()
    samples["warm reads"] = times.tolist()
    p50, p99 = np.percentile(times, 50), np.percentile(times, 99)
    say(f"warm reads: p50 {p50:.3f} ms, p99 {p99:.3f} ms")
    return Measured(
        float(p99),
        f"{len(times):,} reads of a block of {entries[0].length:,} bytes, all {_SLICES} checksums, "
        f"from {most:,} blocks ({most * entries[0].length / 1e9:.1f} GB of the store) that were "
        f"read once before; p50 {p50:.3f} ms, most {times.max():.2f} ms",
    )


def _memory_per_block(folder: Path, size: Size, samples: dict[str, Any], say: Say) -> Measured:
    """Slope of the process's own memory over the number of small blocks in the store."""
    blocks = Blocks(slices=1, slice_bytes=64)
    store = BlockStore(folder, size.small_blocks * blocks.record(0).head.record_bytes + (1 << 30))
    counts, memory = [], []
    step = size.small_blocks // 20
    for number in range(size.small_blocks):
        assert store.put(blocks.record(number), number % _CHAIN, patience=60)
        if (number + 1) % step == 0:
            store.flush()
            gc.collect()
            counts.append(number + 1)
            memory.append(_anonymous())
            say(f"{number + 1:,} small blocks: {memory[-1] / _MEGA:.1f} MB of memory")
    assert store.stats().blocks == size.small_blocks
    store.close()
    samples["memory"] = {"blocks": counts, "anonymous bytes": memory}
    slope = float(np.polyfit(counts, memory, 1)[0])
    return Measured(
        slope,
        f"least squares over {len(counts)} points up to {counts[-1]:,} blocks, Anonymous of "
        f"/proc/self/smaps_rollup: {memory[0] / _MEGA:.1f} MB at {counts[0]:,}, "
        f"{memory[-1] / _MEGA:.1f} MB at the end",
    )


def _anonymous() -> int:
    """Bytes of this process's memory that are no pages of files."""
    for line in Path("/proc/self/smaps_rollup").read_text().splitlines():
        if line.startswith("Anonymous:"):
            return int(line.split()[1]) * 1024
    raise OSError("/proc/self/smaps_rollup does not tell Anonymous")


def _entries(folder: Path) -> list[Entry]:
    """All blocks of a store that is closed."""
    ledger = Ledger(folder / "ledger.sqlite")
    found = [e for use in ledger.segments() for e in ledger.in_segment(use.number)]
    ledger.close()
    return found


def forget_pages(folder: Path) -> None:
    """Have the system drop all files below a folder, which nobody maps, from its page cache."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fdatasync(file.fileno())
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


@contextmanager
def emptied(folder: Path) -> Iterator[None]:
    """Remove a folder afterwards."""
    try:
        yield
    finally:
        shutil.rmtree(folder, ignore_errors=True)
