"""A process whose memory is recorded; see :mod:`tests.crash.shim`.

``python -m tests.crash.recorded ROOT LOG SIZE SEED STEPS`` uses the memory ``ROOT/memory``; what is
promised there already it reads from standard input.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from tests.crash.life import Life, Promise
from tests.crash.shim import Shim


def main(root: Path, log: Path, promise: Promise, size: int, seed: int, steps: int = 60) -> None:
    """Use the memory for some steps, and say in the log what it promises."""
    shim = Shim()
    shim.watch(root, log)

    def say() -> None:
        shim.mark(promise.as_json())

    say()
    life = Life(root / "memory", size, seed, promise, say)
    for _ in range(steps):
        life.step()
        assert not life.told, life.told
    os._exit(0)  # without closing, as a process that is killed ends


if __name__ == "__main__":
    main(
        Path(sys.argv[1]),
        Path(sys.argv[2]),
        Promise.of(sys.stdin.buffer.read()),
        *map(int, sys.argv[3:]),
    )
