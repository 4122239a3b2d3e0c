"""The memory: its store, going on after a restart, recall, forgetting nothing and slowing nothing.

Usage: ``python benchmarks/memory.py --json``; see ``benchmarks/README.md``.
"""

from __future__ import annotations

import argparse
import json
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

if __package__ in (None, ""):  # run as a file
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import memory_overhead, memory_precision, memory_resume, memory_store
from benchmarks.memory_resume import Subject
from benchmarks.report import (
    RESULTS,
    Goal,
    Measured,
    Part,
    add_output_options,
    from_environment,
    run_parts,
    say,
)
from everlong.checkpoint.catalog import resolve
from everlong.evaluation.provenance import ROOT

NAME = "memory"

GOALS: dict[str, Goal] = {
    "resume_warm_vs_cold_prefill": Goal(">=", 50, "x"),
    "resume_cold_cache_vs_cold_prefill": Goal(">=", 10, "x"),
    "open_16gb": Goal("<=", 1, "s"),
    "block_read_p99_verified_warm": Goal("<=", 0.5, "ms"),
    "block_read_cold_vs_raw_read": Goal("<=", 2, "x"),
    "write_vs_disk": Goal(">=", 0.6, "x"),
    "ram_per_block": Goal("<=", 100, "bytes"),
    "recall_1m_p99_with_query_embedding": Goal("<=", 50, "ms"),
    "recall_points_lost_at_1m_to_pruning": Goal("<=", 1, "points"),
    "ingest_rate": Goal(">=", 2000, "episodes/s"),
    "locomo_recall10_minus_bm25": Goal(">=", 12, "points"),
    "locomo_recall10_minus_dense": Goal(">=", 18, "points"),
    "decode_overhead": Goal("<=", 3, "%"),
    "unanswerable_questions_with_injection": Goal("<=", 10, "%"),
    "answerable_points_lost_to_abstaining": Goal("<=", 5, "points"),
    "int8_memory_perplexity_increase": Goal("<=", 0.5, "%"),
    "int8_memory_bytes": Goal("<=", 0.6, "x"),
    "kills_survived": Goal(">=", 1000, "kills"),
    "power_cuts_survived": Goal(">=", 1000, "replays"),
    "committed_blocks_lost": Goal("<=", 0, "blocks"),
}
"""Every claim of this benchmark, in the order of the report."""

RECALL = (
    "recall_1m_p99_with_query_embedding",
    "recall_points_lost_at_1m_to_pruning",
    "ingest_rate",
    "locomo_recall10_minus_bm25",
    "locomo_recall10_minus_dense",
    "unanswerable_questions_with_injection",
    "answerable_points_lost_to_abstaining",
)
CRASH = ("kills_survived", "power_cuts_survived", "committed_blocks_lost")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; returns the exit status."""
    options = _parser().parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="everlong-memory-", dir=options.folder) as folder:

        def measure(part: str) -> Part:
            return PARTS[part][1](options, Path(folder))

        claims = {name: part[0] for name, part in PARTS.items()}
        return run_parts(NAME, GOALS, claims, measure, options, seed=0, versions=versions())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="benchmarks/memory.py",
        description=__doc__.splitlines()[0] if __doc__ else None,
        epilog="example: python benchmarks/memory.py --json --parts store resume",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add_output_options(parser)
    add = parser.add_argument
    add(
        "--quick",
        action="store_true",
        help="what fits in ten minutes: smaller stores, fewer rounds",
    )
    add("--parts", nargs="+", choices=[*PARTS], default=[*PARTS], help="what is measured")
    add("--folder", type=Path, help="on the disk to measure, 30 GB free (default: temporary files)")
    add("--model", type=Path, help="SmolLM2-135M as GGUF (default: what everlong pull brings)")
    add("--qwen", type=Path, help="Qwen2.5-0.5B as GGUF (default: $EVERLONG_QWEN_GGUF)")
    add(
        "--data", type=Path, help="folder that holds locomo and wikitext2 (default: $EVERLONG_DATA)"
    )
    return parser


def _store(options: argparse.Namespace, folder: Path) -> Part:
    return memory_store.measure(folder, options.quick, say)


def _resume(options: argparse.Namespace, folder: Path) -> Part:
    """A session of 30,000 tokens with Qwen's shape, or of 8,000 with SmolLM2 where Qwen is not."""
    qwen = options.qwen or from_environment("EVERLONG_QWEN_GGUF")
    if qwen is not None and not options.quick:
        subject, rounds = Subject("Qwen2.5-0.5B", qwen, "int4", 30_000), 3
    else:
        subject = Subject("SmolLM2-135M", _smollm2(options), "auto", 8_000)
        rounds = 2 if options.quick else 5
    return memory_resume.measure(subject, folder, rounds, say)


