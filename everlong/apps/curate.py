"""``everlong curate``: run a recipe of curation, and look at what it did."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from everlong.apps.command import command

Where = Literal["local", "ray"]
_STEERING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""Signs of control but tabs and line feeds, and those that turn the direction of writing."""


def curate(
    recipe: Path,
    run: Path | None = None,
    *,
    workers: int | None = None,
    executor: Where | None = None,
    resume: bool = False,
) -> None:
    """Make clean, documented training data of web pages, books and files.

    Ctrl-C stops a run, and --resume goes on. Relative paths, those of the recipe as well, count
    from where you are.

    Args:
        recipe: YAML file, see recipes/curate.yaml.
        run: folder of what is written, instead of the recipe's.
        workers: processes, instead of the recipe's; the result does not depend on it.
        executor: where they run: here, or on Ray.
        resume: go on with the run that is there.
    """
    from dataclasses import replace

    from everlong.config import load_config
    from everlong.curation import run as runs
    from everlong.curation.recipe import Curation

    given = load_config(Curation, recipe)
    given = given if run is None else replace(given, run=run)
    by = _executor(given.workers, workers, executor)
    with _shown(command("everlong curate", recipe, run)) as (tell, say):
        outcome = runs.curate(given, by, resume=resume, tell=tell, say=say)
    first, last = outcome.counts[0], outcome.counts[-1]
    refused = sum(one.refusals for one in outcome.counts)
    made = sum(one.made.total() for one in outcome.counts)
    print(
        f"{last.kept:,} of {first.documents:,} documents"
        + (f" and {made:,} that were made of them" if made else "")
        + f" are kept, {last.kept_letters:,} of {first.letters:,} letters"
        + (f"; {refused:,} could not be read" if refused else "")
    )
    print(f"what was removed, and why: {outcome.card}")


def reproduce(
    lock: Path,
    run: Path | None = None,
    *,
    workers: int | None = None,
    executor: Where | None = None,
    resume: bool = False,
) -> None:
    """Make a run of everlong curate again, and compare it byte by byte.

    Args:
        lock: lock.json of the run.
        run: folder of what is written; default: that of the run, with "-again".
        workers: processes.
        executor: where they run: here, or on Ray.
        resume: go on with a run that was stopped.
    """
    from everlong.curation import run as runs
    from everlong.curation.recipe import Workers
    from everlong.errors import DataError

    of = lock.resolve().parent
    folder = run or of.with_name(f"{of.name}-again")
    by = _executor(Workers(), workers, executor)
    with _shown(command("everlong curate reproduce", lock, run)) as (tell, say):
        made = runs.reproduce(lock, folder, by, resume=resume, tell=tell, say=say)
    if made.versions:
        print(f"other versions than then: {', '.join(made.versions)}")
    if made.differ:
        raise DataError(
            f"{len(made.differ)} of {made.files:,} files are not the same, such as "
            f"{made.differ[0]}; compare {folder} with {of}"
        )
    what = "1 file is" if made.files == 1 else f"{made.files:,} files are"
    print(f"{what} the same to the byte as those of {of}")


def forget(run: Path) -> None:
    """Have the stores of a run's recipe forget what it has kept; the run itself stays as it is.

    Later runs keep such texts again. Runs that saw it cannot be made again to the byte.

    Args:
        run: its folder, finished or not.
    """
    from everlong.curation.same_run import inputs_of_run, known_as, recipe_of, stores_of

    recipe = recipe_of(run)
    if not (stores := stores_of(recipe)):
        print(f"no step of {run} has a store")
        return
    known = known_as(recipe, inputs_of_run(recipe))
    for kind, store in stores.items():
        count = store.forget(known)
        told = "did not know the run" if count is None else f"forgot {count:,} documents"
        print(f"{kind}: {store.folder} {told}")


