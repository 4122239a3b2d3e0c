"""A run of curation: stages, the looks at the whole corpus between them, and going on after a stop.

Every task of a stage is done or not done: its counts are written last (``stage.py``). A run that
was killed therefore goes on with the tasks that are not done, and its result is the same to the
byte as that of a run that was not.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import cached_property, reduce
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from everlong.curation.barrier import Barrier
from everlong.curation.counts import Counts
from everlong.curation.recipe import Curation
from everlong.curation.same_run import (
    INPUTS,
    RECIPE,
    SEEN,
    identity,
    inputs_of_run,
    kept_by,
    known_as,
    read_by,
    seen_by,
    stores_of,
)
from everlong.curation.saved import load_json
from everlong.curation.stage import (
    At,
    Reading,
    Skip,
    Stage,
    StageFiles,
    run_task,
    stages_of,
)
from everlong.curation.step import RememberingStep
from everlong.curation.tasks import Task, tasks_of
from everlong.curation.workers import Executor, Incident
from everlong.errors import ConfigError, DataError
from everlong.files import FileLock, atomic_write, read_text

TASKS, INCIDENTS, COUNTS = "tasks.json", "incidents.jsonl", "counts.json"
DOCUMENTS, DROPPED, REFUSED = "documents", "dropped", "refused"
_LOCK = ".lock"
_WRITTEN = (
    *(TASKS, INCIDENTS, COUNTS, RECIPE, INPUTS, SEEN, "lock.json", "card.md", "flow.png"),
    *("000000.jsonl", "000000.kept.jsonl", "000000.ids", "000000.sketches-0", "training.yaml"),
    *("store.json", "00000.columns"),
)
"""Names as runs and stores give them to files, one of each kind."""


@dataclass(frozen=True)
class Progress:
    """How far a run is."""

    stage: int
    stages: int
    bytes: int
    """Of the files whose tasks are done in this stage."""
    total_bytes: int
    counts: Counts
    """Of the stage so far."""
    incident: str | None = None
    """That has just happened."""


@dataclass(frozen=True)
class StageJob:
    """What a process needs to do a stage's tasks; see :class:`everlong.curation.workers.Job`."""

    recipe: Curation
    stage: Stage
    tasks: tuple[Task, ...]

    def __call__(self, task: int, skip: Skip, at: At) -> Counts:
        """Do it."""
        number = self.stage.number
        to = stage_files(self.recipe.run, number)
        if to.counts(task).exists():  # by a process whose answer was lost
            return Counts.load(to.counts(task))
        before = None if number == 0 else stage_files(self.recipe.run, number - 1)
        sources = {source.name: source for source in self.recipe.sources}
        counts = run_task(
            self.stage,
            self.tasks[task],
            Reading(sources, self.recipe.reading),
            before,
            to,
            skip,
            at,
        )
        if before is not None:  # this stage has them now
            before.kept(task).unlink(missing_ok=True)
        return counts


