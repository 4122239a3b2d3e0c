"""Claims and how they are printed: shared by every benchmark.

A benchmark prints, as its last line, one JSON object::

    {"benchmark": NAME, "commit": ..., "hardware": ...,
     "claims": [{"name", "value", "unit", "goal", "holds", "detail"}, ...]}

A claim that was not measured has the value null, does not hold, and says why in its detail.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from benchmarks.contender import ContenderError
from everlong.errors import EverlongError
from everlong.evaluation.provenance import ROOT, commit, hardware

RESULTS = ROOT / "benchmarks" / "results"


@dataclass(frozen=True)
class Goal:
    """What a figure must reach."""

    operator: Literal[">=", "<="]
    value: float
    unit: str

    def met_by(self, value: float) -> bool:
        """Whether a measured value reaches it."""
        return value >= self.value if self.operator == ">=" else value <= self.value

    def __str__(self) -> str:
        return f"{'at least' if self.operator == '>=' else 'at most'} {self.value:g} {self.unit}"


@dataclass(frozen=True)
class Measured:
    """A figure, or the reason why there is none."""

    value: float | None
    detail: str
    """How the value came about, with its spread; or why it was not measured."""

    def __post_init__(self) -> None:
        assert self.value is None or math.isfinite(self.value), f"not a number: {self.detail}"
        assert self.detail, "a figure without a word on how it came about"


@dataclass(frozen=True)
class Claim:
    """A named figure beside its goal."""

    name: str
    goal: Goal
    measured: Measured

    @property
    def holds(self) -> bool:
        """Whether the goal is met; what was not measured does not hold."""
        return self.measured.value is not None and self.goal.met_by(self.measured.value)

    def as_json(self) -> dict[str, Any]:
        """The six fields of the format above; the value with four significant digits."""
        value = self.measured.value
        return {
            "name": self.name,
            "value": None if value is None else float(f"{value:.4g}"),
            "unit": self.goal.unit,
            "goal": self.goal.value,
            "holds": self.holds,
            "detail": self.measured.detail,
        }


@dataclass(frozen=True)
class Report:
    """What one run of a benchmark found."""

    benchmark: str
    commit: str
    hardware: str
    claims: tuple[Claim, ...]

    def as_json(self) -> dict[str, Any]:
        """The object of the format above."""
        return {
            "benchmark": self.benchmark,
            "commit": self.commit,
            "hardware": self.hardware,
            "claims": [claim.as_json() for claim in self.claims],
        }

    def line(self) -> str:
        """The object on one line."""
        return json.dumps(self.as_json(), allow_nan=False, ensure_ascii=False)

    def table(self) -> str:
        """The claims for people."""
        width = max(len(claim.name) for claim in self.claims)
        rows = []
        for claim in self.claims:
            value = claim.measured.value
            shown = "not measured" if value is None else f"{value:.4g} {claim.goal.unit}"
            verdict = "holds" if claim.holds else "-" if value is None else "FAILS"
            rows.append(
                f"{claim.name:<{width}}  {shown:>14}  {verdict:<5}  "
                f"({claim.goal})  {claim.measured.detail}"
            )
        return "\n".join(rows)


def compare(
    benchmark: str,
    goals: Mapping[str, Goal],
    measured: Mapping[str, Measured],
    at: str | None = None,
) -> Report:
    """Set what was measured beside the goals.

    Args:
        benchmark: its name.
        goals: every claim the benchmark makes, in the order of the report.
        measured: by claim; a claim that is missing was not asked for.
        at: commit that was measured; None: the one that is checked out.
    """
    unknown = set(measured) - set(goals)
    assert not unknown, f"figures without a goal: {sorted(unknown)}"
    nothing = Measured(None, "not asked for in this run")
    return Report(
        benchmark,
        at or commit(),
        hardware(),
        tuple(Claim(name, goal, measured.get(name, nothing)) for name, goal in goals.items()),
    )


def write_results(
    report: Report, path: Path, *, seed: int, versions: Mapping[str, str], samples: Any
) -> None:
    """Keep a run: the report, how to repeat it, and the single measurements behind it.

    Args:
        report: what was found.
        path: the file; its folder is made.
        seed: of the prompts.
        versions: of what was compared, by package.
        samples: the single measurements, as JSON holds them.
    """
    content = {
        **report.as_json(),
        "goals": {claim.name: asdict(claim.goal) for claim in report.claims},
        "command": shlex.join(["python", *map(_without_folder, sys.argv)]),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "seed": seed,
        "versions": dict(versions),
        "samples": samples,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def _without_folder(argument: str) -> str:
    """Where something lies on this machine is nobody's concern."""
    path = Path(argument)
    if not path.is_absolute():
        return argument
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else path.name


