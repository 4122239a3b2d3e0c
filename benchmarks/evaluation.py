"""Everlong as a model of lm-evaluation-harness beside the harness's own ``hf``.

Both answer the same requests of the same harness with the same weights (SmolLM2-135M), in turn,
round after round: in bfloat16 where time is taken. Scores are compared with ``hf`` in float32,
whose rounding is too small to move them: in bfloat16 either loses or wins half a point by chance.
Usage: ``python benchmarks/evaluation.py --json --data FOLDER``; see ``benchmarks/README.md``.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

if __package__ in (None, ""):  # run as a file
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.contender import Contender, ContenderError
from benchmarks.report import Goal, Measured, compare, default_results_path, say, write_results
from benchmarks.rounds import ratios, spread, turns
from everlong.checkpoint.catalog import resolve
from everlong.errors import EverlongError
from everlong.evaluation.provenance import ROOT, cores

NAME = "evaluation"

GOALS: dict[str, Goal] = {
    "examples_per_second_vs_lm_eval": Goal(">=", 1.5, "x"),
    "shared_prefix_examples_per_second_vs_lm_eval": Goal(">=", 3, "x"),
    "largest_score_difference_to_lm_eval": Goal("<=", 0.5, "points"),
}

BATCH_SIZES = (1, 4, 8, 16, 32)
"""Tried for ``hf``; each task is timed at the one that was fastest."""


@dataclass(frozen=True)
class Timed:
    """Requests whose speed is measured."""

    label: str
    task: str
    shots: int
    limit: int
    """Examples of a round."""
    shares: bool
    """Most of what the requests of an example hold is common to them, and ``hf`` reads it once for
    each. Not so PIQA, whose options are longer than their context, and BoolQ, whose options of
    one token ``hf`` reads from one pass."""


TIMED = (
    Timed("lambada", "lambada", 0, 80, False),
    Timed("winogrande", "winogrande", 0, 100, False),
    Timed("arc_easy", "arc_easy", 0, 150, True),
    Timed("boolq", "boolq", 0, 40, False),
    Timed("piqa", "piqa", 0, 100, False),
    Timed("arc_easy, 5 shots", "arc_easy", 5, 30, True),
)
SCORED: Mapping[str, int | None] = {
    "arc_easy": None,
    "piqa": None,
    "winogrande": None,
    "lambada": 2000,
}
"""Tasks whose scores are compared, and how many of their examples; None: all."""


def harness_tasks(data: Path) -> list[dict[str, Any]]:
    """The tasks in the harness's own form."""

    def task(name: str, file: str, **form: Any) -> dict[str, Any]:
        path = data / "lm_eval" / file
        path = path if path.exists() else path.with_name(path.name + ".gz")
        if not path.exists():
            raise EverlongError(f"{path} is not there; name the folder of the data with --data")
        return {
            "task": name,
            "dataset_path": "json",
            "dataset_kwargs": {"data_files": {"test": str(path.resolve())}},
            "test_split": "test",
            "output_type": "multiple_choice",
            "metric_list": [{"metric": "acc"}, {"metric": "acc_norm"}],
            **form,
        }

    asked = {
        "doc_to_text": "{{query.rstrip()}}\nAnswer:",
        "doc_to_target": "{{gold}}",
        "doc_to_choice": "{{choices}}",
    }
    return [
        task("arc_easy", "arc_easy.jsonl", **asked),
        task("piqa", "piqa.jsonl", **asked),
        task("boolq", "boolq.jsonl", **asked),
        task(
            "winogrande",
            "winogrande.jsonl",
            doc_to_text="gold",
            doc_to_target="continuation",
            doc_to_choice="context_options",
            metric_list=[{"metric": "acc"}],
        ),
        task(
            "lambada",
            "lambada_openai.jsonl",
            output_type="loglikelihood",
            doc_to_text="{{context}}",
            doc_to_target=" {{continuation}}",
            metric_list=[{"metric": "acc"}],
        ),
    ]


def measure(options: argparse.Namespace) -> tuple[dict[str, Measured], dict[str, Any]]:
    """All figures, and the single measurements behind them."""
    path = str(resolve("smollm2-135m"))
    tasks = harness_tasks(options.data)
    samples: dict[str, Any] = {"rounds": [], "batch_sizes": {}, "scores": {}}
    workers = {
        kind: Contender(
            kind,
            "benchmarks.peers.harness",
            python=options.python,
            threads=cores(),
            # The data's own loader keeps copies; they go with the cache of the datasets package.
            environment={"TRANSFORMERS_VERBOSITY": "error"},
        )
        for kind in ("everlong", "hf")
    }

    def load(worker: Contender, dtype: str) -> None:
        loaded = worker.ask(
            "load", path=path, threads=cores(), kind=worker.name, dtype=dtype, tasks=tasks
        )
        samples["versions"] = loaded["versions"]
        worker.hold()

    try:
        for worker in workers.values():
            load(worker, "bfloat16")
        best = {timed.label: tune(workers["hf"], timed, samples) for timed in TIMED}
        measured = race(workers, best, options.rounds, samples)
        load(workers["hf"], "float32")
        measured["largest_score_difference_to_lm_eval"] = scores(workers, best, samples)
    finally:
        for worker in workers.values():
            worker.close()
    return measured, samples


