"""Where a figure comes from: the code, the machine, the command."""

from __future__ import annotations

import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
"""The checkout, when the package is used from one."""

_DECISIVE = ("amx_bf16", "avx512_bf16", "avx512_vnni", "avx512f", "avx2")


@dataclass(frozen=True)
class Provenance:
    """What it takes to get a figure again."""

    command: str
    commit: str
    version: str
    hardware: str
    date: str
    """UTC."""

    @classmethod
    def here(cls) -> Provenance:
        """Of this process, now."""
        return cls(
            shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
            commit(),
            version("everlong"),
            hardware(),
            datetime.now(UTC).isoformat(timespec="seconds"),
        )


def commit() -> str:
    """The commit that is checked out, ``+changes`` if tracked files differ; or ``unknown``."""
    head = _git("rev-parse", "--short=12", "HEAD")
    if not head:
        return "unknown"
    return head + ("+changes" if _git("status", "--porcelain", "--untracked-files=no") else "")


def _git(*arguments: str) -> str:
    if not (ROOT / ".git").exists():  # installed, perhaps inside somebody else's checkout
        return ""
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
        )
    except OSError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def hardware() -> str:
    """Processor, cores, memory and system in a line."""
    from everlong.device import machine_memory  # PyTorch, which who imports this may not need

    parts = [_processor(), f"{cores()} cores"]
    if (memory := machine_memory()) is not None:
        parts.append(f"{memory / 2**30:.0f} GiB")
    parts.append(f"{platform.system()} {platform.release()}")
    return ", ".join(parts)


def cores() -> int:
    """How many cores this process may use."""
    return len(core_numbers())


def core_numbers() -> list[int]:
    """The cores this process may use, as the system counts them."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    fields = {key.strip(): value.strip() for key, _, value in (ln.partition(":") for ln in lines)}
    name = fields.get("model name", platform.machine())
    flags = fields.get("flags", "").split()
    best: Sequence[str] = [flag for flag in _DECISIVE if flag in flags][:2]
    return f"{name} ({' '.join(best)})" if best else name