def default_results_path(benchmark: str) -> Path:
    """``benchmarks/results/NAME-DATE.json``, with the time of day in UTC."""
    return RESULTS / f"{benchmark}-{datetime.now(UTC):%Y-%m-%d-%H%M}.json"


def from_environment(name: str) -> Path | None:
    """The path that a variable names, if it is set."""
    value = os.environ.get(name)
    return Path(value).expanduser() if value else None


def add_output_options(parser: argparse.ArgumentParser) -> None:
    """What :func:`deliver` is asked: ``--json`` and ``--out``."""
    parser.add_argument(
        "--json", action="store_true", help="print the claims as JSON on the last line"
    )
    parser.add_argument(
        "--out",
        type=Path,
        nargs="?",
        const=Path(),
        help="also keep the run in this file (without a name: benchmarks/results/NAME-DATE.json)",
    )


def add_part_options(parser: argparse.ArgumentParser, parts: Collection[str]) -> None:
    """What :func:`run_parts` is asked: ``--quick`` and ``--parts``."""
    parser.add_argument("--quick", action="store_true", help="what fits in ten minutes")
    told = "what is measured (default: all but hours)"
    parser.add_argument("--parts", nargs="+", choices=[*parts], help=told)


def deliver(
    report: Report,
    options: argparse.Namespace,
    *,
    seed: int,
    versions: Mapping[str, str],
    samples: Any,
) -> None:
    """Print a run, and keep it where that is asked for; see :func:`write_results`."""
    if options.out is not None:
        path = options.out if options.out.name else default_results_path(report.benchmark)
        write_results(report, path, seed=seed, versions=versions, samples=samples)
        say(f"written to {path}")
    print(report.table(), file=sys.stderr if options.json else sys.stdout)
    if options.json:
        print(report.line())


Part = tuple[dict[str, Measured], Any]
"""Figures by claim, and the single measurements behind them."""


def run_parts(
    name: str,
    goals: Mapping[str, Goal],
    parts: Mapping[str, Sequence[str]],
    measure: Callable[[str], Part],
    options: argparse.Namespace,
    *,
    seed: int,
    versions: Mapping[str, str],
    recorded: Collection[str] = (),
    quick: Collection[str] = (),
) -> int:
    """Measure parts of a benchmark one after the other, and deliver them; returns the exit status.

    A part that fails takes nothing from the others: its claims have no value, and say why.

    Args:
        name: of the benchmark.
        goals: of all its claims.
        parts: in order, with their claims; those that ``options.parts`` names are measured, and if
            it names none all but the ``recorded`` ones, or with ``options.quick`` the ``quick``.
        measure: measures a part.
        options: what :func:`deliver` is asked.
        seed: of what is drawn.
        versions: of what was compared, by package.
        recorded: parts of hours; where they are not asked for, their claims are those of the last
            ``results/NAME-PART-*.json``.
        quick: parts that together fit in ten minutes.
    """
    asked = options.parts or (quick if options.quick else {*parts} - {*recorded})
    at = commit()  # what runs from here on, whatever is committed meanwhile
    measured: dict[str, Measured] = {}
    samples: dict[str, Any] = {}
    for part, claims in parts.items():
        if part not in asked:
            measured |= _recorded(name, part, claims) if part in recorded else {}
            continue
        try:
            found, samples[part] = measure(part)
        except KeyboardInterrupt:
            say("interrupted")
            return 130
        except _FAILURES as error:
            say(f"{part}: {error}")
            found = {claim: Measured(None, f"{type(error).__name__}: {error}") for claim in claims}
        measured |= found
    report = compare(name, goals, measured, at)
    deliver(report, options, seed=seed, versions=versions, samples=samples)
    return 0


_FAILURES = (
    *(ContenderError, EverlongError, OSError, RuntimeError, ImportError),
    subprocess.SubprocessError,
)
"""What a machine that lacks something, or a broken peer, may raise."""


def _recorded(name: str, part: str, claims: Sequence[str]) -> dict[str, Measured]:
    """Claims of the last run of a part that was kept."""
    files = sorted(RESULTS.glob(f"{name}-{part}-*.json"))
    if not files:
        return {}
    kept = json.loads(files[-1].read_text(encoding="utf-8"))
    where = f"{files[-1].name}: {kept['command']}, commit {kept['commit']}, seed {kept['seed']}"
    return {
        one["name"]: Measured(one["value"], f"{where}, {kept['date']}: {one['detail']}")
        for one in kept["claims"]
        if one["name"] in claims and one["value"] is not None
    }


def say(text: str) -> None:
    """Progress, for people."""
    print(text, file=sys.stderr, flush=True)