def tune(hf: Contender, timed: Timed, samples: dict[str, Any]) -> int:
    """The batch size at which ``hf`` is fastest."""
    speeds = {}
    for size in BATCH_SIZES:
        done = ask(hf, timed, max(10, timed.limit // 4), size)
        speeds[size] = done["requests"] / done["seconds"]
    best = max(speeds, key=speeds.__getitem__)
    samples["batch_sizes"][timed.label] = speeds
    say(f"{timed.label}: hf is fastest at a batch size of {best} ({speeds[best]:.1f} requests/s)")
    return best


def race(
    workers: Mapping[str, Contender], best: Mapping[str, int], rounds: int, samples: dict[str, Any]
) -> dict[str, Measured]:
    """Examples a second, in turn."""
    speeds: dict[str, dict[str, list[float]]] = {
        timed.label: {kind: [] for kind in workers} for timed in TIMED
    }
    found: dict[str, float] = {}
    for number in range(rounds):
        for timed in TIMED:
            for kind in turns(list(workers), number):
                done = ask(workers[kind], timed, timed.limit, best[timed.label])
                speed = done["examples"] / done["seconds"]
                speeds[timed.label][kind].append(speed)
                samples["rounds"].append(
                    {"round": number, "task": timed.label, "kind": kind, **done}
                )
                if kind == "everlong":
                    found[timed.label] = done["found"] / done["tokens"]
    by_task = {
        label: spread(ratios(both["everlong"], both["hf"])) for label, both in speeds.items()
    }
    for label, ratio in by_task.items():
        ours, theirs = (spread(speeds[label][kind]) for kind in ("everlong", "hf"))
        say(f"{label}: {ratio} x; everlong {ours}, hf {theirs} examples/s")

    def least(shares: bool) -> Measured:
        labels = [timed.label for timed in TIMED if timed.shares == shares]
        worst = min(labels, key=lambda label: by_task[label].median)
        told = "; ".join(
            f"{label} {by_task[label]} x ({found[label]:.0%} of the tokens shared, batch size "
            f"{best[label]} for hf)"
            for label in labels
        )
        return Measured(by_task[worst].median, f"least of its tasks, medians: {told}")

    return {
        "examples_per_second_vs_lm_eval": least(shares=False),
        "shared_prefix_examples_per_second_vs_lm_eval": least(shares=True),
    }


def scores(
    workers: Mapping[str, Contender], best: Mapping[str, int], samples: dict[str, Any]
) -> Measured:
    """How far the scores are apart."""
    differences: dict[str, float] = {}
    for task, limit in SCORED.items():
        timed = Timed(task, task, 0, 0, False)
        both = {}
        for kind, worker in workers.items():
            both[kind] = ask(worker, timed, limit, best[task])["scores"]
            say(f"{task}, {kind}: {both[kind]}")
        samples["scores"][task] = both
        for metric, ours in both["everlong"].items():
            differences[f"{task} {metric}"] = 100 * (ours - both["hf"][metric])
    told = ", ".join(f"{name} {value:+.2f}" for name, value in differences.items())
    return Measured(
        max(map(abs, differences.values())), f"everlong in bfloat16 less hf in float32: {told}"
    )


def ask(worker: Contender, timed: Timed, limit: int | None, batch_size: int) -> dict[str, Any]:
    """One run; the worker stands still afterwards."""
    done = worker.ask(
        "run",
        timeout=3600,
        task=timed.task,
        shots=timed.shots,
        limit=limit,
        batch_size=batch_size,
    )
    worker.hold()
    return done


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--json", action="store_true", help="print the report as a line of JSON")
    parser.add_argument(
        "--data", type=Path, default=ROOT.parent / "shared" / "data", help="folder of data sets"
    )
    parser.add_argument("--rounds", type=int, default=3, help="rounds of each timing")
    parser.add_argument(
        "--python", default=sys.executable, help="interpreter that has the extra eval"
    )
    parser.add_argument("--out", type=Path, help="file for the result")
    options = parser.parse_args(arguments)
    samples: dict[str, Any] = {}
    try:
        measured, samples = measure(options)
    except (ContenderError, EverlongError) as error:
        measured = {name: Measured(None, str(error)) for name in GOALS}
    report = compare(NAME, GOALS, measured)
    if samples:
        path = options.out or default_results_path(NAME)
        versions = samples.pop("versions", {})
        write_results(report, path, seed=0, versions=versions, samples=samples)
        say(f"written to {path}")
    print(report.table())
    if options.json:
        print(report.line())
    return 0 if all(claim.holds for claim in report.claims) else 1


if __name__ == "__main__":
    sys.exit(main())