class Pipeline:
    """Runs a recipe.

    Args:
        recipe: what to do.
        executor: who does it.
        tell: told how far it is.
        seen: of a run that is made again, the runs that its steps saw in their stores, by their
            kinds: they see these, and the stores learn nothing. None: they see those that are there
            now, and the stores remember this one.
    """

    def __init__(
        self,
        recipe: Curation,
        executor: Executor,
        tell: Callable[[Progress], None] = lambda progress: None,
        seen: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        self.recipe, self._executor, self._tell, self._saw = recipe, executor, tell, seen
        self._stages = stages_of(recipe.steps)

    def run(
        self,
        *,
        resume: bool = False,
        then: Callable[[list[Counts]], None] = lambda counts: None,
    ) -> list[Counts]:
        """Do what is left to do.

        Args:
            resume: go on with the run that is in the recipe's folder.
            then: what else is done with the counts, before another process may have the folder.

        Returns:
            Counts of each stage.

        Raises:
            ConfigError: there is a run already, or none that could go on, or its recipe or files
                were others, or they change meanwhile; or something else is in the folder.
            DataError: nothing is kept, or what the run has saved is damaged.
            EverlongError: another process works on the run.
            OSError: something cannot be written; what is done is kept.
        """
        folder = self.recipe.run
        with _own(folder):
            self._begin(resume)
            if not (folder / COUNTS).exists():
                tasks = self._tasks()
                self._finish([self._stage(stage, tasks) for stage in self._stages], tasks)
            for stage in self._stages:
                shutil.rmtree(stage_files(folder, stage.number).folder, ignore_errors=True)
            counts = counts_of(folder)
            then(counts)
            # Of a run that was done, when all is made as it says.
            atomic_write(folder / RECIPE, identity(self.recipe).encode())
            return counts

    def _begin(self, resume: bool) -> None:
        """See that the run may begin, or go on."""
        folder = self.recipe.run
        if not (folder / TASKS).exists():
            if resume:
                raise ConfigError(f"{folder} has no run to go on with; leave out --resume")
            return
        if not resume:
            raise ConfigError(f"{folder} has a run; name another folder, or say --resume")
        if kept_by(read_text(folder / RECIPE)) != kept_by(identity(self.recipe)):
            raise ConfigError(
                f"the recipe keeps other documents than that of the run in {folder} "
                f"({RECIPE}); finish it with that one, or name another folder"
            )

    def _tasks(self) -> list[Task]:
        """The tasks of a run that is not done, of files that are what they were."""
        folder = self.recipe.run
        self._refuse_own_files()
        begun = (folder / TASKS).exists()
        if begun:
            self._refuse_changed()
        read = read_by(self.recipe)  # first: what changes from now on is seen at the end
        tasks = tasks_of(self.recipe.sources, self.recipe.task_bytes)
        atomic_write(folder / RECIPE, identity(self.recipe).encode())
        if not begun:
            atomic_write(folder / TASKS, json.dumps(read, indent=1).encode())
        return tasks

    def _refuse_own_files(self) -> None:
        """See that the run does not read what it, or one of its stores, writes."""
        written = {"the run": self.recipe.run}
        for kind, store in stores_of(self.recipe).items():
            written[f"the store of {kind}"] = store.folder
        for source in self.recipe.sources:
            for path, (what, folder) in itertools.product(source.paths, written.items()):
                if _may_read(path, folder.resolve()):
                    raise ConfigError(
                        f"{source.name} reads all that is in {path}, and {what} writes there: "
                        f"{folder}; name a folder elsewhere for {what}"
                    )

    def _refuse_changed(self) -> None:
        """See that all that is read is what it was when the run began."""
        folder = self.recipe.run
        known, now = load_json(folder / TASKS), read_by(self.recipe)
        if changed := sorted(name for name in {*known, *now} if known.get(name) != now.get(name)):
            (folder / INPUTS).unlink(missing_ok=True)  # which may be of what is there now
            raise ConfigError(
                f"{len(changed)} files are not what they were when the run began, such as "
                f"{changed[0]}; name another folder for a new run"
            )

    def _stage(self, stage: Stage, tasks: Sequence[Task]) -> Counts:
        """Do a stage, if it is not done."""
        files = stage_files(self.recipe.run, stage.number)
        if files.summary.exists():
            return Counts.load(files.summary)
        files.folder.mkdir(exist_ok=True)
        done, total, so_far = 0, sum(task.bytes for task in tasks), Counts()

        def add(task: int, of: Counts) -> None:
            nonlocal done, so_far
            done, so_far = done + tasks[task].bytes, so_far + of
            self._tell(Progress(stage.number, len(self._stages), done, total, so_far))

        todo = []
        for task in tasks:
            if files.counts(task.number).exists():
                add(task.number, Counts.load(files.counts(task.number)))
            else:
                todo.append(task.number)
        job = StageJob(self.recipe, stage, tuple(tasks))
        for news in self._executor.map(job, todo):
            if isinstance(news, Incident):
                progress = Progress(stage.number, len(self._stages), done, total, so_far)
                self._tell(replace(progress, incident=self._note(news, stage, tasks)))
            else:
                add(news.task, news.counts)
        # From their files one by one, in order: so always the same refusals are listed.
        each = (Counts.load(files.counts(task.number)) for task in tasks)
        whole = reduce(Counts.__add__, each, Counts())
        if stage.sketched:
            whole.noted += Barrier(stage, files, len(tasks)).pass_(self._look(stage))
        atomic_write(files.summary, whole.to_json())
        return whole

    def _note(self, incident: Incident, stage: Stage, tasks: Sequence[Task]) -> str:
        """Write down that a process was lost; returns it in words."""
        what = f"{self._place(incident, stage, tasks[incident.task])}: {incident.what}"
        with (self.recipe.run / INCIDENTS).open("a", encoding="utf-8") as file:
            file.write(json.dumps({"stage": stage.number, "task": incident.task, "what": what}))
            file.write("\n")
        return what

    def _place(self, incident: Incident, stage: Stage, task: Task) -> str:
        """Over what a process was lost."""
        piece, number = incident.place
        if number >= 0 and stage.number:  # numbers are those of what the stage before has kept
            before = stage_files(self.recipe.run, stage.number - 1)
            with before.ids(task.number).open("rb") as ids:
                return next(itertools.islice(ids, number, None)).decode().rstrip("\n")
        where = f", document {number}" if number >= 0 else ""
        return f"{task.pieces[max(0, piece)].name}{where}"

    def _finish(self, counts: Sequence[Counts], tasks: Sequence[Task]) -> None:
        """What the last stage kept becomes the documents of the run."""
        folder, stages = (
            self.recipe.run,
            [stage_files(self.recipe.run, s.number) for s in self._stages],
        )
        if not counts[-1].kept:
            raise DataError(_nothing_kept(folder, counts))
        inputs_of_run(self.recipe)  # before the look at what changed, so it is what was read
        self._refuse_changed()
        self._remember(len(tasks))
        for name in (DOCUMENTS, DROPPED, REFUSED):
            (folder / name).mkdir(exist_ok=True)
        for task in tasks:
            _move(stages[-1].kept(task.number), folder / DOCUMENTS / f"{task.number:06d}.jsonl")
            for number, files in enumerate(stages):
                name = f"stage-{number}-{task.number:06d}.jsonl"
                _move(files.dropped(task.number), folder / DROPPED / name)
                _move(files.refused(task.number), folder / REFUSED / name)
        plain = [json.loads(one.to_json()) for one in counts]
        atomic_write(folder / COUNTS, json.dumps(plain, ensure_ascii=False, indent=1).encode())

    def _look(self, stage: Stage) -> dict[str, list[str]]:
        """Which runs a stage's steps see in their stores; it is kept in the folder of the run."""
        seen = {}
        for step in stage.sketched:
            if isinstance(step, RememberingStep) and (store := step.remembered()) is not None:
                again = None if self._saw is None else [*self._saw.get(step.kind, ())]
                seen[step.kind] = store.look(self._known_as) if again is None else again
        if seen:
            told = json.dumps({**seen_by(self.recipe.run), **seen}, indent=1)
            atomic_write(self.recipe.run / SEEN, told.encode())
        return seen

    def _remember(self, tasks: int) -> None:
        """Have steps that know the documents of earlier runs learn those of this one."""
        if self._saw is not None:
            return
        last = stage_files(self.recipe.run, self._stages[-1].number)
        for stage in self._stages:
            files = stage_files(self.recipe.run, stage.number)
            for n, step in enumerate(stage.sketched):
                if isinstance(step, RememberingStep):
                    sketches = Barrier(stage, files, tasks).sketches(n)
                    step.remember(sketches, _survived(files, last, tasks), self._known_as)

    @cached_property
    def _known_as(self) -> str:
        """By which stores know the run; empty where no step has one, for it takes time."""
        return known_as(self.recipe, inputs_of_run(self.recipe)) if stores_of(self.recipe) else ""


def _may_read(path: Path, folder: Path) -> bool:
    """Whether what is written into a folder may be read.

    Args:
        path: that a source names: a folder, a pattern, or a file.
        folder: resolved.
    """
    signs = [any(sign in part for sign in "*?[") for part in path.parts]
    whole = path.is_dir()
    if path.is_file() or not (whole or any(signs)):
        return False
    first = len(signs) if whole else signs.index(True)
    root = Path(*path.parts[:first]).resolve()
    if not folder.is_relative_to(root):
        return False
    inside = folder.relative_to(root).parts
    if whole:  # of which hidden folders are not read
        return not any(part.startswith(".") for part in inside)
    return _reaches(path.parts[first:], inside)


def _reaches(pattern: Sequence[str], folder: Sequence[str]) -> bool:
    """Whether a pattern may name something that is written below a folder; both are parts of
    paths."""
    if not pattern or not folder:
        return any(fnmatchcase(name, last) for last in pattern[-1:] for name in _WRITTEN)
    if pattern[0] == "**":
        return _reaches(pattern[1:], folder) or _reaches(pattern, folder[1:])
    return fnmatchcase(folder[0], pattern[0]) and _reaches(pattern[1:], folder[1:])


@contextmanager
def _own(folder: Path) -> Iterator[None]:
    """Have the folder of a run to oneself; it is made if it is not there.

    Raises:
        ConfigError: it cannot be made, or has something that is not of a run.
        EverlongError: another process has it.
    """
    if folder == Path():
        raise ConfigError("run is the folder where you are; name a folder of its own")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        names = {path.name for path in folder.iterdir()}
    except OSError as error:
        raise ConfigError(f"{folder} cannot be the folder of a run: {error}") from None
    left = {name for name in names if name.startswith(".") and name.endswith(".partial")}
    if TASKS not in names and (others := sorted(names - left - {_LOCK, RECIPE})):
        raise ConfigError(
            f"{folder} has something else, such as {others[0]}, and no run; name a new or an empty "
            "folder for the run"
        )
    with FileLock(folder / _LOCK, timeout=0):
        yield


def _nothing_kept(folder: Path, counts: Sequence[Counts]) -> str:
    """Why a run has kept nothing, and what can be done."""
    told = [f"none of {counts[0].documents:,} documents is kept"]
    if count := sum(one.refusals for one in counts):
        name, why = next(one for stage in counts for one in stage.refused)
        told.append(f"{count:,} documents or files could not be read, such as {name}: {why}")
    if any(one.dropped for one in counts):
        told.append(f"*.dropped.jsonl in {folder}/stage-* say why others are not; loosen the steps")
    return "; ".join((*told, "name another folder for the next run"))


def counts_of(run: Path) -> list[Counts]:
    """Counts of each stage of a run that is done.

    Raises:
        DataError: they are damaged.
    """
    return [Counts.from_plain(one) for one in load_json(run / COUNTS)]


def stage_files(run: Path, number: int) -> StageFiles:
    """Where a run keeps what a stage writes."""
    return StageFiles(run / f"stage-{number}")


def _survived(files: StageFiles, last: StageFiles, tasks: int) -> NDArray[np.bool_]:
    """Which documents of a stage are there after the last one, which has them in the same order."""
    kept = []
    for task in range(tasks):
        with files.ids(task).open("rb") as before, last.ids(task).open("rb") as after:
            there = set(after)
            kept += [name in there for name in before]
    return np.array(kept, dtype=np.bool_)


def _move(path: Path, to: Path) -> None:
    """Move a file, if that is not done; an empty one is removed."""
    if path.exists() and path.stat().st_size:
        os.replace(path, to)
    path.unlink(missing_ok=True)
