"""Thousands of damaged checkpoints: each loads or is refused, within bounded memory."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.skipif(sys.platform != "linux", reason="the memory limit is Linux's")
@pytest.mark.parametrize(("kind", "count"), [("gguf", 4000), ("safetensors", 2000), ("json", 2000)])
def test_a_mutated_checkpoint_loads_or_is_refused(tmp_path: Path, kind: str, count: int) -> None:
    # In a process of its own: a crash is a failure of this test only, a hang ends with the timeout,
    # and the limit on memory binds nothing else.
    program = [sys.executable, "-W", "error", "-m", "tests.checkpoint.mutate"]
    done = subprocess.run(
        [*program, kind, "0", str(count), str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, f"ended with {done.returncode}:\n{done.stderr}"
    outcomes = json.loads(done.stdout)
    assert sum(outcomes.values()) == count
    # Both happen, or the mutations are too harmless or too coarse to mean anything.
    assert min(outcomes["loaded"], outcomes["refused"]) > count / 100
