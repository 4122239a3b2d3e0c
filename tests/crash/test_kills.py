"""A writing process is killed at any moment: what it called durable is there, byte for byte.

``EVERLONG_KILLS=1000 pytest tests/crash`` (``make crash``) runs it whole.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.crash.writer import CAPACITY, open_store
from tests.memory.blocks import block, name

KILLS = int(os.environ.get("EVERLONG_KILLS", "12"))


def test_no_durable_block_is_lost_to_a_kill(tmp_path: Path) -> None:
    draw = random.Random(0)
    folder = tmp_path / "blocks"
    ready = 200  # full, so that every few blocks a segment is cleaned
    store = open_store(folder)
    for n in range(ready):
        store.put(block(n), n % 50, patience=10)
    store.close()
    for kill in range(KILLS):
        writer = subprocess.Popen(
            [sys.executable, "-m", "tests.crash.writer", str(folder), str(ready)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert writer.stdout is not None
        assert writer.stderr is not None
        first = writer.stdout.readline()
        time.sleep(draw.uniform(0, 0.15))
        os.kill(writer.pid, signal.SIGKILL)
        told, failed = writer.communicate()
        assert first, failed
        durable = max([int(first), *map(int, told.split())])
        store = open_store(folder)
        found = 0
        # Older blocks may have made room; what is there at all must be whole.
        for n in range(durable + 10):
            record = store.get(name(n))
            if record is None:
                continue
            found += 1
            assert record.head == block(n).head
            assert bytes(record.verified()) == bytes(block(n).payload)
            del record
        newest = range(max(ready, durable - 30), durable)
        assert store.known([name(n) for n in newest]) == len(newest), f"kill {kill}"
        assert found >= min(durable, 30)
        stats = store.stats()
        assert stats.damaged == 0
        assert sum(p.stat().st_size for p in folder.glob("*.segment")) <= CAPACITY
        store.close()
        ready = durable + 10
