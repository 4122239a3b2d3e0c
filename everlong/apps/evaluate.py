"""Tasks and their figures in the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import MofNCompleteColumn
from rich.table import Table

from everlong.checkpoint.progress import terminal_progress
from everlong.engine.llm import LLM
from everlong.errors import ConfigError, MissingDataError
from everlong.evaluation.runner import Result
from everlong.evaluation.runner import evaluate as run
from everlong.evaluation.samples import file_name, write_samples
from everlong.evaluation.statistics import Estimate
from everlong.evaluation.task import Settings, Task
from everlong.evaluation.tasks.suites import SUITES


def evaluate(
    llm: LLM,
    data: Path,
    suite: str,
    names: Sequence[str],
    settings: Settings,
    limit: int | None,
    out: Path | None,
) -> None:
    """Run a suite and print a table.

    Args:
        llm: loaded model.
        data: folder with the data sets.
        suite: one of ``SUITES``, or ``all``.
        names: of tasks; none: all of the suite.
        settings: what may be chosen about a run.
        limit: most examples of a task; None: all.
        out: folder for the samples, or None.

    Raises:
        ConfigError: a task is unknown, or its data is malformed, or there is data for none; the
            other tasks are run and shown.
    """
    tasks = chosen(suite, names)
    if limit is not None and limit < 1:
        raise ConfigError(f"limit is {limit}; give 1 or more, or leave it out for all examples")
    table = Table("task", "part", "examples", "metric", "figure, 95 % interval")
    missing: list[str] = []
    broken: list[str] = []
    try:
        with terminal_progress(MofNCompleteColumn()) as report:
            for task in tasks:
                told = partial(report, task.name)
                try:
                    result = run(llm, task, data, settings=settings, limit=limit, progress=told)
                except MissingDataError as error:
                    missing.append(f"{task.name}: {error}")
                    continue
                except ConfigError as error:
                    broken.append(f"{task.name}: {error}")
                    continue
                if out is not None:
                    write_samples(result.samples, out / "samples" / file_name(task.name))
                _show(table, result)
    finally:
        if table.row_count:
            Console().print(table)
        for line in missing:
            Console(stderr=True).print(f"not run: {line}", style="yellow", highlight=False)
    if broken or not table.row_count:
        raise ConfigError("; ".join(broken) or "no task has its data")


def chosen(suite: str, names: Sequence[str]) -> list[Task[Any]]:
    """The tasks of a suite, or those of them that are named.

    Raises:
        ConfigError: there is no such task in the suite.
    """
    suites = SUITES.values() if suite == "all" else [SUITES[suite]]
    by_name = {task.name: task for tasks in suites for task in tasks}
    if unknown := sorted(set(names) - set(by_name)):
        raise ConfigError(f"{unknown[0]!r} is no task of {suite}; allowed: {', '.join(by_name)}")
    return [by_name[name] for name in names or by_name]


def _show(table: Table, result: Result) -> None:
    for part, figures in (("", result.metrics), *result.groups.items()):
        for metric, estimate in figures.items():
            count = f"{estimate.count:,}"
            table.add_row(result.task, part, count, metric, _interval(estimate))


def _interval(estimate: Estimate) -> str:
    low, mean, high = (f"{100 * v:.1f}" for v in (estimate.low, estimate.mean, estimate.high))
    return f"{mean} ({low} to {high})"