def _overhead(options: argparse.Namespace, folder: Path) -> Part:
    rounds = 5 if options.quick else 15
    return memory_overhead.measure(_smollm2(options), folder, rounds, say)


def _precision(options: argparse.Namespace, folder: Path) -> Part:
    """SmolLM2, and Qwen where it is: its keys have channels that are large in every token."""
    models = [("SmolLM2-135M", _smollm2(options), "auto")]
    if (qwen := options.qwen or from_environment("EVERLONG_QWEN_GGUF")) and not options.quick:
        models.append(("Qwen2.5-0.5B", qwen, "int4"))
    text = _data(options) / "wikitext2" / "test.txt"
    return memory_precision.measure(models, text, folder, 10 if options.quick else 50, say)


def _recall(options: argparse.Namespace, folder: Path) -> Part:
    """What ``benchmarks/recall.py`` finds, in a process of its own."""
    data = str(_data(options).resolve())
    command = [sys.executable, "-m", "benchmarks.recall", "--json", "--data", data]
    command += ["--quick"] if options.quick else []
    with (folder / "recall.log").open("w+") as log:
        done = subprocess.run(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=log, text=True, check=False
        )
        log.seek(0)
        said = log.read().strip().splitlines()[-3:]
    if done.returncode or not done.stdout.strip():
        raise RuntimeError(f"benchmarks/recall.py failed: {' | '.join(said) or done.returncode}")
    claims = {claim["name"]: claim for claim in json.loads(done.stdout.splitlines()[-1])["claims"]}
    return {
        name: Measured(claims[name]["value"], claims[name]["detail"])
        for name in RECALL
        if name in claims
    }, claims


def _crash(options: argparse.Namespace, folder: Path) -> Part:
    """What ``make crash``, which takes an hour, found when it last ran."""
    runs = sorted(RESULTS.glob("crash-*.json"))
    if not runs:
        raise RuntimeError(f"there is no {RESULTS.name}/crash-*.json; run: make crash")
    content = json.loads(runs[-1].read_text())
    where = ", ".join(f"{key} {content.get(key)}" for key in ("commit", "seed", "date"))
    detail = f"{runs[-1].name}: {content.get('command')}, {where}"
    found = {}
    for name in CRASH:
        value = content.get(name)
        found[name] = Measured(value, detail if value is not None else f"{detail}; no {name}")
    return found, content


PARTS: Mapping[str, tuple[Sequence[str], Callable[[argparse.Namespace, Path], Part]]] = {
    "store": (memory_store.CLAIMS, _store),
    "resume": (memory_resume.CLAIMS, _resume),
    "overhead": (memory_overhead.CLAIMS, _overhead),
    "precision": (memory_precision.CLAIMS, _precision),
    "recall": (RECALL, _recall),
    "crash": (CRASH, _crash),
}
"""What can be measured alone, with the claims that come of it."""


def _smollm2(options: argparse.Namespace) -> Path:
    given: Path | None = options.model or from_environment("EVERLONG_SMOLLM2_GGUF")
    return given or resolve("smollm2-135m")


def _data(options: argparse.Namespace) -> Path:
    given: Path | None = options.data or from_environment("EVERLONG_DATA")
    return given or ROOT.parent / "shared" / "data"


def versions() -> dict[str, str]:
    """Of what the figures depend on besides Everlong."""
    return {name: version(name) for name in ("torch", "numpy", "xxhash")} | {
        "sqlite": sqlite3.sqlite_version
    }


if __name__ == "__main__":
    sys.exit(main())
