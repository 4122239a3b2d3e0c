"""Showing how far long work has come."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

ProgressCallback = Callable[[str, int, int], None]
"""Called with what is being done (a file's name), how much is done, and how much there is."""


@contextmanager
def terminal_progress(*amount: ProgressColumn) -> Iterator[ProgressCallback]:
    """Bars on the terminal's standard error, one for each name that is reported.

    Args:
        amount: how what is done is written; nothing: as bytes.
    """
    written = amount or (DownloadColumn(), TransferSpeedColumn())
    columns = (TextColumn("{task.description}"), BarColumn(), *written, TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bars:
        tasks = {}

        def report(name: str, done: int, total: int) -> None:
            if name not in tasks:
                tasks[name] = bars.add_task(name)
            bars.update(tasks[name], completed=done, total=total)

        yield report
