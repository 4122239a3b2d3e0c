"""Processes that work on tasks, and can be killed.

A document may hang a parser, take all memory or crash the interpreter. Processes tell, in memory
that is shared, what they work on; one that stays too long at a document is ended, one that dies is
noticed, and the task is done again: once to see whether it was the document and not the machine,
then without it, and if that does not help, because a reader does not get past it, without the rest
of its file. Everything else of the task is kept.
"""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from typing import Any, Protocol

from everlong.curation.counts import Counts
from everlong.curation.stage import At, LeftOut, Skip
from everlong.errors import ConfigError, EverlongError

log = logging.getLogger(__name__)
_TRIES = 3
"""Times that a task is begun without a document to blame."""
_TASKS = 100
"""Of a process: parsers keep some of what they have seen, such as names of elements, for good."""
_START_SECONDS = 600
"""That a process may take until its first document: it loads models there, maybe slowly."""
_LOOK_SECONDS = 0.2
_SUSPENDED_SECONDS = 2
"""A look that comes so late tells that this process did not run, and the others with it."""
_SPAWN = multiprocessing.get_context("spawn")


class Job(Protocol):
    """What is done with a task; it is sent to other processes."""

    def __call__(self, task: int, skip: Skip, at: At) -> Counts:
        """Do it; see :func:`everlong.curation.stage.run_task`."""


@dataclass(frozen=True)
class WorkerLimits:
    """Of a process."""

    seconds: float = 60
    """For one document, in all steps of a stage."""
    memory: int = 4 << 30
    """Bytes that a process may take for its data, where the system can limit that."""

    def __post_init__(self) -> None:
        if not self.seconds > 0 or self.memory < 1 << 28:
            raise ConfigError(
                f"seconds is above 0 and memory at least {1 << 28}, not {self.seconds} and "
                f"{self.memory}"
            )


@dataclass(frozen=True)
class Incident:
    """A process that was lost, and over what."""

    task: int
    place: tuple[int, int]
    """Piece of the task, and document in it, that was worked on; negative: it had not begun."""
    what: str
    """Happened."""
    slow: bool = False
    """Whether it was too long at its document."""


@dataclass(frozen=True)
class Done:
    """A task that is done."""

    task: int
    counts: Counts


class Executor(Protocol):
    """Does a job with many tasks."""

    def map(self, job: Job, tasks: Sequence[int]) -> Iterator[Done | Incident]:
        """Each task as it is done, in any order, and each process as it is lost.

        Raises:
            EverlongError: of the job; or a task failed again and again.
            OSError: of the job, such as a full disk.
        """


class LocalExecutor:
    """Processes of this machine.

    Args:
        count: of processes.
        limits: of each.
    """

    def __init__(self, count: int, limits: WorkerLimits) -> None:
        if count < 1:
            raise ConfigError(f"workers is 1 or more, not {count}")
        self._count, self._limits = count, limits

    def map(self, job: Job, tasks: Sequence[int]) -> Iterator[Done | Incident]:
        """See :class:`Executor`."""
        waiting = [_Attempt(task) for task in reversed(tasks)]
        workers: list[_Worker] = []
        try:
            while waiting or workers:
                while waiting and len(workers) < min(self._count, len(tasks)):
                    workers.append(_Worker(job, self._limits))
                    workers[-1].begin(waiting.pop())
                wait([worker.connection for worker in workers], _LOOK_SECONDS)
                for worker in list(workers):
                    if (news := worker.look()) is None:
                        continue
                    attempt = worker.attempt
                    if isinstance(news, Done) and waiting and not worker.old:
                        worker.begin(waiting.pop())
                    else:
                        workers.remove(worker)
                        worker.end()
                    yield news
                    if isinstance(news, Incident):
                        attempt.blame(news)
                        waiting.append(attempt)
        finally:
            for worker in workers:
                worker.end()


@dataclass
class _Attempt:
    """A task, and what became of it so far."""

    task: int
    skip: dict[tuple[int, int], LeftOut] = field(default_factory=dict)
    incidents: list[Incident] = field(default_factory=list)

    def blame(self, incident: Incident) -> None:
        """Take note of a process that was lost. At the second time in one place the document is
        left out, at the third the rest of its file.

        Raises:
            EverlongError: the task cannot be done.
        """
        place = incident.place
        blamed = any(place == one.place for one in self.incidents)
        # Documents that take about as long as they may, now one and now another, stop no run.
        blamed |= incident.slow and self._unexplained == _TRIES - 1
        self.incidents.append(incident)
        left_out = self.skip.get(place)
        if place[1] >= 0 and blamed:
            self.skip[place] = LeftOut(incident.what, rest=left_out is not None)
        helpless = left_out is not None and left_out.rest
        if helpless or self._unexplained >= _TRIES:
            raise EverlongError(
                f"task {self.task} failed {len(self.incidents)} times, last because "
                f"{incident.what}; what is done is kept; look at the machine's memory, and go on "
                "with --resume"
            )

    @property
    def _unexplained(self) -> int:
        """Processes that were lost, and no document was blamed for it."""
        return sum(one.place not in self.skip for one in self.incidents)


