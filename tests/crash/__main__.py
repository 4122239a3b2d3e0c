"""The whole harness: ``make crash``.

Prints, as its last line, one JSON object with what was survived, and keeps it in
``benchmarks/results/crash-DATE.json``. Each part has its own number, in the environment:

- ``EVERLONG_KILLS`` (1,000): kills of a writing process;
- ``EVERLONG_POWER_CUTS`` (1,000): cuts of recorded logs;
- ``EVERLONG_FAULT_STEP`` (1): every how many-th call fails;
- ``EVERLONG_FLIPS`` (3,000): flipped bits;
- ``EVERLONG_SEED`` (0).
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from everlong.evaluation.provenance import ROOT, Provenance
from tests.crash import shim
from tests.crash.faults import faults
from tests.crash.flips import flips
from tests.crash.kills import kills
from tests.crash.life import LARGE, SMALL
from tests.crash.outcome import Outcome
from tests.crash.power_cuts import power_cuts


def main() -> int:
    """Run all; returns the exit status."""
    seed = _number("EVERLONG_SEED", 0)
    if missing := shim.missing():
        print(f"neither power cuts nor faults are tried: {missing}", file=sys.stderr)
    parts: dict[str, Callable[[Path], Outcome]] = {}
    if not missing:
        step = _number("EVERLONG_FAULT_STEP", 1)
        for half in (0, 1):  # first, for they take longest
            parts[f"faults_{half}"] = lambda folder, half=half: faults(
                folder, seed=seed, first=1 + half * step, step=2 * step
            )
        cuts = _number("EVERLONG_POWER_CUTS", 1000)
        for size, share in ((LARGE, cuts // 2), (SMALL, cuts - cuts // 2)):
            parts[f"power_cuts_{size}"] = lambda folder, size=size, share=share: power_cuts(
                share, folder, seed=seed, recordings=10, steps=60, size=size
            )
    parts["kills"] = lambda folder: kills(_number("EVERLONG_KILLS", 1000), folder, seed=seed)
    parts["flips"] = lambda folder: flips(_number("EVERLONG_FLIPS", 3000), folder, seed=seed)
    base = Path(tempfile.mkdtemp(prefix="everlong-crash-", dir=shim.FAST))
    with ThreadPoolExecutor(2) as pool:  # what is killed and what fails are processes of their own
        running = {name: pool.submit(_run, name, part, base) for name, part in parts.items()}
    outcomes = {name: part.result() for name, part in running.items()}
    cut = sum((o for name, o in outcomes.items() if name.startswith("power")), Outcome())
    failed = sum((o for name, o in outcomes.items() if name.startswith("faults")), Outcome())
    content = {
        "kills_survived": outcomes["kills"].survived,
        "power_cuts_survived": cut.survived if cut.runs else None,
        "faults_survived": failed.survived if failed.runs else None,
        "flips_survived": outcomes["flips"].survived,
        "committed_blocks_lost": sum(outcome.lost for outcome in outcomes.values()),
        "slowest_open_seconds": max(outcome.slowest for outcome in outcomes.values()),
        **asdict(Provenance.here()),
        "command": "python -m tests.crash",
        "seed": seed,
    }
    now = f"{datetime.now(UTC):%Y-%m-%d-%H%M}"
    path = ROOT / "benchmarks" / "results" / f"crash-{now}.json"
    samples = {name: asdict(outcome) for name, outcome in outcomes.items()}
    path.write_text(json.dumps({**content, "parts": samples}, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(content))
    if any(outcome.problems for outcome in outcomes.values()):
        print(f"logs and images are in {base}", file=sys.stderr)
        return 1
    shutil.rmtree(base)
    return 0


def _run(name: str, part: Callable[[Path], Outcome], base: Path) -> Outcome:
    began = time.perf_counter()
    (base / name).mkdir()
    outcome = part(base / name)
    took = time.perf_counter() - began
    print(f"{name}: {outcome.survived} of {outcome.runs}, {took:.0f} s", file=sys.stderr)
    for problem in outcome.problems:
        print(f"  {problem}", file=sys.stderr)
    return outcome


def _number(variable: str, default: int) -> int:
    return int(os.environ.get(variable, default))


if __name__ == "__main__":
    sys.exit(main())
