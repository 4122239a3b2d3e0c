"""Tasks and their figures in the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.box import SIMPLE
from rich.console import Console
from rich.progress import MofNCompleteColumn
from rich.table import Table

from everlong.checkpoint.progress import terminal_progress
from everlong.engine.llm import LLM
from everlong.errors import ConfigError, MissingDataError, MissingExtraError
from everlong.evaluation.comparison import compare
from everlong.evaluation.data import Data
from everlong.evaluation.peer import read_peer
from everlong.evaluation.processes import Processes
from everlong.evaluation.report import write_report, written
from everlong.evaluation.results import add_result, read_results
from everlong.evaluation.runner import Result
from everlong.evaluation.runner import evaluate as run
from everlong.evaluation.task import Model, Settings, Task
from everlong.evaluation.tasks.suites import SUITES


def evaluate(
    llm: LLM,
    folder: Path,
    suite: str,
    names: Sequence[str],
    settings: Settings,
    limit: int | None,
    out: Path | None,
    parts: bool,
    download: bool = False,
    processes: Processes | None = None,
    model: Model | None = None,
) -> None:
    """Run a suite and print a table.

    Args:
        llm: loaded model.
        folder: with the data sets.
        suite: one of ``SUITES``, or ``all``.
        names: of tasks; none: all of the suite.
        settings: what may be chosen about a run.
        limit: most examples of a task; None: all.
        out: folder for figures and answers, or None.
        parts: show the figures of languages and other parts of tasks, too.
        download: fetch sets that are not in the folder, where the hub has them.
        processes: others that answer with the same model, too.
        model: how ``llm`` was loaded, for tasks that restart it.

    Raises:
        ConfigError: a task is unknown, or its data is malformed, or there is data for none; the
            other tasks are run and shown.
    """
    tasks = chosen(suite, names)
    if limit is not None and limit < 1:
        raise ConfigError(f"limit is {limit}; give 1 or more, or leave it out for all examples")
    titles = ("task", *(("part",) if parts else ()), "examples", "metric", "figure, 95 % interval")
    table = Table(*titles, box=SIMPLE)
    missing: list[str] = []
    broken: list[str] = []
    try:
        with terminal_progress(MofNCompleteColumn()) as report:
            for in_suite, task in tasks:
                try:
                    result = run(
                        llm,
                        task,
                        Data(folder, download=download),
                        settings=settings,
                        limit=limit,
                        processes=processes,
                        model=model,
                        progress=report,
                    )
                except (MissingDataError, MissingExtraError) as error:
                    missing.append(f"{task.name}: {error}")
                    continue
                except ConfigError as error:
                    broken.append(f"{task.name}: {error}")
                    continue
                if out is not None:
                    add_result(
                        out,
                        result,
                        model=llm.name,
                        fingerprint=llm.engine.fingerprint.hex(),
                        suite=in_suite,
                        settings=settings,
                        limit=limit,
                    )
                _show(table, result, parts)
    finally:
        if table.row_count:
            Console().print(table)
        for line in missing:
            Console(stderr=True).print(f"not run: {line}", style="yellow", highlight=False)
    if broken or not table.row_count:
        raise ConfigError("; ".join(broken) or "no task has its data")


def chosen(suite: str, names: Sequence[str]) -> list[tuple[str, Task[Any]]]:
    """The tasks of a suite (or of ``all``), or those of them that are named, with their suite.

    Raises:
        ConfigError: there is no such task in the suite.
    """
    suites = SUITES.items() if suite == "all" else [(suite, SUITES[suite])]
    by_name = {task.name: (of, task) for of, tasks in suites for task in tasks}
    if unknown := sorted(set(names) - set(by_name)):
        raise ConfigError(f"{unknown[0]!r} is no task of {suite}; allowed: {', '.join(by_name)}")
    return [by_name[name] for name in names or by_name]


def show_comparison(a: Path, b: Path, tasks: Sequence[str]) -> None:
    """Print which of two models is better on which task.

    Args:
        a, b: folders that ``everlong eval --out`` wrote.
        tasks: only these; none: all that both have.
    """
    table = Table("task", "metric", "examples", str(a), str(b), "difference, 95 %", "p", "verdict")
    for d in compare(a, b, tasks):
        verdict = "no difference shown"
        if d.adjusted_p < 0.05:
            verdict = f"{b if d.difference.mean > 0 else a} scores higher"
        table.add_row(
            d.task,
            d.metric,
            f"{d.difference.count:,}",
            f"{100 * d.a:.1f}",
            f"{100 * d.b:.1f}",
            written(d.metric, d.difference),
            f"{d.adjusted_p:.3g}",
            verdict,
        )
    Console().print(table)
    print("p: paired permutation test, adjusted for the number of tasks (Holm)")


def make_report(folders: Sequence[Path], peer: Path | None, out: Path, pictures: bool) -> None:
    """Write the report of several folders of figures, and say where it is."""
    models = [read_results(folder) for folder in folders]
    for path in write_report(models, read_peer(peer) if peer else None, out, pictures):
        print(path)


def _show(table: Table, result: Result, parts: bool) -> None:
    shown = [("", result.metrics), *(result.groups.items() if parts else ())]
    for part, figures in shown:
        for metric, estimate in figures.items():
            named = (result.task, part) if parts else (result.task,)
            table.add_row(*named, f"{estimate.count:,}", metric, written(metric, estimate))
    if result.groups and not parts:
        table.caption = "languages and other parts: --parts true"