class _Worker:
    """One process, and what it works on."""

    def __init__(self, job: Job, limits: WorkerLimits) -> None:
        self._limits = limits
        self._place = _SPAWN.RawArray("d", 3)  # piece, document, time
        self.connection, theirs = _SPAWN.Pipe()
        self._process = _SPAWN.Process(
            target=_work, args=(job, theirs, self._place, limits.memory), daemon=True
        )
        self._process.start()
        theirs.close()
        self._begun = 0
        self._looked = self._awake = 0.0

    @property
    def old(self) -> bool:
        """Whether it has done so much that a new one is to take its place."""
        return self._begun >= _TASKS

    def begin(self, attempt: _Attempt) -> None:
        self.attempt = attempt
        self._begun += 1
        self._place[0] = self._place[1] = -1
        self._looked = self._awake = self._place[2] = time.monotonic()
        with contextlib.suppress(ConnectionError):  # it has died, as the next look tells
            self.connection.send((attempt.task, attempt.skip))

    def look(self) -> Done | Incident | None:
        """What has happened since: the task is done, or the process is lost, which is not to be
        used any more, or neither."""
        place = self._where()
        late = self._late()  # after the place, which the process writes after the time
        began = place[0] >= 0  # before, the process is still starting
        seconds = self._limits.seconds if began else max(_START_SECONDS, self._limits.seconds)
        try:
            told = self.connection.recv() if self.connection.poll() else None
        except (EOFError, ConnectionResetError):
            self._process.join()
            return self._lost(
                self._where(), f"its process ended with {_status(self._process.exitcode)}"
            )
        if isinstance(told, Counts):
            return Done(self.attempt.task, told)
        if isinstance(told, str):
            return self._lost(self._where(), told)
        if told is not None:
            raise told
        if late > seconds:
            what = "" if began else " to start"
            return self._lost(place, f"it took longer than {seconds:g} s{what}", slow=began)
        return None

    def _where(self) -> tuple[int, int]:
        """What the process is at, or was at last."""
        return int(self._place[0]), int(self._place[1])

    def _late(self) -> float:
        """Seconds that the process has been at its document, or starting; who suspends this one, as
        Ctrl-Z does, suspends both, and then they are counted anew."""
        now = time.monotonic()
        if now - self._looked > _SUSPENDED_SECONDS:
            self._awake = now
        self._looked = now
        begun: float = max(self._place[2], self._awake)
        return now - begun

    def _lost(self, place: tuple[int, int], what: str, slow: bool = False) -> Incident:
        return Incident(self.attempt.task, place, what, slow)

    def end(self) -> None:
        """Kill the process: what it has not finished does not count."""
        self.connection.close()
        self._process.kill()
        self._process.join()


def _work(job: Job, connection: Connection, place: Any, memory: int) -> None:
    """The process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the one that started it
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _limit(memory)

    def at(piece: int, document: int) -> None:
        place[2] = time.monotonic()  # first, so that no document is seen with the time before it
        place[0], place[1] = piece, document

    while True:
        try:
            task, skip = connection.recv()
        except EOFError:
            return
        try:
            told: Any = job(task, skip, at)
        except EverlongError as error:
            told = EverlongError(str(error))  # others cannot be sent, they take other arguments
        except OSError as error:
            told = error
        except Exception as error:  # a mistake of ours, or of a library
            log.exception("task %d", task)
            told = f"{type(error).__name__}: {error}"
        connection.send(told)


def _end_with_parent() -> None:
    """End this process when the one that started it is gone, however it went: who goes on with the
    run must be alone with its files."""
    parent = multiprocessing.parent_process()
    assert parent is not None, "this is a process that was started"
    parent.join()
    os._exit(1)


def _limit(memory: int) -> None:
    if sys.platform == "win32":
        return
    import resource

    resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))


def _status(code: int | None) -> str:
    if code is not None and code < 0:
        return f"signal {-code}" + (" (out of memory?)" if code == -9 else "")
    return f"status {code}"