def inspect(
    run: Path,
    *,
    step: str | None = None,
    rule: str | None = None,
    source: str | None = None,
    name: str | None = None,
    limit: int = 10,
    whole: bool = False,
) -> None:
    """Show documents that a run of everlong curate dropped, and why.

    Args:
        run: its folder.
        step: only those that this step dropped.
        rule: only those that this rule dropped.
        source: only those of this source.
        name: the documents whose id contains this, kept ones too.
        limit: most documents that are shown.
        whole: show whole texts instead of their beginnings.

    What was dropped is shown as it was then: personal data is masked only if that came before.
    """
    import itertools

    from everlong.curation.card import dropped_of
    from everlong.curation.pipeline import COUNTS, DOCUMENTS, counts_of
    from everlong.curation.shards import documents_of
    from everlong.errors import ConfigError

    if not (run / COUNTS).exists():
        raise ConfigError(f"{run} has no run that is done; name the folder of one")
    if limit < 1:
        raise ConfigError(f"--limit is {limit}; give 1 or more")

    def fits(plain: dict[str, Any]) -> bool:
        asked = (("step", step), ("rule", rule), ("source", source))
        return all(want is None or plain[key] == want for key, want in asked) and (
            name is None or name in plain["id"]
        )

    found = (plain for plain in dropped_of(run) if fits(plain))
    shown = 0
    for plain in itertools.islice(found, limit):
        shown += 1
        why = f"dropped by {plain['step']}: {plain['rule']} ({plain['detail']})"
        print(_harmless(f"{plain['id']}  {why}"))
        _print_text(plain["text"], whole)
    if name is not None and step is None and rule is None:
        for document in documents_of(run / DOCUMENTS):
            if name in document.id and shown < limit:
                shown += 1
                changes = ", ".join(f"{c.step}: {c.rule} x {c.count}" for c in document.history)
                told = f" (changed: {changes})" if changes else ""
                print(_harmless(f"{document.id}  kept{told}"))
                _print_text(document.text, whole)
    if not shown:
        rules = sorted({name for one in counts_of(run) for name in one.dropped})
        print(f"none; the run dropped by {', '.join(rules) or 'no rule'}")


def _print_text(text: str, whole: bool) -> None:
    shown = text if whole else textwrap.shorten(text, 300, placeholder=" …")
    print(textwrap.indent(_harmless(shown), "    "))


def _harmless(text: str) -> str:
    """A text without what steers a terminal, which is shown as in a string of Python."""
    return _STEERING.sub(lambda found: ascii(found[0])[1:-1], text)


def _executor(given: Any, count: int | None, executor: Where | None) -> Any:
    """Who does the work, as the recipe says where the command does not."""
    from dataclasses import replace

    from everlong.curation.workers import LocalExecutor
    from everlong.evaluation.provenance import cores

    count = given.count if count is None else count
    chosen = replace(given, count=count, executor=executor or given.executor)
    if chosen.executor == "ray":
        from everlong.curation.ray_executor import RayExecutor

        return RayExecutor(chosen.count, chosen.limits)
    return LocalExecutor(chosen.count or cores(), chosen.limits)


# The parser evaluates this module's annotations, and naming Progress would import all of curation.
@contextmanager
def _shown(again: str) -> Iterator[tuple[Callable[[Any], None], Callable[[str], None]]]:
    """A bar for the stage that goes on, and a line for what happens, on the standard error.

    Args:
        again: the command, for who stops it by Ctrl-C.
    """
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TaskID,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    console = Console(stderr=True)
    columns = (
        TextColumn("stage {task.fields[stage]}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TextColumn("{task.description}"),
        TimeRemainingColumn(),
    )
    with _resumable(again), Progress(*columns, console=console) as bars:
        tasks: dict[int, TaskID] = {}

        def tell(progress: Any) -> None:
            number = progress.stage
            if number not in tasks:
                label = f"{number + 1} of {progress.stages}"
                tasks[number] = bars.add_task("", total=progress.total_bytes, stage=label)
            counts = progress.counts
            bars.update(
                tasks[number],
                completed=progress.bytes,
                description=f"{counts.documents:,} documents, {counts.kept:,} kept",
            )
            if progress.incident is not None:
                told = f"a process was lost and its work done again: {progress.incident}"
                console.print(told, markup=False)

        yield tell, lambda text: console.print(text, markup=False)


@contextmanager
def _resumable(again: str) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        print(f"what is done is kept; go on with: {again} --resume")
        raise
