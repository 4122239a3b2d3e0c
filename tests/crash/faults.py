"""Every call that changes a memory's files fails, in every way; see :mod:`tests.crash.faulty`."""

from __future__ import annotations

import json
from pathlib import Path

from tests.crash import shim
from tests.crash.life import SMALL
from tests.crash.outcome import Outcome


def faults(folder: Path, *, seed: int, first: int = 1, step: int = 1) -> Outcome:
    """Let calls fail.

    Args:
        folder: an empty one.
        seed: of how the memory is used.
        first, step: which calls: the ``first`` and every ``step``-th after it.
    """
    outcome = Outcome()
    arguments = (str(folder / "faulty"), *map(str, (SMALL, seed)))
    done = shim.run(shim.compiled(folder), "tests.crash.faulty", *arguments, str(first), str(step))
    assert done.returncode == 0, done.stderr
    for line in done.stdout.splitlines():
        call, way, count, problem, lost = json.loads(line)
        outcome.runs += 1
        outcome.lost += lost
        if problem:
            again = f"python -m tests.crash.faulty {' '.join(arguments)} {call} {1 << 30}"
            outcome.problems.append(f"{way} x {count} at call {call} ({again}): {problem}")
    return outcome
