"""A writing process is killed at any moment: what it called durable is there, byte for byte."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.crash.life import NAMESPACE, Broken, present
from tests.crash.outcome import Outcome
from tests.crash.shim import ROOT
from tests.crash.writer import CAPACITY, open_store
from tests.memory.blocks import block, name


def kills(count: int, folder: Path, *, seed: int) -> Outcome:
    """Kill a writer ``count`` times; each goes on with the store of the one before.

    Args:
        count: of kills.
        folder: an empty one.
        seed: of the moments.
    """
    outcome = Outcome()
    draw = random.Random(seed)
    ready = 200  # full, so that every few blocks a segment is cleaned
    store = open_store(folder)
    for n in range(ready):
        store.put(block(n), n % 50, patience=10)
    store.close()
    for kill in range(count):
        durable = _killed(folder, ready, draw.uniform(0, 0.15))
        outcome.check(
            f"kill {kill} of seed {seed}, in {folder}",
            lambda ready=ready, durable=durable: _look(folder, ready, durable),
        )
        ready = durable + 10
    return outcome


def _killed(folder: Path, first: int, seconds: float) -> int:
    """Have a writer begin with block ``first`` and kill it; returns the block after the last one
    that it called durable."""
    writer = subprocess.Popen(
        [sys.executable, "-m", "tests.crash.writer", str(folder), str(first)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert writer.stdout is not None
    assert writer.stderr is not None
    with writer, writer.stdout, writer.stderr:
        begun = writer.stdout.readline()
        time.sleep(seconds)
        os.kill(writer.pid, signal.SIGKILL)
        # Not by communicate(), which passes over what came together with the first line.
        told, failed = writer.stdout.read(), writer.stderr.read()
    assert begun, failed
    return max([int(begun), *map(int, told.split())])


def _look(folder: Path, first: int, durable: int) -> float:
    began = time.perf_counter()
    store = open_store(folder)
    took = time.perf_counter() - began
    try:
        # Older blocks may have made room; what is there at all must be whole.
        ids = store._ledger.of_namespace(NAMESPACE)
        found = present(store, [int.from_bytes(block, "big") for block in ids])
        if found - set(range(durable + 10)):
            raise Broken("it has blocks that were never put")
        newest = set(range(max(first, durable - 30), durable))
        if lost := newest - found:
            raise Broken(f"lost blocks {sorted(lost)}", len(lost))
        if store.known([name(n) for n in sorted(newest)]) != len(newest):
            raise Broken("blocks are found and not known")
        if len(found) < min(durable, 30):
            raise Broken(f"only {len(found)} blocks are left")
        if store.stats().damaged:
            raise Broken(f"{store.stats().damaged} blocks are damaged")
        if sum(p.stat().st_size for p in folder.glob("*.segment")) > CAPACITY:
            raise Broken("the segments take more than they may")
    finally:
        store.close()
    return took
