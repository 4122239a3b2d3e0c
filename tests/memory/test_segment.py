"""Blocks on disk: what is read is what was written, or an error; never something else."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from everlong.errors import DamagedError, StoreError
from everlong.memory.disk import Buffer, Disk
from everlong.memory.record import NO_PARENT, PAGE, BlockHead, Record, decode, encode
from everlong.memory.segment import Segment


def head(slices: int = 6, slice_bytes: int = 256, tokens: int = 64, seed: int = 1) -> BlockHead:
    name = seed.to_bytes(2, "big")
    return BlockHead(
        id=name * 16,
        parent=NO_PARENT,
        namespace=b"n" * 16,
        fingerprint=b"f" * 32,
        token_ids=tuple(range(seed, seed + tokens)),
        slices=slices,
        slice_bytes=slice_bytes,
    )


def block(seed: int) -> Record:
    return Record.of(head(seed=seed), payload(head(seed=seed)))


def payload(of: BlockHead) -> bytes:
    pattern = bytes((7 * n + of.id[1]) % 251 for n in range(of.stride))
    return pattern * of.slices


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 9), st.integers(1, 700), st.integers(0, 70))
def test_a_record_is_read_as_it_was_written(slices: int, slice_bytes: int, tokens: int) -> None:
    written = head(slices, slice_bytes, tokens)
    content = payload(written)
    record = decode(memoryview(encode(Record.of(written, content)) + content))
    assert record.head == written
    assert bytes(record.verified()) == content
    for n in range(slices):
        assert record.slice(n) == content[n * written.stride : n * written.stride + slice_bytes]
    assert written.payload_offset % PAGE == written.record_bytes % PAGE == written.stride % 64 == 0


@settings(deadline=None, max_examples=300)
@given(st.data())
def test_no_flipped_bit_goes_unnoticed(data: st.DataObject) -> None:
    written = head(slices=3, slice_bytes=128)
    content = payload(written)
    good = encode(Record.of(written, content)) + content
    bit = data.draw(st.integers(0, 8 * len(good) - 1))
    bad = bytearray(good)
    bad[bit // 8] ^= 1 << bit % 8
    head_bytes = len(encode(Record.of(written, content)).rstrip(b"\0"))
    try:
        record = decode(memoryview(bad))
        slices = [bytes(record.slice(n)) for n in range(3)]
    except DamagedError:
        return
    # Nothing was noticed: then nothing was changed but padding.
    assert record.head == written
    assert slices == [content[n * 128 : (n + 1) * 128] for n in range(3)]
    assert head_bytes <= bit // 8 < written.payload_offset


@settings(deadline=None, max_examples=100)
@given(st.binary(max_size=300), st.integers(0, 3000))
def test_what_is_no_record_is_refused(junk: bytes, cut: int) -> None:
    with pytest.raises(DamagedError):
        decode(memoryview(junk))
    written = head()
    content = payload(written)
    with pytest.raises(DamagedError):
        decode(memoryview((encode(Record.of(written, content)) + content)[: min(cut, PAGE)]))


def test_slices_are_the_files_own_pages(tmp_path: Path) -> None:
    segment = Segment.create(tmp_path / "1.segment", 1, 16 * PAGE, Disk())
    assert (tmp_path / "1.segment").stat().st_mode & 0o777 == 0o600
    first, second = head(seed=1), head(seed=2)
    end = segment.append(PAGE, block(1))
    assert segment.append(end, block(2)) == end + second.record_bytes
    segment.sync()
    segment.will_need(end, second.record_bytes)
    record = segment.read(end)
    values = np.frombuffer(record.verified(), dtype=np.uint16)
    assert not values.flags.writeable
    assert values.tobytes() == payload(second)
    with pytest.raises(StoreError, match="still read"):
        segment.close()
    assert bytes(segment.read(PAGE).verified()) == payload(first)  # it goes on
    del record, values
    segment.close()
    again = Segment(tmp_path / "1.segment", Disk())
    assert again.number == 1
    assert again.read(end).head == second
    again.close()


def test_places_that_hold_nothing_are_refused(tmp_path: Path) -> None:
    segment = Segment.create(tmp_path / "1.segment", 1, 8 * PAGE, Disk())
    for offset in (0, 5, PAGE, 8 * PAGE, -PAGE, 1 << 40):
        with pytest.raises(DamagedError):
            segment.read(offset)
    large = head(slices=100, slice_bytes=PAGE)
    assert not segment.fits(PAGE, large.record_bytes)
    with pytest.raises(StoreError, match="bytes left"):
        segment.append(PAGE, Record.of(large, payload(large)))
    segment.close()


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda b: b"x" + b[1:], "is no segment"),
        (lambda b: b[:20] + b"\xff" + b[21:], "is damaged"),
        (lambda b: b[: 4 * PAGE], "should have"),
        (lambda b: b"", "is no segment"),
    ],
)
def test_files_that_are_no_segments_are_refused(tmp_path: Path, change: object, error: str) -> None:
    path = tmp_path / "1.segment"
    Segment.create(path, 1, 8 * PAGE, Disk()).close()
    path.write_bytes(change(path.read_bytes()))  # type: ignore[operator]
    with pytest.raises(DamagedError, match=error):
        Segment(path, Disk())


class CachedDisk(Disk):
    """A file system that has no writes past the page cache."""

    def open_direct(self, path: Path) -> int | None:
        return None


class RefusingDisk(Disk):
    """A file system that opens files for such writes and then refuses them."""

    def write(self, descriptor: int, buffers: Sequence[Buffer], offset: int) -> None:
        if fcntl.fcntl(descriptor, fcntl.F_GETFL) & getattr(os, "O_DIRECT", 0):
            raise OSError(errno.EINVAL, "invalid argument")
        super().write(descriptor, buffers, offset)


@pytest.mark.parametrize("slice_bytes", [64, 100, 4096, 5000])
def test_the_page_cache_makes_no_difference(tmp_path: Path, slice_bytes: int) -> None:
    contents = []
    for disk in (Disk(), CachedDisk(), RefusingDisk()):
        path = tmp_path / f"{type(disk).__name__}.segment"
        segment = Segment.create(path, 1, 64 * PAGE, disk)
        end = PAGE
        seen = segment.read  # mapped before anything is written
        for seed in range(1, 6):
            of = head(slice_bytes=slice_bytes, seed=seed)
            place, end = end, segment.append(end, Record.of(of, payload(of)))
            assert bytes(seen(place).verified()) == payload(of)
        segment.sync()
        segment.close()
        contents.append(path.read_bytes())
    assert contents[0] == contents[1] == contents[2]


class FullDisk(Disk):
    """Has no room."""

    def write(self, descriptor: int, buffers: Sequence[Buffer], offset: int) -> None:
        raise OSError(errno.ENOSPC, "no space left")


def test_a_full_disk_leaves_what_was_there(tmp_path: Path) -> None:
    segment = Segment.create(tmp_path / "1.segment", 1, 16 * PAGE, Disk())
    end = segment.append(PAGE, block(1))
    segment.sync()
    segment.close()
    full = Segment(tmp_path / "1.segment", FullDisk())
    with pytest.raises(OSError, match="no space"):
        full.append(end, block(2))
    assert bytes(full.read(PAGE).verified()) == payload(head())
    full.close()


def test_short_writes_are_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = os.pwritev
    monkeypatch.setattr(
        "os.pwritev", lambda fd, buffers, offset: whole(fd, [buffers[0][:100]], offset)
    )
    path = tmp_path / "file"
    descriptor = Disk().create(path, 1000)
    Disk().write(descriptor, [b"a" * 250, bytearray(b"b" * 30), memoryview(b"c" * 120)], 7)
    os.close(descriptor)
    assert path.read_bytes()[7:407] == b"a" * 250 + b"b" * 30 + b"c" * 120
