"""Tasks and their figures in the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.progress import MofNCompleteColumn
from rich.table import Table

from everlong.checkpoint.progress import terminal_progress
from everlong.engine.llm import LLM
from everlong.errors import ConfigError
from everlong.evaluation.runner import evaluate as run
from everlong.evaluation.runner import write_samples
from everlong.evaluation.statistics import Estimate
from everlong.evaluation.task import LikelihoodTask
from everlong.evaluation.tasks import understanding

SUITES: Mapping[str, Sequence[LikelihoodTask]] = {"understanding": understanding.TASKS}


def evaluate(
    llm: LLM, data: Path, suite: str, names: Sequence[str], limit: int | None, out: Path | None
) -> None:
    """Run a suite and print a table.

    Args:
        llm: loaded model.
        data: folder with the data sets.
        suite: one of ``SUITES``.
        names: of tasks; none: all of the suite.
        limit: most examples of a task; None: all.
        out: folder for the samples, or None.

    Raises:
        ConfigError: a task is unknown, or its data is missing; tasks before it are shown.
    """
    by_name = {task.name: task for task in SUITES[suite]}
    if unknown := sorted(set(names) - set(by_name)):
        raise ConfigError(f"{unknown[0]!r} is no task of {suite}; allowed: {', '.join(by_name)}")
    if limit is not None and limit < 1:
        raise ConfigError(f"limit is {limit}; give 1 or more, or leave it out for all examples")
    table = Table("task", "examples", "accuracy", "by length")
    try:
        with terminal_progress(MofNCompleteColumn()) as report:
            for name in names or by_name:
                told = partial(report, name)
                result = run(llm, by_name[name], data, limit=limit, progress=told)
                if out is not None:
                    write_samples(result, out / f"{name}.jsonl")
                count = f"{result.accuracy.count:,}"
                figures = (result.accuracy, result.accuracy_by_length)
                table.add_row(name, count, *map(_interval, figures))
    finally:
        if table.row_count:
            Console().print(table)


def _interval(estimate: Estimate) -> str:
    low, mean, high = (f"{100 * v:.1f}" for v in (estimate.low, estimate.mean, estimate.high))
    return f"{mean} ({low} to {high})"
