"""No flipped bit makes another byte of what is read; a ledger is made anew from its segments."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from everlong.memory.block_store import BlockStore
from everlong.memory.record import PAGE
from tests.crash.flips import flips
from tests.crash.life import holds, present
from tests.memory.blocks import RECORD, block, name


def test_no_flipped_bit_is_read(place: Path) -> None:
    outcome = flips(40, place, seed=1)
    assert not outcome.problems, "\n".join(outcome.problems)
    assert outcome.survived == 40


@pytest.fixture
def folder(place: Path) -> Path:
    store = BlockStore(place, 64 * RECORD)
    for n in range(100):  # of which the first are dropped
        store.put(block(n), n, patience=10)
    store.flush()
    store.close()
    return place


def test_a_damaged_ledger_is_made_anew(folder: Path) -> None:
    store = BlockStore(folder, 64 * RECORD)
    before = present(store, range(100))
    depths = {n: entry.depth for n in before if (entry := store._ledger.find(name(n)))}
    store.close()
    (folder / "ledger.sqlite").write_bytes(random.Random(0).randbytes(20 * PAGE))
    again = BlockStore(folder, 64 * RECORD)
    assert present(again, range(100)) == before
    # A block whose parent was dropped begins a sequence.
    kept = [n for n in sorted(before) if n - 1 in before and n - 2 not in before]
    for n in kept:
        found = again._ledger.find(name(n))
        assert found is not None
        assert found.depth == 1 < depths[n]
    for n in range(100, 200):
        again.put(block(n), n, patience=10)
    again.flush()
    assert holds(again, 199)
    assert again.stats().damaged == 0
    assert sum(p.stat().st_size for p in folder.glob("*.segment")) <= 64 * RECORD
    again.close()
    assert sorted(p.name for p in folder.glob("ledger*")) == ["ledger.sqlite"]


def test_damage_that_is_found_late_is_mended_when_it_is_opened_next(folder: Path) -> None:
    ledger = folder / "ledger.sqlite"
    content = bytearray(ledger.read_bytes())
    at = next(  # a leaf of the table of blocks: 10, no root
        at
        for at in range(PAGE, len(content), PAGE)
        if content[at] == 10 and name(99) in content[at : at + PAGE]
    )
    content[at + 3 : at + 5] = b"\xff\xff"  # how many cells it has
    store = BlockStore(folder, 64 * RECORD)
    ledger.write_bytes(content)
    with ThreadPoolExecutor(1) as other:  # which has read nothing yet
        assert other.submit(store.get, name(99)).result() is None
    assert "not a whole database" in store.stats().trouble
    store.close()
    again = BlockStore(folder, 64 * RECORD)
    assert holds(again, 99)
    again.close()


def test_an_interrupted_rebuilding_begins_again(folder: Path) -> None:
    (folder / "ledger.sqlite").unlink()
    (folder / "ledger.sqlite.damaged").touch()
    BlockStore(folder, 64 * RECORD).close()
    store = BlockStore(folder, 64 * RECORD)
    assert holds(store, 99)
    store.close()
