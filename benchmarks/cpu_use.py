"""How much of the machine somebody else used while a contender was measured (Linux only)."""

from __future__ import annotations

import sys
from pathlib import Path
from types import TracebackType
from typing import Self


class CpuUse:
    """Share of all cores' time that other processes took while the block ran.

    Args:
        pid: the process that is measured; what it takes is not counted.
    """

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self.elsewhere: float | None = None
        """From 0 to 1, known after the block; None where the system does not tell."""

    def __enter__(self) -> Self:
        self._before = _ticks(self._pid)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        after = _ticks(self._pid)
        if self._before is None or after is None:
            return
        total, busy, own = (b - a for a, b in zip(self._before, after, strict=True))
        if total > 0:
            self.elsewhere = min(1.0, max(0.0, (busy - own) / total))


def _ticks(pid: int) -> tuple[int, int, int] | None:
    """Clock ticks of the machine: all, busy, and those of ``pid`` with its threads."""
    if sys.platform != "linux":
        return None
    try:
        machine = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]
        process = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    times = [int(t) for t in machine]
    idle, waiting = times[3], times[4]
    user_and_system = int(process[11]) + int(process[12])
    return sum(times), sum(times) - idle - waiting, user_and_system
